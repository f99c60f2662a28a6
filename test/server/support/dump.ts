/**
 * What `pg_dump` writes of a database, and its restore: the objects, created again, then every row
 * as it was, then the triggers. The embedded PostgreSQL has no pg_dump of its own.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import * as PgInstaller from "../../../src/server/PgInstaller.ts"
import { execute } from "../../support/database.ts"

export interface Dump {
  readonly functions: ReadonlyArray<string>
  readonly tables: ReadonlyArray<{ readonly name: string; readonly rows: string }>
  readonly sequences: ReadonlyArray<string>
  readonly triggers: ReadonlyArray<string>
}

/** The one table of an app in these tests. */
export const orders = "create table orders (id int primary key, status text)"

const texts = (url: string, statement: string) =>
  Effect.map(execute(url, statement), (rows) => rows.map((row) => String(row["text"])))

export const dump = (url: string) =>
  Effect.gen(function* () {
    const names = yield* texts(
      url,
      `select c.oid::regclass::text as text from pg_class c
       where c.relkind = 'r' and c.relnamespace::regnamespace::text in ('realtime', 'public') order by 1`
    )
    return {
      functions: yield* texts(
        url,
        "select pg_get_functiondef(p.oid) as text from pg_proc p where p.pronamespace = 'realtime'::regnamespace order by p.oid"
      ),
      tables: yield* Effect.forEach(names, (name) =>
        Effect.map(
          texts(url, `select coalesce(json_agg(t), '[]')::text as text from ${name} t`),
          ([rows]) => ({ name, rows: rows! })
        )
      ),
      sequences: yield* texts(
        url,
        `select format('select setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value is not null) as text
         from pg_sequences where schemaname = 'realtime'`
      ),
      triggers: yield* texts(
        url,
        `select pg_get_triggerdef(t.oid) as text from pg_trigger t
         where t.tgrelid = 'orders'::regclass and not t.tgisinternal`
      )
    }
  })

/** Restores into an empty database, or with `clean` over what is there. */
export const restore = (url: string, dumped: Dump, clean = false) =>
  Effect.gen(function* () {
    if (clean) {
      yield* execute(url, "drop schema realtime cascade")
      yield* execute(url, "drop table orders")
    }
    yield* execute(url, orders)
    yield* PgInstaller.install({ wake: "poll" }).pipe(
      Effect.provide(Layer.fresh(PgClient.layer({ url: Redacted.make(url) }))),
      Effect.scoped
    )
    const session = yield* PgConnection.make({ url: Redacted.make(url) })
    for (const text of dumped.functions) yield* session.query(text)
    for (const { name, rows } of dumped.tables) {
      yield* session.query(`delete from ${name}`)
      yield* session.query(
        `insert into ${name} overriding system value select * from json_populate_recordset(null::${name}, $1::json)`,
        [rows]
      )
    }
    for (const text of [...dumped.sequences, ...dumped.triggers]) yield* session.query(text)
  }).pipe(Effect.scoped)
