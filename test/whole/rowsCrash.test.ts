/**
 * The rows of clients on real PostgreSQL and real sockets, while writers run, the database crashes, and
 * sockets are cut. Each transaction changes both rows of a pair in the same way, so rows that are live and
 * not those of one position are seen by a half pair. At the end they are those of a `select`.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/node"
import { PgInstaller } from "effect-realtime/server"
import type { AddressInfo } from "node:net"
import { long, random, seed } from "../server/support/random.ts"
import { ownServer } from "../support/cluster.ts"
import { execute } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { httpServer } from "../support/httpServer.ts"
import { until } from "../support/until.ts"

const Part = Schema.Struct({
  id: Schema.Int,
  pair: Schema.Int,
  status: Schema.String,
  version: Schema.Int
})
type Part = typeof Part.Type
const Parts = Channel.table("parts", Part, { key: "id", filter: "status" })

const pairs = 20
const statuses = ["new", "sent"]
const wheres = [undefined, { status: "new" }, { status: "sent" }] as const

const sorted = (rows: ReadonlyArray<Part>) => rows.toSorted((one, other) => one.id - other.id)

/** The pairs of which one half is missing, or other than the other one. */
const halves = (rows: ReadonlyArray<Part>) => {
  const found = new Map<number, Array<Part>>()
  for (const row of rows) found.set(row.pair, [...(found.get(row.pair) ?? []), row])
  return [...found.values()].filter(
    ([one, other]) => one?.version !== other?.version || one?.status !== other?.status
  )
}

describe("the rows of clients of real PostgreSQL", () => {
  it.live(
    `are those of one position while they are live, across crashes (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const { chance, int, pick } = random(seed)
        const postgres = yield* ownServer()
        const { url } = postgres
        const layerPg = PgClient.layer({ url: Redacted.make(url) })
        yield* execute(
          url,
          `create table parts (id int primary key, pair int not null, status text not null, version int not null)`
        )
        yield* Effect.andThen(PgInstaller.install(), PgInstaller.watch({ channel: Parts })).pipe(
          Effect.provide(layerPg)
        )
        const http = yield* httpServer
        const server = yield* Effect.acquireRelease(
          Effect.sync(
            () => new RealtimeServer(http, url, { channels: [Parts], authorize: () => true })
          ),
          (server) => Effect.promise(() => server.close())
        )
        yield* Effect.promise(() => server.ready)
        const toServer = yield* hop({
          host: "127.0.0.1",
          port: (http.address() as AddressInfo).port
        })

        const wrong: Array<unknown> = []
        let compared = 0
        let stale = 0
        const collections = yield* Effect.forEach([0, 1, 2, 3, 4, 5], (index) =>
          Effect.gen(function* () {
            const context = yield* Layer.build(
              RealtimeClient.layer({
                url: `ws://127.0.0.1:${toServer.port}/realtime`,
                backoff: { initial: 20, cap: 200, resetAfter: 1000 }
              })
            )
            const client = yield* Effect.provideContext(RealtimeClient.RealtimeClient, context)
            const where = wheres[index % wheres.length]
            const collection = { where, rows: [] as ReadonlyArray<Part>, status: "loading" }
            yield* client.rows(Parts, where === undefined ? {} : { where }).pipe(
              Stream.runForEach(({ rows, status }) =>
                Effect.sync(() => {
                  Object.assign(collection, { rows, status })
                  if (status === "stale") stale++
                  if (status !== "live") return
                  compared++
                  wrong.push(...halves(rows))
                  for (const row of rows) {
                    if (where !== undefined && row.status !== where.status) wrong.push(row)
                  }
                })
              ),
              Effect.forkScoped
            )
            return collection
          })
        )

        let over = false
        /** Inserts, changes or deletes a pair, and may roll back. */
        const change = Effect.suspend(() => {
          const pair = int(pairs)
          const status = pick(statuses)
          const statement = chance(0.2)
            ? `delete from parts where pair = ${pair}`
            : `insert into parts select ${pair} * 2 + n, ${pair}, '${status}', 1 from generate_series(0, 1) n
               on conflict (id) do update set status = excluded.status, version = parts.version + 1`
          return PgClient.PgClient.use((sql) =>
            sql.withTransaction(
              // The lock keeps the order in which a pair's rows are changed.
              sql`select pg_advisory_xact_lock(${pair})`.pipe(
                Effect.andThen(sql.unsafe(statement)),
                Effect.andThen(chance(0.1) ? Effect.fail("undone") : Effect.void)
              )
            )
          )
        })
        const writing = yield* Effect.forEach(
          Array(8).fill(undefined),
          () =>
            Effect.whileLoop({
              while: () => !over,
              body: () => Effect.andThen(Effect.exit(change), Effect.sleep(int(20))),
              step: () => {}
            }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.provide(layerPg), Effect.forkScoped)

        for (let fault = 0; fault < (long ? 30 : 4); fault++) {
          const before = compared
          yield* until(
            () => compared >= before + 15 && collections.every(({ status }) => status === "live")
          )
          yield* Effect.sleep(int(200))
          if (fault % 2 === 0) toServer.cut()
          else yield* postgres.crash
        }
        yield* Effect.sleep(200)
        over = true
        yield* Fiber.join(writing)

        const rows = (yield* execute(url, "select * from parts").pipe(
          Effect.retry(Schedule.upTo(Schedule.spaced(100), { times: 50 }))
        )) as unknown as ReadonlyArray<Part>
        const right = ({ where, ...found }: (typeof collections)[number]) => {
          const expected = rows.filter((row) => where === undefined || row.status === where.status)
          const [one, other] = [sorted(found.rows), sorted(expected)].map((all) =>
            JSON.stringify(all.map(({ id, pair, status, version }) => [id, pair, status, version]))
          )
          return found.status === "live" && one === other
        }
        yield* until(() => collections.every(right))
        expect({ seed, wrong }).toEqual({ seed, wrong: [] })
        // The test is meaningful only if much was compared, and the faults were felt.
        expect(compared).toBeGreaterThan(60)
        expect(stale).toBeGreaterThan(3)
      }).pipe(Effect.scoped),
    long ? 180_000 : 60_000
  )
})
