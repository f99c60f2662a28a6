import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scheduler, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import { LiveChannel } from "../../../../src/server/internal/hub/liveChannel.ts"
import { OpenChannels } from "../../../../src/server/internal/hub/openChannels.ts"
import { Told } from "../../../../src/server/internal/hub/gapCounter.ts"
import { Budget } from "../../../../src/server/internal/ring.ts"

describe("OpenChannels", () => {
  /**
   * Open channels with room for one that lingers forever; the channel `slow` never finishes
   * opening.
   */
  const room = Effect.gen(function* () {
    const budget = new Budget({ events: 256, maxAge: 120_000, bytes: 1_000_000 })
    const open = new OpenChannels({ linger: Duration.infinity, maxChannels: 1 })
    return yield* open.kind("live", (name) =>
      name === "slow" ? Effect.never : Effect.sync(() => new LiveChannel(name, budget, new Told()))
    )
  })

  it.effect(
    "a channel that is still opening when its last subscriber leaves is closed to make room for others",
    () =>
      Effect.gen(function* () {
        const { isOpen, view } = yield* room
        const waiting = yield* Effect.forkChild(Effect.scoped(view(Channel.untyped("slow"))))
        yield* TestClock.adjust(100)
        yield* Fiber.interrupt(waiting)
        expect(isOpen("slow")).toBe(true)
        const quick = yield* Effect.scoped(view(Channel.untyped("quick")))
        expect(quick.name).toBe("quick")
        expect([isOpen("slow"), isOpen("quick")]).toEqual([false, true])
      }).pipe(Effect.scoped)
  )

  it.effect("a channel in use is never closed for another: the subscriber is rejected", () =>
    Effect.gen(function* () {
      const { isOpen, view } = yield* room
      yield* view(Channel.untyped("quick"))
      const error = yield* Effect.flip(Effect.scoped(view(Channel.untyped("other"))))
      expect(error).toMatchObject({ _tag: "TooManyChannels", limit: 1 })
      expect([isOpen("quick"), isOpen("other")]).toEqual([true, false])
    }).pipe(Effect.scoped)
  )

  it.effect(
    "a subscriber that is interrupted while it opens a channel leaves no count behind",
    () =>
      Effect.gen(function* () {
        const budget = new Budget({ events: 256, maxAge: 120_000, bytes: 1_000_000 })
        const usual = yield* Scheduler.Scheduler
        for (let operation = 1; operation < 150; operation++) {
          // A fiber yields before this operation of the subscriber, and of what that waits for.
          let left = Infinity
          const stepping = Effect.provideService(Scheduler.Scheduler, {
            executionMode: usual.executionMode,
            makeDispatcher: () => usual.makeDispatcher(),
            shouldYield: () => --left === 0
          })
          const open = new OpenChannels({ linger: Duration.zero, maxChannels: 1 })
          const scope = yield* Scope.make()
          const { view } = yield* open
            .kind("live", (name) => Effect.sync(() => new LiveChannel(name, budget, new Told())))
            .pipe(stepping, Scope.provide(scope))
          left = operation
          const opening = yield* Effect.scoped(view(Channel.untyped("one"))).pipe(
            stepping,
            Effect.forkChild({ startImmediately: true })
          )
          yield* Fiber.interrupt(opening)
          yield* Scope.close(scope, Exit.void)
          expect(open.tally.channels.live, `after ${operation} operations`).toBe(0)
        }
      })
  )
})
