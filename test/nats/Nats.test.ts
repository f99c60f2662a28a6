/** The class of `./node` with the option `nodes`: two servers, one database, one NATS server. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Metric, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Nats from "../../src/nats/Nats.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { execute, installedDatabase } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { greet } from "../support/wire.ts"

const Live = Channel.make("live", Schema.Int)
const Kept = Channel.make("kept", Schema.Int, { delivery: "durable" })

const serverOn = (url: string, nodes: RealtimeServer.Options["nodes"]) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const options = { channels: [Live, Kept], authorize: () => true, control: true, nodes }
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new RealtimeServer(http, url, options)),
      (server) => Effect.promise(() => server.close())
    )
    return { server, ws: `ws://${addressOf(http)}/realtime` }
  })

const subscribed = (ws: string) =>
  Effect.gen(function* () {
    const wire = yield* greet(ws)
    for (const [index, channel] of ["live", "kept"].entries()) {
      wire.send({ type: "subscribe", id: index + 1, channel })
      yield* wire.next("subscribed")
    }
    return wire
  })

describe.skipIf(executablePath === undefined)("Nats.nodes", () => {
  it.live(
    "joins two servers of the class, each with one connection: one reads and listens for both",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const nats = yield* natsServer()
        let connections = 0
        const between = yield* hop({ host: "127.0.0.1", port: nats.port }, () => {
          connections++
          return () => undefined
        })
        const nodes = () => Nats.nodes({ servers: `127.0.0.1:${between.port}` })
        const [one, two] = [yield* serverOn(url, nodes()), yield* serverOn(url, nodes())]
        yield* Effect.promise(() => Promise.all([one.server.ready, two.server.ready]))
        const wires = [yield* subscribed(one.ws), yield* subscribed(two.ws)]
        const held = (lease: string) =>
          Effect.map(
            Metric.value(Metric.withAttributes(metrics.leasesHeld, { lease })),
            ({ value }) => Number(value)
          )
        const elected = Effect.all([held("reader"), held("listener")])
        yield* Effect.repeat(Effect.delay(elected, 20), { until: (held) => held.every(Boolean) })
        expect(yield* elected).toEqual([1, 1])
        yield* Effect.promise(() => one.server.publish(Kept, 1))
        yield* execute(url, "notify live, '2'")
        for (const wire of wires) {
          const events = [yield* wire.next("events"), yield* wire.next("events")]
          expect(events.map(({ channel }) => channel).toSorted()).toEqual(["kept", "live"])
        }
        yield* Effect.repeat(
          Effect.andThen(
            Effect.sleep(20),
            Effect.promise(() => two.server.stats())
          ),
          { until: ({ answered }) => answered.length === 2 }
        )
        expect(connections).toBe(2)
      }).pipe(Effect.scoped)
  )

  it.live(
    "is refused with the wrong shape at once, and with the reason where NATS is not there",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        expect(() => Nats.nodes({ servers: [] })).toThrow(/The option servers/)
        expect(() => Nats.nodes({ servers: "a", bus: { name: "" } })).toThrow(/The option name/)
        const http = yield* httpServer
        expect(() => new RealtimeServer(http, url, { nodes: "nats:4222" as never })).toThrow(
          /what Nats.nodes of effect-realtime\/nats makes/
        )
        const { server } = yield* serverOn(url, Nats.nodes({ servers: "127.0.0.1:1" }))
        const error = yield* Effect.promise(() => server.ready.catch((error: unknown) => error))
        expect(error).toMatchObject({ _tag: "NatsUnreachable" })
      }).pipe(Effect.scoped)
  )
})
