/**
 * The contract of an `OutboxReader` that reads tables: every such reader runs these tests. They pass over a
 * reader without `rows`.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, type Layer, Queue, type Scope, Stream } from "effect"
import * as Filters from "../../src/server/internal/filter.ts"
import {
  type DurableEvent,
  InvalidFilter,
  OutboxReader,
  type RowsRequest
} from "../../src/server/OutboxReader.ts"
import type { Outside } from "./OutboxReaderSuite.ts"
import { long, random, seed } from "./support/random.ts"
import { folded, type ThingChange, ThingModel, Things } from "./support/things.ts"
import { waitFor } from "../support/until.ts"

const whole = Things.table.channel
const a = Things("a").name
const limits = { rows: 1000, bytes: 1_000_000 }
const by = (n: ReadonlyArray<number> | number | null) => Filters.make({ n })

const row = (id: number, room: string | null, n: number | null, text = "x") => ({
  id,
  room,
  n,
  text
})

const parsed = (rows: ReadonlyArray<string>) => rows.map((text) => JSON.parse(text) as unknown)

type Reading = OutboxReader["Service"] & Required<Pick<OutboxReader["Service"], "rows" | "secret">>

export const rowsSuite = <R, E>(
  name: string,
  layer: Layer.Layer<R | OutboxReader, E>,
  outside: Effect.Effect<Outside, E, R | OutboxReader | Scope.Scope>
): void => {
  const test = (
    sentence: string,
    body: (
      reader: Reading,
      /** Commits changes in one transaction; completes once the reader has read it. */
      change: (...changes: ReadonlyArray<ThingChange>) => Effect.Effect<unknown, unknown>,
      hands: Outside
    ) => Effect.Effect<void, unknown, OutboxReader | Scope.Scope>
  ) =>
    it.live(sentence, () =>
      Effect.gen(function* () {
        const hands = yield* outside
        const reader = yield* OutboxReader
        if (reader.rows === undefined) return
        const commit = yield* hands.things
        yield* waitFor(reader, "up")
        yield* reader.routed(whole)
        yield* body(
          reader as Reading,
          (...changes) => Effect.andThen(commit(...changes), reader.position),
          hands
        )
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

  /** The state of a channel. */
  const stateOf = (
    { rows }: Reading,
    channel: string,
    filter?: Filters.Filter,
    most: RowsRequest["limits"] = limits
  ) => rows({ channel, table: Things.table, filter, limits: most })

  /** The events of a channel after a cursor, without those that a filter excludes for certain. */
  const eventsAfter = (
    reader: Reading,
    channel: string,
    cursor: string,
    filter?: Filters.Filter
  ): Effect.Effect<ReadonlyArray<DurableEvent>, unknown> =>
    Effect.map(
      reader.join(channel, cursor, undefined, undefined, undefined, filter),
      ({ replay, state }) => {
        expect(state).toBe("recovered")
        return replay.flatMap(({ events }) => events)
      }
    )

  describe(`OutboxReader with rows: ${name}`, () => {
    test("a state has the rows of its channel and its filter, in the order of the key", (reader, change) =>
      Effect.gen(function* () {
        expect((yield* stateOf(reader, whole)).rows).toEqual([])
        const rows = [
          row(10, "a", 1),
          row(9, "b", 1, 'é"\\\n'),
          row(2, "a", null),
          row(-1, null, 2)
        ]
        yield* change(...rows.map((insert) => ({ insert })))
        const state = yield* stateOf(reader, whole)
        expect(state.cursor).toBe(yield* reader.position)
        expect(state.rows[2]).toBe('{"id":9,"room":"b","n":1,"text":"é\\"\\\\\\n"}')
        const keys = (channel: string, filter?: Filters.Filter) =>
          Effect.map(stateOf(reader, channel, filter), (one) =>
            parsed(one.rows).map((one) => (one as { readonly id: number }).id)
          )
        expect(yield* keys(whole)).toEqual([-1, 2, 9, 10])
        expect(yield* keys(whole, by(1))).toEqual([9, 10])
        expect(yield* keys(whole, by([2, 3]))).toEqual([-1])
        expect(yield* keys(whole, by(null))).toEqual([2])
        expect(yield* keys(whole, Filters.make({ n: [] }))).toEqual([])
        expect(yield* keys(whole, Filters.make({ n: [1, 2] }, { n: [2, 3] }))).toEqual([-1])
        expect(yield* keys(whole, Filters.make({ n: 1, room: ["a", "c"] }))).toEqual([10])
        expect(yield* keys(a)).toEqual([2, 10])
        expect(yield* keys(a, by(1))).toEqual([10])
        expect(yield* keys(Things("c").name)).toEqual([])
      }))

    test("a state over its limits fails with the limit, and one at its limits does not", (reader, change) =>
      Effect.gen(function* () {
        yield* change(
          { insert: row(1, "a", 1, "é") },
          { insert: row(2, "a", 1, "é") },
          { insert: row(3, "b", 2) }
        )
        const { rows } = yield* stateOf(reader, a)
        const bytes = Buffer.byteLength(rows.join(""))
        expect((yield* stateOf(reader, a, undefined, { rows: 2, bytes })).rows).toEqual(rows)
        expect((yield* stateOf(reader, whole, by(2), { rows: 1, bytes })).rows).toHaveLength(1)
        const refused = (most: RowsRequest["limits"]) =>
          Effect.flip(stateOf(reader, a, undefined, most))
        expect(yield* refused({ rows: 1, bytes })).toMatchObject({
          _tag: "StateTooLarge",
          channel: a,
          limit: "maxStateRows",
          most: 1,
          found: 2
        })
        expect(yield* refused({ rows: 2, bytes: bytes - 1 })).toMatchObject({
          _tag: "StateTooLarge",
          channel: a,
          limit: "maxStateBytes",
          most: bytes - 1,
          found: bytes
        })
      }))

    test("a filter by another column, or with a text that no value has, is invalid", (reader, change) =>
      Effect.gen(function* () {
        yield* change({ insert: row(1, "a", 1) })
        for (const where of [{ text: "x" }, { n: "secret" }, { n: "01" }, { n: [1, 1.5] }]) {
          const error = yield* Effect.flip(stateOf(reader, whole, Filters.make(where)))
          expect(error).toBeInstanceOf(InvalidFilter)
          expect(error.message).not.toContain("secret")
        }
      }))

    test("the secret is the same at every node", (reader, _change, hands) =>
      Effect.gen(function* () {
        const secret = yield* reader.secret
        expect(secret.length).toBeGreaterThanOrEqual(16)
        expect(yield* (yield* hands.other).secret!).toBe(secret)
        expect(yield* reader.position).not.toContain(secret)
      }))

    test("every event of a row has what it is routed and filtered by, and a TRUNCATE has nothing", (reader, change) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        const queue = yield* reader.follow(a)
        yield* change(
          { insert: row(1, "a", 1) },
          { update: 1, to: { n: null, text: 'q"' } },
          { update: 1, to: { room: "b" } },
          { update: 1, to: { id: 2, room: "a" } },
          { delete: 2 }
        )
        yield* change({ truncate: true })
        const replayed = yield* eventsAfter(reader, a, start)
        const handed: Array<DurableEvent> = []
        while (handed.length < replayed.length) {
          const item = yield* Queue.take(queue)
          if (item._tag === "Batch") handed.push(...item.events)
        }
        for (const events of [replayed, handed]) {
          expect(
            events.map(({ match, text }) => [
              /"operation":"(\w+)"/.exec(text)?.[1],
              match ?? undefined
            ])
          ).toEqual([
            ["INSERT", '{"new":{"room":"a","n":"1"}}'],
            ["UPDATE", '{"old":{"room":"a","n":"1"},"new":{"room":"a","n":null}}'],
            ["DELETE", '{"old":{"room":"a","n":null}}'],
            ["INSERT", '{"new":{"room":"a","n":null}}'],
            ["DELETE", '{"old":{"room":"a","n":null}}'],
            ["TRUNCATE", undefined]
          ])
        }
      }))

    test("a replay leaves out what its filter excludes, and its bounds do not count that", (reader, change) =>
      Effect.gen(function* () {
        const start = yield* reader.position
        for (let id = 0; id < 20; id++) yield* change({ insert: row(id, "a", 1) })
        yield* change({ update: 3, to: { n: 2 } })
        yield* change({ truncate: true })
        yield* change({ insert: row(20, "a", 2) })
        const texts = (events: ReadonlyArray<DurableEvent>) => events.map(({ text }) => text)
        const all = texts(yield* eventsAfter(reader, a, start))
        // The TRUNCATE is of every filter.
        const expected = all.slice(20)
        expect(expected).toHaveLength(3)
        const bounds = { events: 3, bytes: 10_000 }
        const join = yield* reader.join(a, start, bounds, undefined, undefined, by(2))
        expect(join).toMatchObject({ state: "recovered", cursor: start, more: false })
        expect(texts(join.replay.flatMap(({ events }) => events))).toEqual(expected)
        expect((yield* reader.join(a, start, bounds)).reason).toBe("bounds")
        const streamed = yield* reader.batches(a, { from: start, filter: by(2) }).pipe(
          Stream.flatMap((item) =>
            Stream.fromIterable(item._tag === "Batch" ? texts(item.events) : [])
          ),
          Stream.take(3),
          Stream.runCollect
        )
        expect(streamed).toEqual(expected)
        const none = yield* reader.join(a, start, bounds, undefined, undefined, by(7))
        expect(none.replay.flatMap(({ events }) => texts(events))).toEqual([expected[1]])
      }))

    test(`a state and the events after it give the rows, whatever the filter (REALTIME_TEST_SEED=${seed})`, (reader, change) =>
      Effect.gen(function* () {
        const dice = random(seed)
        const model = new ThingModel()
        const rooms = [undefined, "a", "b"]
        const filters = [undefined, [1], [2, 3], [null], [7]]
        const states: Array<{
          readonly room: string | undefined
          readonly values: ReadonlyArray<number | null> | undefined
          readonly filter: Filters.Filter | undefined
          readonly rows: ReadonlyArray<string>
          readonly cursor: string
        }> = []
        for (let step = 0; step < (long ? 600 : 30); step++) {
          const changes = Array.from({ length: 1 + dice.int(3) }, () => {
            const one = model.random(dice)
            model.change(one)
            return one
          })
          yield* change(...changes)
          const room = dice.pick(rooms)
          const values = dice.pick(filters)
          const filter =
            values === undefined
              ? undefined
              : Filters.make({ n: values[0] === null ? null : (values as ReadonlyArray<number>) })
          const channel = room === undefined ? whole : Things(room).name
          const { cursor, rows } = yield* stateOf(reader, channel, filter)
          expect([`step ${step}`, parsed(rows)]).toEqual([`step ${step}`, model.some(room, values)])
          // Events go to the channels of routes only.
          if (room !== undefined) states.push({ room, values, filter, rows, cursor })
        }
        let events = 0
        for (const { cursor, filter, room, rows, values } of states) {
          const after = yield* eventsAfter(reader, Things(room!).name, cursor, filter)
          events += after.length
          expect(folded(rows, after, filter)).toEqual(model.some(room, values))
        }
        expect(events).toBeGreaterThan(states.length)
      }))
  })
}
