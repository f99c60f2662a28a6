/**
 * Replays with a filter on real PostgreSQL, and states joined with them, under random changes: a replay
 * with a filter has everything that the filter does not exclude, and a state with the events that follow
 * from its cursor equals the table.
 */
import { PgClient, type PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import type { Where } from "../../src/Frame.ts"
import * as Cursor from "../../src/internal/cursorText.ts"
import * as Filter from "../../src/server/internal/filter.ts"
import {
  candidates,
  filteredArguments,
  filteredStatement
} from "../../src/server/internal/outbox/filteredPage.ts"
import * as Outbox from "../../src/server/internal/outbox/outbox.ts"
import { type DurableEvent, type Join, OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerInstalled, layerReader, layerReaderOnly, session, takeOn } from "./support/durable.ts"
import { layerSpied, type Page } from "./support/pool.ts"
import { long, type Random, random, seed } from "./support/random.ts"

const Message = Schema.Struct({
  id: Schema.Int,
  room: Schema.NullOr(Schema.String),
  n: Schema.NullOr(Schema.Int),
  tag: Schema.NullOr(Schema.String),
  text: Schema.NullOr(Schema.String)
})
const Messages = Channel.table("messages", Message, {
  key: "id",
  by: "room",
  filter: "n",
  boundary: "tag"
})
const base = "table_updates_messages"
const create =
  "create table messages (id int primary key, room text, n int, tag text, text text not null)"

const rooms = ["a", "b", null]
const numbers = [0, 1, 2, null]
/** What JSON and LIKE write in other ways. */
const tags = ['"', "\\", "%", "_", "\t\n\u0001\u007f\u2028é", '"n":"1"', '{"new":', "", null]

const literal = (value: string | number | null): string =>
  value === null ? "null" : `E'${String(value).replaceAll("\\", "\\\\").replaceAll("'", "''")}'`

const statement = ({ chance, int, pick }: Random): string => {
  const row = () =>
    `(${int(20)}, ${literal(pick(rooms))}, ${literal(pick(numbers))}, ${literal(pick(tags))}, repeat('x', ${int(300)}))`
  const where = () => (chance(0.5) ? `id = ${int(20)}` : `id % 3 = ${int(3)}`)
  return pick([
    () => `insert into messages values ${row()}, ${row()} on conflict do nothing`,
    () =>
      `insert into messages values ${row()} on conflict (id) do update set room = excluded.room, n = excluded.n`,
    () => `update messages set n = ${literal(pick(numbers))} where ${where()}`,
    () => `update messages set tag = ${literal(pick(tags))} where ${where()}`,
    () => `update messages set room = ${literal(pick(rooms))} where ${where()}`,
    () => `update messages set id = (id + 7) % 20 where id = ${int(20)}`,
    () => `update messages set text = repeat('y', ${int(300)}) where ${where()}`,
    () => `delete from messages where ${where()}`
  ])()
}

const transact = (db: PgConnection.PgConnection, dice: Random) =>
  Effect.gen(function* () {
    yield* db.query("begin")
    for (let left = 1 + dice.int(3); left > 0; left--) {
      yield* db.query("savepoint one")
      const failed = yield* Effect.isFailure(db.query(statement(dice)))
      if (failed || dice.chance(0.2)) yield* db.query("rollback to savepoint one")
    }
    yield* db.query(dice.chance(0.15) ? "rollback" : "commit")
  }).pipe(Effect.catch(() => Effect.ignore(db.query("rollback"))))

const someOf = <A>({ chance }: Random, values: ReadonlyArray<A>): ReadonlyArray<A> =>
  values.filter((value) => value !== null && chance(0.5))

const wheres = (dice: Random): ReadonlyArray<Where> => {
  const n = dice.chance(0.3) ? null : someOf(dice, numbers as ReadonlyArray<number>)
  const tag = dice.chance(0.3) ? null : someOf(dice, tags as ReadonlyArray<string>)
  return dice.pick([[{ n }], [{ tag }], [{ n }, { tag }], [{ n }, { n: 1 }]])
}

const eventsOf = ({ replay }: Join): ReadonlyArray<DurableEvent> =>
  replay.flatMap(({ events }) => events)

const judged = (filter: Filter.Filter, event: DurableEvent) =>
  Filter.judge(filter, Filter.parseMatch(event.match))

describe("A replay with a filter", () => {
  it.live("it has every event that the filter does not exclude, whatever stands in match", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* session
      const reader = yield* OutboxReader
      const dice = random(seed)
      yield* db.query(create)
      // Large rows are truncated, and keep their match.
      yield* PgInstaller.watch({ channel: Messages, maxBytes: 200 })
      yield* reader.routed(base)
      const cursors = [yield* reader.position]
      for (let n = 0; n < (long ? 1500 : 100); n++) {
        yield* transact(db, dice)
        if (dice.chance(0.1)) yield* db.query(`select realtime.tell_gap('${base}')`)
        if (dice.chance(0.2)) {
          const match = dice.pick([null, "digest", "{", '{"new":', '{"new":{"m":"1"}}'])
          yield* sql`insert into realtime.messages (channel, payload, match) values ('table_updates_messages:a', '{}', ${match})`
        }
        if (dice.chance(0.1))
          yield* sql`select realtime.publish_once('room', '1', ${String(n)}, 'sent')`
        if (dice.chance(0.1)) cursors.push(yield* reader.position)
      }
      yield* reader.position
      let [left, naive] = [0, 0]
      for (let n = 0; n < (long ? 1000 : 60); n++) {
        const filter = Filter.make(...wheres(dice))!
        const from = dice.pick(cursors)
        const channel = dice.pick([`${base}:a`, `${base}:b`, base, "room"])
        const at = `REALTIME_TEST_SEED=${seed}, ${channel} ${filter.text} from ${from}`
        const whole = eventsOf(yield* reader.join(channel, from))
        const part = yield* reader.join(channel, from, undefined, undefined, undefined, filter)
        const found = eventsOf(part)
        // A Stream for one consumer reads the same pages.
        if (part.replay.length > 0 && n % 6 === 0) {
          const streamed = yield* reader.batches(channel, { from, filter }).pipe(
            Stream.take(part.replay.length),
            Stream.flatMap((item) => Stream.fromIterable(item._tag === "Batch" ? item.events : [])),
            Stream.runCollect
          )
          expect([at, streamed]).toEqual([at, found])
        }
        expect([at, found]).toEqual([
          at,
          whole.filter(({ id }) => found.some((one) => one.id === id))
        ])
        const wanted = whole.filter((event) => judged(filter, event) !== "outside")
        const missing = wanted.filter(({ id }) => found.every((one) => one.id !== id))
        expect([at, missing]).toEqual([at, []])
        // With one column nothing else is left, unless nothing is inside of the filter.
        const [allowed] = filter.columns.size === 1 ? filter.columns.values() : []
        if (allowed !== undefined && allowed.size > 0)
          expect([at, found.length]).toEqual([at, wanted.length])
        left += whole.length - found.length
        // A replay that reads the row as it is now forgets what left the filter.
        naive += wanted.filter((event) => judged(filter, event) === "leaves").length
      }
      expect([left > 0, naive > 0]).toEqual([true, true])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("a page looks at a bounded number of messages, and equal replays share one read", () =>
    Effect.gen(function* () {
      const pages: Array<Page> = []
      const rows = 2 * candidates + 100
      yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const reader = yield* OutboxReader
        const from = yield* reader.position
        const write = (n: string) =>
          sql.unsafe(
            `insert into realtime.messages (channel, payload, match) select 'room', to_json(repeat('x', 300) || n)::text, '{"new":{"n":"' || ${n} || '"}}' from generate_series(1, ${rows}) n`
          )
        yield* write("n")
        yield* reader.position
        const join = (where: Where) =>
          reader.join("room", from, undefined, undefined, undefined, Filter.make(where))
        const [some, same, none] = yield* Effect.all(
          [join({ n: [5, rows - 1] }), join({ n: [rows - 1, 5] }), join({ n: -1 })],
          { concurrency: "unbounded" }
        )
        expect(eventsOf(some)).toHaveLength(2)
        expect(eventsOf(some).map(({ match }) => match)).toEqual([
          '{"new":{"n":"5"}}',
          `{"new":{"n":"${rows - 1}"}}`
        ])
        expect(same.replay).toBe(some.replay)
        expect(none).toMatchObject({ state: "recovered", replay: [], more: false, cursor: from })
        expect(pages).toHaveLength(6)
        expect(pages.reduce((sum, { text }) => sum + text, 0)).toBeLessThan(700)
        // Without a filter this is beyond the bounds of a replay.
        const bounds = { events: 100, bytes: 1e6 }
        expect(yield* reader.join("room", from, bounds)).toMatchObject({ state: "reset" })
      }).pipe(
        Effect.scoped,
        Effect.provide(layerReaderOnly()),
        Effect.provide(layerSpied((page) => void pages.push(page))),
        Effect.provide(layerInstalled({ wake: "poll" }))
      )
    })
  )

  it.live("a page beside 30,000 messages of other channels reads by the index alone", () =>
    Effect.gen(function* () {
      const db = yield* session
      const before = yield* takeOn(db)
      yield* db.query(
        `insert into realtime.messages (channel, payload, match) select 'hall' || n % 7, repeat('1', 100), '{"new":{"n":"1"}}' from generate_series(1, 30000) n`
      )
      for (const route of ["a", "b"]) {
        yield* db.query(
          `insert into realtime.messages (channel, payload, match) select '${base}:${route}', '1', '{"new":{"n":"' || n % 9 || '"}}' from generate_series(1, 50) n`
        )
      }
      const to = yield* takeOn(db)
      const leg = { at: before, to, id: 0n, last: to.last }
      const filter = Filter.make({ n: [1, 2] }, { n: [1] })!
      const limits = { messages: candidates, bytes: 65_536 }
      for (const [scope, table] of [
        ["one", undefined],
        ["route", base]
      ] as const) {
        const explain = db.query(`explain (analyze, buffers) ${filteredStatement(scope, filter)}`, [
          ...Outbox.pageArguments(leg, 0n, limits, `${base}:a`, table),
          256,
          ...filteredArguments(filter)
        ])
        // The first call of a function of the statement reads the catalog.
        const { rows } = yield* Effect.andThen(explain, explain)
        const plan = rows.map((row) => String(row["QUERY PLAN"])).join("\n")
        expect(plan).not.toMatch(/Seq Scan on messages/)
        expect(Number(/Buffers: shared hit=(\d+)/.exec(plan)![1])).toBeLessThan(60)
      }
    }).pipe(Effect.scoped, Effect.provide(layerInstalled({ wake: "poll" })))
  )
})

describe("A state and the events from its cursor", () => {
  it.live(
    "they equal the table for every route and filter, under writers, and other orders do not",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const reader = yield* OutboxReader
        yield* sql.unsafe(create)
        yield* PgInstaller.watch(Messages)
        yield* reader.routed(base)
        const limits = { rows: 1000, bytes: 1e6 }
        let over = false
        const writing = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, n) => n),
          (n) =>
            Effect.gen(function* () {
              const db = yield* session
              const dice = random(seed + n)
              yield* db.query("set deadlock_timeout = '5ms'")
              // oxlint-disable-next-line no-unmodified-loop-condition -- the test ends it below
              while (!over) {
                yield* transact(db, dice)
                yield* Effect.sleep(dice.int(4))
              }
            }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkChild({ startImmediately: true }))
        const dice = random(seed + 99)
        const states: Array<{
          readonly channel: string
          readonly filter: Filter.Filter | undefined
          readonly rows: ReadonlyArray<string>
          readonly cursor: string
          /** A position that another statement took after the rows. */
          readonly later: string
        }> = []
        const wanted = long ? 1000 : 60
        while (states.length < wanted) {
          const channel = `${base}:${dice.pick(["a", "b"])}`
          const filter = dice.chance(0.2) ? undefined : Filter.make(...wheres(dice))
          const state = yield* reader.rows!({ channel, table: Messages.table, filter, limits })
          states.push({ channel, filter, ...state, later: yield* reader.position })
        }
        over = true
        yield* Fiber.join(writing)
        yield* reader.position
        const keyOf = (row: string) => Number(/"id":(\d+)/.exec(row)![1])
        const follow = Effect.fnUntraced(function* (state: (typeof states)[number], from: string) {
          const { channel, filter } = state
          const rows = new Map(state.rows.map((row) => [keyOf(row), row]))
          const join = yield* reader.join(channel, from, undefined, undefined, undefined, filter)
          expect(join.state).toBe("recovered")
          for (const event of eventsOf(join)) {
            const told = JSON.parse(event.text) as {
              readonly operation: string
              readonly key: { readonly id: number }
            }
            const is =
              filter === undefined
                ? told.operation === "DELETE"
                  ? "leaves"
                  : "enters"
                : judged(filter, event)
            const data = /"data":(\{.*\}),"key":/s.exec(event.text)![1]!
            if (is === "leaves") rows.delete(told.key.id)
            else if (is !== "outside") rows.set(told.key.id, data)
          }
          return [...rows.values()].toSorted((one, other) => keyOf(one) - keyOf(other))
        })
        let naive = 0
        for (const state of states) {
          const { channel, filter } = state
          const now = yield* reader.rows!({ channel, table: Messages.table, filter, limits })
          const at = `REALTIME_TEST_SEED=${seed}, ${channel} ${filter?.text}`
          expect([at, yield* follow(state, state.cursor)]).toEqual([at, now.rows])
          const other = yield* follow(state, state.later)
          if (JSON.stringify(other) !== JSON.stringify(now.rows)) naive++
          expect(Cursor.parseDurable(state.cursor)).toBeDefined()
        }
        // Not every seed has an order that matters.
        if (long) expect(naive).toBeGreaterThan(0)
      }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" }))),
    long ? 300_000 : 60_000
  )
})
