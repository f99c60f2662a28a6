/** Every request for a state is answered once, also when the client leaves while they are rejected. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import type { Port } from "../../../../src/server/internal/session/port.ts"
import { SubscriptionStates } from "../../../../src/server/internal/session/subscriptionStates.ts"

describe("The states of a subscription", () => {
  it.effect("answers each request when the client leaves while others are rejected", () =>
    Effect.gen(function* () {
      const services = yield* Effect.context<never>()
      const run = Effect.runForkWith(services)
      const port = { fork: (effect: Effect.Effect<void>) => void run(effect) } as unknown as Port
      const refused: Array<number> = []
      const states = new SubscriptionStates({ name: "orders", label: undefined }, port, {
        again: false,
        read: () => Effect.die("unreadable"),
        follow: () => undefined,
        lost: () => Effect.void,
        // As a log that takes its time.
        refuse: (id) =>
          Effect.andThen(
            Effect.sleep(10),
            Effect.sync(() => void refused.push(id))
          )
      })
      for (const id of [1, 2, 3]) states.ask(id)
      yield* TestClock.adjust(15)
      expect(refused).toEqual([1])
      const left = states.leave()
      yield* TestClock.adjust("1 second")
      expect([...refused, ...left].toSorted()).toEqual([1, 2, 3])
    })
  )
})
