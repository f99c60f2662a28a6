/**
 * The table of the example, and the role that may use it.
 *
 * All of it may run again, also in several processes at once.
 */
import { Data, Effect, Runtime } from "effect"
import { SqlClient } from "effect/sql"
import { seed } from "./seed.ts"

/** The database already has a table `orders` of another app. */
export class ForeignTable extends Data.TaggedError("ForeignTable") {
  override readonly [Runtime.errorReported] = false
  override readonly message =
    "This database has a table public.orders that is not the example's. Point DATABASE_URL at another database: nothing was changed."
}

const mark = "effect-realtime live-board"

const createTable = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table public.orders (
    id integer generated always as identity primary key,
    customer text not null,
    item text not null,
    amount_cents integer not null default 0,
    status text not null default 'new'
      check (status in ('new', 'packed', 'shipped', 'delivered')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
  )`
  yield* sql`create trigger orders_touch before insert or update on public.orders
    for each row execute function public.live_board_touch()`
  // The comment marks the table as ours. COMMENT takes no parameters.
  yield* sql.unsafe(`comment on table public.orders is '${mark}'`)
})

const createFunction = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create or replace function public.live_board_touch() returns trigger
    language plpgsql as $$
    begin
      new.updated_at := clock_timestamp();
      return new;
    end $$`
})

/** Creates the table if it does not exist, and adds 12 orders if it is empty. Needs the owner's rights. */
export const schema = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`select pg_advisory_xact_lock(hashtext(${mark}))`
  const [found] = yield* sql<{ comment: string | null }>`
    select obj_description(oid) as comment from pg_class where oid = to_regclass('public.orders')`
  if (found !== undefined && found.comment !== mark) return yield* new ForeignTable()
  yield* createFunction
  if (found === undefined) yield* createTable
  const [any] = yield* sql`select from public.orders limit 1`
  if (any === undefined) yield* seed
}).pipe((effect) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(effect)))

export interface Login {
  readonly username: string
  /** Omit it if the database requires no password. */
  readonly password: string | undefined
}

/**
 * Creates the login if it does not exist, with the rights to read and write orders and those of
 * `nodeRole`.
 */
export const allow = Effect.fnUntraced(function* (login: Login, nodeRole: string) {
  const sql = yield* SqlClient.SqlClient
  const { password, username } = login
  /** These statements take no parameters, so PostgreSQL itself quotes names and texts. */
  const run = Effect.fnUntraced(function* (template: string, ...values: Array<string>) {
    const [row] = yield* sql.unsafe<{ statement: string }>(
      `select format($1, variadic $2::text[]) as statement`,
      [template, values]
    )
    yield* sql.unsafe(row!.statement)
  })
  const [known] = yield* sql`select from pg_roles where rolname = ${username}`
  if (known === undefined) yield* run("create role %I login", username)
  if (password !== undefined) yield* run("alter role %I password %L", username, password)
  yield* run("grant usage on schema public to %I", username)
  yield* run("grant select, insert, update, delete on public.orders to %I", username)
  yield* run("grant %I to %I", nodeRole, username)
  return login
})
