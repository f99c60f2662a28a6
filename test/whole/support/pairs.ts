/**
 * A table of pairs of rows: each transaction changes both rows of a pair in the same way, so rows that are not
 * those of one position are seen by a half pair.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Schema, type Scope, Stream } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import type { Random } from "../../server/support/random.ts"

export const Part = Schema.Struct({
  id: Schema.Int,
  pair: Schema.Int,
  status: Schema.String,
  version: Schema.Int
})
export type Part = typeof Part.Type
export const Parts = Channel.table("parts", Part, { key: "id", filter: "status" })

/** A version is never used twice, also where a row is deleted and inserted again. */
export const createParts = `create table parts (id int primary key, pair int not null, status text not null, version serial)`

const pairs = 20
const statuses = ["new", "sent"]
const wheres = [undefined, { status: "new" }, { status: "sent" }] as const

/** Inserts, changes or deletes a pair, and may roll back. */
export const changePair = ({ chance, int, pick }: Random) => {
  const pair = int(pairs)
  const status = pick(statuses)
  const statement = chance(0.2)
    ? `delete from parts where pair = ${pair}`
    : `with drawn as materialized (select nextval('parts_version_seq') v)
       insert into parts select ${pair} * 2 + n, ${pair}, '${status}', v from generate_series(0, 1) n, drawn
       on conflict (id) do update set status = excluded.status, version = excluded.version`
  return PgClient.PgClient.use((sql) =>
    sql.withTransaction(
      // The lock keeps the order in which a pair's rows are changed.
      sql`select pg_advisory_xact_lock(${pair})`.pipe(
        Effect.andThen(sql.unsafe(statement)),
        Effect.andThen(chance(0.1) ? Effect.fail("undone") : Effect.void)
      )
    )
  )
}

/** The pairs of which one half is missing, or other than the other one. */
const halves = (rows: ReadonlyArray<Part>) => {
  const found = new Map<number, Array<Part>>()
  for (const row of rows) found.set(row.pair, [...(found.get(row.pair) ?? []), row])
  return [...found.values()].filter(
    ([one, other]) => one?.version !== other?.version || one?.status !== other?.status
  )
}

const text = (rows: ReadonlyArray<Part>) =>
  rows
    .map(({ id, pair, status, version }) => [id, pair, status, version].join(" "))
    .toSorted()
    .join("\n")

/** The rows of clients, one filter after the other. */
export class Collections {
  /** Rows that were live and are not those of one position or of the filter, or older than before. */
  readonly wrong: Array<unknown> = []
  /** Live collections that were looked at. */
  compared = 0
  /** Collections that were stale. */
  stale = 0
  readonly #all: Array<{
    readonly where: (typeof wheres)[number]
    /** The newest version of each row so far. */
    readonly newest: Map<number, number>
    rows: ReadonlyArray<Part>
    status: string
  }> = []

  /** Whether all are live. */
  get areLive(): boolean {
    return this.#all.every(({ status }) => status === "live")
  }

  /** Whether all are live and those of the table. */
  equal(table: ReadonlyArray<Part>): boolean {
    return this.#all.every(
      ({ rows, status, where }) =>
        status === "live" &&
        text(rows) ===
          text(table.filter((row) => where === undefined || row.status === where.status))
    )
  }

  /** Makes a client and follows its rows until the scope closes. */
  add(url: string | ReadonlyArray<string>) {
    return Effect.gen({ self: this }, function* () {
      const context = yield* Layer.build(
        RealtimeClient.layer({ url, backoff: { initial: 20, cap: 300, resetAfter: 1000 } })
      )
      const client = yield* Effect.provideContext(RealtimeClient.RealtimeClient, context)
      yield* this.follow(client)
      return client
    })
  }

  /** Follows the rows of a client until the scope closes. */
  follow(
    client: RealtimeClient.RealtimeClient["Service"]
  ): Effect.Effect<void, never, Scope.Scope> {
    const where = wheres[this.#all.length % wheres.length]
    const newest = new Map<number, number>()
    const collection = { where, newest, rows: [] as ReadonlyArray<Part>, status: "loading" }
    this.#all.push(collection)
    return client.rows(Parts, where === undefined ? {} : { where }).pipe(
      Stream.runForEach(({ rows, status }) =>
        Effect.sync(() => {
          Object.assign(collection, { rows, status })
          if (status === "stale") this.stale++
          if (status !== "live") return
          this.compared++
          this.wrong.push(...halves(rows).map(text))
          for (const row of rows) {
            if (where !== undefined && row.status !== where.status) this.wrong.push(row)
            const before = newest.get(row.id) ?? 0
            if (row.version < before) this.wrong.push({ ...row, before })
            newest.set(row.id, row.version)
          }
        })
      ),
      Effect.forkScoped,
      Effect.asVoid
    )
  }
}
