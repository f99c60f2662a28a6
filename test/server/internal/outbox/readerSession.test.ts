/** One session of the reader, on a link whose answers the test gives. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { PgLink } from "../../../../src/server/internal/link/pgLink.ts"
import * as Feeding from "../../../../src/server/internal/feed/feeding.ts"
import { Pace } from "../../../../src/server/internal/outbox/lookSchedule.ts"
import { OldestTransaction } from "../../../../src/server/internal/outbox/oldestTransaction.ts"
import type { Take } from "../../../../src/server/internal/outbox/outbox.ts"
import type { OtherOutbox } from "../../../../src/server/internal/outbox/outboxErrors.ts"
import { placeOf } from "../../../../src/server/internal/outbox/position.ts"
import {
  type Lasting,
  type SessionOptions,
  work
} from "../../../../src/server/internal/outbox/readerSession.ts"
import { Followers, type Item, Tail } from "../../../../src/server/internal/outbox/tail.ts"
import { openStatement } from "../../../../src/server/internal/sql/identity.ts"
import { schemaVersion } from "../../../../src/server/internal/sql/schema.ts"

const taken = (tx: number): Take => {
  const next = BigInt(tx + 1)
  const last = { tx: BigInt(tx), id: BigInt(tx), at: 0n }
  const snapshot = { xmin: next, xmax: next, running: [] }
  return { ...placeOf(snapshot, last), next, drawn: BigInt(tx), era: "era", written: "0/0" }
}

describe("A session of a node that is fed", () => {
  it.effect("gives no follower the end of a tick of which it has only a part", () =>
    Effect.gen(function* () {
      const followers = new Followers({ events: 9, maxAge: 1000, bytes: 1000 })
      const tail = new Tail("id", "era", taken(1), 1, [])
      const items: Array<Item> = []
      followers.add("orders", { offer: (item) => void items.push(item) })
      const settings = { version: schemaVersion, identity: "id", era: "era", retention_ms: 1e9 }
      const link = {
        query: (text: string) =>
          text === openStatement
            ? Effect.succeed([settings])
            : text.includes("secret")
              ? Effect.succeed([{ secret: "s" }])
              : text.includes("there")
                ? Effect.succeed([{ there: true }])
                : Effect.never
      } as unknown as PgLink
      const lasting: Lasting = {
        tail,
        inDoubt: false,
        secret: "",
        oldest: new OldestTransaction(() => 0),
        feeding: {
          ...Feeding.none,
          // A part of the next tick arrives while the session rests.
          pause: () =>
            Effect.sync(() => {
              tail.advance(taken(2), "all")
              return "rest" as const
            }).pipe(Effect.delay(2000))
        },
        waiting: [],
        wasUp: false,
        toldAt: 0
      }
      const scope = yield* Scope.make()
      const second = Duration.seconds(1)
      const options: SessionOptions = {
        wake: "poll",
        positionInterval: 1000,
        pace: yield* Pace.make({ busy: 5, idle: undefined }),
        upkeep: { due: () => undefined } as unknown as SessionOptions["upkeep"],
        poolIdentity: undefined,
        followers,
        limits: { messages: 9, bytes: 999 },
        beat: second,
        patience: second,
        flushed: false
      }
      const other = yield* Deferred.make<never, OtherOutbox>()
      const up = yield* Deferred.make<void>()
      yield* Effect.forkIn(
        work(
          link,
          "realtime",
          options,
          lasting,
          scope,
          other,
          Effect.asVoid(Deferred.succeed(up, undefined))
        ),
        scope
      )
      yield* Deferred.await(up)
      yield* TestClock.adjust("10 seconds")
      expect(tail.finished).toBe(false)
      expect(items).toEqual([])
      yield* Scope.close(scope, Exit.void)
    })
  )
})
