/** Snapshots with the events after them, and named consumers: exact under load and faults. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Redacted, Ref, Stream } from "effect"
import * as Cursor from "../../src/internal/cursorText.ts"
import {
  consumeItems as consume,
  type ConsumerOptions
} from "../../src/server/internal/outbox/consumers.ts"
import { snapshot } from "../../src/server/internal/outbox/snapshot.ts"
import { type DurableEvent, type Item, OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { TestDatabase } from "../support/database.ts"
import { layerReader, publish } from "./support/durable.ts"
import { long, type Random, random, seed } from "./support/random.ts"
import { channel, schema, type Tally, watched, writer } from "./support/writers.ts"
import { until } from "../support/until.ts"

interface Row {
  readonly id: number
  readonly version: number
}

const spelled = (rows: ReadonlyMap<number, number>): string =>
  JSON.stringify([...rows].toSorted(([a], [b]) => a - b))

/** The change of a row in an event, with the event. */
const changeOf = (event: DurableEvent) => {
  const { data } = JSON.parse(event.text) as { readonly data: Row | { readonly note: unknown } }
  return "note" in data ? [] : [{ event, data }]
}

const connect = Effect.flatMap(TestDatabase, ({ url }) =>
  PgConnection.make({ url: Redacted.make(url), applicationName: "test" })
)

describe("Realtime.snapshot", () => {
  it.live(
    "1,000 snapshots under load and the events after each reconstruct the tables exactly",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const reader = yield* OutboxReader
        for (const statement of schema) yield* sql.unsafe(statement)
        for (const table of watched)
          yield* PgInstaller.watch({ channel, table, delivery: "durable", shared: true })
        const start = yield* reader.position
        const tally: Tally = { commits: 0, prepared: 0, rollbacks: 0, savepoints: 0, conflicts: 0 }
        const newest = yield* Ref.make<string | undefined>(undefined)
        const wanted = long ? 10_000 : 1000
        const joins: Array<{
          readonly rows: ReadonlyMap<number, number>
          readonly cursor: string
        }> = []
        // Writers go on until the last join has all the events it waits for.
        let over = false
        const { url } = yield* TestDatabase
        const working = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, id) => id),
          (id) =>
            writer({
              connect: PgConnection.make({ url: Redacted.make(url), applicationName: "test" }),
              id,
              random: random(seed + id),
              over: () => over,
              tally,
              newest
            }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkChild({ startImmediately: true }))

        // Reads a state by two statements with a pause between them, and the events after it up to some
        // point.
        const join = Effect.fnUntraced(function* (r: Random) {
          const { cursor, value: rows } = yield* snapshot(
            Effect.gen(function* () {
              const first =
                yield* sql<Row>`select id, version from accounts union all select id, version from orders`
              yield* Effect.sleep(r.int(4))
              const second = yield* sql<Row>`select id, version from parts`
              return new Map([...first, ...second].map(({ id, version }) => [id, version]))
            })
          )
          yield* Effect.sleep(r.int(30))
          let end = cursor
          const take = (item: Item) => {
            end = item.cursor
            if (item._tag !== "Batch") return
            for (const { data } of item.events.flatMap(changeOf)) rows.set(data.id, data.version)
          }
          if (r.chance(0.5)) {
            const { replay, state } = yield* reader.join(channel, cursor)
            expect(state).toBe("recovered")
            for (const batch of replay) take(batch)
          } else {
            yield* reader.batches(channel, { from: cursor }).pipe(
              Stream.take(1 + r.int(4)),
              Stream.runForEach((item) => Effect.sync(() => take(item)))
            )
          }
          joins.push({ rows, cursor: end })
        })
        yield* Effect.forEach(
          Array.from({ length: 6 }, (_, n) => random(seed + 100 + n)),
          (r) =>
            Effect.whileLoop({
              while: () => joins.length < wanted,
              body: () => join(r),
              step: () => {}
            }),
          { concurrency: "unbounded", discard: true }
        )
        over = true
        yield* Fiber.join(working)

        // All changes in order, to compare with.
        const last = Cursor.parseDurable(yield* reader.position)!.position.base
        const history = yield* reader.batches(channel, { from: start }).pipe(
          Stream.takeUntil((item) =>
            Cursor.contains(Cursor.parseDurable(item.cursor)!.position.base, last)
          ),
          Stream.flatMap((item) =>
            Stream.fromIterable(item._tag === "Batch" ? item.events.flatMap(changeOf) : [])
          ),
          Stream.runCollect
        )
        const tables = Effect.map(
          sql<Row>`select id, version from accounts union all select id, version from orders
            union all select id, version from parts`,
          (rows) => spelled(new Map(rows.map(({ id, version }) => [id, version])))
        )
        const initial = (yield* tables).replaceAll(/,\d+\]/g, ",0]")
        const at = (includes: (event: DurableEvent) => boolean) => {
          const rows = new Map(JSON.parse(initial) as Array<[number, number]>)
          for (const { data, event } of history)
            if (includes(event)) rows.set(data.id, data.version)
          return spelled(rows)
        }
        expect(at(() => true)).toBe(yield* tables)
        const wrong = joins.filter(({ cursor, rows }) => {
          const position = Cursor.parseDurable(cursor)!
          return spelled(rows) !== at((event) => Cursor.seenEvent(position)(event))
        })
        console.log(
          JSON.stringify({ seed, joins: joins.length, changes: history.length, ...tally })
        )
        expect({ wrong: wrong.length, seed }).toEqual({ wrong: 0, seed })
        expect(joins.length).toBeGreaterThanOrEqual(wanted)
        expect(history.length).toBeGreaterThan(wanted / 2)
      }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" }))),
    long ? 180_000 : 60_000
  )

  it.live("a subscriber that starts from a snapshot receives every other row once", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const reader = yield* OutboxReader
      yield* sql`create table orders (id int primary key)`
      yield* PgInstaller.watch({ channel: "table_updates_orders", delivery: "durable" })
      const writing = yield* Effect.forEach(
        Array.from({ length: 400 }, (_, id) => id),
        (id) => sql`insert into orders values (${id})`,
        { concurrency: 8, discard: true }
      ).pipe(Effect.forkChild({ startImmediately: true }))
      yield* Effect.sleep(30)
      const { cursor, value } = yield* snapshot(sql<{ readonly id: number }>`select id from orders`)
      const rest = yield* reader.batches("table_updates_orders", { from: cursor }).pipe(
        Stream.flatMap((item) => Stream.fromIterable(item._tag === "Batch" ? item.events : [])),
        Stream.map(({ text }) => (JSON.parse(text) as { readonly data: Row }).data.id),
        Stream.take(400 - value.length),
        Stream.runCollect
      )
      yield* Fiber.join(writing)
      const all = [...value.map(({ id }) => id), ...rest]
      expect(all.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 400 }, (_, id) => id))
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("a snapshot inside a transaction is rejected, and a snapshot cannot write", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const nested = yield* Effect.flip(sql.withTransaction(snapshot(sql`select 1`)))
      expect(nested).toMatchObject({ _tag: "NestedSnapshot" })
      const written = yield* Effect.flip(
        snapshot(publish("room", 1).pipe(Effect.catchDefect(Effect.fail)))
      )
      expect(String(written)).toContain("SqlError")
      const ok = yield* snapshot(sql`select 1 n`)
      expect(ok.value).toEqual([{ n: 1 }])
      expect(Cursor.parseDurable(ok.cursor)).toBeDefined()
    }).pipe(Effect.provide(layerReader()))
  )
})

describe("A named consumer", () => {
  it.live(
    "three workers of one consumer handle each event exactly once while their sessions are terminated",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const db = yield* connect
        const total = 600
        yield* db.query("create table done (id bigint primary key, worker int)")
        const r = random(seed)
        const work = (worker: number) =>
          consume({
            name: "billing",
            channel: "room",
            start: "oldest",
            onBatch: (batch) =>
              Effect.gen(function* () {
                // Not idempotent: handling an event twice fails, and a lost event is missing at the end.
                for (const { id } of batch.events) {
                  yield* sql`insert into done values (${id}::bigint, ${worker})`
                }
                if (r.chance(0.2)) yield* Effect.sleep(r.int(10))
              })
          })
        yield* publish("room", "before any worker came")
        const working = yield* Effect.forEach([1, 2, 3], work, {
          concurrency: "unbounded",
          discard: true
        }).pipe(Effect.forkChild({ startImmediately: true }))
        const killing = yield* Effect.gen(function* () {
          const killer = yield* connect
          while (true) {
            yield* Effect.sleep(20 + r.int(100))
            yield* killer.query(
              `select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and application_name <> 'test' order by random() limit 1`
            )
          }
        }).pipe(Effect.scoped, Effect.forkChild)
        for (let n = 1; n < total; n++) {
          yield* db.query("select realtime.publish('room', $1::text)", [String(n)])
          if (n % 50 === 0) yield* Effect.sleep(r.int(100))
        }
        yield* Fiber.interrupt(killing)
        const count = Effect.map(
          db.query("select count(*)::int n from done"),
          ({ rows }) => rows[0]!["n"]
        )
        let done = yield* count
        for (let n = 0; n < 300 && done !== total; n++) {
          yield* Effect.sleep(50)
          done = yield* count
        }
        expect({ done, failed: working.pollUnsafe() }).toEqual({ done: total, failed: undefined })
      }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("a consumer that starts at the oldest event waits until a reader opens the outbox", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const reader = yield* OutboxReader
      const db = yield* connect
      yield* reader.position
      // As after a crash with a late reader: this lock allows other sessions to read and not to write.
      yield* db.query("delete from realtime.epoch")
      yield* db.query("begin")
      yield* db.query("lock realtime.epoch in share mode")
      yield* sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'effect-realtime reader'`
      const seen = yield* Queue.unbounded<string>()
      const consumer = yield* consume({
        name: "late",
        channel: "room",
        start: "oldest",
        onBatch: ({ events }) =>
          Queue.offerAll(
            seen,
            events.map(({ text }) => text)
          )
      }).pipe(Effect.forkChild({ startImmediately: true }))
      const waiting = sql`select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%realtime.open(%'`
      yield* Effect.repeat(waiting, { until: (rows) => rows.length === 1 })
      // Enough time for a consumer that does not wait.
      yield* Effect.repeat(sql`select 1`, { times: 20 })
      expect(yield* sql`select from realtime.consumers`).toEqual([])
      yield* db.query("commit")
      yield* Effect.repeat(sql`select from realtime.consumers`, {
        until: (rows) => rows.length === 1
      })
      yield* publish("room", 1)
      expect(yield* Queue.take(seen).pipe(Effect.raceFirst(Fiber.join(consumer)))).toBe("1")
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("a consumer starts at its cursor, keeps to one channel, and fails at a gap", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* publish("room", 1)
      const seen: Array<string> = []
      const gaps: Array<string> = []
      const run = (options: Partial<ConsumerOptions<never, never>>) =>
        consume({
          name: "mails",
          channel: "room",
          onBatch: ({ events }) =>
            Effect.sync(() => void seen.push(...events.map(({ text }) => text))),
          ...options
        })
      /** Runs the consumer until it has stored its cursor after the event `last`. */
      const runUntil = (options: Partial<ConsumerOptions<never, never>>, last: string) =>
        Effect.gen(function* () {
          const before = yield* cursor
          const running = yield* Effect.forkChild(run(options), { startImmediately: true })
          yield* until(() => seen.at(-1) === last)
          yield* Effect.repeat(cursor, { until: (now) => now !== before })
          yield* Fiber.interrupt(running)
        })
      const cursor = Effect.map(
        sql<{ readonly cursor: string }>`select cursor from realtime.consumers`,
        (rows) => rows[0]?.cursor
      )
      // A new consumer starts now, and ignores earlier events.
      const first = yield* Effect.forkChild(run({}), { startImmediately: true })
      const began = yield* Effect.repeat(cursor, { until: (now) => now !== undefined })
      yield* publish("room", 2)
      yield* Effect.repeat(cursor, { until: (now) => now !== began })
      yield* Fiber.interrupt(first)
      yield* publish("room", 3)
      yield* runUntil({ start: "oldest" }, "3")
      expect(seen).toEqual(["2", "3"])
      expect(yield* Effect.flip(run({ channel: "hall" }))).toMatchObject({
        _tag: "ConsumerConflict",
        other: "room"
      })
      yield* sql`update realtime.consumers set cursor = 'lost'`
      expect(yield* Effect.flip(run({}))).toMatchObject({ _tag: "ConsumerGap", reason: "source" })
      const third = yield* Effect.forkChild(
        run({ onGap: ({ reason }) => Effect.sync(() => void gaps.push(reason)) }),
        { startImmediately: true }
      )
      yield* Effect.repeat(cursor, { until: (now) => now !== "lost" })
      yield* publish("room", 4)
      yield* until(() => seen.at(-1) === "4")
      yield* Fiber.interrupt(third)
      expect([gaps, seen]).toEqual([["source"], ["2", "3", "4"]])
      // A failure of its handler ends the consumer, and leaves its cursor where it was.
      yield* publish("room", 5)
      const failing = run({ onBatch: () => Effect.fail("no" as never) })
      expect(yield* Effect.flip(failing)).toBe("no")
      yield* runUntil({}, "5")
      expect(seen.at(-1)).toBe("5")
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )
})
