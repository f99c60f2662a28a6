/** The code of the guides, run as it stands. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { PgInstaller, Realtime } from "effect-realtime/server"
import { ConfigProvider, Effect, Fiber, Layer, Stream } from "effect"
import type { AddressInfo } from "node:net"
import { createServer } from "node:http"
import { fetchPayments, Payment, Payments } from "../../examples/columns.ts"
import { bookkeeper } from "../../examples/invalid.ts"
import { DurableReport } from "../../examples/channels.ts"
import { Durable } from "../../examples/pooler.ts"
import { deploy } from "../../examples/testing.ts"
import { layerMemory } from "../../src/server/NotificationSource.ts"
import { layerReader } from "../server/support/durable.ts"
import { installedDatabase } from "../support/database.ts"

const durable = Realtime.layer().pipe(Layer.provide(layerMemory), Layer.provideMerge(layerReader()))

/** An HTTP API with one answer. */
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

describe("columns.md", () => {
  it.live("columns.ts: a page that loads the state has what an event says", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* table
      const { cursor: from } = yield* Realtime.snapshot(Effect.void)
      yield* pay("1311768467463790321")
      yield* pay("5")
      const state = yield* Realtime.snapshot(Realtime.rows(Payment, sql`select * from payments`))
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

  it.live("invalid.ts: keeps what could not be read, in the transaction of its cursor", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* table
      yield* sql`create table booked (id text primary key)`
      yield* sql`create table unread (cursor text, reason text, invalid json)`
      const fiber = yield* Effect.forkChild(bookkeeper)
      const until = <A>(query: Effect.Effect<ReadonlyArray<A>, unknown>, count: number) =>
        query.pipe(Effect.repeat({ until: (found) => found.length === count }))
      yield* until(sql`select from realtime.consumers where name = 'bookkeeper'`, 1)
      yield* pay("1")
      yield* sql`insert into realtime.messages (channel, payload) values (${Payments.name}, '{"operation":"INSERT","data":{"id":"secret"}}')`
      yield* pay("2")
      yield* until(sql`select from booked`, 2)
      const unread = yield* sql`select reason, invalid from unread`
      expect(unread).toMatchObject([
        { reason: "invalid", invalid: { path: `["data"]["id"]`, id: expect.any(String) } }
      ])
      expect(JSON.stringify(unread)).not.toContain("secret")
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(durable))
  )
})

describe("connecting.md", () => {
  it.live("connecting.ts, pooler.ts: durable channels without a link, by the URL", () =>
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

describe("testing.md", () => {
  it.effect("testing.ts: a page misses nothing while no server runs", () =>
    Effect.map(deploy, (events) => {
      expect(
        events.map((event) => (event._tag === "Event" ? event.payload.data.id : event.reason))
      ).toEqual([1, 2, 3])
    })
  )
})
