/**
 * Checks the law of delivery on real PostgreSQL and real sockets under faults: the test kills the
 * listening backend, restarts the database, silences or cuts the paths to the database and to the
 * clients, and replaces the server. Each consumer receives each event at most once, in order, and a gap
 * for every missing event. On a durable channel no event is missing, and no consumer receives a gap.
 *
 * The test prints its seed: REALTIME_TEST_SEED=<seed> repeats the faults. REALTIME_TEST_LONG=1 runs for
 * 2 minutes.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted, Schema, Scope, Stream } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/node"
import { OutboxReader, PgInstaller, PgNotificationSource, Realtime } from "effect-realtime/server"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { ownServer } from "../support/cluster.ts"
import { hop } from "../support/hop.ts"
import { until } from "../support/until.ts"
import { type Numbered, Ledger, long, newSeed, randomOf, Witness } from "./support/law.ts"

const channels: ReadonlyArray<Channel.Channel<Numbered>> = [
  ...["red", "blue"].map((name) => Channel.make(name, Schema.Struct({ n: Schema.Int }))),
  Channel.make("kept", Schema.Struct({ n: Schema.Int }), { delivery: "durable" })
]

const duration = long ? 120_000 : 10_000

describe("chaos", () => {
  const seed = newSeed()

  it.live(
    `leaves no event missing without a gap, and none of a durable channel (seed ${seed})`,
    () =>
      Effect.gen(function* () {
        const random = randomOf(seed)
        const pick = <A>(all: ReadonlyArray<A>): A => all[Math.floor(random() * all.length)]!
        const ledger = new Ledger()
        const witnesses: Array<Witness> = []

        const postgres = yield* ownServer()
        yield* PgInstaller.install().pipe(
          Effect.provide(PgClient.layer({ url: Redacted.make(postgres.url) })),
          Effect.scoped
        )
        const toDatabase = yield* hop({ path: `${postgres.socketDirectory}/.s.PGSQL.5432` })
        const through = new URL(postgres.url)
        through.searchParams.set("host", "127.0.0.1")
        through.searchParams.set("port", String(toDatabase.port))

        // The server, on the same port after each replacement.
        const http = createServer()
        yield* Effect.acquireRelease(
          Effect.callback<void>((resume) => {
            http.listen(0, "127.0.0.1", () => resume(Effect.void))
          }),
          () =>
            Effect.sync(() => {
              http.close()
              http.closeAllConnections()
            })
        )
        const { port } = http.address() as AddressInfo
        const start = () =>
          new RealtimeServer(http, postgres.url, {
            channels,
            authorize: () => true,
            listenUrl: through.href,
            limits: {
              pingInterval: "1 second",
              pingTimeout: "1 second",
              drainTimeout: "500 millis"
            }
          })
        let server = start()
        yield* Effect.addFinalizer(() => Effect.promise(() => server.close()))
        yield* Effect.promise(() => server.ready)

        // Clients behind one hop, and a Stream with its own link.
        const toServer = yield* hop({ host: "127.0.0.1", port })
        const watch = (
          name: string,
          events: (
            channel: Channel.Channel<Numbered>
          ) => Stream.Stream<Parameters<Witness["hear"]>[0][number], unknown>
        ) =>
          Effect.forEach(channels, (channel) => {
            const witness = new Witness(name, channel.name, ledger)
            witnesses.push(witness)
            return events(channel).pipe(
              Stream.runForEach((event) => Effect.sync(() => witness.hear([event]))),
              Effect.forkScoped
            )
          })
        for (const name of ["client 1", "client 2", "client 3"]) {
          const context = yield* Layer.build(
            RealtimeClient.layer({
              url: `ws://127.0.0.1:${toServer.port}/realtime`,
              backoff: { initial: 20, cap: 200, resetAfter: 1000 }
            })
          )
          const client = yield* Effect.provideContext(RealtimeClient.RealtimeClient, context)
          yield* watch(name, (channel) => client.events(channel))
        }
        const beside = yield* Layer.build(
          Realtime.layer().pipe(
            Layer.provide([
              PgNotificationSource.layer({
                listenUrl: Redacted.make(through.href),
                heartbeatInterval: "200 millis",
                heartbeatTimeout: "200 millis",
                backoff: { initial: 10, cap: 200, resetAfter: 30_000 }
              }),
              OutboxReader.layer({
                readUrl: Redacted.make(through.href),
                heartbeatTimeout: "200 millis",
                backoff: { initial: 10, cap: 200, resetAfter: 30_000 }
              })
            ]),
            Layer.provide(PgClient.layer({ url: Redacted.make(postgres.url) }))
          )
        )
        yield* watch("a Stream", (channel) =>
          Stream.provideContext(Realtime.events(channel), beside)
        )

        // The writer connects directly, so it always knows which publishes committed.
        let pool = yield* Scope.make()
        const connect = Effect.suspend(() =>
          Layer.build(PgClient.layer({ url: Redacted.make(postgres.url), maxConnections: 1 })).pipe(
            Scope.provide(pool),
            Effect.flatMap((context) => Effect.provideContext(PgClient.PgClient, context))
          )
        )
        let writer = yield* connect
        const send = ({ delivery, name }: Channel.Any, n: number) =>
          delivery === "durable"
            ? writer`select realtime.publish(${name}, ${JSON.stringify({ n })}::text)`
            : writer`select pg_notify(${name}, ${JSON.stringify({ n })})`
        const publish = Effect.suspend(() => {
          const channel = pick(channels)
          const n = ledger.next()
          return Effect.map(send(channel, n), () => ledger.commit(channel.name, n))
        })

        const kill = (like: string) =>
          writer`select pg_terminate_backend(pid) from pg_stat_activity where application_name like ${like}`
        const faults: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
          ["the link is killed", Effect.suspend(() => kill("effect-realtime link"))],
          ["the reader is killed", Effect.suspend(() => kill("effect-realtime reader"))],
          [
            "the database restarts",
            Effect.gen(function* () {
              yield* Scope.close(pool, Exit.void)
              yield* postgres.restart
              pool = yield* Scope.make()
              writer = yield* connect
            })
          ],
          ["the path to the database is cut", Effect.sync(toDatabase.cut)],
          ["the path to the database is silent", Effect.sync(toDatabase.silence)],
          ["the clients are cut off", Effect.sync(toServer.cut)],
          ["the path to the clients is silent", Effect.sync(toServer.silence)],
          [
            "the server is replaced",
            Effect.promise(async () => {
              await server.close()
              server = start()
            })
          ],
          [
            "everything works",
            Effect.sync(() => {
              toDatabase.heal()
              toServer.heal()
            })
          ]
        ]
        const log: Array<string> = []

        // Each consumer has received an event before the first fault. From here on each event counts.
        const everybody = (heard: (witness: Witness) => boolean) =>
          Effect.gen(function* () {
            const reached = () => witnesses.every(heard)
            while (!reached()) {
              for (const channel of channels) {
                const n = ledger.next()
                yield* send(channel, n)
                ledger.commit(channel.name, n)
              }
              yield* Effect.raceFirst(until(reached), Effect.sleep(500))
            }
          })
        yield* everybody(({ events }) => events > 0)

        const end = performance.now() + duration
        while (performance.now() < end) {
          for (let count = Math.floor(random() * 20); count > 0; count--) yield* publish
          const [name, fault] = pick(faults)
          log.push(name)
          yield* fault
          yield* Effect.sleep(Math.floor(random() * 400))
        }

        // All faults end. Then each consumer must receive a last commit on each channel.
        toDatabase.heal()
        toServer.heal()
        toDatabase.cut()
        toServer.cut()
        yield* everybody(({ channel, told }) => {
          const last = told.findLast((item) => item._tag === "Event")
          return last?._tag === "Event" && last.n === ledger.of(channel).at(-1)
        })
        yield* Scope.close(pool, Exit.void)

        const violations = witnesses.flatMap((witness) => witness.violations)
        expect(violations, `seed ${seed}: ${log.join("; ")}`).toEqual([])
        // The durable channel has no gap.
        const gaps = witnesses.filter(
          ({ channel, told }) => channel === "kept" && told.some(({ _tag }) => _tag === "Gap")
        )
        expect(gaps, `seed ${seed}: ${log.join("; ")}`).toEqual([])
        // The test is meaningful only if the consumers received many events.
        const events = witnesses.reduce((sum, witness) => sum + witness.events, 0)
        expect(events).toBeGreaterThan(witnesses.length * 5)
      }).pipe(Effect.scoped),
    duration + 60_000
  )
})
