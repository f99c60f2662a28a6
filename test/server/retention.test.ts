/** Retention: never a silent hole, never a reset without need, and no table that grows for ever. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, Redacted, Stream } from "effect"
import * as Cursor from "../../src/internal/cursorText.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { ownServer } from "../support/cluster.ts"
import {
  layerInstalled,
  layerReader,
  layerReaderOnly,
  publish,
  session,
  takeOn
} from "./support/durable.ts"
import { long, random, seed } from "./support/random.ts"

const upkeepStatement = "select realtime.upkeep($1::pg_snapshot, $2::xid8, $3::bigint, $4::int, $5)"

/** One turn of upkeep of a node, at once. */
const upkeep = (db: Effect.Success<typeof session>, every = 0) =>
  Effect.gen(function* () {
    const { drawn, era, next, normal } = yield* takeOn(db)
    const args = [Cursor.formatSnapshot(normal), String(next), String(drawn), every, era]
    yield* db.query(upkeepStatement, args)
    while (((yield* db.query("select realtime.prune() n")).rows[0]!["n"] as number) > 0);
    return args
  })

/** Makes all marks so far an hour older. */
const hour = PgClient.PgClient.use(
  (sql) => sql`update realtime.marks set at = at - interval '1 hour'`
)

const horizon = Effect.map(
  PgClient.PgClient.use(
    (sql) => sql<{ readonly h: string }>`select snapshot::text h from realtime.horizon`
  ),
  (rows) => Cursor.parseSnapshot(rows[0]!.h)!
)

describe("Retention of the outbox", () => {
  it.live(
    "beside open writers every replay is complete or a reset, and no reset is younger than the retention",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const reader = yield* OutboxReader
        // All messages, which are never pruned from here.
        yield* sql`create table truth (tx text, id text)`
        yield* sql.unsafe(`create function remember() returns trigger language plpgsql as $$ begin
        insert into public.truth values (new.txid::text, new.id::text); return null; end $$`)
        yield* sql`create trigger remember after insert on realtime.messages for each row execute function remember()`
        const retention = 400
        yield* PgInstaller.install({ retention })
        const until = performance.now() + (long ? 30_000 : 4500)
        const writing = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, id) => random(seed + id)),
          (r) =>
            Effect.gen(function* () {
              const db = yield* session
              while (performance.now() < until) {
                yield* db.query("begin")
                for (let n = 1 + r.int(4); n > 0; n--) {
                  yield* db.query("select realtime.publish('room', '1'::text)")
                }
                yield* Effect.sleep(r.chance(0.1) ? 500 + r.int(700) : r.int(15))
                yield* db.query(r.chance(0.1) ? "rollback" : "commit")
                yield* Effect.sleep(r.int(20))
              }
            }).pipe(Effect.scoped),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkChild({ startImmediately: true }))

        const outcomes = { exact: 0, reset: 0, needless: 0, holes: 0, doubled: 0 }
        const resuming = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, id) => random(seed + 100 + id)),
          (r) =>
            Effect.gen(function* () {
              while (performance.now() < until) {
                const from = yield* reader.position
                const at = performance.now()
                yield* Effect.sleep(r.int(1000))
                const end = Cursor.parseDurable(yield* reader.position)!.position.base
                const items = yield* reader.batches("room", { from }).pipe(
                  Stream.tap(() => (r.chance(0.1) ? Effect.sleep(r.int(60)) : Effect.void)),
                  Stream.takeUntil(
                    (item) =>
                      item._tag === "Gap" ||
                      Cursor.contains(Cursor.parseDurable(item.cursor)!.position.base, end)
                  ),
                  Stream.runCollect
                )
                if (items.at(-1)?._tag === "Gap") {
                  outcomes.reset++
                  if (performance.now() - at < retention) outcomes.needless++
                  continue
                }
                const got = items.flatMap((item) => (item._tag === "Batch" ? item.events : []))
                const ids = new Set(got.map(({ id }) => id))
                const { position } = Cursor.parseDurable(from)!
                const truth = yield* sql<{
                  readonly id: string
                  readonly tx: string
                }>`select * from truth`
                const missing = truth.filter(
                  ({ id, tx }) =>
                    !Cursor.seen(position, BigInt(tx), BigInt(id)) &&
                    Cursor.visible(end, BigInt(tx)) &&
                    !ids.has(id)
                )
                if (missing.length > 0) outcomes.holes++
                else if (ids.size < got.length) outcomes.doubled++
                else outcomes.exact++
              }
            }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Fiber.join(writing)
        yield* Fiber.join(resuming)
        const [left] = yield* sql<{ readonly kept: number; readonly all: number }>`
        select (select count(*)::int from realtime.messages) kept, (select count(*)::int from truth) "all"`
        console.log(JSON.stringify({ seed, ...outcomes, ...left }))
        expect(outcomes, `REALTIME_TEST_SEED=${seed}`).toMatchObject({
          needless: 0,
          holes: 0,
          doubled: 0
        })
        expect(outcomes.exact).toBeGreaterThan(10)
        expect(outcomes.reset).toBeGreaterThan(3)
        expect(left!.kept).toBeLessThan(left!.all)
      }).pipe(
        Effect.scoped,
        Effect.provide(layerReader(undefined, { maxPageMessages: 7, maxPageBytes: 100 }))
      ),
    60_000
  )

  it.live(
    "a message of a late commit is kept for its full retention, and a cursor before it is reset",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const reader = yield* OutboxReader
        const db = yield* session
        const late = yield* session
        yield* sql`update realtime.settings set retention = '30 minutes'`
        const old = yield* reader.position
        yield* late.query("begin")
        yield* late.query("select realtime.publish('room', '0'::text)")
        yield* publish("room", 1)
        yield* upkeep(db)
        // After the mark, not before it: any transaction of the cluster in between would make it older than
        // the mark.
        const recent = yield* reader.position
        yield* hour
        yield* upkeep(db)
        // The last message below the horizon is kept: cursors stand on it.
        expect(yield* sql`select payload from realtime.messages`).toEqual([{ payload: "1" }])
        yield* late.query("commit")
        yield* reader.position
        // Its retention begins at its commit, however old its transaction is.
        yield* upkeep(db)
        expect(yield* sql`select payload from realtime.messages order by id`).toEqual([
          { payload: "0" },
          { payload: "1" }
        ])
        expect(yield* reader.join("room", old)).toMatchObject({
          state: "reset",
          reason: "retention"
        })
        expect(yield* reader.join("room", recent)).toMatchObject({
          state: "recovered",
          replay: [{ events: [{ text: "0" }] }]
        })
      }).pipe(Effect.scoped, Effect.provide(layerReader(undefined, { upkeep: false })))
  )

  it.live("upkeep forgets revocations that are over, and does not wait for one under way", () =>
    Effect.gen(function* () {
      const db = yield* session
      const other = yield* session
      const names = Effect.map(
        db.query("select name from realtime.revocations order by id"),
        ({ rows }) => rows.map(({ name }) => name)
      )
      yield* db.query(`insert into realtime.revocations (kind, name, expires) values
        ('identity', 'ann', now() - interval '1 second'), ('token', 'bob', now() + interval '1 hour')`)
      yield* other.query("begin")
      yield* other.query("lock table realtime.revocations in share row exclusive mode")
      yield* upkeep(db)
      expect(yield* names).toEqual(["ann", "bob"])
      yield* other.query("rollback")
      yield* upkeep(db)
      expect(yield* names).toEqual(["bob"])
      // Many of them go step by step, by upkeep and by revocations.
      yield* db.query(`insert into realtime.revocations (kind, name, expires)
        select 'token', n, now() - interval '1 second' from generate_series(1, 2500) n`)
      const left = Effect.map(names, ({ length }) => length)
      yield* upkeep(db)
      expect(yield* left).toBe(1501)
      yield* db.query("select realtime.revoke('token', 'eve', now() + interval '1 hour')")
      expect(yield* left).toBe(502)
    }).pipe(Effect.scoped, Effect.provide(layerReader(undefined, { upkeep: false })))
  )

  it.live("retention by count keeps the last 100 messages and prunes older ones", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* session
      yield* sql`update realtime.settings set max_messages = 100`
      for (let n = 0; n < 10; n++) {
        yield* sql`select realtime.publish('room', '1'::text) from generate_series(1, 50)`
        yield* upkeep(db)
      }
      const [left] = yield* sql<{
        readonly n: number
      }>`select count(*)::int n from realtime.messages`
      expect(left!.n).toBeGreaterThanOrEqual(100)
      expect(left!.n).toBeLessThanOrEqual(151)
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("a node that was stopped cannot move the horizon back", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* session
      yield* sql`update realtime.settings set retention = '30 minutes'`
      const stale = yield* upkeep(db)
      for (let n = 0; n < 3; n++) {
        yield* publish("room", n)
        yield* hour
        yield* upkeep(db)
      }
      const before = yield* horizon
      yield* db.query(upkeepStatement, stale)
      yield* hour
      yield* upkeep(db)
      expect(Cursor.contains(yield* horizon, before)).toBe(true)
      expect(
        yield* sql`select count(*)::int n from realtime.marks where snapshot::text = ${stale[0]!}`
      ).toEqual([{ n: 0 }])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("only one node prunes at a time, and writers do not wait for it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [one, two] = [yield* session, yield* session]
      yield* publish("room", 1)
      yield* publish("room", 2)
      yield* sql`update realtime.horizon set snapshot = pg_current_snapshot()`
      yield* one.query("begin")
      expect((yield* one.query("select realtime.prune() n")).rows).toEqual([{ n: 1 }])
      expect((yield* two.query("select realtime.prune() n")).rows).toEqual([{ n: 0 }])
      expect(
        (yield* two.query("select realtime.upkeep('1:1:', '3', 0, 10000, null) n")).rows
      ).toEqual([{ n: null }])
      yield* two.query("set lock_timeout = '100ms'")
      yield* two.query("select realtime.publish('room', '2'::text)")
      yield* one.query("commit")
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("followers of a reader stalled for longer than the retention get a gap", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      yield* reader.position
      yield* publish("room", 1)
      yield* sql`update realtime.horizon set snapshot = pg_current_snapshot()`
      const position = yield* Effect.forkChild(reader.position)
      const gap = yield* Queue.take(queue)
      expect(gap).toMatchObject({ _tag: "Gap", reason: "retention" })
      yield* Fiber.join(position)
      yield* publish("room", 2)
      const next = yield* Effect.forkChild(reader.position)
      expect(yield* Queue.take(queue)).toMatchObject({ events: [{ text: "2" }] })
      yield* Fiber.join(next)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerReader(
          { wake: "poll" },
          { idleInterval: "5 minutes", busyInterval: "5 minutes", upkeep: false }
        )
      )
    )
  )

  it.live("TRUNCATE of the outbox is rejected, because no reader would notice it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const error = yield* Effect.flip(sql`truncate realtime.messages`)
      expect(String(error.reason.cause)).toContain("cannot be truncated")
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live(
    "under steady load the table grows less than what is written, with the autovacuum of the installer",
    () =>
      Effect.gen(function* () {
        const postgres = yield* ownServer({ autovacuum_naptime: "1s" })
        yield* Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          yield* PgInstaller.install({ retention: "1 second", wake: "poll" })
          yield* OutboxReader
          const state = Effect.map(
            sql<{ readonly bytes: number; readonly drawn: number; readonly vacuums: number }>`
              select pg_total_relation_size('realtime.messages')::int bytes,
                (select last_value::int from realtime.messages_id_seq) drawn,
                (select autovacuum_count::int from pg_stat_all_tables where relid = 'realtime.messages'::regclass) vacuums`,
            (rows) => rows[0]!
          )
          const write = sql`select realtime.publish('room', to_jsonb(repeat('x', 200))) from generate_series(1, 1000)`
          for (let n = 0; n < 4; n++) yield* write
          const first = yield* state
          const sizes: Array<number> = []
          let now = first
          // Each time the autovacuum has work: 10,000 messages were pruned since.
          while (now.vacuums < (long ? 20 : 3)) {
            yield* write
            yield* Effect.sleep(50)
            now = yield* state
            sizes.push(now.bytes)
          }
          const worth = Math.max(...sizes) / (first.bytes / first.drawn)
          console.log(JSON.stringify({ ...now, worth: Math.round(worth) }))
          // The largest size is what pruning and vacuum leave, and not all that was written.
          expect(worth).toBeLessThan((long ? 0.2 : 0.75) * now.drawn)
        }).pipe(
          Effect.provide(
            Layer.provideMerge(
              layerReaderOnly(),
              PgClient.layer({ url: Redacted.make(postgres.url) })
            )
          )
        )
      }).pipe(Effect.scoped),
    90_000
  )
})
