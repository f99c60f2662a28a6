import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Stream, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import * as Live from "../../../../src/server/internal/hub/live.ts"
import { OpenChannels } from "../../../../src/server/internal/hub/openChannels.ts"
import {
  type Listener,
  lost,
  type NotificationSource,
  type SourceState
} from "../../../../src/server/NotificationSource.ts"

const Notices = Channel.systemNotifications

describe("Live delivery", () => {
  it.effect("a live channel sends and replays the notice of a restored source after its gap", () =>
    Effect.gen(function* () {
      let hear: Listener | undefined
      const source: NotificationSource["Service"] = {
        state: yield* SubscriptionRef.make<SourceState>("up"),
        listen: (_, listener) =>
          Effect.sync(() => {
            hear = listener
          }),
        notify: () => Effect.void
      }
      const open = new OpenChannels({ linger: Duration.zero, maxChannels: 10 })
      const live = yield* Live.make(source, open, {
        ring: { events: 256, maxAge: 120_000, bytes: 1_000_000 },
        batchWindow: 0,
        announceSource: true
      })
      const told = (from?: string) =>
        live
          .batches(Notices, from)
          .pipe(Stream.map(({ cursor, events, gap }) => ({ cursor, gap, events })))
      const view = yield* live.open(Notices)
      const hearing = yield* Effect.forkChild(Stream.runCollect(Stream.take(told(), 3)))
      yield* TestClock.adjust(0)
      const say = (message: string) => hear?.(JSON.stringify({ type: "info", message }))
      say("before")
      hear?.(lost)
      say("after")
      yield* TestClock.adjust(0)
      const batches = yield* Fiber.join(hearing)
      expect(
        batches.map(({ events, gap }) => gap ?? events.map(({ payload }) => payload))
      ).toMatchObject([
        [{ message: "before" }],
        "source",
        [{ message: "The connection to the database is back." }, { message: "after" }]
      ])
      const { replay, state } = yield* view.join(batches[1]!.cursor)
      expect(state).toBe("recovered")
      expect(replay.map(({ size }) => size.events)).toEqual([2])
    }).pipe(Effect.scoped)
  )
})
