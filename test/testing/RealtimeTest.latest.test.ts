/** The latest of a channel begins with what the server remembers, over the real door in memory. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Channel } from "effect-realtime"
import { Collector, PlainClient, RealtimeClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"
import { untilAsync } from "../support/until.ts"

const Live = Channel.make("live", Schema.Int)
const Durable = Channel.make("durable", Schema.Int, { delivery: "durable" })
const Pointer = Channel.make("pointer", Schema.Int, { delivery: "volatile" })

const system = RealtimeTest.layer({
  channels: [Live, Durable, Pointer],
  authorize: RealtimeServer.allowAll
})

const latestOf = (client: RealtimeTest.Client | RealtimeClient.RealtimeClient["Service"]) => {
  const plain = PlainClient.fromClient(client)
  return {
    plain,
    latest: (channel: Channel.Channel<number> | string) => {
      const collector = Collector.latest(plain, channel)
      collector.subscribe(() => {})
      return () => `${collector.getSnapshot().status} ${collector.getSnapshot().value}`
    }
  }
}

/** A page shows it in its next frame, which is no matter of the clock of the test. */
const shows = (now: () => string, text: string) =>
  Effect.promise(() => untilAsync(() => now() === text))

/** What was said has arrived, and the frame of a page is over. */
const frame = Effect.gen(function* () {
  const test = yield* RealtimeTest.RealtimeTest
  yield* test.settle
  yield* TestClock.adjust(200)
  yield* test.settle
})

describe.each([Live, Durable])("the latest of a channel: $delivery", (channel) => {
  it.effect("is the last event before, then each event, also by name and beside listeners", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const { latest, plain } = latestOf(yield* RealtimeClient.RealtimeClient)
      // A live channel is remembered while it is open.
      const heard: Array<number | string> = []
      latestOf(yield* test.connect()).plain.listen(channel, undefined)
      yield* frame
      yield* test.publish(channel, 1)
      yield* test.publish(channel, 2)
      yield* frame
      plain.listen(channel, (n) => heard.push(n), { onGap: ({ reason }) => heard.push(reason) })
      yield* frame
      const now = latest(channel)
      yield* frame
      yield* shows(now, "live 2")
      const byName = latest(channel.name)
      yield* frame
      yield* shows(byName, "live 2")
      yield* test.publish(channel, 3)
      yield* frame
      yield* shows(now, "live 3")
      yield* shows(byName, "live 3")
      expect(heard).toEqual([3])
    }).pipe(Effect.provide(system))
  )

  it.effect("is live without a value where nothing is remembered", () =>
    Effect.gen(function* () {
      const { latest } = latestOf(yield* RealtimeClient.RealtimeClient)
      const now = latest(channel)
      const pointer = latest("pointer")
      yield* frame
      yield* shows(now, "live undefined")
      yield* shows(pointer, "live undefined")
      expect([now(), pointer()]).toEqual(["live undefined", "live undefined"])
    }).pipe(Effect.provide(system))
  )

  it.effect(
    "asked for while events flow costs the listeners of the share no event and no second one",
    () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const heard: Array<number | string> = []
        const { latest, plain } = latestOf(yield* RealtimeClient.RealtimeClient)
        latestOf(yield* test.connect()).plain.listen(channel, undefined)
        yield* frame
        // Nothing that the client has, so that the latest must ask for the state.
        plain.listen(channel, (n) => heard.push(n), { onGap: ({ reason }) => heard.push(reason) })
        yield* frame
        const now = latest(channel)
        const numbers = Array.from({ length: 50 }, (_, n) => n + 1)
        for (const n of numbers) {
          yield* test.publish(channel, n)
          yield* Effect.yieldNow
        }
        yield* frame
        yield* shows(now, "live 50")
        expect(heard).toEqual(numbers)
      }).pipe(Effect.provide(system))
  )
})

describe("the latest of a durable channel", () => {
  it.effect("is current after events were lost", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* test.connect()
      const { latest } = latestOf(client)
      const now = latest(Durable)
      yield* test.publish(Durable, 1)
      yield* frame
      yield* shows(now, "live 1")
      yield* test.server.stop
      yield* test.database.restore
      yield* frame
      yield* shows(now, "stale 1")
      yield* test.server.start
      yield* test.publish(Durable, 7)
      yield* TestClock.adjust("1 minute")
      yield* frame
      yield* shows(now, "live 7")
      expect(now()).toBe("live 7")
    }).pipe(Effect.provide(system))
  )
})
