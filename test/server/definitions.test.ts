/**
 * A definition of a table against the database: a node that starts warns where the table is watched with
 * other options, or has columns that the Schema of a row cannot read.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Queue, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as PgType from "../../src/PgType.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import { differences, mismatches } from "../../src/server/internal/link/tableSchema.ts"
import { looking, make, tables } from "../../src/server/internal/link/watched.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { layerInstalled } from "./support/durable.ts"

/** Runs with the warnings that are logged. */
const warned = <A, E, R>(body: (warnings: Queue.Dequeue<string>) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const warnings = yield* Queue.unbounded<string>()
    const logger = Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn") Queue.offerUnsafe(warnings, [message].flat().join(" "))
    })
    return yield* Effect.provide(body(warnings), Logger.layer([logger]))
  })

const layerRealtime = Realtime.layer().pipe(
  Layer.provide([PgNotificationSource.layer(), OutboxReader.layer()])
)

/** Columns of every kind of JSON, and a Schema that reads each of them. */
const kinds = Schema.Struct({
  id: Schema.Int,
  big: PgType.int8,
  half: Schema.Number,
  amount: PgType.numeric,
  name: Schema.String,
  mood: Schema.Literals(["ok", "sad"]),
  open: Schema.Boolean,
  at: Schema.Date,
  tags: Schema.Array(Schema.String),
  extra: Schema.Unknown,
  whole: Schema.Struct({ a: Schema.Int }),
  maybe: Schema.NullOr(Schema.String),
  not_there: Schema.optionalKey(Schema.String)
})

const table = `create table kinds (id int primary key, big bigint not null, half float8 not null, amount numeric not null,
  name text not null, mood mood not null, open boolean not null, at timestamptz not null, tags text[] not null, extra jsonb,
  whole pair not null, maybe domained)`

const made = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  for (const text of [
    "create type mood as enum ('ok', 'sad')",
    "create type pair as (a int)",
    "create domain named as text not null",
    "create domain domained as varchar(10)",
    table
  ]) {
    yield* sql.unsafe(text)
  }
  return sql
})

const unfit = (definition: Channel.AnyTable) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const [row] = yield* sql<{
      readonly rel: number
    }>`select 'kinds'::regclass::oid::int8::float8 rel`
    return yield* mismatches(sql, definition.table, row!.rel)
  })

describe("The Schema of a row and its table", () => {
  it.live("a Schema that reads every column matches, as does one with fewer columns", () =>
    Effect.gen(function* () {
      const sql = yield* made
      expect(yield* unfit(Channel.table("kinds", kinds, { key: "id" }))).toEqual([])
      const Few = Schema.Struct({ id: Schema.Finite, extra: Schema.NullOr(Schema.Int) })
      expect(yield* unfit(Channel.table("kinds", Few, { key: "id" }))).toEqual([])
      class Row extends Schema.Class<Row>("Row")({ id: Schema.Int, name: Schema.String }) {}
      expect(yield* unfit(Channel.table("kinds", Row, { key: "id" }))).toEqual([])
      yield* sql`alter table kinds alter name type named`
      expect(yield* unfit(Channel.table("kinds", Row, { key: "id" }))).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a missing column, an impossible type and NULL are named", () =>
    Effect.gen(function* () {
      yield* made
      const Wrong = Schema.Struct({
        id: Schema.String,
        big: Schema.Boolean,
        half: Schema.Array(Schema.Int),
        name: Schema.Literals([1, 2]),
        mood: Schema.Int,
        open: Schema.String,
        at: Schema.Finite,
        tags: Schema.String,
        whole: Schema.String,
        extra: Schema.Int,
        maybe: Schema.String,
        gone: Schema.Int
      })
      const faults = yield* unfit(Channel.table("kinds", Wrong, { key: "id" }))
      expect(faults).toEqual([
        'column "id" is integer, which travels as number, and the Schema reads string',
        'column "big" is bigint, which travels as number or string, and the Schema reads boolean',
        'column "half" is double precision, which travels as number or string, and the Schema reads array',
        'column "name" is text, which travels as string, and the Schema reads number',
        'column "mood" is mood, which travels as string, and the Schema reads number',
        'column "open" is boolean, which travels as boolean, and the Schema reads string',
        'column "at" is timestamp with time zone, which travels as string, and the Schema reads number',
        'column "tags" is text[], which travels as array, and the Schema reads string',
        'column "whole" is pair, which travels as object, and the Schema reads string',
        'column "extra" may be NULL, which the Schema does not read',
        'column "maybe" may be NULL, which the Schema does not read',
        'column "gone" does not exist'
      ])
      expect(
        yield* unfit(Channel.table("kinds", Wrong, { key: "id", columns: ["id", "open"] }))
      ).toContain('column "name" is not one of those that travel')
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("A definition and how its table is watched", () => {
  it.live("a table that is watched with its definition has no difference", () =>
    Effect.gen(function* () {
      const sql = yield* made
      const Kinds = Channel.table("kinds", kinds, {
        key: "id",
        by: ["name", "id"],
        filter: ["open", "mood"],
        boundary: "big",
        columns: ["id", "name"]
      })
      yield* PgInstaller.watch(Kinds)
      const of = Effect.map(tables(sql), (found) => found![0]!.definition)
      expect(differences(Kinds.table, yield* of)).toEqual([])
      const Other = Channel.table("kinds", kinds, {
        key: "id",
        by: ["id", "name"],
        filter: ["open", "at"],
        boundary: ["maybe", "big"]
      })
      expect(differences(Other.table, yield* of)).toEqual([
        "by is [name, id] there and [id, name] in the definition",
        "filter is [open, mood] there and [open, at] in the definition",
        "boundary is [big] there and [maybe, big] in the definition",
        "columns is [id, name] there and [] in the definition"
      ])
      // The other columns are those that another program filters by.
      const Fewer = Channel.table("kinds", kinds, {
        key: "id",
        by: ["name", "id"],
        filter: "big",
        columns: ["id", "name"]
      })
      expect(differences(Fewer.table, yield* of)).toEqual([])
      yield* sql`alter table kinds rename column name to label`
      expect((yield* of).columns).toEqual(["id", "label"])
      yield* sql`alter table kinds rename column label to name`
      yield* PgInstaller.unwatch(Kinds)
      const Whole = Channel.table("kinds", kinds, { key: "id" })
      yield* PgInstaller.watch({ channel: "table_updates_kinds", delivery: "durable" })
      expect(differences(Whole.table, yield* of)).toEqual([])
      const Named = Channel.table("kinds", kinds, { key: "name" })
      expect(differences(Named.table, yield* of)).toEqual([
        "key is [id] there and [name] in the definition"
      ])
      yield* PgInstaller.watch(Whole)
      yield* sql`alter table kinds drop constraint kinds_pkey, add primary key (name, id)`
      expect(differences(Whole.table, yield* of)).toEqual([
        "key is [id, name] there and [id] in the definition"
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a server that starts warns of both, with the table and the cure", () =>
    warned((warnings) =>
      Effect.gen(function* () {
        const sql = yield* made
        yield* PgInstaller.watch(Channel.table("kinds", kinds, { key: "id" }))
        yield* sql`alter table kinds alter name drop not null`
        const Kinds = Channel.table("kinds", kinds, { key: "id", by: "name" })
        yield* Door.make({ channels: [Kinds, Channel.allTableUpdates], authorize: allowAll })
        expect((yield* Queue.takeN(warnings, 2)).toSorted()).toEqual([
          `Table kinds is watched for channel "table_updates_kinds" with other options than its definition: by is [] there and [name] in the definition. Watch it again with the definition (PgInstaller.watch, or npx effect-realtime sql --definitions).`,
          `The Schema of channel "table_updates_kinds" does not match the rows of table kinds: column "name" may be NULL, which the Schema does not read. A row that does not match becomes a gap invalid.`
        ])
      }).pipe(Effect.scoped, Effect.provide(layerRealtime), Effect.provide(layerInstalled()))
    )
  )

  it.live("a server that starts warns of several tables with one channel, which has no state", () =>
    warned((warnings) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const Lines = Channel.table("lines", Schema.Struct({ id: Schema.Int }), { key: "id" })
        yield* sql`create table lines (id int primary key)`
        yield* sql`create table others (id int primary key)`
        yield* PgInstaller.watch(Lines)
        yield* PgInstaller.watch({ channel: Lines, table: "others", shared: true })
        yield* Door.make({ channels: [Lines], authorize: allowAll })
        expect(yield* Queue.take(warnings)).toMatch(
          /^2 tables are watched for channel "table_updates_lines": (?:lines, others|others, lines)\. It has no state/
        )
      }).pipe(Effect.scoped, Effect.provide(layerRealtime), Effect.provide(layerInstalled()))
    )
  )

  it.live("a server that starts warns of a table that is not watched, by its own channel", () =>
    warned((warnings) =>
      Effect.gen(function* () {
        const Kinds = Channel.table("kinds", kinds, { key: "id", by: "name" })
        yield* Door.make({ channels: [Kinds], authorize: allowAll })
        expect(yield* Queue.take(warnings)).toContain(
          'No table is watched for the durable channel "table_updates_kinds"'
        )
      }).pipe(Effect.scoped, Effect.provide(layerRealtime), Effect.provide(layerInstalled()))
    )
  )

  it.live("a channel with a colon that was watched before version 4 is the table's own", () =>
    warned((warnings) =>
      Effect.gen(function* () {
        const sql = yield* made
        yield* PgInstaller.watch(Channel.table("kinds", kinds, { key: "id", channel: "kinds" }))
        yield* sql`update realtime.watched set channel = 'table_updates_kinds:old'`
        const watched = yield* make(sql, "durable")
        yield* watched.compare("table_updates_kinds:old")
        yield* watched.compare("table_updates_none")
        // The first comparison began first, and would have been logged first.
        expect(yield* Queue.take(warnings)).toContain('"table_updates_none"')
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
    )
  )

  it.live("a node and `check` warn of rows on no route, with their number", () =>
    warned((warnings) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table rooms (id int primary key, room text)`
        const Row = Schema.Struct({ id: Schema.Int, room: Schema.String })
        yield* PgInstaller.watch(Channel.table("rooms", Row, { key: "id", by: "room" }))
        yield* PgInstaller.check
        yield* sql`insert into rooms values (1, null), (2, 'a b'), (3, 'a')`
        yield* PgInstaller.check
        const text = yield* Queue.take(warnings)
        expect(text).toContain("2 change(s) of table public.rooms reached no subscriber")
        expect(text).toContain("because room is NULL, or is not one or more of")
        yield* looking(sql)
        expect(yield* Queue.take(warnings)).toBe(text)
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
    )
  )
})
