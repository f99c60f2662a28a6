/**
 * Rows in memory: the same changes through the trigger of PostgreSQL and through that in memory leave the
 * same messages, with the same channel, payload and match, byte by byte.
 */
import type { PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, identity, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Exact from "../../src/Exact.ts"
import * as PgType from "../../src/PgType.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { MemoryTable } from "../../src/server/internal/outbox/memoryTable.ts"
import { make as writes } from "../../src/server/internal/outbox/memoryWrites.ts"
import type { Take } from "../../src/server/internal/outbox/outbox.ts"
import { legs, whole } from "../../src/server/internal/outbox/position.ts"
import { layerInstalled, session } from "./support/durable.ts"
import { long, type Random, random, seed } from "./support/random.ts"

const Part = Schema.Struct({
  id: Schema.Int,
  part: Schema.String,
  room: Schema.NullOr(Schema.String),
  n: Schema.NullOr(PgType.int8),
  done: Schema.Boolean,
  due: Schema.NullOr(PgType.date),
  total: PgType.numeric,
  at: PgType.timestamptz,
  tags: PgType.array(PgType.int8),
  note: Schema.NullOr(Schema.String)
})
type Part = typeof Part.Type

const create = `create table parts (id int, part text, room text, n int8, done boolean not null, due date,
  total numeric not null, at timestamptz not null, tags int8[] not null, note text, primary key (id, part))`

/** The values of each column, as the Schema has them. The last of `room` and of `n` are on no route. */
const values: { readonly [Name in keyof Part]: ReadonlyArray<Part[Name]> } = {
  id: [1, 2, 3, -4],
  part: ["a", 'b\u0001"\\\n\u007f', "ü\u2028\ud83d\ude00"],
  room: ["lobby", "Room-1.x", "x".repeat(50), null, "a b", "ü", ""],
  n: [0n, -7n, 9007199254740993n, -9223372036854775808n, null],
  done: [true, false],
  due: ["2026-11-28", "infinity", "0044-03-15 BC", null],
  total: ["0", "1.5", "-12345678901234567890.25", "100000000000000000000000", "NaN"],
  at: ["2026-11-28T18:23:57.123456+00:00", "infinity", "0001-01-01T00:00:00+00:00 BC"],
  tags: [[], [1n, null, 9007199254740993n]],
  note: [null, "", "9007199254740993", "</script>\t\b\f\r'", "w".repeat(200), "é".repeat(9000)]
}

const names = Object.keys(values) as ReadonlyArray<keyof Part>

const literal = (value: unknown): string =>
  value === null
    ? "null"
    : Array.isArray(value)
      ? `'{${value.map((item) => (item === null ? "null" : String(item))).join()}}'`
      : `'${String(value as string)
          .replace(/^(.*)T(.*)$/, "$1 $2")
          .replaceAll("'", "''")}'`

const some = (dice: Random, columns: ReadonlyArray<keyof Part>): Part =>
  Object.fromEntries(columns.map((name) => [name, dice.pick<unknown>(values[name])])) as Part

const options = { key: ["id", "part"] } as const
const worlds = [
  { title: "a plain table", definition: Channel.table("parts", Part, options) },
  {
    title: "a table with a route, a filter and a boundary, with the old row",
    definition: Channel.table("parts", Part, {
      ...options,
      by: "room",
      filter: ["n", "room"],
      boundary: "done"
    }),
    old: true
  },
  {
    title: "a table with two columns of routes, of which some travel",
    definition: Channel.table("parts", Part, {
      ...options,
      by: ["n", "room"],
      filter: "due",
      columns: ["note", "part", "id", "total"]
    })
  },
  {
    title: "a table with short events and a long name",
    definition: Channel.table("parts", Part, {
      ...options,
      filter: ["note", "done"],
      channel: "p".repeat(61)
    }),
    old: true,
    maxBytes: 500
  }
] as const

const failed = Effect.fail("undone" as const)

interface Stored {
  readonly channel: unknown
  readonly text: unknown
  readonly match: unknown
}

/** What commits in PostgreSQL and in memory alike. */
const both = (
  db: PgConnection.PgConnection,
  table: MemoryTable,
  definition: (typeof worlds)[number]["definition"]
) => {
  const rows = writes(table, identity)
  let last: Take = table.take()
  let id = "0"
  const change = (dice: Random) => {
    const key = { id: dice.pick(values.id), part: dice.pick(values.part) }
    const where = `where id = ${literal(key.id)} and part = ${literal(key.part)}`
    return dice.pick([
      () => {
        const row = { ...some(dice, names), ...key }
        return [
          `insert into parts (${names.join()}) values (${names.map((name) => literal(row[name])).join()})`,
          rows.insert(definition, row)
        ] as const
      },
      () => {
        const patch = some(
          dice,
          names.filter((name) => dice.chance(name === "id" || name === "part" ? 0.1 : 0.3))
        )
        const set = Object.entries(patch).map(([name, value]) => `${name} = ${literal(value)}`)
        return [
          set.length === 0 ? "select" : `update parts set ${set.join()} ${where}`,
          rows.update(definition, key, patch)
        ] as const
      },
      () => [`delete from parts ${where}`, rows.delete(definition, key)] as const,
      () =>
        dice.chance(0.25)
          ? (["truncate parts", rows.truncate(definition)] as const)
          : (["select", Effect.void] as const)
    ])()
  }
  /** A change in a savepoint. Both sides accept it or reject it. */
  const saved = (dice: Random) =>
    Effect.gen(function* () {
      const [sql, inMemory] = change(dice)
      const undone = dice.chance(0.2)
      yield* db.query("savepoint one")
      const accepted = yield* Effect.isSuccess(db.query(sql))
      if (!accepted || undone) yield* db.query("rollback to savepoint one")
      const made = yield* Effect.exit(
        table.transaction(
          Effect.andThen(undone ? Effect.exit(inMemory) : inMemory, undone ? failed : Effect.void),
          identity
        )
      )
      if (!undone) expect([sql, made._tag === "Success"]).toEqual([sql, accepted])
    })
  return {
    transact: (dice: Random) =>
      Effect.gen(function* () {
        const undone = dice.chance(0.2)
        yield* db.query("begin")
        const changes = Effect.gen(function* () {
          for (let left = 1 + dice.int(5); left > 0; left--) yield* saved(dice)
          if (undone) return yield* failed
        })
        yield* Effect.exit(table.transaction(changes, identity))
        yield* db.query(undone ? "rollback" : "commit")
      }),
    /** The messages since the last call, on both sides. */
    stored: Effect.gen(function* () {
      const told = yield* db.query(
        "select id::text, channel, payload as text, match from realtime.messages m where m.id > $1::bigint order by m.id",
        [id]
      )
      id = (told.rows.at(-1)?.["id"] as string | undefined) ?? id
      const inPostgres = told.rows.map(({ channel, match, text }): Stored => ({
        channel,
        text,
        match
      }))
      const taken = table.take()
      const inMemory = legs(whole(last), taken).flatMap((leg): ReadonlyArray<Stored> => {
        const every = { has: () => true } as unknown as ReadonlySet<string>
        const page = table.page(leg, { messages: 1e6, bytes: 1e9 }, every)
        if (page === "retention") throw new Error("pruned")
        return page.messages.map(({ channel, match = null, text }) => ({ channel, text, match }))
      })
      last = taken
      return { inMemory, inPostgres }
    }),
    rows
  }
}

const shared = it.layer(layerInstalled(), { timeout: "1 minute", excludeTestServices: true })

describe.each(worlds)("Changes of $title", (world) => {
  const { definition } = world
  const { maxBytes, old } = { old: undefined, maxBytes: undefined, ...world }
  shared((it) => {
    it.effect(
      `leave the same messages in memory and in PostgreSQL (REALTIME_TEST_SEED=${seed})`,
      () =>
        Effect.gen(function* () {
          const db = yield* session
          yield* db.query("drop table if exists parts")
          yield* db.query("delete from realtime.messages")
          yield* db.query(create)
          const watch = { channel: definition, old, maxBytes }
          yield* PgInstaller.watch(watch)
          const table = new MemoryTable([watch])
          const { rows, stored, transact } = both(db, table, definition)
          const dice = random(seed)
          const kinds = new Set<unknown>()
          // A run with few routed rows goes on until it has seen a DELETE as well.
          for (let n = 0; n < (long ? 3000 : 40) || (kinds.size < 3 && n < 400); n++) {
            yield* transact(dice)
            const { inMemory, inPostgres } = yield* stored
            expect([`transaction ${n}`, inMemory]).toEqual([`transaction ${n}`, inPostgres])
            for (const { text } of inMemory)
              kinds.add(/"operation":"(\w+)"/.exec(String(text))?.[1])
          }
          expect(kinds.size).toBeGreaterThanOrEqual(3)
          // The rows that are left, and their order.
          const there = yield* db.query(
            `select row_to_json(p)::text as row from parts p order by id, part collate "C"`
          )
          const all = yield* rows.all(definition)
          const encode = Schema.encodeSync(Schema.Array(Part))
          expect(encode(all)).toEqual(
            encode(
              there.rows.map(({ row }) =>
                Schema.decodeUnknownSync(Part)(Exact.parse(row as string, { row: true }))
              )
            )
          )
          const counted = yield* db.query(
            "select coalesce(sum(rows), 0)::int as n from realtime.unrouted()"
          )
          expect(yield* rows.unrouted(definition)).toBe(counted.rows[0]!["n"])
        }),
      long ? 600_000 : 60_000
    )
  })
})
