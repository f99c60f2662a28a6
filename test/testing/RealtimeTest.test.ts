/** Each fault of the system in memory does what it says, under TestClock and at no cost in real time. */
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

/** What a subscriber was told, in short: numbers, and gaps by their reason. */
const short = (event: RealtimeEvent.RealtimeEvent<{ readonly n: number }>) =>
  event._tag === "Event" ? event.payload.n : event.reason

/** Collects in the background what a client is told of orders. */
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
      Stream.runForEach(({ reason, status }) =>
        Ref.update(seen, (all) => [...all, `${status}: ${reason}`])
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    return Ref.get(seen)
  })

const statusOf = (client: RealtimeClient.RealtimeClient["Service"]) =>
  client.sync.connection.getSnapshot().status

describe("RealtimeTest", () => {
  it.effect("joins a server and its clients, without a port and without time passing", () =>
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

  it.effect("publishes for a client, and server-side Streams hear it", () =>
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

  it.effect("asks authenticate and authorize, with headers and the token of the client", () =>
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

  it.effect("leaves nothing behind when its scope closes, whatever state it is in", () =>
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

  describe("database", () => {
    it.effect("lose: commits go on unheard, and restore tells it", () =>
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

    it.effect("stop: publishing fails until it is restored", () =>
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

  describe("network", () => {
    it.effect("cut: both ends notice at once, the client sees 1006 and resumes", () =>
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
          "waiting: closed with 1006"
        ])
        expect(yield* told).toEqual([1])
      }).pipe(Effect.provide(system))
    )

    it.effect("silence: nothing passes and nobody is told; both ends notice by themselves", () =>
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

    it.effect("resume: a socket of which something was swallowed stays dead, others live", () =>
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
        // A stream of bytes has no holes: 2 without 1 would be one.
        expect(yield* told).toEqual([])
        yield* TestClock.adjust("40 seconds")
        expect(yield* told).toEqual([1, 2])
        expect(yield* test.sockets).toBe(2)
        expect(statusOf(idle)).toBe("open")
      }).pipe(Effect.provide(system))
    )

    it.effect("delay: each message takes so long, each way, in order", () =>
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

    it.effect("refuse: attempts fail and open sockets stay", () =>
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

    it.effect("of one client: the others do not notice", () =>
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
      "holds so many bytes for a client that does not read, then the server must wait",
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
          // Written before the buffer was full; what waited beyond the limit was dropped, and told.
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

    it.effect("closes with 1009 for a message over maxFrameBytes, as a real socket does", () =>
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

  describe("server", () => {
    it.effect(
      "restart: says bye, closes with 4000, and the new one knows nothing of the past",
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

    it.effect("restart: refuses attempts while it drains, and cuts who does not leave", () =>
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

    it.effect("replace: the new one takes newcomers while the old one drains", () =>
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
        // The one that cannot leave holds up the old server, and nobody else.
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

    it.effect("kill: no bye, the sockets are reset, and what was missed is told", () =>
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
        expect(yield* states).toContain("waiting: closed with 1006")
      }).pipe(Effect.provide(system))
    )
  })

  describe("jump", () => {
    it.effect("what was due happens late and at once; the test's own clock stays", () =>
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
  it.effect("survives the loss of the database", () =>
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
