/** Each fault of the system in memory, under TestClock and without real time. */
import { describe, expect, it, layer } from "@effect/vitest"
import { Effect, Fiber, Ref, Schema, Stream } from "effect"
import { Channel, type RealtimeEvent } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { RealtimeServer, Realtime } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Int }))
const Room = Channel.family("room_", Schema.String, Schema.Struct({ text: Schema.String }), {
  publish: true
})

const options = { channels: [Orders, Room], authorize: RealtimeServer.allowAll }
const system = RealtimeTest.layer(options)

/** The events of a subscriber: numbers, and the reasons of gaps. */
const short = (event: RealtimeEvent.RealtimeEvent<{ readonly n: number }>) =>
  event._tag === "Event" ? event.payload.n : event.reason

/** Collects in the background the orders that a client receives. */
const watch = (client: RealtimeClient.RealtimeClient["Service"]) =>
  Effect.gen(function* () {
    const told = yield* Ref.make<ReadonlyArray<number | string>>([])
    yield* client.events(Orders).pipe(
      Stream.runForEach((event) => Ref.update(told, (all) => [...all, short(event)])),
      Effect.forkScoped({ startImmediately: true })
    )
    return Ref.get(told)
  })

/** The states of a client's connection, in short. */
const follow = (client: RealtimeClient.RealtimeClient["Service"]) =>
  Effect.gen(function* () {
    const seen = yield* Ref.make<ReadonlyArray<string>>([])
    yield* client.connection.pipe(
      Stream.runForEach(({ message, status }) =>
        Ref.update(seen, (all) => [...all, `${status}: ${message}`])
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    return Ref.get(seen)
  })

const statusOf = (client: RealtimeClient.RealtimeClient["Service"]) =>
  client.sync.connection.getSnapshot().status

describe("RealtimeTest", () => {
  it.effect("RealtimeTest connects a server and clients without a port or passing time", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* RealtimeClient.RealtimeClient
      const other = yield* test.connect()
      const told = yield* watch(client)
      const others = yield* watch(other)
      yield* test.settle
      expect(yield* test.sockets).toBe(2)
      expect(yield* test.subscriptions).toEqual(["orders", "orders"])
      expect(yield* test.database.listening).toEqual(["orders"])
      yield* test.publish(Orders, { n: 1 })
      yield* test.notify("orders", '{"n":2}')
      yield* test.notify("orders", "no JSON")
      yield* Realtime.publish(Orders, { n: 3 })
      yield* test.settle
      expect(yield* told).toEqual([1, 2, "invalid", 3])
      expect(yield* others).toEqual([1, 2, "invalid", 3])
    }).pipe(Effect.provide(system))
  )

  it.effect("a server-side Stream receives a client's publish", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* RealtimeClient.RealtimeClient
      const heard = yield* Realtime.subscribe(Room("a")).pipe(
        Stream.runHead,
        Effect.forkChild({ startImmediately: true })
      )
      yield* test.settle
      yield* client.publish(Room("a"), { text: "hi" })
      expect(yield* Fiber.join(heard)).toMatchObject({ value: { text: "hi" } })
    }).pipe(Effect.provide(system))
  )

  it.effect("authenticate and authorize get the client's headers and token", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const stranger = yield* test.connect({ token: () => "wrong" })
      const exit = yield* Effect.exit(Stream.runDrain(stranger.events(Orders)))
      expect(exit).toMatchObject({ _tag: "Failure" })
      expect(stranger.sync.connection.getSnapshot()).toMatchObject({
        status: "stopped",
        code: 4202
      })
      const told = yield* watch(yield* RealtimeClient.RealtimeClient)
      yield* test.settle
      yield* test.publish(Orders, { n: 1 })
      yield* test.settle
      expect(yield* told).toEqual([1])
    }).pipe(
      Effect.provide(
        RealtimeTest.layer({
          channels: [Orders],
          authenticate: ({ headers, token }) =>
            token === "right" && headers.cookie === "a=b"
              ? Effect.succeed({ identity: "me" })
              : Effect.fail(new RealtimeServer.AuthRefused({ code: "auth/invalid" })),
          authorize: ({ identity }) => Effect.succeed(identity === "me"),
          client: { token: () => "right", headers: { cookie: "a=b" } }
        })
      )
    )
  )

  it.effect("a RealtimeTest that closes during a silence stops its client", () =>
    Effect.gen(function* () {
      const client = yield* Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        yield* watch(yield* RealtimeClient.RealtimeClient)
        yield* test.settle
        yield* test.silence
        yield* test.publish(Orders, { n: 1 })
        return yield* RealtimeClient.RealtimeClient
      }).pipe(Effect.scoped, Effect.provide(system))
      expect(statusOf(client)).toBe("stopped")
    })
  )

  describe("The database of RealtimeTest", () => {
    it.effect("database.lose drops live events, and restore sends a gap", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        yield* test.settle
        yield* test.database.lose
        yield* test.settle
        expect(client.sync.source.getSnapshot()).toBe("down")
        expect(yield* test.server.isReady).toBe(false)
        yield* test.publish(Orders, { n: 1 })
        yield* test.database.restore
        yield* test.publish(Orders, { n: 2 })
        yield* test.settle
        expect(client.sync.source.getSnapshot()).toBe("up")
        expect(yield* told).toEqual(["source", 2])
      }).pipe(Effect.provide(system))
    )

    it.effect("database.stop fails publishes with SourceError until restore", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        yield* test.database.stop
        const error = yield* Effect.flip(test.publish(Orders, { n: 1 }))
        expect(error._tag).toBe("SourceError")
        yield* test.database.restore
        yield* test.publish(Orders, { n: 2 })
      }).pipe(Effect.provide(system))
    )
  })

  describe("The network of RealtimeTest", () => {
    it.effect("network.cut closes both ends at once with 1006, and the client resumes", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        const states = yield* follow(client)
        yield* test.settle
        yield* test.cut
        yield* test.settle
        expect(yield* test.sockets).toBe(0)
        expect(statusOf(client)).toBe("waiting")
        yield* test.publish(Orders, { n: 1 })
        yield* TestClock.adjust("2 seconds")
        expect(statusOf(client)).toBe("open")
        expect((yield* states).filter((state) => state.startsWith("waiting"))).toEqual([
          "waiting: The connection was lost"
        ])
        expect(yield* told).toEqual([1])
      }).pipe(Effect.provide(system))
    )

    it.effect("network.silence passes no bytes, and both ends notice in under 38 s", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        yield* test.settle
        yield* test.silence
        yield* test.publish(Orders, { n: 1 })
        yield* TestClock.adjust("34 seconds")
        expect(statusOf(client)).toBe("open")
        expect(yield* test.sockets).toBe(1)
        yield* TestClock.adjust("4 seconds")
        expect(statusOf(client)).not.toBe("open")
        expect(yield* test.sockets).toBe(0)
        yield* test.resume
        yield* TestClock.adjust("40 seconds")
        expect(statusOf(client)).toBe("open")
        expect(yield* told).toEqual([1])
      }).pipe(Effect.provide(system))
    )

    it.effect("network.resume does not revive a socket that lost bytes, and others live on", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        const idle = yield* test.connect()
        yield* idle.subscribe(Room("a")).pipe(Stream.runDrain, Effect.forkScoped)
        yield* test.settle
        yield* test.silence
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        yield* test.resume
        yield* test.publish(Orders, { n: 2 })
        yield* test.settle
        // A stream of bytes has no holes: event 2 must not arrive without event 1.
        expect(yield* told).toEqual([])
        yield* TestClock.adjust("40 seconds")
        expect(yield* told).toEqual([1, 2])
        expect(yield* test.sockets).toBe(2)
        expect(statusOf(idle)).toBe("open")
      }).pipe(Effect.provide(system))
    )

    it.effect("network.delay delays each message each way, and keeps the order", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        yield* test.settle
        yield* test.delay("100 millis")
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        yield* test.delay(0)
        yield* test.publish(Orders, { n: 2 })
        yield* TestClock.adjust("99 millis")
        expect(yield* told).toEqual([])
        yield* TestClock.adjust("1 millis")
        expect(yield* told).toEqual([1, 2])
        yield* test.delay("100 millis")
        const published = yield* client
          .publish(Room("a"), { text: "hi" })
          .pipe(Effect.forkChild({ startImmediately: true }))
        yield* TestClock.adjust("199 millis")
        expect(published.pollUnsafe()).toBeUndefined()
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(published)
      }).pipe(Effect.provide(system))
    )

    it.effect("network.refuse fails new connections and keeps open sockets", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        yield* test.settle
        yield* test.refuse(true)
        const late = yield* test.connect()
        const lateTold = yield* watch(late)
        yield* TestClock.adjust("1 minute")
        expect(statusOf(late)).not.toBe("open")
        expect(yield* test.sockets).toBe(1)
        yield* test.refuse(false)
        yield* TestClock.adjust("40 seconds")
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        expect(yield* told).toEqual([1])
        expect(yield* lateTold).toEqual([1])
      }).pipe(Effect.provide(system))
    )

    it.effect("a fault of one client's network does not affect other clients", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const phone = yield* test.connect()
        const told = yield* watch(client)
        const phoneTold = yield* watch(phone)
        yield* test.settle
        yield* phone.network.refuse(true)
        yield* phone.network.cut
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        expect([statusOf(client), statusOf(phone)]).toEqual(["open", "waiting"])
        expect([yield* told, yield* phoneTold]).toEqual([[1], []])
        yield* phone.network.refuse(false)
        yield* TestClock.adjust("2 seconds")
        expect(yield* phoneTold).toEqual([1])
      }).pipe(Effect.provide(system))
    )

    it.effect(
      "a socket holds socketBytes for a client that does not read, and then the mailbox drops events",
      () =>
        Effect.gen(function* () {
          const test = yield* RealtimeTest.RealtimeTest
          const client = yield* RealtimeClient.RealtimeClient
          const told = yield* watch(client)
          yield* test.settle
          yield* test.delay("1 second")
          for (let n = 1; n <= 40; n++) {
            yield* test.publish(Orders, { n })
            yield* test.settle
          }
          yield* test.delay(0)
          yield* TestClock.adjust("1 minute")
          yield* test.publish(Orders, { n: 41 })
          yield* test.settle
          const all = yield* told
          // Events written before the buffer was full, and a gap for the events dropped over the limit.
          expect(all[0]).toBe(1)
          expect(all).toContain("slow")
          expect(all.at(-1)).toBe(41)
          expect(all.length).toBeLessThan(41)
        }).pipe(
          Effect.provide(
            RealtimeTest.layer({ ...options, socketBytes: 500, limits: { maxMailboxBytes: 1000 } })
          )
        )
    )

    it.effect("a message over maxFrameBytes closes the socket with 1009", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* test.connect({ token: () => "x".repeat(1000) })
        yield* client.subscribe(Orders).pipe(Stream.runDrain, Effect.forkScoped)
        yield* test.settle
        expect(client.sync.connection.getSnapshot()).toMatchObject({
          status: "stopped",
          code: 1009
        })
      }).pipe(Effect.provide(RealtimeTest.layer({ ...options, limits: { maxFrameBytes: 500 } })))
    )
  })

  describe("The server of RealtimeTest", () => {
    it.effect(
      "server.restart sends bye, closes with 4000, and live channels get a gap from the new server",
      () =>
        Effect.gen(function* () {
          const test = yield* RealtimeTest.RealtimeTest
          const client = yield* RealtimeClient.RealtimeClient
          const told = yield* watch(client)
          const states = yield* follow(client)
          const inside = yield* Realtime.events(Orders).pipe(
            Stream.runCollect,
            Effect.forkChild({ startImmediately: true })
          )
          yield* test.settle
          yield* test.publish(Orders, { n: 1 })
          yield* test.settle
          yield* test.server.restart
          expect((yield* Fiber.join(inside)).map(short)).toEqual([1])
          yield* test.publish(Orders, { n: 2 })
          yield* TestClock.adjust("1 second")
          yield* test.publish(Orders, { n: 3 })
          yield* test.settle
          expect(yield* told).toEqual([1, "retention", 3])
          expect(yield* states).toContain("waiting: The server is closing")
        }).pipe(Effect.provide(system))
    )

    it.effect("server.restart rejects new clients while it drains, and cuts a silent one", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const silent = yield* test.connect()
        yield* watch(silent)
        yield* test.settle
        yield* silent.network.silence
        const restarted = yield* test.server.restart.pipe(
          Effect.forkChild({ startImmediately: true })
        )
        const late = yield* RealtimeClient.RealtimeClient
        yield* watch(late)
        yield* TestClock.adjust("1 second")
        expect(yield* test.sockets).toBe(1)
        expect(statusOf(late)).not.toBe("open")
        expect(restarted.pollUnsafe()).toBeUndefined()
        yield* TestClock.adjust("9 seconds")
        yield* Fiber.join(restarted)
        yield* TestClock.adjust("40 seconds")
        expect(statusOf(late)).toBe("open")
      }).pipe(Effect.provide(system))
    )

    it.effect("server.replace serves new clients while the old server drains", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        const silent = yield* test.connect()
        yield* watch(silent)
        yield* test.settle
        yield* silent.network.silence
        const replaced = yield* test.server.replace.pipe(
          Effect.forkChild({ startImmediately: true })
        )
        yield* TestClock.adjust("1 second")
        // Only the old server waits for the client that cannot leave.
        expect(replaced.pollUnsafe()).toBeUndefined()
        expect(statusOf(client)).toBe("open")
        expect(yield* test.sockets).toBe(2)
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        expect(yield* told).toEqual(["retention", 1])
        yield* TestClock.adjust("9 seconds")
        yield* Fiber.join(replaced)
        expect(yield* test.sockets).toBe(1)
      }).pipe(Effect.provide(system))
    )

    it.effect("server.kill resets sockets without bye, and live channels get a gap", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        const states = yield* follow(client)
        yield* test.settle
        yield* test.server.kill
        yield* test.publish(Orders, { n: 1 })
        yield* TestClock.adjust("2 seconds")
        yield* test.publish(Orders, { n: 2 })
        yield* test.settle
        expect(yield* told).toEqual(["retention", 2])
        expect(yield* states).toContain("waiting: The connection was lost")
      }).pipe(Effect.provide(system))
    )
  })

  describe("jump of RealtimeTest", () => {
    it.effect("jump makes timers fire late and at once, and the client reconnects", () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const client = yield* RealtimeClient.RealtimeClient
        const told = yield* watch(client)
        yield* test.settle
        yield* test.jump("10 minutes")
        yield* test.settle
        // The link was silent for too long by absolute time.
        expect(statusOf(client)).toBe("waiting")
        yield* TestClock.adjust("2 seconds")
        expect(statusOf(client)).toBe("open")
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        expect(yield* told).toEqual([1])
      }).pipe(Effect.provide(system))
    )
  })
})

// The example of the documentation, word by word.
layer(RealtimeTest.layer({ channels: [Orders], authorize: RealtimeServer.allowAll }))((it) => {
  it.effect("a client receives a gap and then events after the loss of the database", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* RealtimeClient.RealtimeClient
      const two = yield* client
        .events(Orders)
        .pipe(Stream.take(2), Stream.runCollect, Effect.forkChild)
      yield* test.settle
      yield* test.database.lose
      yield* test.publish(Orders, { n: 1 })
      yield* test.database.restore
      yield* test.publish(Orders, { n: 2 })
      expect((yield* Fiber.join(two)).map((event) => event._tag)).toEqual(["Gap", "Event"])
    })
  )
})
