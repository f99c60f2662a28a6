/** Callers share one read, whichever of them leaves first, and wherever their fibers yield. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scheduler } from "effect"
import { SharedReads } from "../../../../src/server/internal/outbox/sharedReads.ts"

describe("A shared read", () => {
  it.effect("goes on for the caller that began it when another one leaves meanwhile", () =>
    Effect.gen(function* () {
      const reads = new SharedReads<string, never>(yield* Effect.scope, () => true)
      for (let turns = 0; turns < 20; turns++) {
        const gate = yield* Deferred.make<string>()
        const read = reads.get(`${turns}`, () => Deferred.await(gate), undefined)
        const first = yield* read.pipe(
          // The fiber yields after each of its operations.
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3),
          Effect.forkChild({ startImmediately: true })
        )
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
        const second = yield* Effect.forkChild(read, { startImmediately: true })
        yield* Fiber.interrupt(second)
        for (let turn = 0; turn < 20; turn++) yield* Effect.yieldNow
        yield* Deferred.succeed(gate, "read")
        expect(yield* Fiber.await(first), `after ${turns} turns`).toEqual(Exit.succeed("read"))
      }
    }).pipe(Effect.scoped)
  )
})
