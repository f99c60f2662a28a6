/**
 * effect-realtime as a user runs it: everybody says who they are and is asked what they may read, and
 * every limit stands at its default, except the ones that a machine of 10,000 neighbours would meet.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, ManagedRuntime, Redacted, Schema } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import { createServer } from "node:http"
import * as Channel from "../../../src/Channel.ts"
import { attach } from "../../../src/server/internal/attach.ts"
import * as Door from "../../../src/server/internal/door.ts"
import { layerMemory, NotificationSource } from "../../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../../src/server/OutboxReader.ts"
import * as PgNotificationSource from "../../../src/server/PgNotificationSource.ts"
import { Realtime } from "../../../src/server/Realtime.ts"
import { RealtimeServer } from "../../../src/server/RealtimeServer.ts"
import type { IdentityOptions } from "../../../src/server/ServerOptions.ts"
import type { Setup } from "../../lib/types.ts"
import { listen, type Open, shut } from "../subject.ts"

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
  limits: { sessions: 50_000, upgrades: { perSecond: 100_000, burst: 100_000 } }
}

const source = ({ databaseUrl }: Setup) =>
  databaseUrl === undefined
    ? layerMemory
    : PgNotificationSource.layer().pipe(
        Layer.provide(PgClient.layer({ url: Redacted.make(databaseUrl), maxConnections: 2 }))
      )

/** Attached to a plain `node:http` server. */
export const openDirect: Open = async (setup) => {
  const server = createServer()
  const app = Layer.effectDiscard(
    Effect.flatMap(Door.make(options), (door) => attach(door, server))
  ).pipe(Layer.provide(Realtime.layer()), Layer.provideMerge(source(setup)))
  const runtime = ManagedRuntime.make(app)
  const { notify } = await runtime.runPromise(NotificationSource)
  return {
    port: await listen(server),
    publish: (channel, text) => Effect.runSync(Effect.orDie(notify(channel, text))),
    [Symbol.asyncDispose]: async () => {
      await runtime.dispose()
      await shut(server)
    }
  }
}

/** Attached in the same way, with durable channels: it reads the outbox. */
export const openDurable: Open = async ({ databaseUrl }) => {
  if (databaseUrl === undefined) throw new Error("durable channels need a database")
  const server = createServer()
  const channels = [
    Channel.family("bench_", Schema.String, Message, { delivery: "durable" as const })
  ]
  const app = Layer.effectDiscard(
    Effect.flatMap(Door.make({ ...options, channels }), (door) => attach(door, server))
  ).pipe(
    Layer.provide(Realtime.layer()),
    Layer.provide(OutboxReader.layer()),
    Layer.provide(layerMemory),
    Layer.provide(PgClient.layer({ url: Redacted.make(databaseUrl), maxConnections: 2 }))
  )
  const runtime = ManagedRuntime.make(app)
  await runtime.runPromise(Effect.void)
  return {
    port: await listen(server),
    publish: () => {
      throw new Error("published by the writers")
    },
    [Symbol.asyncDispose]: async () => {
      await runtime.dispose()
      await shut(server)
    }
  }
}

/** As a route of an Effect HTTP app. */
export const openRoute: Open = async (setup) => {
  const app = HttpRouter.serve(RealtimeServer.layer(options), {
    disableListenLog: true,
    disableLogger: true
  }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
    Layer.provide(Realtime.layer()),
    Layer.provideMerge(source(setup))
  )
  const runtime = ManagedRuntime.make(app)
  const { notify } = await runtime.runPromise(NotificationSource)
  const { address } = await runtime.runPromise(HttpServer.HttpServer)
  return {
    port: (address as { readonly port: number }).port,
    publish: (channel, text) => Effect.runSync(Effect.orDie(notify(channel, text))),
    [Symbol.asyncDispose]: () => runtime.dispose()
  }
}
