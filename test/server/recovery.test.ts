/**
 * Positions after a crash: commits that were lost and had been delivered, the cost of a look, and
 * wrong marks.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Redacted } from "effect"
import * as Path from "node:path"
import * as Cursor from "../../src/internal/cursorText.ts"
import { lookQueries } from "../../src/server/internal/outbox/look.ts"
import * as Outbox from "../../src/server/internal/outbox/outbox.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { execute } from "../support/database.ts"
import {
  layerInstalled,
  layerReader,
  layerReaderOnly,
  publish,
  session,
  takeOn
} from "./support/durable.ts"
import { long } from "./support/random.ts"
import { Address, folder, installedOn, nodeAt } from "./support/recovery.ts"

describe("A commit that is not on disk", () => {
  /** A visible commit of a transaction older than one on disk, which is not flushed yet. */
  const unflushed = (url: string) =>
    Effect.gen(function* () {
      const [early, late] = [
        yield* PgConnection.make({ url: Redacted.make(url) }),
        yield* PgConnection.make({ url: Redacted.make(url) })
      ]
      yield* early.query("set synchronous_commit = off")
      yield* early.query("begin")
      yield* early.query("select realtime.publish('room', '1'::text)")
      yield* late.query("select realtime.publish('hall', '2'::text)")
      return Effect.asVoid(early.query("commit"))
    })

  const slow = { wal_writer_delay: "10s" }

  it.live("a delivered event lost in a crash is a gap for its channel, and for no other", () =>
    Effect.gen(function* () {
      const postgres = yield* installedOn(Path.join(yield* folder, "data"), slow)
      const node = yield* nodeAt(new Address(postgres.socketDirectory), { upkeep: false })
      const room = yield* node.reader.follow("room")
      const hall = yield* node.reader.follow("hall")
      const commit = yield* unflushed(postgres.url)
      expect(yield* Queue.take(hall)).toMatchObject({ events: [{ text: "2" }] })
      yield* commit
      const told = yield* Queue.take(room)
      expect(told).toMatchObject({ events: [{ text: "1" }] })
      yield* postgres.crash
      const gap = yield* Queue.take(room)
      expect(gap).toMatchObject({ _tag: "Gap", reason: "source" })
      expect(gap.tick).toBeGreaterThan(told.tick)
      expect(
        yield* execute(postgres.url, "select channel from realtime.messages order by id")
      ).toEqual([{ channel: "hall" }])
      // The transaction number is not reused, so both cursors are valid: the one had its gap, the other
      // misses nothing.
      yield* execute(postgres.url, "select realtime.publish('room', '3'::text)")
      expect(yield* Queue.take(room)).toMatchObject({ events: [{ text: "3" }] })
      for (const cursor of [told.cursor, gap.cursor]) {
        expect(yield* node.reader.join("room", cursor)).toMatchObject({
          state: "recovered",
          replay: [{ events: [{ text: "3" }] }]
        })
      }
      yield* execute(postgres.url, "select realtime.publish('hall', '4'::text)")
      expect(yield* Queue.take(hall)).toMatchObject({ events: [{ text: "4" }] })
    }).pipe(Effect.scoped)
  )

  it.live("a reader with the option flushed delivers a commit only once it is on disk", () =>
    Effect.gen(function* () {
      const postgres = yield* installedOn(Path.join(yield* folder, "data"), slow)
      const options = { upkeep: false, flushed: true }
      const node = yield* nodeAt(new Address(postgres.socketDirectory), options)
      const room = yield* node.reader.follow("room")
      yield* yield* unflushed(postgres.url)
      const { cursor } = yield* Queue.take(room)
      yield* postgres.crash
      expect(
        yield* execute(postgres.url, "select channel from realtime.messages order by id")
      ).toEqual([{ channel: "room" }, { channel: "hall" }])
      yield* execute(postgres.url, "select realtime.publish('room', '3'::text)")
      expect(yield* Queue.take(room)).toMatchObject({ events: [{ text: "3" }] })
      expect(yield* node.reader.join("room", cursor)).toMatchObject({
        replay: [{ events: [{ text: "3" }] }]
      })
    }).pipe(Effect.scoped)
  )
})

describe("A quiet outbox", () => {
  it.live(
    "a cursor resumes after 100,000 other transactions and five prunings with a retention of 30 minutes",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const reader = yield* OutboxReader
        const db = yield* session
        yield* sql`update realtime.settings set retention = '30 minutes'`
        for (let n = 0; n < 5; n++) yield* publish("room", n)
        const cursor = yield* reader.position
        const before = yield* reader.join("room", undefined)
        for (let hour = 0; hour < 5; hour++) {
          yield* db.query(
            "do $$ begin for n in 1..20000 loop perform pg_current_xact_id(); commit; end loop; end $$"
          )
          const { drawn, era, next, normal } = yield* takeOn(db)
          yield* db.query("select realtime.upkeep($1::pg_snapshot, $2::xid8, $3::bigint, 0, $4)", [
            Cursor.formatSnapshot(normal),
            String(next),
            String(drawn),
            era
          ])
          yield* sql`update realtime.marks set at = at - interval '1 hour'`
          while (((yield* db.query("select realtime.prune() n")).rows[0]!["n"] as number) > 0);
        }
        // All but the last message was pruned, and marks do not pile up.
        expect(yield* sql`select payload from realtime.messages`).toEqual([{ payload: "4" }])
        expect(yield* sql`select count(*)::int n from realtime.marks`).toEqual([{ n: 2 }])
        yield* publish("room", "next")
        yield* reader.position
        for (const from of [cursor, before.cursor]) {
          expect(yield* reader.join("room", from)).toMatchObject({
            state: "recovered",
            replay: [{ events: [{ text: '"next"' }] }]
          })
        }
      }).pipe(Effect.scoped, Effect.provide(layerReader(undefined, { upkeep: false })))
  )
})

describe("The cost of a look", () => {
  it.live(
    "a look beside 100,000 rows of an open transaction reads at most three times as many pages",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const db = yield* session
        const open = yield* session
        const rows = long ? 1_000_000 : 100_000
        const floors = new Outbox.Floors()
        /** The pages of PostgreSQL that a statement reads. */
        const pages = (statement: string, args: ReadonlyArray<unknown>) =>
          Effect.map(
            db.query(`explain (analyze, buffers, format json) ${statement}`, args),
            ({ rows: [row] }) => {
              const plan = row!["QUERY PLAN"] as string | ReadonlyArray<unknown>
              const [{ Plan }] = (typeof plan === "string" ? JSON.parse(plan) : plan) as [
                { readonly Plan: Readonly<Record<string, number>> }
              ]
              return Plan["Shared Hit Blocks"]! + Plan["Shared Read Blocks"]!
            }
          )
        let before = yield* takeOn(db)
        /** A look that finds nothing, and one that finds ten new messages. */
        const look = Effect.gen(function* () {
          const limits = { messages: 1000, bytes: 1e6 }
          const { args, statement } = lookQueries(limits)(before, floors.of(before.snapshot), "all")
          const idle = yield* pages(statement, args)
          for (let n = 0; n < 10; n++) yield* publish("room", n)
          const found = yield* pages(statement, args)
          const taken = yield* takeOn(db, before)
          floors.add(taken.next, taken.drawn)
          const leg = { at: before, to: taken, id: 0n, last: taken.last }
          const paging = yield* pages(
            Outbox.readerPages(limits).all,
            Outbox.pageArguments(leg, floors.of(before.snapshot), limits, undefined)
          )
          before = taken
          return { idle, found, paging }
        })
        for (let n = 0; n < 3; n++) yield* look
        const alone = yield* look
        yield* open.query("begin")
        yield* open.query(
          `insert into realtime.messages (channel, payload) select 'hall', '1' from generate_series(1, ${rows})`
        )
        // No transaction has ended since, so no snapshot names the open one.
        const first = yield* look
        // That look passed over the ids drawn meanwhile.
        const beside = yield* look
        expect(Math.max(first.idle, beside.idle)).toBeLessThanOrEqual(3 * alone.idle)
        expect(beside.found).toBeLessThanOrEqual(3 * alone.found)
        expect(beside.paging).toBeLessThanOrEqual(3 * alone.paging)
        // A snapshot and a node that starts read without knowledge of earlier looks.
        const start = yield* pages(Outbox.lastStatement, Outbox.lastArguments(before, undefined))
        const state = yield* pages(Outbox.stateStatement("1 one"), [])
        expect(Math.max(start, state)).toBeLessThanOrEqual(3 * alone.idle)
        yield* open.query("rollback")
        yield* sql`select 1`
      }).pipe(Effect.scoped, Effect.provide(layerInstalled({ wake: "poll" }))),
    long ? 300_000 : 30_000
  )
})

describe("A reader in an unexpected database", () => {
  it.live("a reader delivers new messages although a mark has an id far ahead of them", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* publish("room", 0)
      yield* sql`insert into realtime.marks (snapshot, next, drawn) values ('1:1:', '1', 1000000)`
      yield* Effect.gen(function* () {
        const reader = yield* OutboxReader
        const start = yield* reader.position
        const queue = yield* reader.follow("room")
        yield* publish("room", 1)
        expect(yield* Queue.take(queue)).toMatchObject({ events: [{ text: "1" }] })
        expect(yield* reader.join("room", start)).toMatchObject({
          replay: [{ events: [{ text: "1" }] }]
        })
      }).pipe(Effect.scoped, Effect.provide(layerReaderOnly()))
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a reader that finds another message at its position sends a gap and goes on", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      yield* publish("room", 1)
      const { cursor } = yield* Queue.take(queue)
      // The same transaction and id, written at another time: another message.
      yield* sql`update realtime.messages set created_at = created_at + interval '1 microsecond'`
      const waiting = yield* Effect.forkChild(Queue.take(queue))
      yield* sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'effect-realtime reader'`
      expect(yield* Fiber.join(waiting)).toMatchObject({ _tag: "Gap", reason: "source" })
      expect(yield* reader.join("room", cursor)).toMatchObject({ reason: "witness" })
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )
})
