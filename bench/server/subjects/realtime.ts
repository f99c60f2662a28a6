/**
 * effect-realtime as a user runs it: every client authenticates and is authorized, and every limit
 * stands at its default, except those that 10,000 clients on one machine would cross.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, ManagedRuntime, Redacted, Schema, Tracer } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import { PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"
import * as Channel from "../../../src/Channel.ts"
import { attach } from "../../../src/server/internal/door/attach.ts"
import * as Door from "../../../src/server/internal/door/door.ts"
import { type NotificationSource } from "../../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../../src/server/OutboxReader.ts"
import * as PgNotificationSource from "../../../src/server/PgNotificationSource.ts"
import * as MemorySource from "../../../src/server/MemorySource.ts"
import * as Realtime from "../../../src/server/Realtime.ts"
import * as RealtimeServer from "../../../src/server/RealtimeServer.ts"
import type { IdentityOptions } from "../../../src/server/ServerOptions.ts"
import type { Setup } from "../../lib/types.ts"
import { feedOver } from "../../lib/feedOver.ts"
import { items } from "../../lib/items.ts"
import { listen, type Open, shut } from "../subject.ts"
import * as Feed from "./feed.ts"

/** See `messageText`. */
const Message = Schema.Struct({
  id: Schema.Finite,
  status: Schema.String,
  note: Schema.String
})

const options: IdentityOptions<string> = {
  channels: [Channel.family("bench_", Schema.String, Message)],
  authenticate: ({ token }) => Effect.succeed({ identity: token ?? "nobody" }),
  authorize: ({ identity, action }) =>
    Effect.succeed(identity !== "nobody" && action !== "publish"),
  limits: { maxSessions: 50_000, upgradeRate: { perSecond: 100_000, burst: 100_000 } }
}

/** 10,000 sockets connect at once, each with a channel of its own. */
const crowded: IdentityOptions<string> = {
  ...options,
  limits: {
    ...options.limits,
    channelOpenRate: { perSecond: 100_000, burst: 100_000 },
    authorizeRate: { perSecond: 100_000, burst: 100_000 }
  }
}

/** With a database, its notifications are the published messages. */
const source = ({ databaseUrl }: Setup) =>
  databaseUrl === undefined
    ? Feed.make()
    : {
        layer: PgNotificationSource.layer().pipe(
          Layer.provide(PgClient.layer({ url: Redacted.make(databaseUrl), maxConnections: 2 }))
        ),
        publish: publishedElsewhere
      }

const publishedElsewhere = () => {
  throw new Error("published by another process")
}

/** Attached to a plain `node:http` server, over what an application has beneath it. */
const openOver =
  (beneath: Layer.Layer<never>): Open =>
  async (setup) => {
    const server = createServer()
    const { layer, publish } = source(setup)
    const app = Layer.effectDiscard(
      Effect.flatMap(Door.make(crowded), (door) => attach(door, server))
    ).pipe(Layer.provide(Realtime.layer()), Layer.provide(layer))
    const runtime = ManagedRuntime.make(Layer.provide(app, beneath))
    await runtime.runPromise(Effect.void)
    return {
      port: await listen(server),
      publish,
      [Symbol.asyncDispose]: async () => {
        await runtime.dispose()
        await shut(server)
      }
    }
  }

export const openDirect: Open = openOver(Layer.empty)

/** The node makes its spans. */
const tracer = Layer.succeed(
  Tracer.Tracer,
  Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })
)

/** Its metrics are read every second, more often than Prometheus does. */
const scraped = Layer.effectDiscard(
  Effect.forkScoped(
    Effect.forever(Effect.andThen(Effect.sleep("1 second"), PrometheusMetrics.format()))
  )
)

/** The same with a tracer and scrapes. */
export const openSeen: Open = openOver(Layer.merge(tracer, scraped))

const Durable = Channel.family("bench_", Schema.String, Message, {
  delivery: "durable" as const
})
const Live = Channel.family("live_", Schema.String, Message)

/** Attached in the same way, with durable channels: it reads the outbox. */
export const openDurable: Open = (setup) => openWith(setup, [Durable], MemorySource.layer)

/** And with live channels of the same database beside them. */
export const openBoth: Open = (setup) =>
  openWith(setup, [Durable, Live], PgNotificationSource.layer())

/** And with a table, which more filters watch than the limit of a channel allows. */
export const openTable: Open = (setup) =>
  openWith(setup, [items], MemorySource.layer, crowded, { maxFilters: 10_000 })

const openWith = async (
  { databaseUrl, nats, poll }: Setup,
  channels: ReadonlyArray<Channel.Definition>,
  live: Layer.Layer<NotificationSource, PgNotificationSource.StartError, PgClient.PgClient>,
  door: IdentityOptions<string> = options,
  hub?: Realtime.Options
) => {
  if (databaseUrl === undefined) throw new Error("durable channels need a database")
  const server = createServer()
  const reader = OutboxReader.layer(
    poll === undefined ? {} : { wake: "poll", busyInterval: poll, idleInterval: poll }
  )
  const app = Layer.effectDiscard(
    Effect.flatMap(Door.make({ ...door, channels }), (door) => attach(door, server))
  ).pipe(
    Layer.provide(Realtime.layer(hub)),
    Layer.provide(nats === undefined ? reader : reader.pipe(Layer.provide(feedOver(nats)))),
    Layer.provide(live),
    Layer.provide(PgClient.layer({ url: Redacted.make(databaseUrl), maxConnections: 2 }))
  )
  const runtime = ManagedRuntime.make(app)
  await runtime.runPromise(Effect.void)
  return {
    port: await listen(server),
    publish: publishedElsewhere,
    [Symbol.asyncDispose]: async () => {
      await runtime.dispose()
      await shut(server)
    }
  }
}

/** As a route of an Effect HTTP app. */
export const openRoute: Open = async (setup) => {
  const { layer, publish } = source(setup)
  const app = HttpRouter.serve(RealtimeServer.layer(crowded), {
    disableListenLog: true,
    disableLogger: true
  }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
    Layer.provide(Realtime.layer()),
    Layer.provide(layer)
  )
  const runtime = ManagedRuntime.make(app)
  const { address } = await runtime.runPromise(HttpServer.HttpServer)
  return {
    port: (address as { readonly port: number }).port,
    publish,
    [Symbol.asyncDispose]: () => runtime.dispose()
  }
}
