import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Random, Result, Scope, Stream } from "effect"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { Channel, RealtimeEvent } from "effect-realtime"
import { vi } from "vitest"
import type { ServerFrame } from "../../src/Frame.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Order = Schema.Struct({ n: Schema.Finite })
const Orders = Channel.make("orders", Order)
const Report = Channel.family("report_", Schema.String, Order)
const { events } = FakeSocket

/** Runs the stream and collects its events, until the test stops it. */
const watch = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.gen(function* () {
    const seen: Array<A> = []
    const fiber = yield* stream.pipe(
      Stream.runForEach((value) => Effect.sync(() => seen.push(value))),
      Effect.exit,
      Effect.forkChild({ startImmediately: true })
    )
    return { seen, fiber, stop: Fiber.interrupt(fiber) }
  })

/** Events as their payload, gaps as their reason. */
const brief = (seen: ReadonlyArray<RealtimeEvent.RealtimeEvent<unknown>>) =>
  seen.map(
    RealtimeEvent.match<unknown, unknown, unknown>({
      onEvent: ({ payload }) => payload,
      onGap: ({ reason }) => reason
    })
  )

const hasStopped = (exit: Exit.Exit<unknown, { readonly _tag: string }>) =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.some(
    (reason) => "error" in reason && reason.error._tag === "ConnectionStopped"
  )

/** Runs all timers that are due now. */
const settle = TestClock.adjust(1)

const types = (server: FakeSocket.FakeServer) => server.sent.map(({ type }) => type)

describe("RealtimeClient", () => {
  describe("events", () => {
    it.effect("emits events with their ids, and gaps in their places", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { seen } = yield* watch(client.events(Orders))
        yield* settle
        server.last.say(events("orders", 1, { n: 1, extra: true }, { n: 2 }))
        server.last.say({ type: "gap", channel: "orders", reason: "source", cursor: "f:0" })
        yield* settle
        const at = new Date("2026-11-22T00:00:00.000Z")
        const base = { _tag: "Event", channel: "orders", at, tx: undefined } as const
        assert.deepStrictEqual(seen, [
          { ...base, id: "1", payload: { n: 1 }, cursor: undefined },
          { ...base, id: "2", payload: { n: 2 }, cursor: "e:2" },
          new RealtimeEvent.Gap({ channel: "orders", reason: "source", cursor: "f:0" })
        ])
      })
    )

    it.effect("emits a gap in place of a payload that does not decode, and goes on", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { seen } = yield* watch(client.events(Orders))
        yield* settle
        server.last.say(events("orders", 1, { n: 1 }), events("orders", 2, "bad", { n: 3 }, "bad"))
        server.last.say(events("orders", 5, { n: 5 }))
        yield* settle
        assert.deepStrictEqual(brief(seen), [{ n: 1 }, "invalid", { n: 3 }, "invalid", { n: 5 }])
        // Inside a batch the cursor is the one before the batch, so a resume there loses nothing.
        assert.deepStrictEqual(
          seen.map(({ cursor }) => cursor),
          ["e:1", "e:1", undefined, "e:4", "e:5"]
        )
      })
    )

    it.effect("emits a gap in place of a payload whose schema throws", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const channel = {
          ...Orders,
          decode: () => {
            throw new Error("a bug")
          }
        }
        const { seen } = yield* watch(client.events(channel))
        yield* settle
        server.last.say(events("orders", 1, { n: 1 }))
        yield* settle
        assert.deepStrictEqual(brief(seen), ["invalid"])
      })
    )

    it.effect("fails for an invalid channel name, without a socket", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const exit = yield* Effect.exit(Stream.runDrain(client.events(Channel.untyped("a b"))))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(server.sockets.length, 0)
      })
    )

    it.effect("drops the backlog of a slow consumer and emits gap slow to this consumer only", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server, { maxStreamBuffer: 3 })
        const gate = yield* Queue.unbounded<void>()
        const slow: Array<unknown> = []
        yield* client.events(Orders).pipe(
          Stream.runForEach((event) =>
            Effect.andThen(
              Effect.sync(() => slow.push(...brief([event]))),
              Queue.take(gate)
            )
          ),
          Effect.forkChild({ startImmediately: true })
        )
        const fast = yield* watch(client.events(Orders))
        yield* settle
        for (let n = 1; n <= 6; n++) {
          server.last.say(events("orders", n, { n }))
          yield* settle
        }
        for (let i = 0; i < 10; i++) yield* Queue.offer(gate, undefined)
        yield* settle
        assert.deepStrictEqual(slow, [{ n: 1 }, "slow", { n: 6 }])
        assert.strictEqual(fast.seen.length, 6)
      })
    )
  })

  describe("subscribe", () => {
    it.effect("emits payloads and fails with the gap", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { fiber, seen } = yield* watch(client.subscribe(Orders))
        yield* settle
        const gap = { channel: "orders", reason: "source", cursor: "f:0" } as const
        server.last.say(events("orders", 1, { n: 1 }, { n: 2 }), { type: "gap", ...gap })
        yield* settle
        assert.deepStrictEqual(seen, [{ n: 1 }, { n: 2 }])
        assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.fail(new RealtimeEvent.Gap(gap)))
      })
    )
  })

  describe("sharing", () => {
    it.effect("serves many consumers with one subscription, and decodes each frame once", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        let decoded = 0
        const counted = Channel.make(
          "counted",
          Schema.Finite.check(
            Schema.makeFilter(() => {
              decoded++
              return true
            })
          )
        )
        const watches = yield* Effect.forEach(Array.from({ length: 5 }), () =>
          watch(client.events(counted))
        )
        yield* settle
        server.last.say(events("counted", 1, 1, 2))
        yield* settle
        assert.deepStrictEqual(types(server), ["hello", "subscribe"])
        for (const { seen } of watches) assert.deepStrictEqual(brief(seen), [1, 2])
        assert.strictEqual(decoded, 2)
      })
    )

    it.effect("decodes a frame of a family once, although each call makes another channel", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const [one, two] = yield* Effect.forEach([1, 2], () => watch(client.events(Report("7"))))
        yield* settle
        server.last.say(events("report_7", 1, { n: 1 }))
        yield* settle
        assert.strictEqual(one!.seen[0], two!.seen[0])
      })
    )

    it.effect("delivers to a later consumer from the next event on", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        yield* watch(client.events(Orders))
        yield* settle
        server.last.say(events("orders", 1, { n: 1 }))
        const late = yield* watch(client.events(Orders))
        server.last.say(events("orders", 2, { n: 2 }))
        yield* settle
        assert.deepStrictEqual(brief(late.seen), [{ n: 2 }])
        assert.deepStrictEqual(types(server), ["hello", "subscribe"])
      })
    )

    it.effect("delivers nothing to a stopped consumer, and unsubscribes 1 s after the last", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const [one, two] = yield* Effect.forEach([1, 2], () => watch(client.events(Orders)))
        yield* watch(client.events(Report("stays")))
        yield* settle
        yield* one!.stop
        server.last.say(events("orders", 1, { n: 1 }))
        yield* settle
        yield* two!.stop
        yield* TestClock.adjust(998)
        assert.deepStrictEqual(server.last.of("unsubscribe"), [])
        yield* TestClock.adjust(2)
        assert.deepStrictEqual(
          server.last.of("unsubscribe").map(({ channel }) => channel),
          ["orders"]
        )
        assert.deepStrictEqual([brief(one!.seen), brief(two!.seen)], [[], [{ n: 1 }]])
      })
    )

    it.effect("sends one subscribe frame for listen, stop and listen in one tick", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        yield* watch(client.events(Report("stays")))
        yield* settle
        const listener = { onEvents: () => {}, onEnd: () => {} }
        const stop = client.sync.listen(Orders, listener)
        stop()
        client.sync.listen(Orders, listener)()
        client.sync.listen(Orders, listener)
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(types(server), ["hello", "subscribe", "subscribe"])
      })
    )

    it.effect(
      "opens one socket and sends one subscribe frame for 50 consumers in turn, and closes it after the last",
      () =>
        Effect.gen(function* () {
          const server = FakeSocket.make({ auto: true })
          const client = yield* Client.make(server)
          for (let i = 0; i < 50; i++) {
            const { stop } = yield* watch(client.events(Orders))
            yield* settle
            yield* stop
            yield* TestClock.adjust(10)
          }
          assert.deepStrictEqual(types(server), ["hello", "subscribe"])
          yield* TestClock.adjust("1 second")
          assert.strictEqual(server.last.closedWith, 1000)
          assert.strictEqual(client.sync.connection.getSnapshot().status, "idle")
          yield* TestClock.adjust("1 hour")
          assert.strictEqual(server.sockets.length, 1)
        })
    )

    it.effect(
      "ends subscribed after 1,000 random subscribes and unsubscribes, without stale frames",
      () =>
        Effect.gen(function* () {
          const server = FakeSocket.make({ auto: true })
          const client = yield* Client.make(server, { linger: 1 })
          yield* watch(client.events(Report("stays")))
          yield* settle
          // A server with latency: it answers in order, and rejects duplicate subscriptions.
          const faults: Array<string> = []
          const inbox: Array<{ readonly type: string; readonly id: number }> = []
          let on = false
          let generation = 0
          server.heard = (_, frame) => {
            if (frame.type === "subscribe" || frame.type === "unsubscribe") inbox.push(frame)
          }
          const answer = () => {
            const frame = inbox.shift()
            if (frame === undefined) return
            const base = { id: frame.id, channel: "orders" }
            if (frame.type === "subscribe") {
              if (on) faults.push("duplicate")
              on = true
              generation++
              server.last.say({
                type: "subscribed",
                ...base,
                state: "fresh",
                cursor: `${generation}:0`
              })
            } else {
              on = false
              server.last.say({ type: "unsubscribed", ...base })
            }
          }
          let stop: (() => void) | undefined
          let joinedAt = 0
          const listener = (joined: number) => ({
            onEvents: (batch: ReadonlyArray<RealtimeEvent.RealtimeEvent<{ n: number }>>) => {
              for (const event of batch) {
                if (stop === undefined) faults.push("delivered after leaving")
                if (joined !== joinedAt) faults.push("delivered to another")
                if (event._tag === "Event" && event.payload.n !== generation) faults.push("stale")
              }
            },
            onEnd: () => faults.push("ended")
          })
          for (let i = 0; i < 1000; i++) {
            const dice = yield* Random.nextIntBetween(0, 5)
            if (dice === 0) {
              stop?.()
              stop = undefined
            } else if (dice === 1 && stop === undefined) {
              stop = client.sync.listen(Orders, listener(++joinedAt))
            } else if (dice === 2) answer()
            else if (dice === 3) yield* TestClock.adjust(1)
            // Sent while the server holds a subscription that the client may have ended already.
            else if (on) server.last.say(events("orders", i, { n: generation }))
          }
          stop ??= client.sync.listen(Orders, listener(++joinedAt))
          for (let i = 0; i < 6; i++) {
            yield* TestClock.adjust(5)
            answer()
          }
          assert.deepStrictEqual(faults, [])
          assert.isTrue(on)
          assert.deepStrictEqual(inbox, [])
        })
    )

    it.effect("ignores frames of a channel until the answer to its latest request", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        server.heard = (socket, frame) => {
          if (frame.type !== "subscribe") server.answer(socket, frame)
        }
        const { seen } = yield* watch(client.events(Orders))
        yield* settle
        server.last.say(
          events("orders", 1, { n: 1 }),
          { type: "gap", channel: "orders", reason: "source", cursor: "e:1" },
          {
            type: "ended",
            channel: "orders",
            code: "channel/forbidden",
            message: "no",
            retry: "never"
          }
        )
        server.answer(server.last, server.last.of("subscribe")[0]!)
        server.last.say(events("orders", 2, { n: 2 }))
        yield* settle
        assert.deepStrictEqual(brief(seen), [{ n: 2 }])
      })
    )
  })

  describe("reconnect", () => {
    const reconnected = Effect.fnUntraced(function* (
      server: FakeSocket.FakeServer,
      answer?: (id: number, channel: string) => ServerFrame
    ) {
      if (answer !== undefined) {
        server.heard = (socket, frame) => {
          if (frame.type === "subscribe") socket.say(answer(frame.id, frame.channel))
          else server.answer(socket, frame)
        }
      }
      server.last.drop(1006)
      yield* TestClock.adjust(2000)
    })

    it.effect("subscribes again with the cursor of the last events, cursor or gap frame", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { seen } = yield* watch(client.events(Orders))
        yield* settle
        const say: ReadonlyArray<ServerFrame> = [
          events("orders", 1, { n: 1 }, { n: 2 }),
          { type: "cursor", channel: "orders", cursor: "e:9" },
          { type: "gap", channel: "orders", reason: "slow", cursor: "f:3" }
        ]
        const asked = () => server.last.of("subscribe").map(({ cursor }) => cursor)
        const positions = [asked()]
        yield* reconnected(server)
        positions.push(asked())
        for (const frame of say) {
          server.last.say(frame)
          yield* reconnected(server)
          positions.push(asked())
        }
        assert.deepStrictEqual(positions, [[undefined], ["e:0"], ["e:2"], ["e:9"], ["f:3"]])
        // A first `fresh` and each `recovered` cause no gap.
        assert.deepStrictEqual(brief(seen), [{ n: 1 }, { n: 2 }, "slow"])
      })
    )

    it.effect("delivers replayed events, and emits gap retention for a reset", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const one = yield* watch(client.events(Orders))
        const two = yield* watch(client.events(Orders))
        yield* settle
        yield* reconnected(server)
        server.last.say(events("orders", 1, { n: 1 }))
        yield* reconnected(server, (id, channel) => ({
          type: "subscribed",
          id,
          channel,
          state: "reset",
          cursor: "g:7"
        }))
        server.last.say(events("orders", 2, { n: 2 }))
        yield* settle
        for (const { seen } of [one, two]) {
          assert.deepStrictEqual(brief(seen), [{ n: 1 }, "retention", { n: 2 }])
          assert.strictEqual(seen[1]!.cursor, "g:7")
        }
      })
    )

    it.effect("emits no gap to a consumer that joins without a cursor during a resume", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const listen = (from?: string) => {
          const told: Array<unknown> = []
          client.sync.listen(
            Orders,
            {
              onEvents: (batch) => told.push(...brief(batch)),
              onCursor: (cursor) => told.push(cursor),
              onEnd: (error) => told.push(error)
            },
            from
          )
          return told
        }
        const old = listen()
        yield* settle
        server.last.say(events("orders", 1, { n: 1 }))
        server.heard = (socket, frame) => {
          if (frame.type === "hello") server.answer(socket, frame)
        }
        server.last.drop()
        const whileDown = listen()
        yield* TestClock.adjust("2 seconds")
        const { id } = server.last.of("subscribe")[0]!
        const [whileAsking, elsewhere] = [listen(), listen("d:9")]
        const subscribed = { type: "subscribed", channel: "orders" } as const
        server.last.say(
          { ...subscribed, id, state: "reset", cursor: "f:0" },
          events("orders", 2, { n: 2 })
        )
        assert.deepStrictEqual(old, ["e:0", { n: 1 }, "retention", "f:0", { n: 2 }])
        assert.deepStrictEqual(whileDown, ["f:0", { n: 2 }])
        assert.deepStrictEqual(whileAsking, ["f:0", { n: 2 }])
        assert.deepStrictEqual(elsewhere, ["retention", "f:0", { n: 2 }])
        // From here on they share the cursor of all: the next reset is a gap for them too.
        server.last.drop()
        yield* TestClock.adjust("2 seconds")
        const again = server.last.of("subscribe")[0]!
        server.last.say({ ...subscribed, id: again.id, state: "reset", cursor: "g:0" })
        for (const told of [old, whileDown, whileAsking, elsewhere]) {
          assert.deepStrictEqual(told.slice(-2), ["retention", "g:0"])
        }
      })
    )

    it.effect("keeps at most 40 subscribe requests unanswered", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        server.heard = (socket, frame) => {
          if (frame.type === "hello") server.answer(socket, frame)
        }
        for (let i = 0; i < 100; i++) yield* watch(client.events(Report(`${i}`)))
        yield* settle
        assert.strictEqual(server.last.of("subscribe").length, 40)
        server.heard = server.answer
        server.answer(server.last, server.last.of("subscribe")[0]!)
        for (const frame of server.last.of("subscribe").slice(1, 60)) {
          server.answer(server.last, frame)
        }
        assert.strictEqual(server.last.of("subscribe").length, 100)
      })
    )

    it.effect("forgets the cursor of a channel without consumers", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { stop } = yield* watch(client.events(Orders))
        yield* watch(client.events(Report("stays")))
        yield* settle
        yield* stop
        server.last.drop(1006)
        yield* TestClock.adjust(100)
        yield* watch(client.events(Orders))
        yield* TestClock.adjust(2000)
        const frame = server.last.of("subscribe").find(({ channel }) => channel === "orders")
        assert.strictEqual(frame!.cursor, undefined)
      })
    )
  })

  describe("a starting cursor", () => {
    it.effect("is sent in the subscribe frame that opens the channel", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { seen } = yield* watch(client.events(Orders, { from: "e:5" }))
        yield* settle
        assert.strictEqual(server.last.of("subscribe")[0]!.cursor, "e:5")
        server.last.say(events("orders", 6, { n: 6 }))
        yield* settle
        assert.deepStrictEqual(brief(seen), [{ n: 6 }])
      })
    )

    it.effect("is a gap retention when the channel is already open at another cursor", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const first = yield* watch(client.events(Orders))
        yield* settle
        server.last.say(events("orders", 1, { n: 1 }))
        const here = yield* watch(client.events(Orders, { from: "e:1" }))
        const elsewhere = yield* watch(client.events(Orders, { from: "e:0" }))
        server.last.say(events("orders", 2, { n: 2 }))
        yield* settle
        assert.deepStrictEqual(brief(here.seen), [{ n: 2 }])
        assert.deepStrictEqual(brief(elsewhere.seen), ["retention", { n: 2 }])
        assert.deepStrictEqual(brief(first.seen), [{ n: 1 }, { n: 2 }])
      })
    )

    it.effect("is a gap retention for the second of two consumers with different cursors", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const one = yield* watch(client.events(Orders, { from: "e:5" }))
        const two = yield* watch(client.events(Orders, { from: "e:6" }))
        yield* settle
        assert.deepStrictEqual([brief(one.seen), brief(two.seen)], [[], ["retention"]])
      })
    )
  })

  describe("refusals", () => {
    const refusal = { code: "channel/forbidden", message: "Not you.", retry: "never" } as const

    it.effect("fail every consumer of the channel with Refused, and no other consumer", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        server.heard = (socket, frame) => {
          if (frame.type === "subscribe" && frame.channel === "orders") {
            socket.say({ type: "error", id: frame.id, ...refusal })
          } else server.answer(socket, frame)
        }
        const fibers = yield* Effect.forEach([1, 2], () =>
          client
            .events(Orders)
            .pipe(Stream.runDrain, Effect.result, Effect.forkChild({ startImmediately: true }))
        )
        const other = yield* watch(client.events(Report("1")))
        yield* settle
        for (const result of yield* Fiber.joinAll(fibers)) {
          const error = Result.isFailure(result) ? result.failure : undefined
          assert.deepInclude(error, { _tag: "Refused", channel: "orders", ...refusal })
        }
        assert.strictEqual(other.fiber.pollUnsafe(), undefined)
        // Another consumer subscribes again.
        server.heard = server.answer
        yield* watch(client.events(Orders))
        yield* settle
        assert.strictEqual(server.last.of("subscribe").length, 3)
      })
    )

    it.effect("fail the consumers of an open subscription too", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { fiber } = yield* watch(client.events(Orders))
        yield* settle
        server.last.say({ type: "ended", channel: "orders", ...refusal })
        yield* settle
        assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      })
    )

    it.effect("with retry later make the client subscribe again with its last cursor", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { seen } = yield* watch(client.events(Orders))
        yield* settle
        server.last.say(events("orders", 1, { n: 1 }))
        const later = { code: "source/down", message: "Soon.", retry: "later" } as const
        let tries = 0
        server.heard = (socket, frame) => {
          if (frame.type !== "subscribe" || ++tries > 2) return server.answer(socket, frame)
          socket.say({ type: "error", id: frame.id, ...later, retryAfter: 400 })
        }
        server.last.say({ type: "ended", channel: "orders", ...later })
        // The first retry within 2 s, the next two after the server's retryAfter.
        for (let i = 0; i < 200; i++) {
          yield* TestClock.adjust(10)
          if (tries === 1) break
        }
        yield* TestClock.adjust(385)
        assert.strictEqual(tries, 1)
        yield* TestClock.adjust(20)
        assert.strictEqual(tries, 2)
        yield* TestClock.adjust(400)
        server.last.say(events("orders", 2, { n: 2 }))
        yield* settle
        assert.deepStrictEqual(brief(seen), [{ n: 1 }, { n: 2 }])
        assert.strictEqual(server.last.of("subscribe").at(-1)!.cursor, "e:1")
      })
    )

    it.effect("with retry refresh make the client authenticate, and fail without a token", () =>
      Effect.gen(function* () {
        const refresh = { code: "auth/expired", message: "Expired.", retry: "refresh" } as const
        const server = FakeSocket.make({ auto: true })
        let asked = 0
        const client = yield* Client.make(server, { token: () => `t${++asked}` })
        yield* watch(client.events(Orders))
        yield* settle
        server.last.say({ type: "ended", channel: "orders", ...refresh })
        yield* TestClock.adjust(2000)
        assert.deepStrictEqual(types(server).slice(0, 4), [
          "hello",
          "subscribe",
          "authenticate",
          "subscribe"
        ])
        const anonymous = FakeSocket.make({ auto: true })
        const nobody = yield* Client.make(anonymous)
        const { fiber } = yield* watch(nobody.events(Orders))
        yield* settle
        anonymous.last.say({ type: "ended", channel: "orders", ...refresh })
        yield* settle
        assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      })
    )

    it.effect("of the address fail every consumer and publisher with ConnectionStopped", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        let url = "not an address"
        const client = yield* Client.make(server, { url: () => url })
        const failed = yield* Effect.flip(Stream.runDrain(client.events(Orders)))
        assert.strictEqual(failed._tag, "ConnectionStopped")
        yield* client.reconnect
        const Open = Channel.untyped("open")
        const unsent = yield* Effect.flip(client.publish(Open, 1))
        assert.strictEqual(unsent._tag, "ConnectionStopped")
        url = "ws://host/"
        yield* client.reconnect
        yield* settle
        assert.strictEqual(server.sockets.length, 0)
        assert.strictEqual(client.sync.connection.getSnapshot().status, "idle")
        yield* client.publish(Open, 1)
      })
    )

    it.effect("of the connection fail every consumer with ConnectionStopped", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { fiber } = yield* watch(client.events(Orders))
        yield* settle
        server.last.drop(4202, "not you")
        yield* settle
        assert.isTrue(hasStopped(yield* Fiber.join(fiber)))
        assert.isTrue(hasStopped(yield* Effect.exit(Stream.runDrain(client.events(Orders)))))
        yield* client.reconnect
        const { fiber: again } = yield* watch(client.events(Orders))
        yield* settle
        assert.strictEqual(again.pollUnsafe(), undefined)
        assert.strictEqual(server.last.of("subscribe").length, 1)
      })
    )
  })

  describe("states", () => {
    it.effect("connection emits the current state, then each change", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { seen } = yield* watch(client.connection)
        const { stop } = yield* watch(client.events(Orders))
        yield* settle
        server.last.drop(1006)
        yield* TestClock.adjust(2000)
        yield* stop
        yield* TestClock.adjust(1000)
        assert.deepStrictEqual(
          seen.map(({ status }) => status),
          ["idle", "connecting", "open", "waiting", "connecting", "open", "idle"]
        )
      })
    )

    it.effect("stay usable after a listener throws", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const report = vi.fn<(error: unknown) => void>()
        vi.stubGlobal("reportError", report)
        const stop = client.sync.connection.subscribe(() => {
          throw new Error("mine")
        })
        const { seen } = yield* watch(client.events(Orders))
        yield* settle
        stop()
        vi.unstubAllGlobals()
        server.last.say(events("orders", 1, { n: 1 }))
        yield* settle
        assert.deepStrictEqual(brief(seen), [{ n: 1 }])
        assert.strictEqual(report.mock.calls.length, 2)
      })
    )

    it.effect("source emits the state that the server sends, and up after each welcome", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const { seen } = yield* watch(client.source)
        yield* watch(client.events(Orders))
        yield* settle
        server.last.say({ type: "status", source: "down" })
        yield* settle
        server.last.drop(1006)
        yield* TestClock.adjust(2000)
        assert.deepStrictEqual(seen, ["up", "down", "up"])
      })
    )

    it.effect("ends every stream and closes its socket when its scope closes", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const scope = yield* Scope.make()
        const client = yield* Scope.provide(Client.make(server), scope)
        const { fiber } = yield* watch(client.events(Orders))
        yield* settle
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
        assert.strictEqual(server.last.closedWith, 1000)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(server.sockets.length, 1)
      })
    )
  })

  it("types the payload: another type does not compile", () => {
    assert.isFunction(doesNotCompile)
  })
})

const doesNotCompile = (client: Client.Client) => {
  // @ts-expect-error orders are not strings
  const wrong: Stream.Stream<string, unknown> = client.subscribe(Orders)
  return wrong
}
