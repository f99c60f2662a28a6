/**
 * The contract of `OutboxReader`: every implementation runs these tests.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Latch, type Layer, Queue, type Scope, Stream } from "effect"
import * as Cursor from "../../src/internal/cursorText.ts"
import { type Item, type Join, OutboxReader } from "../../src/server/OutboxReader.ts"
import { payloads } from "./support/durable.ts"
import { random, seed } from "./support/random.ts"
import type { ThingChange } from "./support/things.ts"
import { waitFor } from "../support/until.ts"

/** What a test does to the outbox from outside. */
export interface Outside {
  /** Publishes these texts, each on its channel, in one transaction. */
  readonly commit: (
    messages: ReadonlyArray<readonly [channel: string, text: string]>
  ) => Effect.Effect<void, unknown>
  /** The database reports a gap on the channel "room". */
  readonly tellGap: Effect.Effect<void, unknown>
  /** The readers lose their sessions, and reconnect by themselves or by `heal`. */
  readonly cut: Effect.Effect<void>
  readonly heal: Effect.Effect<void>
  /** Readers that lose their sessions cannot reconnect before `heal`. */
  readonly hold: Effect.Effect<void>
  /** The retention of all messages passes, and they are pruned. */
  readonly forget: Effect.Effect<void>
  /** The database loses the last message, as by a restore, and the readers notice. */
  readonly takeBack: Effect.Effect<void>
  /** Makes the table `Things`. What it returns commits changes of it in one transaction. */
  readonly things: Effect.Effect<
    (...changes: ReadonlyArray<ThingChange>) => Effect.Effect<void, unknown>,
    unknown
  >
  /** The reader of another node. */
  readonly other: Effect.Effect<OutboxReader["Service"], unknown, Scope.Scope>
}

const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, n) => from + n)

const textsOf = (item: Item) =>
  item._tag === "Batch" ? item.events.map(({ text }) => Number(text)) : []

const replayed = ({ replay }: Join) => replay.flatMap(textsOf)

/**
 * The items of a follower until they hold `count` numbers, without positions and items before
 * `after`.
 */
const take = <E>(queue: Queue.Dequeue<Item, E>, count: number, after = 0) =>
  Effect.gen(function* () {
    const items: Array<Item> = []
    while (items.flatMap(textsOf).length < count) {
      const item = yield* Queue.take(queue)
      if (item.tick > after && item._tag !== "Position") items.push(item)
    }
    return items
  })

/**
 * Waits for down before it returns: a reader that heals at once is down for a few milliseconds
 * only.
 */
const cutAndNotice = (hands: Outside) =>
  Effect.gen(function* () {
    const down = yield* Effect.forkChild(
      OutboxReader.use((reader) => waitFor(reader, "down")),
      { startImmediately: true }
    )
    yield* hands.cut
    yield* Fiber.join(down)
  })

export const suite = <R, E>(
  name: string,
  layer: Layer.Layer<R | OutboxReader, E>,
  outside: Effect.Effect<Outside, E, R | OutboxReader | Scope.Scope>
): void => {
  const test = (
    sentence: string,
    body: (
      reader: OutboxReader["Service"],
      outside: Outside & {
        /** Commits a transaction on the channel "room"; completes once the reader has read it. */
        readonly send: (...payloads: ReadonlyArray<number>) => Effect.Effect<unknown>
      }
    ) => Effect.Effect<void, unknown, OutboxReader | Scope.Scope>
  ) =>
    it.live(sentence, () =>
      Effect.gen(function* () {
        const hands = yield* outside
        yield* OutboxReader.use((reader) => waitFor(reader, "up"))
        const reader = yield* OutboxReader
        const send = (...payloads: ReadonlyArray<number>) =>
          hands
            .commit(payloads.map((n) => ["room", String(n)]))
            .pipe(Effect.andThen(reader.position), Effect.orDie)
        yield* body(reader, { ...hands, send })
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

  describe(`OutboxReader: ${name}`, () => {
    test("a follower receives in order what commits after follow completed, of its own channel only", (reader, hands) =>
      Effect.gen(function* () {
        yield* hands.send(0)
        const room = yield* reader.follow("room")
        const again = yield* reader.follow("room")
        const Room = yield* reader.follow("Room")
        yield* hands.commit([
          ["Room", "1"],
          ["room", "2"],
          ["elsewhere", "3"],
          ["room", "4"]
        ])
        yield* hands.send(5)
        const items = yield* take(room, 3)
        expect(items.flatMap(textsOf)).toEqual([2, 4, 5])
        expect((yield* take(again, 3)).flatMap(textsOf)).toEqual([2, 4, 5])
        expect((yield* take(Room, 1)).flatMap(textsOf)).toEqual([1])
        const [first, second, third] = items.flatMap((item) =>
          item._tag === "Batch" ? item.events : []
        )
        expect(first!.tx).toBe(second!.tx)
        expect(BigInt(third!.tx)).toBeGreaterThan(BigInt(first!.tx))
        expect(BigInt(second!.id)).toBeGreaterThan(BigInt(first!.id))
        expect(items.map(({ tick }) => tick)).toEqual(
          items.map(({ tick }) => tick).toSorted((one, other) => one - other)
        )
      }))

    test("a route has its own messages and those of its table, in the order of their ids", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        // Followed before the table is known to have routes, as by another definition of its name.
        const early = yield* reader.follow("hall:a")
        for (const [channel, text] of [
          ["hall:a", "0"],
          ["hall", "1"],
          ["hall:a", "2"]
        ] as const) {
          yield* hands.commit([[channel, text]])
          yield* reader.position
        }
        const [first, ...rest] = yield* take(early, 2)
        expect([first!, ...rest].flatMap(textsOf)).toEqual([0, 2])
        yield* reader.routed("hall")
        const followed = {
          "hall:a": yield* reader.follow("hall:a"),
          "hall:b": yield* reader.follow("hall:b"),
          hall: yield* reader.follow("hall"),
          // These are no routes of it.
          "halls:a": yield* reader.follow("halls:a"),
          "room:a": yield* reader.follow("room:a")
        }
        const middle = yield* reader.position
        yield* hands.commit([
          ["hall:a", "3"],
          ["hall", "4"],
          ["hall:b", "5"],
          ["halls:a", "6"],
          ["room", "7"],
          ["hall:a", "8"],
          ["room:a", "9"]
        ])
        yield* hands.send(10)
        const after = {
          "hall:a": [3, 4, 8],
          "hall:b": [4, 5],
          hall: [4],
          "halls:a": [6],
          "room:a": [9]
        }
        const other = yield* hands.other
        yield* other.routed("hall")
        yield* other.position
        for (const [channel, expected] of Object.entries(after)) {
          const queue = followed[channel as keyof typeof followed]
          expect((yield* take(queue, expected.length)).flatMap(textsOf)).toEqual(expected)
          for (const one of [reader, other]) {
            expect(replayed(yield* one.join(channel, middle))).toEqual(expected)
          }
          expect(
            yield* payloads(reader.batches(channel, { from: middle }), expected.length)
          ).toEqual(expected)
        }
        expect((yield* take(early, 3)).flatMap(textsOf)).toEqual([3, 4, 8])
        // The memory of what was handed out before does not hide the table's messages from a replay.
        expect(replayed(yield* reader.join("hall:a", first!.cursor))).toEqual([1, 2, 3, 4, 8])
        expect(replayed(yield* reader.join("hall:a", start))).toEqual([0, 1, 2, 3, 4, 8])
        const small = yield* reader.join("hall:a", start, { events: 4, bytes: 1000 })
        expect(small).toMatchObject({ state: "reset", reason: "bounds" })
      }))

    test("positions have one form and order by what they contain", (reader, hands) =>
      Effect.gen(function* () {
        const cursors = [yield* reader.position]
        for (const n of numbers(3)) {
          yield* hands.send(n)
          cursors.push(yield* reader.position)
        }
        const positions = cursors.map((cursor) => {
          expect(cursor).toMatch(/^2\.[\w-]{8}\.[\w-]+$/)
          return Cursor.parseDurable(cursor)!
        })
        expect(new Set(positions.map(({ identity }) => identity)).size).toBe(1)
        for (const [index, { position }] of positions.entries()) {
          for (const [other, { position: base }] of positions.entries()) {
            expect(Cursor.dominates(position.base, base)).toBe(other <= index)
          }
        }
        // Nothing but a message changes the position.
        expect(yield* reader.position).toBe(cursors[3])
      }))

    test("a cursor tells which events a state loaded at its position contains", (reader, hands) =>
      Effect.gen(function* () {
        const queue = yield* reader.follow("room")
        yield* hands.send(0)
        const between = Cursor.parseDurable(yield* reader.position)!
        yield* hands.send(1)
        const events = (yield* take(queue, 2)).flatMap((item) =>
          item._tag === "Batch" ? item.events : []
        )
        expect(events.map((event) => Cursor.seenEvent(between)(event))).toEqual([true, false])
      }))

    test("a join without a cursor replays nothing, one with a cursor replays everything after it", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        yield* hands.send(0, 1)
        const queue = yield* reader.follow("room")
        const fresh = yield* reader.join("room", undefined)
        const join = yield* reader.join("room", start)
        expect(fresh).toMatchObject({ state: "fresh", reason: undefined, replay: [], more: false })
        expect(join).toMatchObject({ state: "recovered", reason: undefined, cursor: start })
        expect([replayed(join), join.more]).toEqual([[0, 1], false])
        expect(join.replay.map(({ tick }) => tick)).toEqual(join.replay.map(() => 0))
        yield* hands.send(2)
        for (const { tick } of [fresh, join]) {
          const [item] = yield* take(queue, 1, tick)
          expect(textsOf(item!)).toEqual([2])
          yield* hands.send(2)
        }
        expect(yield* reader.join("elsewhere", start)).toMatchObject({
          state: "recovered",
          replay: []
        })
      }))

    test("each batch starts where the one before ends, and each event has a cursor from which the rest follows", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        const queue = yield* reader.follow("room")
        yield* hands.send(...numbers(4))
        yield* hands.send(4)
        const batches = (yield* reader.join("room", start)).replay
        const handed = (yield* take(queue, 5)).filter((item) => item._tag === "Batch")
        for (const list of [batches, handed]) {
          const seen: Array<number> = []
          for (const [index, { cursor, cursorAt, events, from }] of list.entries()) {
            if (index > 0) expect(from).toBe(list[index - 1]!.cursor)
            expect(cursorAt(events.length - 1)).toBe(cursor)
            for (const [at, { text }] of events.entries()) {
              seen.push(Number(text))
              const join = yield* reader.join("room", cursorAt(at))
              expect(replayed(join)).toEqual(numbers(5).slice(seen.length))
            }
          }
          expect(seen).toEqual(numbers(5))
        }
      }))

    test("a batch holds at most 256 events and 65,536 UTF-16 units, or one larger event", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        const wide = JSON.stringify("é".repeat(40_000))
        yield* hands.commit([
          ...numbers(300).map((n) => ["room", String(n)] as const),
          ["room", wide],
          ["room", wide],
          ["room", JSON.stringify("x".repeat(100_000))]
        ])
        yield* reader.position
        const { replay } = yield* reader.join("room", start)
        expect(replay.map(({ events }) => events.length)).toEqual([256, 45, 1, 1])
        expect(yield* payloads(reader.batches("room", { from: start }), 303)).toHaveLength(303)
      }))

    test("a subscriber with little room gets its replay in parts, each event once", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        yield* hands.send(...numbers(20))
        const queue = yield* reader.follow("room")
        const seen: Array<number> = []
        let from = start
        let rounds = 0
        let join: Join | undefined
        while (join === undefined || join.more) {
          join = yield* reader.join("room", from, undefined, {
            room: 300,
            missed: { events: 20 - seen.length, bytes: 100 }
          })
          expect(join.state).toBe("recovered")
          const some = replayed(join)
          // Each event counts about 128 bytes and its text: one event at most exceeds the room.
          expect(some.length).toBeLessThanOrEqual(3)
          seen.push(...some)
          from = join.replay.at(-1)?.cursor ?? from
          rounds++
        }
        expect(seen).toEqual(numbers(20))
        expect(rounds).toBeGreaterThan(6)
        yield* hands.send(20)
        expect((yield* take(queue, 1, join.tick)).flatMap(textsOf)).toEqual([20])
      }))

    test("the position oldest is before everything that is kept, also after messages were pruned", (reader, hands) =>
      Effect.gen(function* () {
        yield* hands.send(1)
        yield* hands.send(2, 3)
        const join = yield* reader.join("room", "oldest")
        expect([join.state, replayed(join)]).toEqual(["recovered", [1, 2, 3]])
        const now = yield* reader.position
        expect([Cursor.covers(now, join.cursor), Cursor.covers(join.cursor, now)]).toEqual([
          true,
          false
        ])
        expect(replayed(yield* reader.join("room", join.cursor))).toEqual([1, 2, 3])
        expect((yield* reader.join("room", "oldest", { events: 2, bytes: 100 })).reason).toBe(
          "bounds"
        )
        yield* hands.forget
        const rest = yield* reader.join("room", "oldest")
        expect([rest.state, replayed(rest)]).toEqual(["recovered", []])
        yield* hands.send(4)
        expect(replayed(yield* reader.join("room", "oldest"))).toEqual([4])
        const items = yield* reader
          .batches("room", { from: "oldest" })
          .pipe(Stream.take(1), Stream.runCollect)
        expect(items.flatMap(textsOf)).toEqual([4])
      }))

    test("a replay over its bounds is empty, and its cursor resumes", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        yield* hands.send(...numbers(5))
        const bounded = (events: number, bytes: number) =>
          reader.join("room", start, { events, bytes })
        for (const join of [
          yield* bounded(4, 1000),
          yield* bounded(10, 4),
          yield* reader.join("room", start, undefined, {
            room: 100,
            missed: { events: 1e9, bytes: 0 }
          })
        ]) {
          expect(join).toMatchObject({ state: "reset", reason: "bounds", replay: [] })
          expect(yield* reader.join("room", join.cursor)).toMatchObject({
            state: "recovered",
            replay: []
          })
        }
        expect(replayed(yield* bounded(5, 5))).toEqual(numbers(5))
      }))

    test("a cursor that is malformed, foreign or without its witness resets, and a Stream gets a gap", (reader, hands) =>
      Effect.gen(function* () {
        yield* hands.send(0)
        const cursor = Cursor.parseDurable(yield* reader.position)!
        const { base } = cursor.position
        const witness = { ...cursor.witness, id: cursor.witness.id + 1n }
        const wrong = {
          malformed: ["nonsense", "1:1", "2.AAAAAAAA.", `${Cursor.formatDurable(cursor)}A`],
          identity: [Cursor.formatDurable({ ...cursor, identity: "AAAAAAAA" })],
          witness: [
            Cursor.formatDurable({ ...cursor, witness }),
            Cursor.formatDurable({
              ...cursor,
              position: Cursor.whole({ ...base, xmax: base.xmax + 1000n })
            })
          ]
        }
        for (const [reason, cursors] of Object.entries(wrong)) {
          for (const from of cursors) {
            const join = yield* reader.join("room", from)
            expect(join).toMatchObject({ state: "reset", reason, replay: [], more: false })
            expect(join.cursor).toBe(yield* reader.position)
            // A Stream gets a gap instead, and goes on.
            const items = yield* reader
              .batches("room", { from })
              .pipe(Stream.toQueue({ capacity: "unbounded" }))
            expect(yield* Queue.take(items)).toMatchObject({ _tag: "Gap", reason: "source" })
            yield* hands.send(1)
            expect(textsOf(yield* Queue.take(items))).toEqual([1])
          }
        }
      }))

    test("a consumer gets its position first, then every event, however slow it is", (reader, hands) =>
      Effect.gen(function* () {
        const count = 100
        const room = reader.batches("room")
        const items: Array<Item> = []
        const begun = yield* Queue.unbounded<void>()
        const all = yield* Latch.make()
        const slow = yield* room.pipe(
          Stream.runForEach((item) =>
            Effect.gen(function* () {
              items.push(item)
              yield* Queue.offer(begun, undefined)
              yield* all.await
            })
          ),
          Effect.forkChild
        )
        yield* Queue.take(begun)
        // More messages than the reader queues for one consumer, and it has delivered all of them.
        for (const n of numbers(count)) yield* hands.commit([["room", String(n)]])
        yield* reader.position
        expect(items).toHaveLength(1)
        yield* all.open
        while (items.flatMap(textsOf).length < count) yield* Queue.take(begun)
        yield* Fiber.interrupt(slow)
        expect(items[0]!._tag).toBe("Position")
        expect(items.slice(1).map(({ _tag }) => _tag)).toEqual(items.slice(1).map(() => "Batch"))
        expect(items.flatMap(textsOf)).toEqual(numbers(count))
        expect(yield* payloads(reader.batches("room", { from: items[0]!.cursor }), count)).toEqual(
          numbers(count)
        )
      }))

    test("a key publishes its payload once, and another payload with this key is rejected", (reader) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        for (const text of ["1", "1"]) yield* reader.publish("room", text, "key")
        yield* reader.publish("elsewhere", "2", "key")
        yield* reader.publish("room", "3")
        yield* reader.publish("room", "3")
        expect(yield* Effect.flip(reader.publish("room", "4", "key"))).toMatchObject({
          _tag: "PublishRefused",
          reason: "key"
        })
        for (const key of ["", "x".repeat(501), "é".repeat(251), "a\0b", "\ud800"]) {
          expect(yield* Effect.flip(reader.publish("room", "5", key))).toMatchObject({
            _tag: "PublishRefused",
            reason: "value"
          })
        }
        yield* reader.publish("room", "6", "é".repeat(250))
        yield* reader.position
        expect(replayed(yield* reader.join("room", start))).toEqual([1, 3, 3, 6])
      }))

    test("publish rejects a table's channel, invalid JSON, more than 8 MiB and an invalid channel name", (reader) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        const refused = (channel: string, text: string) =>
          Effect.flip(reader.publish(channel, text))
        expect([
          yield* refused("table_updates_orders", "1"),
          yield* refused("room", "{"),
          yield* refused("room", JSON.stringify("x".repeat(8 * 1024 * 1024 - 1))),
          yield* refused("not a name", "1"),
          yield* refused("realtime", "1")
        ]).toMatchObject([
          { _tag: "PublishRefused", reason: "table" },
          { _tag: "PublishRefused", reason: "value" },
          { _tag: "PayloadTooLarge", bytes: 8 * 1024 * 1024 + 1, limit: 8 * 1024 * 1024 },
          { _tag: "SourceError", operation: "publish" },
          { _tag: "SourceError", operation: "publish" }
        ])
        yield* reader.publish("room", "2")
        yield* reader.position
        expect(replayed(yield* reader.join("room", start))).toEqual([2])
      }))

    test("a transaction with one invalid message publishes none of its messages", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        expect(
          (yield* Effect.exit(
            hands.commit([
              ["room", "0"],
              ["room", "no JSON"]
            ])
          ))._tag
        ).toBe("Failure")
        yield* hands.send(1)
        yield* reader.position
        expect(replayed(yield* reader.join("room", start))).toEqual([1])
      }))

    test("a reader that loses its session loses no message and sends no gap", (reader, hands) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        const queue = yield* reader.follow("room")
        const stream = yield* payloads(reader.batches("room", { from: start }), 3).pipe(
          Effect.forkChild({ startImmediately: true })
        )
        yield* hands.send(0)
        const [first] = yield* take(queue, 1)
        yield* cutAndNotice(hands)
        yield* hands.commit([["room", "1"]])
        const waiting = yield* Effect.forkChild(
          Effect.all([reader.position, reader.join("room", first!.cursor), reader.follow("room")]),
          { startImmediately: true }
        )
        yield* hands.heal
        const items = yield* take(queue, 1)
        expect(items).toMatchObject([{ _tag: "Batch", events: [{ text: "1" }] }])
        const [position, join, late] = yield* Fiber.join(waiting)
        expect(join.state).toBe("recovered")
        expect(replayed(join).length + (items[0]!.tick > join.tick ? 1 : 0)).toBe(1)
        expect(replayed(yield* reader.join("room", position))).toEqual([])
        yield* hands.send(2)
        // The message of the meantime may be delivered to it before, or with the last message.
        const handed = (yield* take(late, 1)).flatMap(textsOf)
        if (handed.at(-1) === 1) handed.push(...(yield* take(late, 1)).flatMap(textsOf))
        expect([[2], [1, 2]]).toContainEqual(handed)
        expect(yield* Fiber.join(stream)).toEqual([0, 1, 2])
      }))

    test("a cursor before pruned messages gets the reason retention, and the last position stays valid", (reader, hands) =>
      Effect.gen(function* () {
        const begin = yield* reader.position
        yield* hands.send(0)
        const older = yield* reader.position
        yield* hands.send(1)
        const last = yield* reader.position
        yield* hands.forget
        // No message after the last position was pruned.
        expect(yield* reader.join("room", last)).toMatchObject({ state: "recovered", replay: [] })
        expect(yield* reader.join("room", begin)).toMatchObject({
          state: "reset",
          reason: "retention"
        })
        // The message at this cursor is pruned too, and the reason is the same.
        expect(yield* reader.join("room", older)).toMatchObject({
          state: "reset",
          reason: "retention"
        })
        for (const from of [begin, older]) {
          const gap = yield* reader.batches("room", { from }).pipe(Stream.runHead)
          expect(gap).toMatchObject({ value: { _tag: "Gap", reason: "retention", cursor: last } })
        }
        yield* hands.send(2)
        yield* reader.position
        expect(replayed(yield* reader.join("room", last))).toEqual([2])
      }))

    test("a reader that was away while its next messages were pruned sends a gap with the reason retention", (reader, hands) =>
      Effect.gen(function* () {
        const queue = yield* reader.follow("room")
        const stream = yield* reader.batches("room").pipe(Stream.toQueue({ capacity: "unbounded" }))
        expect((yield* Queue.take(stream))._tag).toBe("Position")
        yield* hands.send(0)
        yield* take(queue, 1)
        expect(textsOf(yield* Queue.take(stream))).toEqual([0])
        yield* hands.hold
        yield* cutAndNotice(hands)
        yield* hands.commit([["room", "1"]])
        yield* hands.commit([["room", "2"]])
        yield* hands.forget
        yield* hands.heal
        for (const told of [yield* Queue.take(queue), yield* Queue.take(stream)]) {
          expect(told).toMatchObject({ _tag: "Gap", reason: "retention" })
        }
        yield* hands.send(3)
        expect((yield* take(queue, 1)).flatMap(textsOf)).toEqual([3])
      }))

    test("a Stream that is reading pages gets a gap with the reason retention when the rest is pruned", (reader, hands) =>
      Effect.gen(function* () {
        const begin = yield* reader.position
        for (const n of numbers(1001)) yield* hands.commit([["room", String(n)]])
        yield* reader.position
        const pull = yield* Stream.toPull(reader.batches("room", { from: begin }))
        // The replay has more than a page: its end is fixed now and read later.
        expect((yield* pull).flatMap(textsOf)).not.toContain(1000)
        yield* hands.commit([["room", "1001"]])
        yield* reader.position
        yield* hands.forget
        expect(yield* pull).toMatchObject([{ _tag: "Gap", reason: "retention" }])
      }))

    test("followers may resume from memory over messages that were pruned", (reader, hands) =>
      Effect.gen(function* () {
        const queue = yield* reader.follow("room")
        yield* hands.send(0)
        const [{ cursor }] = (yield* take(queue, 1)) as [Item]
        yield* hands.send(1)
        yield* take(queue, 1)
        yield* hands.send(2)
        yield* take(queue, 1)
        yield* hands.forget
        expect(replayed(yield* reader.join("room", cursor))).toEqual([1, 2])
      }))

    test("every follower and Stream gets a gap when the database loses a message that was delivered", (reader, hands) =>
      Effect.gen(function* () {
        const queue = yield* reader.follow("room")
        const quiet = yield* reader.follow("quiet")
        const stream = yield* reader.batches("room").pipe(Stream.toQueue({ capacity: "unbounded" }))
        expect((yield* Queue.take(stream))._tag).toBe("Position")
        yield* hands.send(0)
        yield* hands.send(1)
        const items = yield* take(queue, 2)
        const streamed = [yield* Queue.take(stream), yield* Queue.take(stream)]
        expect(streamed.flatMap(textsOf)).toEqual([0, 1])
        yield* hands.takeBack
        const gaps = [yield* Queue.take(queue), yield* Queue.take(quiet), yield* Queue.take(stream)]
        for (const gap of gaps) expect(gap).toMatchObject({ _tag: "Gap", reason: "source" })
        expect(yield* reader.join("room", items.at(-1)!.cursor)).toMatchObject({
          state: "reset",
          reason: "witness"
        })
        // The position before the loss is still valid, and later messages follow the gap.
        expect((yield* reader.join("room", items[0]!.cursor)).state).toBe("recovered")
        yield* hands.send(2)
        for (const from of [queue, stream]) {
          expect((yield* take(from, 1, gaps[0]!.tick)).flatMap(textsOf)).toEqual([2])
        }
        expect(replayed(yield* reader.join("room", gaps[0]!.cursor))).toEqual([2])
      }))

    test("a reader accepts the cursors of another node's reader", (reader, hands) =>
      Effect.gen(function* () {
        const other = yield* hands.other
        const queue = yield* other.follow("room")
        yield* hands.send(...numbers(3))
        yield* hands.send(3)
        for (const item of yield* take(queue, 4)) {
          if (item._tag !== "Batch") continue
          const join = yield* reader.join("room", item.cursorAt(0))
          expect(replayed(join)).toEqual(numbers(4).filter((n) => n > Number(item.events[0]!.text)))
        }
        yield* reader.publish("room", "4", "key")
        yield* other.publish("room", "4", "key")
        yield* other.position
        expect(replayed(yield* other.join("room", yield* reader.position))).toEqual([])
        expect((yield* take(queue, 1)).flatMap(textsOf)).toEqual([4])
      }))

    test("pages backwards have every kept message of a channel once, however small they are", (reader, hands) =>
      Effect.gen(function* () {
        yield* hands.send(100)
        yield* hands.forget
        for (const n of numbers(20)) {
          yield* hands.commit([
            ["room", String(n)],
            ["hall", "7"],
            ["room-2", "8"]
          ])
        }
        const pagesOf = (limit: number, bytes = 1000) =>
          Effect.gen(function* () {
            const pages: Array<Array<number>> = []
            let before: string | undefined
            let more = true
            while (more) {
              const page = yield* reader.history!("room", { before, limit, bytes })
              more = page.more
              before = page.events[0]?.id
              pages.push(page.events.map(({ text }) => Number(text)))
              expect(page.events.length).toBeLessThanOrEqual(limit)
            }
            return pages
          })
        expect(yield* pagesOf(1000)).toEqual([numbers(20)])
        expect(yield* pagesOf(20)).toEqual([numbers(20)])
        expect(yield* pagesOf(8)).toEqual([numbers(8, 12), numbers(8, 4), numbers(4)])
        expect((yield* pagesOf(1)).flat()).toEqual(numbers(20).toReversed())
        // The message that crosses the bytes is in the page; two of the newer ones have 4 bytes.
        expect((yield* pagesOf(1000, 3)).slice(0, 2)).toEqual([
          [18, 19],
          [16, 17]
        ])
        expect((yield* pagesOf(1000, 1)).flat()).toEqual(numbers(20).toReversed())
        expect(
          yield* reader.history!("nothing", { before: undefined, limit: 5, bytes: 9 })
        ).toEqual({ events: [], more: false })
        const [first] = (yield* reader.history!("room", { before: undefined, limit: 1, bytes: 9 }))
          .events
        const queue = yield* reader.follow("room")
        const oldest = yield* reader.join("room", Cursor.oldest)
        yield* hands.send(20)
        const [event] = (yield* take(queue, 1)).flatMap((item) =>
          item._tag === "Batch" ? item.events : []
        )
        // The same event as live and as a replay has it.
        expect(oldest.replay.flatMap(({ events }) => events).at(-1)).toEqual(first)
        const { events } = yield* reader.history!("room", { before: undefined, limit: 1, bytes: 9 })
        expect(events).toEqual([event])
      }))

    test("a reader gives the last event with the position behind it, and a gap is none", (reader, hands) =>
      Effect.gen(function* () {
        expect((yield* reader.last!("room")).event).toBeUndefined()
        yield* hands.send(1, 2)
        yield* hands.commit([["hall", "3"]])
        const last = yield* reader.last!("room")
        expect(last.event).toMatchObject({ text: "2" })
        yield* hands.send(4)
        const join = yield* reader.join("room", last.cursor)
        expect([join.state, replayed(join)]).toEqual(["recovered", [4]])
        yield* hands.tellGap
        yield* hands.tellGap
        expect((yield* reader.last!("room")).event).toMatchObject({ text: "4" })
        yield* hands.forget
        expect((yield* reader.last!("room")).event).toBeUndefined()
      }))

    test(`every subscriber receives each event once, whenever it joins (REALTIME_TEST_SEED=${seed})`, (reader, hands) =>
      Effect.gen(function* () {
        const { chance, int, pick } = random(seed)
        const rooms = ["room", "hall"]
        const truth: Array<{ readonly channel: string; readonly n: number }> = []
        const of = (channel: string, since: number) =>
          truth.slice(since).flatMap((one) => (one.channel === channel ? [one.n] : []))
        /** Cursors, each with the number of messages it contains. */
        const known = [{ cursor: yield* reader.position, since: 0 }]
        const joined: Array<{
          readonly channel: string
          readonly since: number
          readonly queue: Queue.Dequeue<Item>
          readonly join: Join
        }> = []
        const write = Effect.suspend(() => {
          const messages = numbers(1 + int(3), truth.length).map((n) => ({
            channel: pick(rooms),
            n
          }))
          truth.push(...messages)
          return hands.commit(messages.map(({ channel, n }) => [channel, String(n)]))
        })
        for (let step = 0; step < 60; step++) {
          if (chance(0.5)) {
            yield* write
          } else if (chance(0.4)) {
            known.push({ cursor: yield* reader.position, since: truth.length })
          } else if (joined.length < 12) {
            const channel = pick(rooms)
            const { cursor, since } = pick(known)
            const queue = yield* reader.follow(channel)
            // Delivered to the follower, and in the replay too.
            if (chance(0.5)) yield* write
            if (chance(0.5)) yield* reader.position
            joined.push({ channel, since, queue, join: yield* reader.join(channel, cursor) })
          } else if (chance(0.1)) {
            yield* hands.cut
            yield* hands.heal
          }
        }
        for (const { channel, join, queue, since } of joined) {
          const expected = of(channel, since)
          const first = replayed(join)
          const rest = yield* take(queue, expected.length - first.length, join.tick)
          expect([...first, ...rest.flatMap(textsOf)], `seed ${seed}`).toEqual(expected)
        }
        expect(joined.length).toBeGreaterThan(0)
      }))
  })
}
