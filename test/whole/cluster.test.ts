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
import { Effect, Exit, Fiber, Redacted, Stream } from "effect"
import { PgInstaller } from "effect-realtime/server"
import { long, random, seed } from "../server/support/random.ts"
import { ownServer } from "../support/cluster.ts"
import { execute } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { until } from "../support/until.ts"
import { freePort } from "../support/freePort.ts"
import { Kept, Live } from "./support/clusterChannels.ts"
import { clusterNode } from "./support/clusterNode.ts"
import { Ledger, Witness } from "./support/law.ts"
import { changePair, Collections, createParts, type Part, Parts } from "./support/pairs.ts"

const nodeCount = 3
const clientCount = long ? 60 : 12
const faultCount = long ? 60 : 6
describe("three nodes", () => {
  it.live(
    `lose nothing and deliver nothing twice (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const dice = random(seed)
        const { int, pick } = dice
        const postgres = yield* ownServer()
        const { url } = postgres
        const layerPg = PgClient.layer({ url: Redacted.make(url), maxConnections: 8 })
        yield* execute(url, createParts)
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
        const collections = new Collections()
        for (let index = 0; index < clientCount; index++) {
          // Each begins with another node, and goes on to the next ones.
          const first = index % urls.length
          const client = yield* collections.add([...urls.slice(first), ...urls.slice(0, first)])
          for (const channel of [Live, Kept]) {
            const witness = new Witness(`client ${index}`, channel.name, ledger)
            witnesses.push(witness)
            yield* client.events(channel).pipe(
              Stream.runForEach((event) => Effect.sync(() => witness.hear([event]))),
              Effect.forkScoped
            )
          }
        }

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
        const change = Effect.suspend(() => changePair(dice))

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
        // Each kind of fault is there before one of them is there again.
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
        const equal = yield* Effect.exit(
          Effect.timeout(
            until(() => collections.equal(rows)),
            "30 seconds"
          )
        )
        const violations = witnesses.flatMap((witness) => witness.violations)
        expect(violations, told).toEqual([])
        expect(Exit.isSuccess(arrived), told).toBe(true)
        expect(collections.wrong, told).toEqual([])
        expect(Exit.isSuccess(equal), told).toBe(true)
        // No durable event is missing with a gap either.
        const gaps = witnesses.filter(
          ({ channel, told }) => channel === Kept.name && told.some(({ _tag }) => _tag === "Gap")
        )
        expect(gaps, told).toEqual([])
        // The test is meaningful only if much was received and compared.
        expect(witnesses.every(({ events }) => events > 5)).toBe(true)
        expect(collections.compared).toBeGreaterThan(60)
      }).pipe(Effect.scoped),
    long ? 900_000 : 240_000
  )
})
