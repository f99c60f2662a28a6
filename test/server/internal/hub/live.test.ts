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

  it.effect("the state of a live channel is its last event that is remembered and matches", () =>
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
      const live = yield* Live.make(
        source,
        new OpenChannels({ linger: Duration.zero, maxChannels: 10 }),
        {
          ring: { events: 256, maxAge: 120_000, bytes: 1_000_000 },
          batchWindow: 0,
          announceSource: false
        }
      )
      const view = yield* live.open(Notices)
      const rows = Effect.gen(function* () {
        yield* TestClock.adjust(0)
        const { cursor, frames } = yield* live.stateOf!(view)
        const join = yield* view.join(cursor)
        expect([join.state, join.replay]).toEqual(["recovered", []])
        expect(frames).toHaveLength(1)
        const frame: unknown = JSON.parse(frames[0]!.message.text)
        expect(frame).toMatchObject({ type: "state", channel: Notices.name, cursor, more: false })
        return (frame as { readonly rows: ReadonlyArray<{ readonly message: string }> }).rows.map(
          ({ message }) => message
        )
      })
      const say = (message: unknown) => hear?.(JSON.stringify({ type: "info", message }))
      expect(yield* rows).toEqual([])
      say("one")
      say("two")
      say(3)
      expect(yield* rows).toEqual(["two"])
      expect(yield* live.stateOf!(view)).toBe(yield* live.stateOf!(view))
      say("four")
      expect(yield* rows).toEqual(["four"])
      yield* TestClock.adjust("3 minutes")
      expect(yield* rows).toEqual([])
      say("five")
      hear?.(lost)
      expect(yield* rows).toEqual([])
    }).pipe(Effect.scoped)
  )

  it.effect("a live channel is not opened with a filter, because nothing filters it", () =>
    Effect.gen(function* () {
      const source: NotificationSource["Service"] = {
        state: yield* SubscriptionRef.make<SourceState>("up"),
        listen: () => Effect.void,
        notify: () => Effect.void
      }
      const live = yield* Live.make(
        source,
        new OpenChannels({ linger: Duration.zero, maxChannels: 10 }),
        {
          ring: { events: 256, maxAge: 120_000, bytes: 1_000_000 },
          batchWindow: 0,
          announceSource: false
        }
      )
      const filtered = live.open(Notices, { where: undefined, boundary: { type: "info" } })
      expect(yield* Effect.flip(filtered)).toMatchObject({ _tag: "CannotFilter" })
      yield* live.open(Notices, { where: {}, boundary: undefined })
    }).pipe(Effect.scoped)
  )
})
