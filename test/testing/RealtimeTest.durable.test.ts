/** Durable channels of the system in memory: the effect of each fault, under TestClock. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Ref, Schema, Stream } from "effect"
import { Channel, type RealtimeEvent } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { OutboxReader, Realtime, RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"

const N = Schema.Struct({ n: Schema.Int })
const Orders = Channel.make("orders", N, { delivery: "durable", publish: true })
const Notes = Channel.make("notes", N, { delivery: "durable" })
const Live = Channel.make("live", N)
const Parts = Channel.tableUpdates("parts", N, { delivery: "durable" })

const options = {
  channels: [Orders, Notes, Live, Parts],
  authorize: RealtimeServer.allowAll
}
const system = RealtimeTest.layer(options)

/** Numbers, and the reasons of gaps. */
const short = (event: RealtimeEvent.RealtimeEvent<{ readonly n: number }>) =>
  event._tag === "Event" ? event.payload.n : event.reason

/** Collects the values of a Stream in the background. */
const collect = <A, E, R>(stream: Stream.Stream<A, E, R>) =>
  Effect.gen(function* () {
    const told = yield* Ref.make<ReadonlyArray<A>>([])
    const fiber = yield* stream.pipe(
      Stream.runForEach((one) => Ref.update(told, (all) => [...all, one])),
      Effect.forkScoped({ startImmediately: true })
    )
    return { told: Ref.get(told), fiber }
  })

/** The events of a channel that a client receives. */
const watch = (
  client: RealtimeClient.RealtimeClient["Service"],
  channel: Channel.Channel<{ readonly n: number }> = Orders
) => Effect.map(collect(Stream.map(client.events(channel), short)), ({ told }) => told)

describe("RealtimeTest with durable channels", () => {
  it.effect("the outbox in memory uses the clock of the system, and ends with its server", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const reader = yield* OutboxReader.OutboxReader
      const items = yield* collect(reader.batches("orders"))
      yield* test.settle
      yield* test.jump("1 hour")
      yield* test.publish(Orders, { n: 1 })
      yield* reader.publish("orders", '{"n":2}')
      yield* test.publish(Orders, { n: 3 })
      yield* test.settle
      const handed = (yield* items.told).flatMap((item) =>
        item._tag === "Batch" ? item.events : []
      )
      expect(handed.map(({ text }) => text)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
      expect(handed.map(({ at }) => at)).toEqual([3_600_000, 3_600_000, 3_600_000])
      yield* test.server.stop
      // It ends as a Stream of Realtime does.
      yield* Fiber.join(items.fiber)
    }).pipe(Effect.provide(system))
  )

  it.effect("clients, Streams and batches receive published events in order", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* RealtimeClient.RealtimeClient
      const told = yield* watch(client)
      const events = yield* collect(Stream.map(Realtime.events(Orders), short))
      const payloads = yield* collect(Realtime.subscribe(Orders))
      const batches = yield* collect(Realtime.batches(Orders))
      yield* test.settle
      yield* test.publish(Orders, { n: 1 })
      yield* Realtime.publish(Orders, { n: 2 })
      yield* client.publish(Orders, { n: 3 })
      yield* test.commit(
        { channel: Orders, text: '{"n":4}' },
        { channel: "notes", text: '{"n":0}' },
        { channel: "orders", text: '{"n":5}' }
      )
      yield* test.settle
      expect(yield* told).toEqual([1, 2, 3, 4, 5])
      expect(yield* events.told).toEqual([1, 2, 3, 4, 5])
      expect((yield* payloads.told).map(({ n }) => n)).toEqual([1, 2, 3, 4, 5])
      const all = yield* batches.told
      expect(all.map(({ events }) => events.map(short))).toEqual([[], [1], [2], [3], [4, 5]])
      for (const { cursor } of all) expect(cursor).toMatch(/^2\./)
      expect(all.at(-1)!.cursor).toBe(yield* test.database.position)
      const { at } = all[1]!.events[0] as RealtimeEvent.Event<unknown>
      expect(at.getTime()).toBe(0)
    }).pipe(Effect.provide(system))
  )

  it.effect("a client receives invalid events and gaps of the database in their place", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const told = yield* watch(yield* RealtimeClient.RealtimeClient)
      yield* test.settle
      yield* test.commit(
        { channel: Orders, text: '{"n":1}' },
        { channel: Orders, text: '{"n":"x"}' },
        { channel: Orders, text: '{"n":2}' },
        { channel: Orders, text: ' {"operation":"TRUNCATE"}' },
        { channel: Orders, text: '{"n":3}' }
      )
      const error = yield* Effect.flip(
        test.commit({ channel: Orders, text: '{"n":4}' }, { channel: Orders, text: "no JSON" })
      )
      expect(error).toMatchObject({ _tag: "PublishRefused", reason: "value" })
      yield* test.settle
      expect(yield* told).toEqual([1, "invalid", 2, "truncate", 3])
    }).pipe(Effect.provide(system))
  )

  it.effect("test.publish changes rows of a table, and Realtime.publish is rejected there", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* RealtimeClient.RealtimeClient
      const { told } = yield* collect(client.events(Parts))
      yield* test.settle
      const change = { operation: "INSERT", data: { n: 1 } } as const
      yield* test.publish(Parts, change)
      expect(yield* Effect.flip(Realtime.publish(Parts, change))).toMatchObject({
        _tag: "PublishRefused",
        reason: "table"
      })
      yield* test.settle
      expect(yield* told).toMatchObject([{ payload: { operation: "INSERT", data: { n: 1 } } }])
    }).pipe(Effect.provide(system))
  )

  describe("The server of RealtimeTest", () => {
    it.effect.each(["restart", "replace", "kill", "stop"] as const)(
      "after server.%s clients have missed no event, and every function works",
      (how) =>
        Effect.gen(function* () {
          const test = yield* RealtimeTest.RealtimeTest
          const client = yield* RealtimeClient.RealtimeClient
          const told = yield* watch(client)
          const before = yield* collect(Realtime.batches(Orders))
          yield* test.settle
          yield* test.publish(Orders, { n: 1 })
          yield* test.settle
          yield* test.server[how]
          if (how === "stop") {
            expect(yield* test.server.isReady).toBe(false)
            yield* test.publish(Orders, { n: 2 })
            yield* TestClock.adjust("1 minute")
            expect(yield* test.sockets).toBe(0)
            expect(yield* Stream.runCollect(Realtime.batches(Orders))).toEqual([])
            yield* test.server.start
          } else yield* test.publish(Orders, { n: 2 })
          expect(yield* test.server.isReady).toBe(true)
          // A Stream of the old server ends with the old server.
          yield* Fiber.join(before.fiber)
          const [, last] = yield* before.told
          expect(last!.events.map(short)).toEqual([1])
          yield* TestClock.adjust("1 minute")
          expect(yield* told).toEqual([1, 2])

          // Every function of a test, on the next server.
          const resumed = yield* collect(Realtime.batches(Orders, { from: last!.cursor }))
          const events = yield* collect(
            Stream.map(Realtime.events(Orders, { from: last!.cursor }), short)
          )
          const payloads = yield* collect(Realtime.subscribe(Orders))
          const live = yield* collect(Stream.map(Realtime.events(Live), short))
          const other = yield* test.connect()
          const others = yield* watch(other)
          const lives = yield* watch(client, Live)
          yield* test.settle
          expect(yield* test.sockets).toBe(2)
          expect(yield* test.subscriptions).toEqual(["live", "orders", "orders"])
          expect(yield* test.database.listening).toEqual(["live"])
          expect(
            yield* Stream.runHead(
              Realtime.Realtime.use(({ source }) => Effect.succeed(source)).pipe(Stream.unwrap)
            )
          ).toMatchObject({ value: "up" })
          yield* Realtime.publish(Orders, { n: 3 })
          yield* client.publish(Orders, { n: 4 })
          yield* test.commit({ channel: Orders, text: '{"n":5}' })
          yield* test.publish(Live, { n: 6 })
          yield* test.notify("live", '{"n":7}')
          yield* test.settle
          expect(yield* told).toEqual([1, 2, 3, 4, 5])
          expect(yield* others).toEqual([3, 4, 5])
          expect((yield* resumed.told).flatMap((batch) => batch.events.map(short))).toEqual([
            2, 3, 4, 5
          ])
          expect(yield* events.told).toEqual([2, 3, 4, 5])
          expect((yield* payloads.told).map(({ n }) => n)).toEqual([3, 4, 5])
          expect([yield* live.told, yield* lives]).toEqual([
            [6, 7],
            [6, 7]
          ])

          yield* test.database.lose
          yield* test.settle
          expect(yield* test.server.isReady).toBe(false)
          yield* test.publish(Orders, { n: 8 })
          yield* test.database.restore
          yield* test.cut
          yield* test.publish(Orders, { n: 9 })
          yield* TestClock.adjust("1 minute")
          yield* test.jump("10 minutes")
          yield* TestClock.adjust("1 minute")
          yield* test.publish(Orders, { n: 10 })
          yield* test.settle
          expect(yield* told).toEqual([1, 2, 3, 4, 5, 8, 9, 10])
          yield* test.server.kill
          yield* Fiber.join(resumed.fiber)
        }).pipe(Effect.provide(system))
    )

    it.effect("server.stop sends live channels a gap after start, and both may be repeated", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const told = yield* watch(yield* RealtimeClient.RealtimeClient, Live)
        yield* test.settle
        yield* test.server.stop
        yield* test.server.stop
        yield* test.publish(Live, { n: 1 })
        yield* test.server.start
        yield* test.server.start
        yield* TestClock.adjust("1 minute")
        yield* test.publish(Live, { n: 2 })
        yield* test.settle
        expect(yield* told).toEqual(["retention", 2])
        yield* test.server.stop
        yield* test.server.restart
        expect(yield* test.server.isReady).toBe(true)
      }).pipe(Effect.provide(system))
    )

    it.effect(
      "a publish is sent once when its answer is lost with the node and the client sends it again",
      () =>
        Effect.gen(function* () {
          const test = yield* RealtimeTest.RealtimeTest
          const client = yield* RealtimeClient.RealtimeClient
          const told = yield* watch(client)
          yield* test.settle
          yield* test.loseFrame("published")
          const published = yield* client
            .publish(Orders, { n: 1 })
            .pipe(Effect.forkChild({ startImmediately: true }))
          yield* test.settle
          expect(published.pollUnsafe()).toBeUndefined()
          yield* test.server.kill
          yield* test.cut
          yield* TestClock.adjust("9 seconds")
          yield* Fiber.join(published)
          yield* test.publish(Orders, { n: 2 }, { key: "mine" })
          yield* test.publish(Orders, { n: 2 }, { key: "mine" })
          yield* test.settle
          expect(yield* told).toEqual([1, 2])
        }).pipe(Effect.provide(system))
    )
  })

  describe("The database of RealtimeTest", () => {
    it.effect("database.lose holds durable commits until restore, without a gap", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        const lives = yield* watch(client, Live)
        const stream = yield* collect(Stream.map(Realtime.events(Orders), short))
        yield* test.settle
        yield* test.database.lose
        yield* test.publish(Orders, { n: 1 })
        yield* test.publish(Live, { n: 1 })
        yield* test.settle
        expect(client.sync.source.getSnapshot()).toBe("down")
        expect(yield* told).toEqual([])
        yield* test.database.restore
        yield* test.publish(Orders, { n: 2 })
        yield* test.publish(Live, { n: 2 })
        yield* test.settle
        expect(client.sync.source.getSnapshot()).toBe("up")
        expect([yield* told, yield* stream.told, yield* lives]).toEqual([
          [1, 2],
          [1, 2],
          ["source", 2]
        ])
      }).pipe(Effect.provide(system))
    )

    it.effect("database.stop fails publishes with SourceError until restore", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const told = yield* watch(yield* RealtimeClient.RealtimeClient)
        yield* test.settle
        yield* test.database.stop
        for (const failed of [
          test.publish(Orders, { n: 1 }),
          Realtime.publish(Orders, { n: 1 }),
          test.commit({ channel: Orders, text: "1" })
        ]) {
          expect(yield* Effect.flip(failed)).toMatchObject({ _tag: "SourceError" })
        }
        yield* test.database.restore
        yield* test.publish(Orders, { n: 2 })
        yield* test.settle
        expect(yield* told).toEqual([2])
      }).pipe(Effect.provide(system))
    )

    it.effect("database.crash loses no flushed event and sends no gap", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const told = yield* watch(yield* RealtimeClient.RealtimeClient)
        yield* test.settle
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        yield* test.database.crash()
        expect(yield* Effect.flip(test.publish(Orders, { n: 2 }))).toMatchObject({
          _tag: "SourceError"
        })
        yield* test.database.restore
        yield* test.publish(Orders, { n: 3 })
        yield* test.settle
        expect(yield* told).toEqual([1, 3])
      }).pipe(Effect.provide(system))
    )

    it.effect("database.crash sends a gap to each client that received a lost event", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const told = yield* watch(yield* RealtimeClient.RealtimeClient)
        const away = yield* test.connect()
        const later = yield* watch(away)
        const batches = yield* collect(Realtime.batches(Orders))
        yield* test.settle
        yield* test.publish(Orders, { n: 1 })
        yield* test.publish(Orders, { n: 2 })
        yield* test.publish(Orders, { n: 3 })
        yield* test.settle
        yield* away.network.refuse(true)
        yield* away.network.cut
        yield* test.settle
        yield* test.database.crash({ losing: 2 })
        yield* test.settle
        yield* test.database.restore
        // The numbers of lost events are used again.
        yield* test.publish(Orders, { n: 4 })
        yield* test.publish(Orders, { n: 5 })
        yield* away.network.refuse(false)
        yield* TestClock.adjust("1 minute")
        expect(yield* told).toEqual([1, 2, 3, "source", 4, 5])
        expect(yield* later).toEqual([1, 2, 3, "retention"])
        const [, one, , three] = yield* batches.told
        const from = (cursor: string, count: number) =>
          Realtime.events(Orders, { from: cursor }).pipe(
            Stream.take(count),
            Stream.map(short),
            Stream.runCollect
          )
        // A cursor at a lost event, and one before it.
        expect(yield* from(three!.cursor, 1)).toEqual(["source"])
        expect(yield* from(one!.cursor, 2)).toEqual([4, 5])
      }).pipe(Effect.provide(system))
    )

    it.effect("database.crash loses events that no client received, without a gap", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const told = yield* watch(yield* RealtimeClient.RealtimeClient)
        yield* test.settle
        yield* test.publish(Orders, { n: 1 })
        yield* test.database.lose
        yield* test.publish(Orders, { n: 2 })
        yield* test.database.crash({ losing: 1 })
        yield* test.database.restore
        yield* test.publish(Orders, { n: 3 })
        yield* test.settle
        expect(yield* told).toEqual([1, 3])
        // More than there is: the database is empty.
        yield* test.database.crash({ losing: 100 })
        yield* test.database.restore
        yield* test.publish(Orders, { n: 4 })
        yield* test.settle
        expect(yield* told).toEqual([1, 3, "source", 4])
      }).pipe(Effect.provide(system))
    )

    it.effect("database.prune makes an older cursor a gap on a server without memory of it", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const phone = yield* test.connect()
        const told = yield* watch(phone)
        yield* test.settle
        const start = yield* test.database.position
        const away = Effect.andThen(phone.network.refuse(true), phone.network.cut)
        const back = Effect.andThen(phone.network.refuse(false), TestClock.adjust("1 minute"))
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        yield* away
        yield* test.publish(Orders, { n: 2 })
        yield* test.database.prune
        // This server has just sent the event to an open channel.
        yield* back
        expect(yield* told).toEqual([1, 2])
        yield* away
        yield* test.publish(Orders, { n: 3 })
        yield* test.publish(Orders, { n: 4 })
        yield* test.database.prune
        yield* test.server.kill
        yield* back
        yield* test.publish(Orders, { n: 5 })
        yield* test.settle
        expect(yield* told).toEqual([1, 2, "retention", 5])
        const events = Realtime.events(Orders, { from: start })
        expect(yield* Stream.runHead(Stream.map(events, short))).toMatchObject({
          value: "retention"
        })
      }).pipe(Effect.provide(system))
    )

    it.effect(
      "database.prune sends a gap to a client that missed the pruned event while the source was down",
      () =>
        Effect.gen(function* () {
          const test = yield* RealtimeTest.RealtimeTest
          const told = yield* watch(yield* RealtimeClient.RealtimeClient)
          yield* test.settle
          yield* test.publish(Orders, { n: 1 })
          yield* test.database.lose
          yield* test.publish(Orders, { n: 2 })
          yield* test.database.prune
          yield* test.database.restore
          yield* test.publish(Orders, { n: 3 })
          yield* test.settle
          expect(yield* told).toEqual([1, "retention", 3])
        }).pipe(Effect.provide(system))
    )

    it.effect("the database prunes events older than the retention by itself", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const told = yield* watch(yield* RealtimeClient.RealtimeClient)
        const start = yield* test.database.position
        yield* test.settle
        yield* test.publish(Orders, { n: 1 })
        const from = (cursor: string) =>
          Realtime.batches(Orders, { from: cursor }).pipe(Stream.runHead)
        yield* TestClock.adjust("9 minutes")
        expect(yield* from(start)).toMatchObject({
          value: { events: [{ payload: { n: 1 } }] }
        })
        yield* TestClock.adjust("5 minutes")
        expect(yield* from(start)).toMatchObject({
          value: { events: [{ _tag: "Gap", reason: "retention" }] }
        })
        // A long quiet time is no gap for a connected client.
        yield* TestClock.adjust("1 hour")
        yield* test.publish(Orders, { n: 2 })
        yield* test.settle
        expect(yield* told).toEqual([1, 2])
      }).pipe(
        Effect.provide(RealtimeTest.layer({ ...options, outbox: { retention: "10 minutes" } }))
      )
    )
  })

  describe("The network of RealtimeTest", () => {
    it.effect("network.cut lets a client resume without a gap, even after 30 minutes", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const phone = yield* test.connect()
        const told = yield* watch(phone)
        yield* test.settle
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        yield* phone.network.refuse(true)
        yield* phone.network.cut
        yield* test.publish(Orders, { n: 2 })
        yield* TestClock.adjust("30 minutes")
        yield* test.publish(Orders, { n: 3 })
        yield* phone.network.refuse(false)
        yield* TestClock.adjust("1 minute")
        expect(yield* told).toEqual([1, 2, 3])
      }).pipe(Effect.provide(system))
    )

    it.effect("network.loseFrame delays events until the client notices the silence", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const other = yield* test.connect()
        const told = yield* watch(client)
        const others = yield* watch(other)
        yield* test.settle
        yield* other.network.loseFrame()
        yield* test.publish(Orders, { n: 1 })
        yield* test.publish(Orders, { n: 2 })
        yield* test.settle
        // A stream of bytes has no holes: event 2 must not arrive without event 1.
        expect([yield* told, yield* others]).toEqual([[1, 2], []])
        expect(other.sync.connection.getSnapshot().status).toBe("open")
        yield* TestClock.adjust("40 seconds")
        expect(yield* others).toEqual([1, 2])
        yield* test.publish(Orders, { n: 3 })
        yield* test.settle
        expect([yield* told, yield* others]).toEqual([
          [1, 2, 3],
          [1, 2, 3]
        ])
      }).pipe(Effect.provide(system))
    )

    it.effect("loseFrame of a type drops that frame, and earlier frames arrive", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        yield* test.settle
        yield* test.loseFrame("gap")
        yield* test.publish(Orders, { n: 1 })
        yield* test.commit({ channel: Orders, text: ' {"operation":"TRUNCATE"}' })
        yield* test.settle
        expect(yield* told).toEqual([1])
        yield* TestClock.adjust("40 seconds")
        expect(yield* told).toEqual([1, "truncate"])
      }).pipe(Effect.provide(system))
    )
  })
})
