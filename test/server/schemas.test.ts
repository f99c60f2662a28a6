/**
 * Tables made by others, changed in every way by sessions with every setting: the events of a table
 * equal its rows, as PostgreSQL compares them.
 */
import type { PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { sqlMessage, sqlState } from "../../src/server/internal/link/sqlState.ts"
import { chinook } from "../schemas/chinook.ts"
import { complaints, enact, type ForeignSchema, type Watched } from "../schemas/law.ts"
import { northwind } from "../schemas/northwind.ts"
import { pagila } from "../schemas/pagila.ts"
import { cascades, changes, copies, foreignKeys, type Step } from "../schemas/steps.ts"
import { type Table, tablesOf } from "../schemas/tables.ts"
import { TestDatabase } from "../support/database.ts"
import { layerInstalled } from "./support/durable.ts"
import { hostility, plain } from "./support/hostile.ts"

/** Watches each table at both levels; some live as well, and only those with the old row. */
const watchesOf = (tables: ReadonlyArray<Table>): ReadonlyArray<Watched> =>
  tables.flatMap((table, index) =>
    (["durable", "live"] as const).flatMap((delivery) =>
      (["row", "statement"] as const)
        .filter(() => delivery === "durable" || index % 3 === 2)
        .filter((level) => level === "row" || !table.partitioned)
        .map((level) => ({
          table,
          level,
          delivery,
          channel: `${delivery}_${level}_${table.bare}`,
          old: delivery === "live"
        }))
    )
  )

/** The codes of a foreign key that is violated. */
const forbidden = new Set<string | undefined>(["23503", "23001"])

/** Runs a step, and returns the error of the statement that failed. */
const run = (session: PgConnection.PgConnection, { statements }: Step) =>
  Effect.forEach(statements, (statement) => session.query(statement, [], false), {
    discard: true
  }).pipe(
    Effect.as(undefined),
    Effect.catch((error) => Effect.as(session.query("rollback", [], false), error))
  )

const watchAll = (watches: ReadonlyArray<Watched>) =>
  Effect.forEach(
    watches,
    ({ channel, delivery, level, old, table }) =>
      PgInstaller.watch({ channel, table: table.bare, delivery, level, old }),
    { discard: true }
  )

/** Listens to the live channels, and stores what it receives beside the other events. */
const listen = (ear: PgConnection.PgConnection, watches: ReadonlyArray<Watched>) =>
  Effect.gen(function* () {
    const pinned = yield* ear.pin
    const channels = watches.flatMap(({ channel, delivery }) =>
      delivery === "live" ? [channel] : []
    )
    const queues = yield* Effect.forEach(channels, (channel) => pinned.listen(channel))
    const mark = yield* pinned.listen("mark")
    return (scribe: PgConnection.PgConnection) =>
      Effect.gen(function* () {
        // PostgreSQL delivers in the order of commits.
        yield* scribe.query(`select pg_notify('mark', '')`)
        yield* Queue.take(mark)
        const heard = (yield* Effect.forEach(queues, Queue.clear)).flat()
        if (heard.length === 0) return
        yield* scribe.query(
          `insert into law.heard (channel, payload) select * from unnest($1::text[], $2::text[])`,
          [heard.map(({ channel }) => channel), heard.map(({ payload }) => payload)]
        )
      })
  })

const prove = (schema: ForeignSchema) =>
  Effect.gen(function* () {
    const db = yield* plain
    const hostile = yield* hostility
    const sessions = yield* hostile.sessions
    for (const statement of schema.ddl) yield* db.query(statement, [], false)
    yield* db.query(`grant all on all tables in schema public to ${hostile.visitor}`)
    yield* db.query(`grant all on all sequences in schema public to ${hostile.visitor}`)
    const tables = yield* tablesOf(db)
    const watches = watchesOf(tables)
    yield* watchAll(watches)
    yield* enact(db, watches)
    const note = yield* listen(yield* plain, watches)
    const faults: Array<string> = []
    let turn = 0
    let refused = 0
    const look = (strict: boolean, after: string, table?: Table) =>
      Effect.gen(function* () {
        yield* note(db)
        for (const complaint of yield* complaints(db, strict, table)) {
          faults.push(`${complaint}\n  after ${after}`)
        }
      })
    const step = (step: Step, who = sessions[turn++ % sessions.length]!) =>
      Effect.gen(function* () {
        const error = yield* run(who, step)
        // A change that a foreign key forbids has not happened.
        if (error !== undefined && step.refusable && forbidden.has(sqlState(error))) {
          refused++
        } else if (error !== undefined) {
          faults.push(`${sqlMessage(error)}\n  in ${step.statements.join("; ")}`)
        }
        return step.statements.join("; ")
      })
    const alter = (how: Parameters<typeof foreignKeys>[0]) =>
      Effect.flatMap(db.query(foreignKeys(how)), ({ rows }) =>
        Effect.forEach(rows, (row) => step({ statements: [String(row["statement"])] }, db))
      )

    for (const statement of schema.rows) yield* look(true, yield* step({ statements: [statement] }))
    const [version] = (yield* db.query(
      `select current_setting('server_version_num')::int >= 150000 as merge`
    )).rows
    for (const table of tables) {
      for (const change of changes(table, version!["merge"] === true)) {
        yield* look(true, yield* step(change), table)
      }
      yield* look(true, `the changes of ${table.name}`)
    }
    expect(refused).toBeGreaterThan(0)

    // Copies all tables out, empties them, and copies them in again.
    const { name } = yield* TestDatabase
    const copied = copies(tables, `/tmp/realtime_${name}`)
    yield* alter("deferrable")
    yield* step(copied.out, sessions[0])
    for (const empty of copied.empty) yield* look(true, yield* step(empty))
    yield* look(true, yield* step(copied.back, sessions[0]))

    // The same foreign keys with cascade, which deletes the referring rows too.
    yield* alter("cascade")
    for (const cascade of cascades(tables)) yield* look(false, yield* step(cascade))
    expect(faults).toEqual([])

    // Every channel had events, and every table was changed to the end.
    const quiet = yield* db.query(`select channel from law.channels where events < 8`)
    expect(quiet.rows).toEqual([])
    for (const { name } of tables) {
      expect((yield* db.query(`select from ${name}`)).rows, name).toEqual([])
    }
  }).pipe(Effect.scoped, Effect.provide(layerInstalled()))

describe("Watched tables of known schemas", () => {
  for (const schema of [chinook, northwind, pagila]) {
    it.live(`events equal the tables' changes: ${schema.name}`, () => prove(schema), 120_000)
  }
})
