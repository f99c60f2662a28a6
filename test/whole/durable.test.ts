/** Durable channels end to end, while the test kills every part between database and client. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { Realtime } from "effect-realtime/server"
import { layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { node } from "./support/node.ts"

const Log = Channel.make("log", Schema.Unknown, { delivery: "durable", publish: true })

/** A server in its own process. The test can kill it and start it again on the same port. */
const server = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const setup = { databaseUrl: url, durable: true, doors: { "/realtime": {} } }
  let running = yield* node(setup)
  const { port } = running
  return {
    port,
    kill: Effect.suspend(() => running.kill),
    start: Effect.map(node({ ...setup, port }), (next) => {
      running = next
    })
  }
})

const clientAt = (port: number) =>
  Effect.map(
    Layer.build(
      RealtimeClient.layer({
        url: `ws://127.0.0.1:${port}/realtime`,
        backoff: { initial: 20, cap: 200, resetAfter: 1000 }
      })
    ),
    (context) => Context.get(context, RealtimeClient.RealtimeClient)
  )

describe("a durable channel, end to end", () => {
  it.live(
    "delivers exactly the 5,000 committed events while the test kills the socket, the server, the link and the reader",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const { url } = yield* TestDatabase
        const connect = PgConnection.make({ url: Redacted.make(url), applicationName: "test" })
        const { kill, port, start } = yield* server
        const network = yield* hop({ host: "127.0.0.1", port })
        const client = yield* clientAt(network.port)
        const { cursor } = yield* Realtime.snapshot(sql`select 1`)
        const total = 5000
        const writers = yield* Effect.forEach([0, 1, 2, 3, 4], () => connect)
        const told = yield* client.events(Log, { from: cursor }).pipe(
          Stream.map((event) => (event._tag === "Gap" ? `gap ${event.reason}` : event.payload)),
          Stream.take(total),
          Stream.runCollect,
          Effect.forkChild({ startImmediately: true })
        )
        const connected = Effect.suspend(() =>
          client.sync.connection.getSnapshot().status === "open"
            ? Effect.succeed(true)
            : Effect.as(Effect.delay(client.reconnect, 20), false)
        ).pipe(Effect.repeat({ until: (open) => open }))
        const terminate = (name: string) => sql`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = ${name}`
        const cut = Effect.sync(network.cut)
        const link = terminate("effect-realtime link")
        const reader = terminate("effect-realtime reader")
        // A client reconnects before the next fault.
        const faults = [
          Effect.andThen(connected, cut),
          Effect.andThen(connected, reader),
          link,
          kill,
          start,
          Effect.andThen(connected, Effect.andThen(cut, reader)),
          Effect.andThen(connected, cut),
          Effect.andThen(connected, Effect.all([cut, reader, link, kill])),
          start,
          Effect.andThen(connected, link)
        ]
        const each = total / faults.length / writers.length
        for (const [round, fault] of faults.entries()) {
          const writing = Effect.forEach(
            writers,
            (db, writer) =>
              Effect.forEach(
                Array.from({ length: each }, (_, n) => round * each + n),
                (n) =>
                  db.query("select realtime.publish('log', $1::text)", [
                    JSON.stringify({ writer, n })
                  ]),
                { discard: true }
              ),
            { concurrency: "unbounded", discard: true }
          )
          yield* Effect.all([writing, fault], { concurrency: "unbounded", discard: true })
        }
        const events = (yield* Fiber.join(told)) as ReadonlyArray<{
          readonly writer: number
          readonly n: number
        }>
        for (const writer of writers.keys()) {
          expect(events.filter((event) => event.writer === writer).map(({ n }) => n)).toEqual(
            Array.from({ length: total / writers.length }, (_, n) => n)
          )
        }
      }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase)),
    60_000
  )

  it.live("stores a publish once when the server is killed before its answer", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { url } = yield* TestDatabase
      const { kill, port, start } = yield* server
      const client = yield* clientAt(port)
      const heard = yield* client.events(Log).pipe(
        Stream.map((event) => (event._tag === "Gap" ? `gap ${event.reason}` : event.payload)),
        Stream.take(2),
        Stream.runCollect,
        Effect.forkChild({ startImmediately: true })
      )
      const gate = yield* PgConnection.make({ url: Redacted.make(url), applicationName: "test" })
      yield* gate.query(
        "create function wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$"
      )
      yield* gate.query(
        "create trigger wait before insert on realtime.messages for each row execute function wait()"
      )
      yield* gate.query("select pg_advisory_lock(1)")
      const publishing = yield* Effect.forkChild(client.publish(Log, "once"))
      const waits = sql<{ readonly n: number }>`
        select count(*)::int n from pg_locks where locktype = 'advisory' and not granted
          and database = (select oid from pg_database where datname = current_database())`
      yield* Effect.repeat(waits, { until: ([found]) => found!.n === 1 })
      yield* kill
      // The database session of the dead server continues and commits.
      yield* gate.query("select pg_advisory_unlock(1)")
      const stored = sql<{ readonly n: number }>`select count(*)::int n from realtime.messages`
      yield* Effect.repeat(stored, { until: ([found]) => found!.n === 1 })
      expect(publishing.pollUnsafe()).toBeUndefined()
      yield* start
      yield* Fiber.join(publishing)
      yield* client.publish(Log, "end")
      expect(yield* stored).toEqual([{ n: 2 }])
      expect(yield* Fiber.join(heard)).toEqual(["once", "end"])
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )
})
