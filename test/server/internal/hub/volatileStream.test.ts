/** A volatile event that arrives between two steps of the fiber that reads a Stream. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Scheduler, Schema, Stream } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import { Told } from "../../../../src/server/internal/hub/gapCounter.ts"
import { VolatileChannel } from "../../../../src/server/internal/hub/volatileChannel.ts"
import { VolatileStream } from "../../../../src/server/internal/hub/volatileStream.ts"
import { turns } from "../../../support/until.ts"

const event = { id: "e:1", at: 0, publisher: "ann", json: "1" }

describe("The Stream of a volatile channel", () => {
  it.effect("receives an event that arrives between its look and its wait", () =>
    Effect.gen(function* () {
      for (let count = 0; count < 40; count++) {
        const channel = new VolatileChannel("pointers", new Told())
        const view = channel.view(Channel.make("pointers", Schema.Int, { delivery: "volatile" }))
        const stream = new VolatileStream(view)
        view.subscribe(stream)
        const seen: Array<unknown> = []
        const reading = yield* Stream.fromEffectRepeat(stream.next).pipe(
          Stream.runForEach(({ events }) => Effect.sync(() => seen.push(...events))),
          // The fiber yields after each of its operations.
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3),
          Effect.forkChild({ startImmediately: true })
        )
        yield* turns(count)
        channel.push(event)
        channel.deliver()
        yield* turns(40)
        expect(seen.length, `after ${count} turns`).toBe(1)
        yield* Fiber.interrupt(reading)
      }
    })
  )
})
