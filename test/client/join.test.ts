/** A listener that joins a channel at a position of its own, and what it hears of the subscription's state. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Channel, type RealtimeEvent } from "effect-realtime"
import * as Cursor from "../../src/internal/cursorText.ts"
import type { Refused } from "../../src/client/ClientError.ts"
import type { ServerFrame } from "../../src/Frame.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Orders = Channel.make("orders", Schema.Finite)
const Names = Channel.make("orders", Schema.String)
const channel = "orders"

/** The cursor of a state that has seen every transaction up to `tx`, except those in progress then. */
const cursorAt = (tx: number, ...running: ReadonlyArray<number>) =>
  Cursor.formatDurable({
    identity: "AAAAAAAA",
    position: Cursor.whole({ xmax: BigInt(tx) + 1n, running: running.map(BigInt) }),
    witness: { tx: BigInt(tx), id: 1n, at: 1n }
  })
/** In the middle of the difference between two states: up to an id. */
const midway = (from: number, to: number, id: number) =>
  Cursor.formatDurable({
    identity: "AAAAAAAA",
    position: Cursor.midway(
      { xmax: BigInt(from) + 1n, running: [] },
      { xmax: BigInt(to) + 1n, running: [] },
      BigInt(id)
    ),
    witness: { tx: BigInt(to), id: 1n, at: 1n }
  })

/** Events that are their transaction's number and have its id. */
const events = (cursor: string, ...txs: ReadonlyArray<number>): ServerFrame => ({
  type: "events",
  channel,
  cursor,
  events: txs.map((tx) => ({
    id: `${tx}`,
    at: "2026-11-22T00:00:00.000Z",
    data: tx,
    tx: `${tx}`
  }))
})

/** A client of a server whose subscriptions the test answers, and one socket. */
const make = Effect.gen(function* () {
  const server = FakeSocket.make({ auto: true })
  const client = yield* Client.make(server)
  server.heard = (socket, frame) => {
    if (frame.type === "hello" || frame.type === "unsubscribe") server.answer(socket, frame)
  }
  const listen = (from?: string) => {
    const told: Array<unknown> = []
    const stop = client.sync.listen(
      Orders,
      {
        onEvents: (batch) => told.push(batch.map(brief), batch.at(-1)!.cursor),
        onCursor: (cursor) => told.push(cursor),
        onInactive: (error) => told.push(error ?? "away"),
        onEnd: (error) => told.push(error)
      },
      from
    )
    /** What the listener received since the last call. */
    return { stop, told: () => told.splice(0) }
  }
  const subscribes = () => server.last.of("subscribe")
  const answer = (state: "fresh" | "recovered" | "reset", cursor: string) =>
    server.last.say({ type: "subscribed", id: subscribes().at(-1)!.id, channel, state, cursor })
  const asked = () =>
    server.last.sent.flatMap((frame) =>
      frame.type === "subscribe" ? [frame.cursor] : frame.type === "unsubscribe" ? ["-"] : []
    )
  /** The answer to `unsubscribe`. */
  const left = () => server.answer(server.last, server.last.of("unsubscribe").at(-1)!)
  return {
    server,
    client,
    left,
    listen,
    answer,
    asked,
    say: (frame: ServerFrame) => server.last.say(frame)
  }
})
const brief = (event: RealtimeEvent.RealtimeEvent<number>) =>
  event._tag === "Gap" ? event.reason : event.payload

describe("a listener with a durable position", () => {
  it.effect("that is newer than the stream receives what its position lacks", () =>
    Effect.gen(function* () {
      const { answer, asked, listen, say } = yield* make
      const old = listen()
      yield* TestClock.adjust(1)
      answer("fresh", cursorAt(10))
      const joined = listen(cursorAt(20, 15))
      assert.deepStrictEqual(joined.told(), [cursorAt(20, 15)])
      // In the state already; then one that was still in progress; both before the stream is there.
      say(events(cursorAt(14), 12, 14))
      assert.deepStrictEqual(joined.told(), [])
      say(events(cursorAt(21), 15, 16, 21))
      assert.deepStrictEqual(joined.told(), [[15, 21], cursorAt(21)])
      say(events(cursorAt(22), 22))
      assert.deepStrictEqual(joined.told(), [[22], cursorAt(22)])
      assert.deepStrictEqual(old.told(), [
        cursorAt(10),
        [12, 14],
        cursorAt(14),
        [15, 16, 21],
        cursorAt(21),
        [22],
        cursorAt(22)
      ])
      assert.deepStrictEqual(asked(), [undefined])
    })
  )

  it.effect("receives the rest of a tick in one batch at the end of the tick", () =>
    Effect.gen(function* () {
      const { answer, asked, listen, say } = yield* make
      listen()
      yield* TestClock.adjust(1)
      answer("fresh", cursorAt(10))
      const joined = listen(cursorAt(12))
      joined.told()
      say(events(midway(10, 20, 13), 11, 12, 13))
      say(events(midway(10, 20, 15), 15))
      assert.deepStrictEqual(joined.told(), [])
      say({ type: "cursor", channel, cursor: cursorAt(20) })
      assert.deepStrictEqual(joined.told(), [[13, 15], cursorAt(20)])
      assert.deepStrictEqual(asked(), [undefined])
    })
  )

  it.effect(
    "that is older brings the stream back, and no other listener hears anything twice",
    () =>
      Effect.gen(function* () {
        const { answer, asked, left, listen, say, server } = yield* make
        const [one, two] = [listen(), listen()]
        yield* TestClock.adjust(1)
        answer("fresh", cursorAt(10))
        say(events(cursorAt(20), 20))
        one.told()
        two.told()
        server.heard = () => {}
        const joined = listen(cursorAt(15))
        const third = listen(cursorAt(12))
        const fresh = listen()
        left()
        // Once for both, from the older one.
        assert.deepStrictEqual(asked(), [undefined, "-", cursorAt(12)])
        answer("recovered", cursorAt(12))
        say(events(cursorAt(14), 13, 14))
        say(events(cursorAt(21), 18, 20, 21))
        assert.deepStrictEqual(third.told(), [
          cursorAt(12),
          [13, 14],
          cursorAt(14),
          [18, 20, 21],
          cursorAt(21)
        ])
        assert.deepStrictEqual(joined.told(), [cursorAt(15), [18, 20, 21], cursorAt(21)])
        for (const { told } of [one, two, fresh]) {
          assert.deepStrictEqual(told(), [cursorAt(20), [21], cursorAt(21)])
        }
        assert.strictEqual(asked().length, 3)
      })
  )

  it.effect(
    "of the past is the only one that receives the gap when the server cannot go back so far",
    () =>
      Effect.gen(function* () {
        const { answer, asked, listen, say } = yield* make
        const old = listen()
        yield* TestClock.adjust(1)
        answer("fresh", cursorAt(10))
        say(events(cursorAt(20), 20))
        old.told()
        const joined = listen(cursorAt(2))
        answer("reset", cursorAt(25))
        assert.deepStrictEqual(joined.told(), [["retention"], cursorAt(25), cursorAt(25)])
        assert.deepStrictEqual(asked(), [undefined, "-", cursorAt(2), "-", cursorAt(20)])
        answer("recovered", cursorAt(20))
        say(events(cursorAt(26), 22, 24, 26))
        assert.deepStrictEqual(old.told(), [cursorAt(20), [22, 24, 26], cursorAt(26)])
        assert.deepStrictEqual(joined.told(), [cursorAt(25), [26], cursorAt(26)])
      })
  )

  it.effect("opens the channel at the oldest of several", () =>
    Effect.gen(function* () {
      const { answer, asked, listen, say } = yield* make
      const all = [cursorAt(5), cursorAt(3), cursorAt(9)].map(listen)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(asked(), [cursorAt(3)])
      answer("recovered", cursorAt(3))
      say(events(cursorAt(10), 4, 6, 10))
      assert.deepStrictEqual(
        all.map(({ told }) => told()[1]),
        [[6, 10], [4, 6, 10], [10]]
      )
    })
  )

  it.effect("of another database receives a gap, and the stream stays", () =>
    Effect.gen(function* () {
      const { answer, asked, listen, say } = yield* make
      const old = listen()
      yield* TestClock.adjust(1)
      answer("fresh", cursorAt(10))
      const joined = listen(cursorAt(10).replace("AAAAAAAA", "BBBBBBBB"))
      assert.deepStrictEqual(joined.told(), [["retention"], cursorAt(10), cursorAt(10)])
      say(events(cursorAt(11), 11))
      assert.deepStrictEqual(old.told(), [cursorAt(10), [11], cursorAt(11)])
      assert.deepStrictEqual(asked(), [undefined])
    })
  )

  it.effect("hears of the gaps that are not behind it", () =>
    Effect.gen(function* () {
      const { answer, listen, say } = yield* make
      listen()
      yield* TestClock.adjust(1)
      answer("fresh", cursorAt(10))
      const joined = listen(cursorAt(15))
      joined.told()
      say({ type: "gap", channel, reason: "truncate", cursor: cursorAt(12) })
      assert.deepStrictEqual(joined.told(), [])
      say(events(midway(12, 20, 18), 18))
      say({ type: "gap", channel, reason: "truncate", cursor: midway(12, 20, 19) })
      say(events(cursorAt(20), 20))
      assert.deepStrictEqual(joined.told(), [[18, "truncate", 20], cursorAt(20)])
    })
  )

  it.effect("has replayed to it what would be too much to hold", () =>
    Effect.gen(function* () {
      const { answer, asked, listen, say } = yield* make
      const old = listen()
      yield* TestClock.adjust(1)
      answer("fresh", cursorAt(10))
      old.told()
      const joined = listen(cursorAt(12))
      joined.told()
      const many = Array.from({ length: 10_001 }, (_, n) => n + 13)
      say(events(midway(10, 20_000, 10_013), ...many))
      say({ type: "cursor", channel, cursor: cursorAt(20_000) })
      assert.deepStrictEqual(asked(), [undefined, "-", cursorAt(12)])
      answer("recovered", cursorAt(12))
      say(events(cursorAt(20_000), ...many))
      assert.deepStrictEqual(joined.told(), [cursorAt(12), many, cursorAt(20_000)])
      const here = cursorAt(20_000)
      assert.deepStrictEqual(old.told(), [many, midway(10, 20_000, 10_013), here, here, here])
    })
  )

  it.effect("receives a gap when the stream goes on in another database meanwhile", () =>
    Effect.gen(function* () {
      const { answer, listen, say } = yield* make
      listen()
      yield* TestClock.adjust(1)
      answer("fresh", cursorAt(10))
      const joined = listen(cursorAt(15))
      joined.told()
      const cursor = cursorAt(3).replace("AAAAAAAA", "BBBBBBBB")
      say({ type: "gap", channel, reason: "source", cursor })
      assert.deepStrictEqual(joined.told(), [["source"], cursor])
    })
  )
})

describe("a listener whose subscription is not active", () => {
  const later = { code: "subscribe/limit", message: "101 is too many.", retry: "later" } as const

  it.effect("hears once that the link is away, and of the position when it is back", () =>
    Effect.gen(function* () {
      const { answer, listen, server } = yield* make
      const { told } = listen()
      yield* TestClock.adjust(1)
      // It has never been active: that is no change.
      server.last.drop()
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(told(), [])
      answer("fresh", cursorAt(10))
      assert.deepStrictEqual(told(), [cursorAt(10)])
      server.last.drop()
      assert.deepStrictEqual(told(), ["away"])
      yield* TestClock.adjust("2 seconds")
      server.last.drop()
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(told(), [])
      answer("recovered", cursorAt(10))
      assert.deepStrictEqual(told(), [cursorAt(10)])
    })
  )

  it.effect("hears once that the server refused it for now, and that the client goes on", () =>
    Effect.gen(function* () {
      const { answer, asked, listen, server } = yield* make
      const { told } = listen()
      yield* TestClock.adjust(1)
      const refuse = (code: string) => {
        const { id } = server.last.of("subscribe").at(-1)!
        server.last.say({ type: "error", id, ...later, code, retryAfter: 400 })
      }
      refuse(later.code)
      const [error] = told() as [Refused]
      assert.deepInclude(error, { _tag: "Refused", channel, ...later, retryAfter: 400 })
      // A listener that joins meanwhile receives it too.
      assert.deepStrictEqual(listen().told(), [error])
      yield* TestClock.adjust(400)
      refuse(later.code)
      assert.deepStrictEqual(told(), [])
      yield* TestClock.adjust(400)
      refuse("rate/limited")
      assert.deepInclude(told()[0], { code: "rate/limited" })
      yield* TestClock.adjust(400)
      assert.strictEqual(asked().length, 4)
      answer("fresh", cursorAt(10))
      assert.deepStrictEqual(told(), [cursorAt(10)])
      // A listener that was active receives it as well, with the time until the next request.
      server.last.say({ type: "ended", channel, ...later })
      const [ended] = told() as [Refused]
      assert.strictEqual(ended.code, later.code)
      yield* TestClock.adjust(ended.retryAfter!)
      assert.strictEqual(asked().at(-1), cursorAt(10))
    })
  )
})

describe("the last event of a channel", () => {
  it.effect(
    "is the last that was delivered, decoded by each definition, while the channel is open",
    () =>
      Effect.gen(function* () {
        const { answer, client, listen, say } = yield* make
        const last = () => client.sync.last(Orders)?.payload
        const lastAt = () => client.sync.last(Orders)?.cursor
        assert.isUndefined(last())
        const { stop } = listen()
        yield* TestClock.adjust(1)
        answer("fresh", cursorAt(10))
        assert.isUndefined(last())
        say(events(cursorAt(20), 15, 20))
        assert.strictEqual(last(), 20)
        assert.isUndefined(client.sync.last(Names))
        // What is replayed for one that joins is not the last.
        const joined = listen(cursorAt(12))
        answer("recovered", cursorAt(12))
        say(events(cursorAt(16), 15))
        assert.strictEqual(last(), 20)
        assert.strictEqual(lastAt(), cursorAt(20))
        say(events(cursorAt(21), 20, 21))
        assert.strictEqual(last(), 21)
        // It is the last up to where the stream stands, or where a gap begins.
        say({ type: "cursor", channel, cursor: cursorAt(25) })
        assert.strictEqual(lastAt(), cursorAt(25))
        say({ type: "gap", channel, reason: "source", cursor: cursorAt(30) })
        say({ type: "cursor", channel, cursor: cursorAt(35) })
        assert.strictEqual(lastAt(), cursorAt(25))
        say(events(cursorAt(40), 40))
        assert.strictEqual(lastAt(), cursorAt(40))
        stop()
        joined.stop()
        yield* TestClock.adjust("2 seconds")
        assert.isUndefined(last())
      })
  )
})
