/**
 * Writers that do everything a transaction can do, on watched tables and with messages of their
 * own, and that note what a reader may rely on.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect, Ref, type Scope } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Random } from "./random.ts"

export const channel = "everything"
const rows = 40
const tables = ["accounts", "orders", "parts"]
/** Every watched table. */
export const watched = [...tables, "notes"]

/** Ids differ between the tables, so that an id names a row. */
const first = (table: number) => table * 1000

export const schema = [
  ...tables.flatMap((name, index) => [
    `create table ${name} (id int primary key, version int not null)`,
    `insert into ${name} select ${first(index)} + id, 0 from generate_series(0, ${rows - 1}) id`
  ]),
  "create table notes (id bigint generated always as identity primary key, note json not null)",
  "create table elsewhere (id bigint generated always as identity, n int)"
]

/** The note of a transaction, published once or twice. */
export interface Note {
  readonly writer: number
  /** Counts the committed transactions of a writer. */
  readonly n: number
  /** A note of a transaction that was over before this one began. */
  readonly after: string | undefined
  readonly name: string
  /** Committed later by another session: its place among the writer's other notes is open. */
  readonly prepared: boolean
}

export interface Tally {
  commits: number
  prepared: number
  rollbacks: number
  savepoints: number
  conflicts: number
}

/** One writer until it is over. */
export const writer = (options: {
  readonly connect: Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>
  readonly id: number
  readonly random: Random
  readonly over: () => boolean
  readonly tally: Tally
  /** The newest note that is certainly committed. */
  readonly newest: Ref.Ref<string | undefined>
}) =>
  Effect.gen(function* () {
    const { id, newest, over, random: r, tally } = options
    const db = yield* options.connect
    const other = yield* options.connect
    const nap = (most: number) => Effect.sleep(r.int(most))
    yield* db.query("set deadlock_timeout = '20ms'")
    let n = 0
    let gid = 0
    while (!over()) {
      const after = yield* Ref.get(newest)
      const name = `${id}.${n}.${gid}`
      const prepared = r.chance(0.06)
      const run = Effect.gen(function* () {
        yield* db.query(r.chance(0.2) ? "begin isolation level serializable" : "begin", [], false)
        if (r.chance(0.5)) {
          // The transaction gets its number now, and changes rows late.
          yield* db.query("insert into elsewhere (n) values (1)")
          yield* nap(r.chance(0.2) ? 100 : 10)
        }
        const note: Note = { writer: id, n, after, name, prepared }
        const say = db.query("insert into notes (note) values ($1)", [JSON.stringify(note)])
        const change = Effect.suspend(() => {
          const table = r.int(tables.length)
          const id = first(table) + (r.chance(0.25) ? r.int(3) : r.int(rows))
          return db.query(
            `update ${tables[table]!} set version = version + 1 where id between $1::int and $2::int`,
            [id, r.chance(0.2) ? id + 2 : id]
          )
        })
        yield* say
        for (let k = r.int(4); k > 0; k--) {
          if (r.chance(0.25)) {
            yield* db.query("savepoint s")
            yield* change
            if (r.chance(0.6)) {
              yield* db.query("rollback to savepoint s")
              tally.savepoints++
            }
          } else yield* change
          yield* nap(6)
        }
        if (r.chance(0.3)) yield* say
        if (r.chance(0.1)) {
          yield* db.query("rollback", [], false)
          tally.rollbacks++
        } else if (prepared) {
          const transaction = `p${id}_${gid++}`
          yield* db.query(`prepare transaction '${transaction}'`, [], false)
          yield* Effect.gen(function* () {
            yield* nap(30)
            yield* other.query(`commit prepared '${transaction}'`, [], false)
            yield* Ref.set(newest, name)
          })
          tally.prepared++
          n++
        } else {
          yield* db.query("commit", [], false)
          yield* Ref.set(newest, name)
          tally.commits++
          n++
        }
      })
      yield* run.pipe(
        Effect.catch(() => {
          // A deadlock or a serialization failure.
          tally.conflicts++
          return db.query("rollback", [], false).pipe(Effect.ignore)
        })
      )
      gid++
    }
  }).pipe(Effect.scoped)
