/** Runs the code of the guides about the database and about tests. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import type { Channel } from "effect-realtime"
import { PgInstaller, Realtime } from "effect-realtime/server"
import { ConfigProvider, Effect, Fiber, Layer, Stream } from "effect"
import type { AddressInfo } from "node:net"
import { createServer } from "node:http"
import { fetchPayments, Payment, Payments } from "../../examples/columns/columns.ts"
import { bookkeeper } from "../../examples/columns/invalid.ts"
import { DurableOrders, DurableReport } from "../../examples/channels.ts"
import { Durable } from "../../examples/database/pooler.ts"
import { Installed, migrate } from "../../examples/install/roles.ts"
import { copy } from "../../examples/recovery/copy.ts"
import { Orders, OrdersWithNotes } from "../../examples/schema/versions.ts"
import { Users, Watches } from "../../examples/tables/watch.ts"
import { deploy } from "../../examples/testing/faults.ts"
import { isolated } from "../../examples/testing/nodes.ts"
import { newOrders } from "../../examples/testing/rows.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { layerReader } from "../server/support/durable.ts"
import { installedDatabase, layerDatabase } from "../support/database.ts"

const durable = Realtime.layer().pipe(
  Layer.provide(MemorySource.layer),
  Layer.provideMerge(layerReader())
)

/** An HTTP API with a fixed answer. */
const serving = (answer: () => string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const http = createServer((_, response) => response.end(answer()))
      http.listen(0, "127.0.0.1", () => {
        const { port } = http.address() as AddressInfo
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close: () => http.close() }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const table = PgClient.PgClient.use(
  (sql) => sql`create table payments (id bigint primary key, amount numeric, rate float8,
    paid_at timestamptz, meta jsonb, tags text[])`
).pipe(
  Effect.andThen(
    PgInstaller.watch({ channel: Payments.name, table: "payments", delivery: "durable" })
  )
)

const pay = (id: string) =>
  PgClient.PgClient.use((sql) =>
    sql.unsafe(
      `insert into payments values (${id}, 10.50, 0.1, '2026-11-28 18:00Z', '{"n":1e400}', '{a,b}')`
    )
  )

describe("examples/columns", () => {
  it.live("columns.ts: a page that loads the state has the same values as an event", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* table
      const { cursor: from } = yield* Realtime.snapshot(Effect.void)
      yield* pay("1311768467463790321")
      yield* pay("5")
      const state = yield* Realtime.snapshot(
        Realtime.readRows(Payment, sql`select * from payments`)
      )
      const { url } = yield* serving(() => JSON.stringify(state))
      const loaded = yield* Effect.promise(() => fetchPayments(url))
      const events = yield* Realtime.events(Payments, { from }).pipe(
        Stream.take(2),
        Stream.runCollect
      )
      const told = events.map((event) => (event._tag === "Event" ? event.payload.data : event))
      expect(loaded.value).toEqual(told)
      expect(loaded.value.map(({ id }) => id)).toEqual([1311768467463790321n, 5n])
      expect(loaded).toMatchObject({ _tag: "Snapshot", cursor: state.cursor })
    }).pipe(Effect.provide(durable))
  )

  it.live("invalid.ts: stores an invalid message in the transaction of its cursor", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* table
      yield* sql`create table booked (id text primary key)`
      yield* sql`create table unread (cursor text, reason text, invalid json)`
      const fiber = yield* Effect.forkChild(bookkeeper)
      const untilRows = <A>(query: Effect.Effect<ReadonlyArray<A>, unknown>, count: number) =>
        query.pipe(Effect.repeat({ until: (found) => found.length === count }))
      yield* untilRows(sql`select from realtime.consumers where name = 'bookkeeper'`, 1)
      yield* pay("1")
      yield* sql`insert into realtime.messages (channel, payload) values (${Payments.name}, '{"operation":"INSERT","data":{"id":"secret"}}')`
      yield* pay("2")
      yield* untilRows(sql`select from booked`, 2)
      const unread = yield* sql`select reason, invalid from unread`
      expect(unread).toMatchObject([
        { reason: "invalid", invalid: { path: `["data"]["id"]`, id: expect.any(String) } }
      ])
      expect(JSON.stringify(unread)).not.toContain("secret")
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(durable))
  )
})

describe("examples/database", () => {
  it.live("connecting.ts, pooler.ts: serve durable channels without a link, from one URL", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const environment = ConfigProvider.layer(
        ConfigProvider.fromUnknown({ DATABASE_URL: `${url}?sslmode=prefer` })
      )
      const payload = { status: "completed", data: [] } as const
      const told = yield* Effect.gen(function* () {
        const { cursor: from } = yield* Realtime.snapshot(Effect.void)
        yield* Realtime.publish(DurableReport("1"), payload)
        return yield* Stream.runHead(Realtime.events(DurableReport("1"), { from }))
      }).pipe(Effect.provide(Durable.pipe(Layer.provide(environment))))
      expect(told).toMatchObject({ value: { payload } })
    }).pipe(Effect.scoped)
  )
})

describe("examples/testing", () => {
  it.effect("faults.ts: a page receives the event that was published while no server ran", () =>
    Effect.map(deploy, (events) => {
      expect(
        events.map((event) => (event._tag === "Event" ? event.payload.data.id : event.reason))
      ).toEqual([1, 2, 3])
    })
  )

  it.effect(
    "rows.ts: a page shows the rows of its filter, and nothing of a failed transaction",
    () => Effect.map(newOrders, (shown) => expect(shown).toEqual([[1], [1, 2], [2]]))
  )

  it.effect("nodes.ts: a page shows no member of a node that is isolated", () =>
    Effect.map(isolated, (shown) => expect(shown).toEqual(["Joan", "", "Joan"]))
  )
})

const ordersTable = PgClient.PgClient.use(
  (sql) => sql`create table orders (id int primary key, customer text, status text)`
)

describe("examples/tables", () => {
  it.live("watch.ts: publishes only the listed columns of users, and no hidden user", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* ordersTable
      yield* sql`create table users (id int primary key, name text, password text, hidden boolean default false)`
      yield* Effect.provide(Effect.void, Watches)
      const { cursor: from } = yield* Realtime.snapshot(Effect.void)
      yield* sql`insert into users values (1, 'Ada', 'secret', false), (2, 'Eve', 'secret', true)`
      yield* sql`update users set password = 'another' where id = 1`
      yield* sql`update users set name = 'Ada L.' where id = 1`
      const events = yield* Realtime.events(Users, { from }).pipe(Stream.take(2), Stream.runCollect)
      expect(events).toMatchObject([
        { payload: { operation: "INSERT", data: { id: 1, name: "Ada" } } },
        { payload: { operation: "UPDATE", data: { name: "Ada L." }, old: { name: "Ada" } } }
      ])
      const kept = yield* sql<{
        payload: string
      }>`select payload::text as payload from realtime.messages`
      expect(kept.map(({ payload }) => payload).join()).not.toMatch(/secret|another|Eve/)
    }).pipe(Effect.provide(durable))
  )
})

describe("examples/schema", () => {
  it.live("versions.ts: both versions decode rows from before and after the new column", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* ordersTable
      yield* PgInstaller.watch({ channel: Orders })
      const { cursor: from } = yield* Realtime.snapshot(Effect.void)
      yield* sql`insert into orders values (1, 'Ada', 'new')`
      yield* sql`alter table orders add column note text`
      yield* sql`insert into orders values (2, 'Bob', 'new', 'by noon')`
      const rows = <A extends { readonly data: unknown }>(
        channel: Channel.Channel<A, false, string, "durable">
      ) =>
        Realtime.events(channel, { from }).pipe(
          Stream.take(2),
          Stream.runCollect,
          Effect.map((events) =>
            events.map((event) => (event._tag === "Event" ? event.payload.data : event))
          )
        )
      const [ada, bob] = [
        { id: 1, customer: "Ada", status: "new" },
        { id: 2, customer: "Bob", status: "new" }
      ]
      expect(yield* rows(Orders)).toEqual([ada, bob])
      expect(yield* rows(OrdersWithNotes)).toEqual([
        { ...ada, note: null },
        { ...bob, note: "by noon" }
      ])
    }).pipe(Effect.provide(durable))
  )
})

describe("examples/install", () => {
  it.live("roles.ts: the app finds the objects that the owner installed", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* ordersTable
      expect(yield* Effect.flip(Effect.provide(Effect.void, Installed))).toMatchObject({
        _tag: "NotInstalled"
      })
      // Roles belong to the whole database server, so the test removes only its own.
      const roles = sql<{ name: string }>`select rolname as name from pg_roles
        where rolname in ('realtime_node', 'realtime_app')`
      const before = new Set((yield* roles).map(({ name }) => name))
      yield* Effect.addFinalizer(() =>
        Effect.forEach(["realtime_node", "realtime_app"], (role) =>
          before.has(role)
            ? Effect.void
            : Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`))
        ).pipe(Effect.orDie)
      )
      yield* migrate
      yield* migrate
      yield* Effect.provide(Effect.void, Installed)
      expect(yield* roles).toHaveLength(2)
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})

describe("examples/recovery", () => {
  it.live("copy.ts: restores the copy after a gap, and follows the table", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* ordersTable
      yield* sql`create table copies (id int primary key, customer text, status text)`
      yield* PgInstaller.watch({ channel: DurableOrders })
      yield* sql`insert into orders values (1, 'Ada', 'new'), (2, 'Bob', 'new')`
      const fiber = yield* Effect.forkChild(copy)
      const untilCopied = (wanted: string) =>
        sql<{
          rows: string | null
        }>`select string_agg(id || status, ',' order by id) as rows from copies`.pipe(
          Effect.repeat({ until: ([found]) => found?.rows === wanted })
        )
      yield* untilCopied("1new,2new")
      // A change without triggers, and the call of tell_gap after it.
      yield* sql.withTransaction(
        Effect.andThen(
          sql`set local session_replication_role = replica`,
          sql`insert into orders values (3, 'Cleo', 'new')`
        )
      )
      yield* sql`select realtime.tell_gap('table_updates_orders')`
      yield* untilCopied("1new,2new,3new")
      yield* sql`update orders set status = 'sent' where id = 1`
      yield* sql`delete from orders where id = 2`
      yield* untilCopied("1sent,3new")
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(durable))
  )
})
