/** Joining a state with the stream that follows it, and consuming under a name: exact under load and faults. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Ref, Stream } from "effect"
import * as Cursor from "../../src/Cursor.ts"
import { consume, type ConsumerOptions } from "../../src/server/internal/consumers.ts"
import { snapshot } from "../../src/server/internal/snapshot.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { TestDatabase } from "../support/database.ts"
import { layerReader, publish } from "./support/durable.ts"
import { long, random, seed } from "./support/random.ts"
import { channel, schema, type Tally, watched, writer } from "./support/writers.ts"

interface Row {
  readonly id: number
  readonly version: number
}

const spelled = (rows: ReadonlyMap<number, number>): string =>
  JSON.stringify([...rows].toSorted(([a], [b]) => a - b))

const connect = Effect.flatMap(TestDatabase, ({ url }) =>
  PgConnection.make({ url: Redacted.make(url), applicationName: "test" })
)

describe("a snapshot", () => {
  it.live("and the events after it reconstruct the table exactly, 1,000 times under load", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const reader = yield* OutboxReader
      for (const statement of schema) yield* sql.unsafe(statement)
      for (const table of watched) yield* PgInstaller.watch({ channel, table })
      const { url } = yield* TestDatabase
      const tally: Tally = { commits: 0, prepared: 0, rollbacks: 0, savepoints: 0, conflicts: 0 }
      const newest = yield* Ref.make<string | undefined>(undefined)
      const working = yield* Effect.forEach(
        Array.from({ length: 12 }, (_, id) => id),
        (id) =>
          writer({
            connect: PgConnection.make({ url: Redacted.make(url), applicationName: "test" }),
            id,
            random: random(seed + id),
            until: performance.now() + (long ? 20_000 : 3000),
            tally,
            newest
          }),
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.forkChild({ startImmediately: true }))

      // States, each of several statements, with pauses in between.
      const r = random(seed + 100)
      const read = sql<Row>`select id, version from accounts union all select id, version from orders`
      const states: Array<{ readonly cursor: string; readonly rows: ReadonlyMap<number, number> }> =
        []
      const taking = yield* Effect.gen(function* () {
        while (working.pollUnsafe() === undefined || states.length < 20) {
          const { cursor, value } = yield* snapshot(
            Effect.gen(function* () {
              const first = yield* read
              yield* Effect.sleep(r.int(8))
              const second = yield* sql<Row>`select id, version from parts`
              return new Map([...first, ...second].map(({ id, version }) => [id, version]))
            })
          )
          states.push({ cursor, rows: value })
          yield* Effect.sleep(r.int(10))
        }
      }).pipe(Effect.forkChild({ startImmediately: true }))
      yield* Fiber.join(working)
      yield* Fiber.join(taking)

      // Everything after the first state.
      const end = Cursor.parseDurable(yield* reader.position)!.position.base
      const events = yield* reader.batches(channel, { from: states[0]!.cursor }).pipe(
        Stream.takeUntil((item) =>
          Cursor.contains(Cursor.parseDurable(item.cursor)!.position.base, end)
        ),
        Stream.flatMap((item) => Stream.fromIterable(item._tag === "Batch" ? item.events : [])),
        Stream.runCollect
      )
      const changes = events.flatMap((event) => {
        const { data } = JSON.parse(event.text) as {
          readonly data: Row | { readonly note: unknown }
        }
        return "note" in data ? [] : [{ event, data }]
      })

      // From any state to any later one: drop what the first has, and what the second has not.
      let wrong = 0
      let applied = 0
      for (let n = 0; n < 1000; n++) {
        const from = r.int(states.length - 1)
        const to = from + 1 + r.int(states.length - from - 1)
        const [a, b] = [states[from]!, states[to]!]
        const [before, after] = [Cursor.parseDurable(a.cursor)!, Cursor.parseDurable(b.cursor)!]
        const rows = new Map(a.rows)
        for (const { data, event } of changes) {
          if (Cursor.seenEvent(before, event) || !Cursor.seenEvent(after, event)) continue
          rows.set(data.id, data.version)
          applied++
        }
        if (spelled(rows) !== spelled(b.rows)) wrong++
      }
      expect({ wrong, seed }).toEqual({ wrong: 0, seed })
      expect(states.length).toBeGreaterThan(20)
      expect(applied).toBeGreaterThan(200)
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("is joined by a subscriber without a hole or a double", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const reader = yield* OutboxReader
      yield* sql`create table orders (id int primary key)`
      yield* PgInstaller.watch({ channel: "table_updates_orders" })
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

  it.live("is refused inside a transaction, and cannot write", () =>
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

describe("a named consumer", () => {
  it.live(
    "does everything exactly once, with three workers and sessions that end at any moment",
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
                // Not idempotent: a second time fails, and a lost one is missing at the end.
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

  it.live("begins where it is told, keeps to one channel, and tells what it may have missed", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* publish("room", 1)
      const seen: Array<string> = []
      const run = (options: Partial<ConsumerOptions<never, never>>) =>
        consume({
          name: "mails",
          channel: "room",
          onBatch: ({ events }) =>
            Effect.sync(() => void seen.push(...events.map(({ text }) => text))),
          ...options
        })
      // From now on: what was before is not its business.
      const first = yield* Effect.forkChild(run({}), { startImmediately: true })
      yield* Effect.sleep(150)
      yield* publish("room", 2)
      yield* Effect.sleep(150)
      yield* Fiber.interrupt(first)
      yield* publish("room", 3)
      const second = yield* Effect.forkChild(run({ start: "oldest" }), { startImmediately: true })
      yield* Effect.sleep(200)
      yield* Fiber.interrupt(second)
      expect(seen).toEqual(["2", "3"])
      expect(yield* Effect.flip(run({ channel: "hall" }))).toMatchObject({
        _tag: "ConsumerConflict",
        other: "room"
      })
      yield* sql`update realtime.consumers set cursor = 'lost'`
      expect(yield* Effect.flip(run({}))).toMatchObject({ _tag: "ConsumerGap", reason: "source" })
      const gaps: Array<string> = []
      const third = yield* Effect.forkChild(
        run({ onGap: ({ reason }) => Effect.sync(() => void gaps.push(reason)) }),
        { startImmediately: true }
      )
      yield* Effect.sleep(150)
      yield* publish("room", 4)
      yield* Effect.sleep(150)
      yield* Fiber.interrupt(third)
      expect([gaps, seen]).toEqual([["source"], ["2", "3", "4"]])
      // A failure of its own ends it, and leaves the cursor where it was.
      yield* publish("room", 5)
      const failing = run({ onBatch: () => Effect.fail("no" as never) })
      expect(yield* Effect.flip(failing)).toBe("no")
      const last = yield* Effect.forkChild(run({}), { startImmediately: true })
      yield* Effect.sleep(200)
      yield* Fiber.interrupt(last)
      expect(seen.at(-1)).toBe("5")
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )
})
