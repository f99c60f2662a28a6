/** Callers share one read, whichever of them leaves first, and wherever their fibers yield. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scheduler } from "effect"
import { SharedReads } from "../../../../src/server/internal/outbox/sharedReads.ts"
import { turns } from "../../../support/until.ts"

describe("A shared read", () => {
  it.effect("goes on for the caller that began it when another one leaves meanwhile", () =>
    Effect.gen(function* () {
      const reads = new SharedReads<string, never>(yield* Effect.scope, () => true)
      for (let count = 0; count < 20; count++) {
        const gate = yield* Deferred.make<string>()
        const read = reads.get(`${count}`, () => Deferred.await(gate), undefined)
        const first = yield* read.pipe(
          // The fiber yields after each of its operations.
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3),
          Effect.forkChild({ startImmediately: true })
        )
        yield* turns(count)
        const second = yield* Effect.forkChild(read, { startImmediately: true })
        yield* Fiber.interrupt(second)
        yield* turns(20)
        yield* Deferred.succeed(gate, "read")
        expect(yield* Fiber.await(first), `after ${count} turns`).toEqual(Exit.succeed("read"))
      }
    }).pipe(Effect.scoped)
  )
})
