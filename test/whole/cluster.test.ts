/**
 * The law of delivery over three server processes: nodes are replaced, killed, stopped, and cut off from
 * the database, and the database crashes. Of a durable channel each client receives each event once, in
 * order and without a gap, on a live channel a gap for every missing event, and the rows of a table are
 * those of one position, and at the end those of a `select`.
 *
 * The test prints its seed: REALTIME_TEST_SEED=<seed> repeats the faults. REALTIME_TEST_LONG=1 has ten times
 * as many of them.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Redacted, Stream } from "effect"
import { RealtimeClient } from "effect-realtime/client"
import { PgInstaller } from "effect-realtime/server"
import { createServer } from "node:net"
import { long, random, seed } from "../server/support/random.ts"
import { ownServer } from "../support/cluster.ts"
import { execute } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { until } from "../support/until.ts"
import { Kept, Live, type Part, Parts } from "./support/clusterChannels.ts"
import { clusterNode } from "./support/clusterNode.ts"
import { Ledger, Witness } from "./support/law.ts"

const nodeCount = 3
const clientCount = long ? 60 : 12
const faultCount = long ? 60 : 6
const pairs = 20
const statuses = ["new", "sent"]
const wheres = [undefined, { status: "new" }, { status: "sent" }] as const

/** A port on which a node can listen again after it was killed. */
const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  // Below the ports of outgoing connections, which could take it meanwhile.
  const attempt = () => server.listen(20_000 + Math.floor(Math.random() * 12_000), "127.0.0.1")
  server.on("error", attempt)
  server.once("listening", () => {
    const address = server.address()
    server.close(() => {
      if (typeof address === "object" && address !== null) resume(Effect.succeed(address.port))
    })
  })
  attempt()
})

/** The pairs of which one half is missing, or other than the other one. */
const halves = (rows: ReadonlyArray<Part>) => {
  const found = new Map<number, Array<Part>>()
  for (const row of rows) found.set(row.pair, [...(found.get(row.pair) ?? []), row])
  return [...found.values()].filter(
    ([one, other]) => one?.version !== other?.version || one?.status !== other?.status
  )
}

describe("three nodes", () => {
  it.live(
    `lose nothing and deliver nothing twice (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const { chance, int, pick } = random(seed)
        const postgres = yield* ownServer()
        const { url } = postgres
        const layerPg = PgClient.layer({ url: Redacted.make(url), maxConnections: 8 })
        yield* execute(
          url,
          `create table parts (id int primary key, pair int not null, status text not null, version int not null)`
        )
        yield* Effect.andThen(PgInstaller.install(), PgInstaller.watch({ channel: Parts })).pipe(
          Effect.provide(layerPg)
        )

        const nodes = yield* Effect.forEach(
          Array.from({ length: nodeCount }, (_, index) => index + 1),
          (index) =>
            Effect.gen(function* () {
              const toDatabase = yield* hop({ path: `${postgres.socketDirectory}/.s.PGSQL.5432` })
              const through = new URL(url)
              through.searchParams.set("host", "127.0.0.1")
              through.searchParams.set("port", String(toDatabase.port))
              const port = yield* freePort
              const node = yield* clusterNode({
                name: `node ${index}`,
                port,
                databaseUrl: through.href
              })
              const toNode = yield* hop({ host: "127.0.0.1", port })
              return { ...node, toDatabase, toNode }
            }),
          { concurrency: "unbounded" }
        )
        const urls = nodes.map(({ toNode }) => `ws://127.0.0.1:${toNode.port}/realtime`)

        const ledger = new Ledger()
        const witnesses: Array<Witness> = []
        const wrong: Array<unknown> = []
        let compared = 0
        const collections = yield* Effect.forEach(
          Array.from({ length: clientCount }, (_, index) => index),
          (index) =>
            Effect.gen(function* () {
              const context = yield* Layer.build(
                RealtimeClient.layer({
                  url: urls[index % urls.length]!,
                  backoff: { initial: 20, cap: 300, resetAfter: 1000 }
                })
              )
              const client = yield* Effect.provideContext(RealtimeClient.RealtimeClient, context)
              for (const channel of [Live, Kept]) {
                const witness = new Witness(`client ${index}`, channel.name, ledger)
                witnesses.push(witness)
                yield* client.events(channel).pipe(
                  Stream.runForEach((event) => Effect.sync(() => witness.hear([event]))),
                  Effect.forkScoped
                )
              }
              const where = wheres[index % wheres.length]
              const collection = { where, rows: [] as ReadonlyArray<Part>, status: "loading" }
              yield* client.rows(Parts, where === undefined ? {} : { where }).pipe(
                Stream.runForEach(({ rows, status }) =>
                  Effect.sync(() => {
                    Object.assign(collection, { rows, status })
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

        /** Publishes on a channel. The commit counts when the database has confirmed it. */
        const publishOn = (channel: typeof Live | typeof Kept) => {
          const n = ledger.next()
          const json = JSON.stringify({ n })
          return PgClient.PgClient.use((sql) =>
            channel === Kept
              ? sql`select realtime.publish(${channel.name}, ${json}::text)`
              : sql`select pg_notify(${channel.name}, ${json})`
          ).pipe(Effect.andThen(Effect.sync(() => ledger.commit(channel.name, n))))
        }
        const publish = Effect.suspend(() => publishOn(pick([Live, Kept])))
        /** Inserts, changes or deletes a pair, and may roll back. */
        const change = Effect.suspend(() => {
          const pair = int(pairs)
          const statement = chance(0.2)
            ? `delete from parts where pair = ${pair}`
            : `insert into parts select ${pair} * 2 + n, ${pair}, '${pick(statuses)}', 1 from generate_series(0, 1) n
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

        let over = false
        /** Whether a publish may be on its way: a crash could commit it without an answer. */
        let quiet = false
        const load = (work: Effect.Effect<unknown, unknown, PgClient.PgClient>, pause: number) =>
          Effect.whileLoop({
            while: () => !over,
            body: () =>
              Effect.andThen(
                quiet ? Effect.void : Effect.exit(work),
                Effect.suspend(() => Effect.sleep(int(pause)))
              ),
            step: () => {}
          })
        // One publisher, so that its commits have the order of its numbers.
        let publishing = 0
        const publishOne = Effect.suspend(() => {
          publishing++
          return Effect.ensuring(
            publish,
            Effect.sync(() => publishing--)
          )
        })
        const writing = yield* Effect.all(
          [load(publishOne, 20), ...Array.from({ length: 6 }, () => load(change, 40))],
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.provide(layerPg), Effect.forkScoped)

        const node = Effect.sync(() => pick(nodes))
        const faults: ReadonlyArray<readonly [string, Effect.Effect<unknown>]> = [
          ["a node is killed", Effect.flatMap(node, ({ restart }) => restart("SIGKILL"))],
          ["a node stops and goes on", Effect.flatMap(node, ({ pause }) => pause(500 + int(2500)))],
          [
            "the nodes are replaced one by one",
            Effect.forEach(nodes, ({ restart }) => restart("SIGTERM"), { discard: true })
          ],
          [
            "a node is cut off from the database",
            Effect.flatMap(node, ({ toDatabase }) =>
              Effect.acquireUseRelease(
                Effect.sync(toDatabase.silence),
                () => Effect.sleep(500 + int(2500)),
                () => Effect.sync(toDatabase.heal)
              )
            )
          ],
          [
            "a node loses its clients",
            Effect.flatMap(node, ({ toNode }) => Effect.sync(toNode.cut))
          ],
          [
            "the database crashes",
            Effect.gen(function* () {
              quiet = true
              yield* until(() => publishing === 0)
              yield* Effect.orDie(postgres.crash)
              quiet = false
            })
          ]
        ]

        const reached = () =>
          witnesses.every(({ channel, told }) => {
            const item = told.findLast(({ _tag }) => _tag === "Event")
            return item?._tag === "Event" && item.n === ledger.of(channel).at(-1)
          })
        /** Publishes on each channel until each client has received the last of it. */
        const everybody = Effect.gen(function* () {
          while (!reached()) {
            for (const channel of [Live, Kept]) yield* Effect.exit(publishOn(channel))
            yield* Effect.raceFirst(until(reached), Effect.sleep(1000))
          }
        }).pipe(Effect.provide(layerPg))

        const log: Array<string> = []
        yield* until(() => witnesses.every(({ events }) => events > 0))
        // Each kind of fault comes before one of them comes again.
        for (let at = 0; at < faultCount; at++) {
          const [name, fault] = at < faults.length ? faults[at]! : pick(faults)
          log.push(name)
          yield* fault
          yield* Effect.sleep(int(500))
        }
        yield* Effect.sleep(500)
        over = true
        yield* Fiber.join(writing)
        for (const { toDatabase, toNode } of nodes) {
          toDatabase.heal()
          toNode.heal()
        }
        const told = `seed ${seed}: ${log.join("; ")}`
        const arrived = yield* Effect.exit(Effect.timeout(everybody, "30 seconds"))
        const rows = (yield* execute(url, "select * from parts")) as unknown as ReadonlyArray<Part>
        const text = (all: ReadonlyArray<Part>) =>
          all
            .map(({ id, pair, status, version }) => [id, pair, status, version].join(" "))
            .toSorted()
            .join("\n")
        const right = ({ where, ...found }: (typeof collections)[number]) =>
          found.status === "live" &&
          text(found.rows) ===
            text(rows.filter((row) => where === undefined || row.status === where.status))
        const equal = yield* Effect.exit(
          Effect.timeout(
            until(() => collections.every(right)),
            "30 seconds"
          )
        )
        const violations = witnesses.flatMap((witness) => witness.violations)
        expect(violations, told).toEqual([])
        expect(Exit.isSuccess(arrived), told).toBe(true)
        expect(wrong, told).toEqual([])
        expect(Exit.isSuccess(equal), told).toBe(true)
        // No durable event is missing with a gap either.
        const gaps = witnesses.filter(
          ({ channel, told }) => channel === Kept.name && told.some(({ _tag }) => _tag === "Gap")
        )
        expect(gaps, told).toEqual([])
        // The test is meaningful only if much was received and compared.
        expect(witnesses.every(({ events }) => events > 5)).toBe(true)
        expect(compared).toBeGreaterThan(60)
      }).pipe(Effect.scoped),
    long ? 900_000 : 240_000
  )
})
