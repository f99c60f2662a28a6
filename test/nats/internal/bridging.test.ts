/** The bridge of live channels while NATS is away, over plain objects. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as Bridging from "../../../src/nats/internal/bridging.ts"
import type { Sealed } from "../../../src/nats/internal/sealed.ts"
import type { SourceState } from "../../../src/server/NotificationSource.ts"

describe("The bridge", () => {
  it.effect("gives its lease up after 3 s without NATS, however often the node tries", () =>
    Effect.gen(function* () {
      const state = yield* SubscriptionRef.make<"up" | "down">("up")
      const sealed: Sealed = {
        state,
        identity: () => "database",
        prefix: () => "at",
        maxBytes: () => 65_536,
        again: Effect.void,
        flush: () => Effect.succeed(true),
        publish: () => true,
        subscribe: () => Effect.void
      }
      let holds = false
      yield* Bridging.run({
        sealed,
        inner: {
          state: yield* SubscriptionRef.make<SourceState>("up"),
          notify: () => Effect.void,
          listen: () => Effect.void
        },
        lease: () =>
          Effect.acquireRelease(
            Effect.sync(() => {
              holds = true
              return { term: 1n, held: () => true, lost: Effect.never }
            }),
            () => Effect.sync(() => (holds = false))
          ),
        self: "a",
        now: () => 0,
        caughtUp: Effect.void,
        acting: () => undefined
      }).pipe(Effect.forkScoped)
      yield* TestClock.adjust(1000)
      expect(holds).toBe(true)
      // The connection says so at each attempt that NATS takes and does not answer.
      for (let second = 0; second < 3; second++) {
        yield* SubscriptionRef.set(state, "down")
        yield* TestClock.adjust(1000)
      }
      expect(holds).toBe(false)
    }).pipe(Effect.scoped)
  )
})
