/**
 * The rows of a table as a Stream, on real PostgreSQL: while many sessions write, and the sessions of the node
 * are ended, the collection is the table at its cursor.
 */
import type { PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Logger, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Cursor from "../../src/Cursor.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { until } from "../support/until.ts"
import { layerInstalled, layerReaderOnly, session } from "./support/durable.ts"
import { long, type Random, random, seed } from "./support/random.ts"

const Item = Schema.Struct({
  id: Schema.Int,
  team: Schema.String,
  status: Schema.NullOr(Schema.String),
  n: Schema.Int
})
type Item = typeof Item.Type
const Items = Channel.table("items", Item, { key: "id", by: "team", filter: "status" })

const teams = ["a", "b"]
const statuses = ["'new'", "'sent'", "null"]
const ids = 20

const statement = ({ int, pick }: Random): string =>
  pick([
    () =>
      `insert into items values (${int(ids)}, '${pick(teams)}', ${pick(statuses)}, 0) on conflict (id) do update set n = items.n + 1`,
    () => `update items set status = ${pick(statuses)} where id = ${int(ids)}`,
    () => `update items set team = '${pick(teams)}', n = n + 1 where id % 4 = ${int(4)}`,
    () => `update items set id = ${int(ids)} where id = ${int(ids)}`,
    () => `delete from items where id = ${int(ids)}`
  ])()

const transact = (db: PgConnection.PgConnection, dice: Random) =>
  Effect.gen(function* () {
    yield* db.query("begin")
    for (let left = 1 + dice.int(4); left > 0; left--) {
      yield* db.query("savepoint one")
      const failed = yield* Effect.isFailure(db.query(statement(dice)))
      if (failed || dice.chance(0.2)) yield* db.query("rollback to savepoint one")
      if (dice.chance(0.1)) yield* Effect.sleep(dice.int(20))
    }
    yield* db.query(dice.chance(0.15) ? "rollback" : "commit")
  }).pipe(Effect.catch(() => Effect.ignore(db.query("rollback"))))

interface Message {
  readonly id: string
  readonly tx: string
  readonly channel: string
  readonly payload: string
}

/** The rows of a team that the messages leave, in the order of the key. */
const fold = (
  messages: ReadonlyArray<Message>,
  team: string,
  inside: (item: Item) => boolean
): ReadonlyArray<Item> => {
  const rows = new Map<number, Item>()
  for (const { channel, payload } of messages) {
    const { data, key, operation } = JSON.parse(payload) as {
      readonly operation: string
      readonly data: Item
      readonly key: { readonly id: number }
    }
    if (operation === "TRUNCATE") rows.clear()
    else if (channel !== `${Items.table.channel}:${team}`) continue
    else if (operation === "DELETE") rows.delete(key.id)
    else rows.set(key.id, data)
  }
  return [...rows.values()].filter(inside).toSorted((one, other) => one.id - other.id)
}

const layer = Realtime.layerDurable().pipe(
  Layer.provideMerge(layerReaderOnly()),
  Layer.provideMerge(layerInstalled())
)

describe("The rows of a table", () => {
  it.live(
    "are those of the table at their cursor, while sixteen sessions write and sessions of the node end",
    () =>
      Effect.gen(function* () {
        const db = yield* session
        yield* db.query(
          "create table items (id int primary key, team text not null, status text, n int not null)"
        )
        yield* PgInstaller.watch({ channel: Items })
        const wheres: ReadonlyArray<Channel.Where<typeof Items> | undefined> = [
          undefined,
          { status: "new" },
          { status: null }
        ]
        const views = teams.flatMap((team) =>
          wheres.map((where) => ({ team, where, told: [] as Array<Realtime.Rows<Item>> }))
        )
        const follow = ({ team, told, where }: (typeof views)[number]) =>
          Realtime.rows(Items(team), { where }).pipe(
            Stream.runForEach((rows) => Effect.sync(() => told.push(rows))),
            Effect.forkScoped
          )
        yield* Effect.forEach(views.slice(0, 3), follow)
        const writing = { over: false }
        const writers = yield* Effect.all(Array.from({ length: 16 }, () => session))
        const faults = Effect.gen(function* () {
          const dice = random(seed)
          const killer = yield* session
          for (let round = 0; !writing.over; round++) {
            yield* Effect.sleep(100 + dice.int(200))
            // Streams that begin later read a state between writes.
            if (round === 1) yield* Effect.forEach(views.slice(3), follow)
            if (round === 2) yield* killer.query("truncate items")
            if (round % 2 === 0) {
              yield* killer.query(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'effect-realtime%'"
              )
            }
          }
        })
        const running = yield* Effect.forkScoped(faults, { startImmediately: true })
        yield* Effect.forEach(
          writers,
          (writer, index) =>
            Effect.gen(function* () {
              yield* writer.query("set deadlock_timeout = '5ms'")
              const dice = random(seed + index)
              for (let n = 0; n < (long ? 300 : 12) || views[5]!.told.length === 0; n++) {
                yield* transact(writer, dice)
              }
            }),
          { concurrency: "unbounded", discard: true }
        )
        writing.over = true
        yield* Fiber.join(running)
        const messages = (yield* db.query(
          "select id::text, txid::text as tx, channel, payload from realtime.messages m order by m.id"
        )).rows as unknown as ReadonlyArray<Message>
        const failed = `REALTIME_TEST_SEED=${seed}`
        for (const { team, told, where } of views) {
          const inside = ({ status }: Item) => where === undefined || where.status === status
          const sorted = (rows: ReadonlyArray<Item>) => rows.toSorted((a, b) => a.id - b.id)
          const { rows } = yield* db.query("select * from items where team = $1 order by id", [
            team
          ])
          const end = JSON.stringify((rows as unknown as ReadonlyArray<Item>).filter(inside))
          yield* until(() => {
            const { rows, status } = told.at(-1)!
            return status === "live" && JSON.stringify(sorted(rows)) === end
          }).pipe(
            Effect.timeoutOrElse({
              duration: Duration.seconds(20),
              orElse: () => Effect.sync(() => expect([failed, told.at(-1)]).toEqual([failed, end]))
            })
          )
          const read = told.filter(({ cursor }) => cursor !== undefined)
          expect(read.length, failed).toBeGreaterThan(2)
          for (const { cursor, rows } of read) {
            const seen = messages.filter(Cursor.includes(cursor!))
            expect([failed, sorted(rows)]).toEqual([failed, fold(seen, team, inside)])
          }
        }
      }).pipe(Effect.scoped, Effect.provide(layer), Effect.provide(Logger.layer([]))),
    long ? 600_000 : 60_000
  )
})
