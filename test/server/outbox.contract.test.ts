/** The outbox of PostgreSQL and the outbox in memory fulfil the same contract. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql/SqlClient"
import * as Cursor from "../../src/internal/cursorText.ts"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { type Outside, suite } from "./OutboxReaderSuite.ts"
import { rowsSuite } from "./OutboxRowsSuite.ts"
import { layerReader, layerReaderOnly, session, takeOn } from "./support/durable.ts"
import { createThings, sqlOf, type ThingChange, Things } from "./support/things.ts"
import { until, waitFor } from "../support/until.ts"

const changeOf = (rows: MemoryOutbox.RowWriter) => (change: ThingChange) => {
  if ("insert" in change) return Effect.asVoid(rows.insert(Things, change.insert))
  if ("truncate" in change) return rows.truncate(Things)
  return "delete" in change
    ? Effect.asVoid(rows.delete(Things, { id: change.delete }))
    : Effect.asVoid(rows.update(Things, { id: change.update }, change.to))
}

const inMemory: Effect.Effect<Outside, never, MemoryOutbox.MemoryOutbox> = Effect.map(
  MemoryOutbox.MemoryOutbox,
  ({ commit, crash, lose, prune, reader, restore, rows, transaction }) => ({
    commit: (messages) => commit(...messages.map(([channel, text]) => ({ channel, text }))),
    tellGap: commit({ channel: "room", text: gapTexts.source }),
    cut: lose,
    hold: Effect.void,
    heal: restore,
    forget: prune,
    takeBack: Effect.andThen(crash({ losing: 1 }), restore),
    things: Effect.succeed((...changes) =>
      transaction(Effect.forEach(changes, changeOf(rows), { discard: true }))
    ),
    other: reader
  })
)

const inPostgres = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const context = yield* Effect.context<PgClient.PgClient>()
  const db = yield* session
  // Readers of other tests have databases of their own.
  const cut = Effect.orDie(sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'effect-realtime reader'`)
  /** The upkeep that a reader does now and then. */
  const upkeep = Effect.gen(function* () {
    const { drawn, era, next, normal } = yield* takeOn(db)
    yield* db.query("select realtime.upkeep($1::pg_snapshot, $2::xid8, $3::bigint, 0, $4)", [
      Cursor.formatSnapshot(normal),
      String(next),
      String(drawn),
      era
    ])
  })
  const hands: Outside = {
    // One statement is one transaction.
    commit: (messages) => {
      const channels = messages.map(([channel]) => channel)
      const texts = messages.map(([, text]) => text)
      return Effect.asVoid(sql`select realtime.publish(channel, text)
          from unnest(${channels}::text[], ${texts}::text[]) m(channel, text)`)
    },
    tellGap: Effect.asVoid(sql`select realtime.tell_gap('room')`),
    cut: Effect.asVoid(cut),
    hold: Effect.orDie(sql`alter function realtime.open(int) rename to held`),
    heal: Effect.orDie(sql`do $$ begin
        if to_regprocedure('realtime.held(int)') is not null then
          alter function realtime.held(int) rename to open;
        end if;
      end $$`),
    forget: Effect.gen(function* () {
      yield* upkeep
      yield* sql`update realtime.marks set at = at - interval '2 days'`
      yield* upkeep
      yield* sql`select realtime.prune(10000)`
    }).pipe(Effect.orDie),
    takeBack: Effect.gen(function* () {
      yield* sql`delete from realtime.messages where id = (select max(id) from realtime.messages)`
      yield* cut
    }).pipe(Effect.orDie),
    things: Effect.gen(function* () {
      yield* db.query(createThings)
      yield* PgInstaller.watch(Things)
      return (...changes: ReadonlyArray<ThingChange>) =>
        Effect.gen(function* () {
          for (const text of ["begin", ...changes.map(sqlOf), "commit"]) yield* db.query(text)
        })
    }).pipe(Effect.provideService(SqlClient, sql)),
    other: Effect.map(
      Effect.provideContext(Layer.build(Layer.fresh(layerReaderOnly())), context),
      (built) => Context.get(built, OutboxReader)
    )
  }
  return hands
}).pipe(Effect.orDie)

suite("in memory", MemoryOutbox.layer(), inMemory)
rowsSuite("in memory", MemoryOutbox.layer(), inMemory)
// The test itself writes marks and prunes.
suite("PostgreSQL", layerReader(undefined, { upkeep: false }), inPostgres)
rowsSuite("PostgreSQL", layerReader(), inPostgres)

/** Bounds of what a reader remembers, each too small for two events or the time between them. */
const small = [
  { maxMemoryEvents: 1 },
  { maxMemoryAge: 1 },
  // A batch takes more, whatever is in it.
  { maxMemoryBytes: 256 }
] as const

describe("a reader that remembers less", () => {
  /** Whether a session that was away for two events needs the database, where they are pruned. */
  const resumes = <E, R>(outside: Effect.Effect<Outside, E, R>) =>
    Effect.gen(function* () {
      const hands = yield* outside
      const reader = yield* OutboxReader
      yield* waitFor(reader, "up")
      const queue = yield* reader.follow("room")
      const send = (text: string) =>
        Effect.gen(function* () {
          yield* hands.commit([["room", text]])
          let item = yield* Queue.take(queue)
          while (item._tag !== "Batch") item = yield* Queue.take(queue)
          return item.cursor
        })
      const cursor = yield* send("0")
      yield* send("1")
      yield* send("2")
      yield* hands.forget
      const sent = Date.now()
      yield* until(() => Date.now() > sent + 1)
      return (yield* reader.join("room", cursor)).state
    }).pipe(Effect.scoped)

  it.live.each([[{}, "recovered"] as const, ...small.map((bound) => [bound, "reset"] as const)])(
    "in memory: %j",
    ([options, state]) =>
      Effect.gen(function* () {
        expect(yield* resumes(inMemory)).toBe(state)
      }).pipe(Effect.provide(MemoryOutbox.layer(options)))
  )

  it.live.each([[{}, "recovered"] as const, ...small.map((bound) => [bound, "reset"] as const)])(
    "PostgreSQL: %j",
    ([options, state]) =>
      Effect.gen(function* () {
        expect(yield* resumes(inPostgres)).toBe(state)
      }).pipe(Effect.provide(layerReader(undefined, { ...options, upkeep: false })))
  )
})
