/**
 * The rights of each role, statement by statement, on real PostgreSQL: the node role, the app role,
 * and a user that owns nothing and was granted nothing, such as that of `listenUrl`.
 *
 * A change of `sql/roles.ts` must change a table here.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Queue, Redacted, Schema, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as Channel from "../../src/Channel.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import { sqlMessage, sqlState } from "../../src/server/internal/link/sqlState.ts"
import { era } from "../../src/server/internal/sql/identity.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { listenTo } from "../support/listenTo.ts"
import { layerInstalled, session } from "./support/durable.ts"

const suffix = randomBytes(4).toString("hex")
/** Names that need quotes. */
const roles = { node: `Node '${suffix}'`, app: `app "${suffix}"` }
const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`

/**
 * A database with the objects and the roles; roles belong to the whole server, so they are dropped.
 */
const withRoles = <A, E, R, E2, R2>(
  before: Layer.Layer<A, E, R>,
  also: Effect.Effect<void, E2, R2>
) =>
  Layer.effectDiscard(
    Effect.andThen(
      Effect.acquireRelease(Effect.void, () =>
        PgClient.PgClient.use((sql) =>
          Effect.forEach(Object.values(roles).map(quoted), (role) =>
            Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`))
          )
        ).pipe(Effect.orDie)
      ),
      also
    )
  ).pipe(Layer.provideMerge(before))

const tables = PgClient.PgClient.use((sql) =>
  Effect.gen(function* () {
    yield* sql`create table orders (id int primary key, secret text)`
    yield* sql`create table accounts (id int primary key, secret text)`
    const columns = ["id"]
    yield* PgInstaller.watch({ channel: "changes", table: "orders", columns, delivery: "durable" })
    yield* PgInstaller.watch({ channel: "live_changes", table: "orders" })
    yield* sql.unsafe(`grant insert, update, delete, select on orders to ${quoted(roles.app)}`)
  })
)

const layer = withRoles(layerInstalled({ roles, wake: "hybrid" }), tables)

/** The URL of a new user that may log in, and is a member of a role or of none. */
const userOf = (role?: string) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const user = `user_${randomBytes(4).toString("hex")}`
    const member = role === undefined ? "" : ` in role ${quoted(role)}`
    yield* Effect.acquireRelease(execute(url, `create role ${user} login${member}`), () =>
      Effect.orDie(execute(url, `drop role ${user}`))
    )
    const there = new URL(url)
    if (there.searchParams.has("user")) there.searchParams.set("user", user)
    else there.username = user
    return Redacted.make(there.href)
  })

/** The outcome of a statement: `yes`, `no` for a missing right, or the code of the rejection. */
const tried = (db: PgConnection.PgConnection, statement: string) =>
  Effect.gen(function* () {
    yield* db.query("begin")
    const verdict = yield* db.query(statement, [], false).pipe(
      Effect.match({
        onSuccess: () => "yes",
        onFailure: (error) => {
          const state = sqlState(error)
          return state === "42501" ? "no" : (state ?? sqlMessage(error))
        }
      })
    )
    // No statement may help the next.
    yield* db.query("rollback")
    return verdict
  })

type Verdict = "yes" | "no" | "RT001" | "RT002" | "RT003" | "RT006" | "RT007"

/** A statement, and its outcome for the node role, the app role, and a user without any. */
type Row = readonly [statement: string, node: Verdict, app: Verdict, user: Verdict]

/** As a node calls it, in the present era. */
const upkeep = (snapshot: string, next: string, drawn: string) =>
  `select realtime.upkeep(${snapshot}, ${next}, ${drawn}, 0, era) from ${era} e(era)`

const statements: { readonly [topic: string]: ReadonlyArray<Row> } = {
  "every role may connect and notify, because PostgreSQL has no right for it": [
    ["select 1", "yes", "yes", "yes"],
    ["listen orders", "yes", "yes", "yes"],
    ["listen realtime", "yes", "yes", "yes"],
    ["notify orders, '1'", "yes", "yes", "yes"],
    ["select pg_notify('orders', '1')", "yes", "yes", "yes"],
    ["select pg_notify('realtime', '')", "yes", "yes", "yes"]
  ],
  "only the node role may read the outbox": [
    ["select * from realtime.messages", "yes", "no", "no"],
    ["select payload from realtime.messages where channel = 'room'", "yes", "no", "no"],
    ["select snapshot::text from realtime.horizon", "yes", "no", "no"],
    ["select next::text from realtime.marks", "yes", "no", "no"],
    ["select * from realtime.settings", "yes", "no", "no"],
    ["select secret from realtime.settings", "yes", "no", "no"],
    // Its messages between nodes are encrypted with it.
    ["select secret from realtime.bus_secrets", "yes", "no", "no"],
    ["insert into realtime.bus_secrets default values", "no", "no", "no"],
    ["select realtime.rotate_secret()", "no", "no", "no"],
    ["select * from realtime.revocations", "yes", "no", "no"],
    ["delete from realtime.revocations", "no", "no", "no"],
    ["select realtime.revoke('identity', 'ada', now())", "yes", "no", "no"],
    ["select last_value from realtime.messages_id_seq", "yes", "no", "no"],
    ["select * from realtime.open(3)", "yes", "no", "no"],
    // A node of version 2 calls this, and is rejected.
    ["select * from realtime.open()", "RT006", "no", "no"],
    ["select realtime.identity()", "yes", "no", "no"],
    ["select * from realtime.epoch", "yes", "no", "no"],
    ["select * from realtime.origin", "no", "no", "no"],
    // A node warns of a channel that is not watched the way it is opened.
    ["select channel from realtime.watched", "yes", "no", "no"]
  ],
  "the node role and the app role may publish, except on channels of tables": [
    [`select realtime.publish('room', '1'::text)`, "yes", "yes", "no"],
    [`select realtime.publish('room', '1'::jsonb)`, "yes", "yes", "no"],
    [`select realtime.publish('room', '1'::text, 'key')`, "yes", "yes", "no"],
    // A rule of a node makes the payload, and the application sends what it publishes.
    [`select realtime.publish_once('room', '1', 'once', 'sent')`, "yes", "no", "no"],
    // No role can pretend that a row has changed.
    [`select realtime.publish('table_updates_orders', '1'::text)`, "RT002", "RT002", "no"],
    [`select realtime.publish('table_updates_accounts', '1'::jsonb)`, "RT002", "RT002", "no"],
    [`select realtime.publish('changes', '1'::text)`, "RT002", "RT002", "no"],
    [`select realtime.publish('live_changes', '1'::text)`, "RT002", "RT002", "no"],
    [`select realtime.publish('realtime', '1'::text)`, "RT001", "RT001", "no"],
    [
      `select realtime.publish('room', to_json(repeat('x', 8388608))::text)`,
      "RT003",
      "RT003",
      "no"
    ],
    [`select realtime.emit('changes', 'durable', '{}')`, "no", "no", "no"],
    [`select realtime.change('INSERT', '{}', null, '{}', 1)`, "no", "no", "no"],
    [`select realtime.row_changed()`, "no", "no", "no"],
    [
      `do $$ begin create temp table forged (id int); create trigger t after insert on forged for each row execute function realtime.row_changed('1'); end $$`,
      "no",
      "no",
      "no"
    ]
  ],
  "only the node role may read the state of a watched table, and only through the outbox": [
    [
      "select * from realtime.state('changes', 'changes', 'public', 'orders', null, 10, 1000)",
      "yes",
      "no",
      "no"
    ],
    ["select * from realtime.w1_state(null, null, 10, 1000)", "no", "no", "no"]
  ],
  "no role may write the tables of the outbox": [
    [`insert into realtime.messages (channel, payload) values ('room', '1')`, "no", "no", "no"],
    [`update realtime.messages set payload = '2'`, "no", "no", "no"],
    [`delete from realtime.messages`, "no", "no", "no"],
    [`truncate realtime.messages`, "no", "no", "no"],
    [`copy realtime.messages (channel, payload) from stdin`, "no", "no", "no"],
    [`lock realtime.messages in access exclusive mode`, "no", "no", "no"],
    [`select 1 from realtime.messages for update`, "no", "no", "no"],
    [`update realtime.horizon set snapshot = '9:9:'`, "no", "no", "no"],
    [`update realtime.watched set delivery = 'live'`, "no", "no", "no"],
    [`delete from realtime.marks`, "no", "no", "no"],
    [
      `insert into realtime.marks (snapshot, next, drawn) values ('9:9:', '9', 9)`,
      "no",
      "no",
      "no"
    ],
    [`delete from realtime.epoch`, "no", "no", "no"],
    [`select nextval('realtime.messages_id_seq')`, "no", "no", "no"],
    [`select setval('realtime.messages_id_seq', 1)`, "no", "no", "no"],
    [`select setval('realtime.last_wake', 1)`, "no", "no", "no"]
  ],
  "only the node role may keep the cursors of consumers": [
    [`select * from realtime.consumers`, "yes", "no", "no"],
    [
      `insert into realtime.consumers (name, channel, cursor) values ('c', 'room', 'x')`,
      "yes",
      "no",
      "no"
    ],
    [`update realtime.consumers set cursor = 'y'`, "yes", "no", "no"],
    [`delete from realtime.consumers`, "yes", "no", "no"],
    [`truncate realtime.consumers`, "no", "no", "no"]
  ],
  "only the node role may take leases, and no role may write them": [
    [`select * from realtime.take_lease('reader', 'a', 'b')`, "yes", "no", "no"],
    [`select realtime.renew_lease('reader', 'b', 1)`, "yes", "no", "no"],
    [`select realtime.release_lease('reader', 'b', 1)`, "yes", "no", "no"],
    [`select * from realtime.holders()`, "yes", "no", "no"],
    [`select * from realtime.leases`, "no", "no", "no"],
    [`update realtime.leases set term = 1`, "no", "no", "no"],
    [`delete from realtime.leases`, "no", "no", "no"]
  ],
  "only the node role may prune, and no role may change settings": [
    [`select * from realtime.look()`, "yes", "no", "no"],
    [`select * from realtime.troubles()`, "yes", "no", "no"],
    [`select * from realtime.unrouted()`, "yes", "no", "no"],
    [`select realtime.tell_gap('room')`, "no", "no", "no"],
    [`select realtime.generate(1)`, "no", "no", "no"],
    [`select realtime.generate_state(1)`, "no", "no", "no"],
    [`select realtime.relocate()`, "no", "no", "no"],
    [`select realtime.watch_again()`, "no", "no", "no"],
    [`select realtime.prune()`, "yes", "no", "no"],
    [`select realtime.upkeep('1:1:', '3', 0, 10000, null)`, "yes", "no", "no"],
    // No role can claim to have drawn more ids than there are, which would hide messages until then.
    [upkeep("'1:1:'", "'3'", "1000000"), "RT007", "no", "no"],
    [upkeep("'1:1:'", "'9000000000'", "0"), "RT007", "no", "no"],
    [upkeep("pg_current_snapshot()", "'3'", "0"), "RT007", "no", "no"],
    [upkeep("'9000:9000:'", "'9000'", "0"), "RT007", "no", "no"],
    [`update realtime.settings set retention = '1 second'`, "no", "no", "no"],
    [`update realtime.settings set wake = 'poll'`, "no", "no", "no"],
    [`select realtime.set_wake('poll')`, "no", "no", "no"],
    [`select realtime.relocate()`, "no", "no", "no"],
    [`select realtime.watch('accounts')`, "no", "no", "no"],
    [`select realtime.unwatch('orders')`, "no", "no", "no"],
    [`select realtime.wake_at_commit()`, "no", "no", "no"]
  ],
  "no role may change the installed objects": [
    [`create table realtime.mine (n int)`, "no", "no", "no"],
    [`create function realtime.mine() returns int language sql as 'select 1'`, "no", "no", "no"],
    [
      `create or replace function realtime.publish(channel text, payload text, key text default null) returns bigint language sql as 'select 1::bigint'`,
      "no",
      "no",
      "no"
    ],
    [`alter table realtime.messages add column mine int`, "no", "no", "no"],
    [`alter table realtime.messages disable trigger all`, "no", "no", "no"],
    [`create index on realtime.messages (payload)`, "no", "no", "no"],
    [
      `create trigger mine after insert on realtime.messages execute function suppress_redundant_updates_trigger()`,
      "no",
      "no",
      "no"
    ],
    [`drop table realtime.messages`, "no", "no", "no"],
    [`drop function realtime.prune(int)`, "no", "no", "no"],
    [`drop schema realtime cascade`, "no", "no", "no"],
    [`alter schema realtime owner to current_user`, "no", "no", "no"]
  ],
  "no role may use tables of the app without a grant by their owner": [
    [`select * from accounts`, "no", "no", "no"],
    [`insert into accounts values (1)`, "no", "no", "no"],
    [`drop table accounts`, "no", "no", "no"],
    // Granted to the app by the owner: the triggers run with their own rights.
    [`select * from orders`, "no", "yes", "no"],
    [`insert into orders values (7, 'x')`, "no", "yes", "no"],
    [`update orders set id = id + 10`, "no", "yes", "no"],
    [`delete from orders`, "no", "yes", "no"],
    [`alter table orders disable trigger all`, "no", "no", "no"]
  ],
  "no role may change or read the database server": [
    [`create role mine`, "no", "no", "no"],
    [`set session authorization postgres`, "no", "no", "no"],
    [`copy (select 1) to program 'true'`, "no", "no", "no"],
    [`select pg_read_file('/etc/passwd')`, "no", "no", "no"],
    [
      `select pg_terminate_backend(pid) from pg_stat_activity where usename <> current_user and datname = current_database()`,
      "no",
      "no",
      "no"
    ]
  ]
}

/** Every right in the schema `realtime` of a role that is not its owner, by role and object. */
const rights = `
  with objects as (
    select 'schema ' || nspname object, nspacl acl, nspowner owner, 'n' kind from pg_namespace where nspname = 'realtime'
    union all
    select case relkind when 'S' then 'sequence ' else 'table ' end || relname, relacl, relowner,
      case relkind when 'S' then 's' else 'r' end
      from pg_class where relnamespace = 'realtime'::regnamespace and relkind in ('r', 'S', 'v', 'p')
    union all
    select 'column ' || c.relname || '.' || a.attname, a.attacl, c.relowner, 'c'
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'realtime'::regnamespace and a.attacl is not null
    union all
    select 'function ' || oid::regprocedure::text, proacl, proowner, 'f'
      from pg_proc where pronamespace = 'realtime'::regnamespace
  )
  select case when grantee = 0 then 'public' else pg_get_userbyid(grantee)::text end who, object,
    string_agg(privilege_type || case when is_grantable then ' and may grant it' else '' end, ', ' order by privilege_type) what
  from objects, aclexplode(coalesce(acl, acldefault(kind::"char", owner)))
  where grantee <> owner
  group by 1, 2 order by 1, 2`

/** All that the installer grants. */
const granted = (names: { readonly node: string; readonly app: string }) => {
  const publishing = [
    ["function realtime.publish(text,jsonb,text)", "EXECUTE"],
    ["function realtime.publish(text,text,text)", "EXECUTE"]
  ] as const
  const of = (who: string, list: ReadonlyArray<readonly [string, string]>) =>
    list.map(([object, what]) => ({ who, object, what }))
  return [
    ...of(names.node, [
      ["function realtime.identity()", "EXECUTE"],
      ["function realtime.open()", "EXECUTE"],
      ["function realtime.open(integer)", "EXECUTE"],
      ["function realtime.prune(integer)", "EXECUTE"],
      ["function realtime.release_lease(text,text,bigint)", "EXECUTE"],
      ["function realtime.renew_lease(text,text,bigint)", "EXECUTE"],
      ["function realtime.take_lease(text,text,text)", "EXECUTE"],
      ["function realtime.holders()", "EXECUTE"],
      ["function realtime.look()", "EXECUTE"],
      ["function realtime.state(text,text,text,text,text,integer,bigint)", "EXECUTE"],
      ["function realtime.troubles()", "EXECUTE"],
      ["function realtime.unrouted()", "EXECUTE"],
      ["function realtime.revoke(text,text,timestamp with time zone)", "EXECUTE"],
      ...publishing,
      ["function realtime.publish_once(text,text,text,text)", "EXECUTE"],
      ["function realtime.upkeep(pg_snapshot,xid8,bigint,integer,text)", "EXECUTE"],
      ["function realtime.upkeep(pg_snapshot,xid8,bigint,integer)", "EXECUTE"],
      ["schema realtime", "USAGE"],
      ["sequence messages_id_seq", "SELECT"],
      ["table consumers", "DELETE, INSERT, SELECT, UPDATE"],
      ["table epoch", "SELECT"],
      ["table bus_secrets", "SELECT"],
      ["table horizon", "SELECT"],
      ["table marks", "SELECT"],
      ["table messages", "SELECT"],
      ["table revocations", "SELECT"],
      ["table settings", "SELECT"],
      ["table watched", "SELECT"]
    ]),
    ...of(names.app, [...publishing, ["schema realtime", "USAGE"]])
  ]
}

const byWhom = <A extends { readonly who: string; readonly object: string }>(
  rows: ReadonlyArray<A>
) => rows.toSorted((a, b) => (a.who + a.object < b.who + b.object ? -1 : 1))

describe("The rights of the roles", () => {
  for (const [topic, rows] of Object.entries(statements)) {
    it.live(topic, () =>
      Effect.gen(function* () {
        const sessions = yield* Effect.forEach([roles.node, roles.app, undefined], (role) =>
          Effect.flatMap(userOf(role), (url) => PgConnection.make({ url }))
        )
        const found: Array<unknown> = []
        for (const [statement] of rows) {
          found.push([
            statement,
            ...(yield* Effect.forEach(sessions, (db) => tried(db, statement)))
          ])
        }
        expect(found).toEqual(rows)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  }

  it.live("the roles have exactly the rights listed here, and no other role has any", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const found = yield* sql.unsafe<{ readonly who: string; readonly object: string }>(rights)
      expect(byWhom(found)).toEqual(byWhom(granted(roles)))
      // They are groups: no user logs in as one, and they can do nothing else.
      expect(
        yield* sql`select rolname::text from pg_roles where rolname in ${sql.in(Object.values(roles))}
          and not (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)`
      ).toHaveLength(2)
    }).pipe(Effect.provide(layer))
  )

  it.live("without the option roles no role gets a right", () =>
    Effect.gen(function* () {
      expect(yield* (yield* PgClient.PgClient).unsafe(rights)).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("the command line prints a script that grants the same rights", () => {
    const printed = execFileSync(
      process.execPath,
      [
        "-C",
        "@effect-realtime/source",
        "src/bin/effect-realtime.ts",
        "sql",
        "--node-role",
        roles.node,
        "--app-role",
        roles.app
      ],
      { encoding: "utf8" }
    )
    expect(printed).toBe(PgInstaller.sql({ roles }))
    const run = Effect.gen(function* () {
      const db = yield* session
      // The script may run again.
      for (const text of [printed, printed]) {
        for (const statement of text.split(";\n\n")) {
          if (statement.trim() !== "") yield* db.query(statement, [], false)
        }
      }
    }).pipe(Effect.scoped)
    return Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const found = yield* sql.unsafe<{ readonly who: string; readonly object: string }>(rights)
      expect(byWhom(found)).toEqual(byWhom(granted(roles)))
    }).pipe(Effect.provide(withRoles(layerDatabase, run)))
  })
})

describe("Members of the roles", () => {
  const Log = Channel.make("log", Schema.Int, { delivery: "durable" })
  const Live = Channel.make("live", Schema.Int)

  it.live("a member of the node role runs a node, with a link of a user without rights", () =>
    Effect.gen(function* () {
      const [url, listenUrl] = [yield* userOf(roles.node), yield* userOf()]
      const node = Realtime.layer().pipe(
        Layer.provideMerge(
          Layer.merge(PgNotificationSource.layer({ listenUrl }), OutboxReader.layer())
        ),
        Layer.provideMerge(PgInstaller.layerCheck),
        Layer.provideMerge(PgClient.layer({ url }))
      )
      yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const from = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
        const live = yield* listenTo(yield* NotificationSource, "live")
        yield* Realtime.publish(Live, 1)
        yield* Realtime.publish(Log, 1)
        yield* Realtime.publish(Log, 2)
        const read = yield* Realtime.events(Log, { from }).pipe(Stream.take(2), Stream.runCollect)
        expect(read.map((event) => event._tag)).toEqual(["Event", "Event"])
        expect(yield* Queue.take(live)).toBe("1")
        const consumed: Array<unknown> = []
        yield* Realtime.consume(Log, {
          name: "worker",
          start: "oldest",
          onEvents: (events) =>
            Effect.sync(() => {
              consumed.push(...events.map((event) => event._tag === "Event" && event.payload))
            })
        }).pipe(Effect.forkScoped)
        // The cursor is committed with the second event.
        yield* Effect.repeat(sql`select from realtime.consumers where name = 'worker'`, {
          until: (rows) => rows.length === 1 && consumed.length === 2
        })
        expect(consumed).toEqual([1, 2])
        yield* sql`select realtime.upkeep(pg_current_snapshot(), pg_snapshot_xmax(pg_current_snapshot())::text::xid8, 0, 10000, null)`
        yield* sql`select realtime.prune()`
        // The link has the user without rights.
        const links = yield* sql`select usename = current_user mine from pg_stat_activity
          where application_name = 'effect-realtime link' and datname = current_database()`
        expect(links).toEqual([{ mine: false }])
      }).pipe(Effect.scoped, Effect.provide(node))
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.live("a change by a member of the app role is sent without the column not watched", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* Effect.flatMap(userOf(roles.app), (url) => PgConnection.make({ url }))
      for (const change of [
        `insert into orders values (1, 'hunter2')`,
        `update orders set id = 2`,
        `delete from orders`
      ]) {
        yield* db.query(change)
      }
      const told = yield* sql<{ readonly payload: string }>`
        select payload from realtime.messages where channel = 'changes'`
      expect(told).toHaveLength(4)
      expect(JSON.stringify(told)).not.toContain("hunter2")
    }).pipe(Effect.scoped, Effect.provide(layer))
  )
})
