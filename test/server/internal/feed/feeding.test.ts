/** The part of a node in the feed, when its session is lost at a bad moment. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import type { Feed, FeedCarrier } from "../../../../src/server/FeedCarrier.ts"
import * as Feeding from "../../../../src/server/internal/feed/feeding.ts"
import { Leases } from "../../../../src/server/internal/outbox/lease.ts"
import { Pace } from "../../../../src/server/internal/outbox/lookSchedule.ts"
import { Followers } from "../../../../src/server/internal/outbox/tail.ts"

describe("A node that joins the feed", () => {
  it.effect("joins again when its session was lost before the carrier answered", () =>
    Effect.gen(function* () {
      const joined: Array<string> = []
      const feed: Feed = {
        isUp: () => false,
        maxBytes: () => 1_000_000,
        sendTick: () => undefined,
        sendPage: () => undefined,
        follow: () => undefined,
        leave: () => undefined
      }
      let closed = 0
      const carrier: FeedCarrier["Service"] = {
        join: (identity) =>
          Effect.gen(function* () {
            joined.push(identity)
            yield* Effect.addFinalizer(() => Effect.sync(() => void closed++))
            return joined.length === 1 ? yield* Effect.never : feed
          })
      }
      const feeding = yield* Feeding.make(carrier, {
        tail: () => undefined,
        followers: new Followers({ events: 9, maxAge: 1000, bytes: 1000 }),
        leases: new Leases({ name: "a", incarnation: "1" }, Duration.seconds(1)),
        pace: yield* Pace.make({ busy: 5, idle: undefined })
      })
      const first = yield* Effect.forkChild(feeding.opened("id"), { startImmediately: true })
      yield* Fiber.interrupt(first)
      expect([joined.length, closed]).toEqual([1, 1])
      yield* feeding.opened("id")
      expect([joined.length, closed]).toEqual([2, 1])
      yield* feeding.opened("id")
      expect(joined.length).toBe(2)
    }).pipe(Effect.scoped)
  )
})
