/**
 * The layers of the class that connect to the database: the pool, the link, and the reader of the outbox.
 *
 * In: the database URL and the options. Out: one layer. A server without durable channels has no reader, and one
 * without `control` and `nodes` no bus.
 */
import { PgClient } from "@effect/sql-pg"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { connect } from "node:net"
import type { Duplex } from "node:stream"
import type * as Channel from "../../Channel.ts"
import { nodeServer as Defaults } from "../../internal/defaults.ts"
import type { BusOptions } from "../../server/internal/bus/busOptions.ts"
import { keeps } from "../../server/internal/hub/durable.ts"
import { listens } from "../../server/internal/hub/live.ts"
import { address, secured } from "../../server/internal/link/pgLink.ts"
import * as OutboxReader from "../../server/OutboxReader.ts"
import * as PgNodeBus from "../../server/PgNodeBus.ts"
import * as PgNotificationSource from "../../server/PgNotificationSource.ts"
import type { Options } from "../Options.ts"
import type { Parts } from "./awaited.ts"

/** The options that concern the database. */
type Given = Pick<
  Options,
  | "listenUrl"
  | "maxConnections"
  | "maxMemoryAge"
  | "maxMemoryBytes"
  | "maxMemoryEvents"
  | "maxReplayMemory"
  | "maxReplayQueue"
  | "maxReplays"
  | "nodes"
  | "startPatience"
  | "wake"
> & {
  /** Of the bus over PostgreSQL. */
  readonly bus?: BusOptions | undefined
}

/** The parts of the layer below. */
export const partsOf = (
  { listenUrl, nodes, wake }: Given,
  channels: ReadonlyArray<Channel.Definition>,
  control: boolean
): Parts => {
  const reader = channels.some(keeps)
  const alone = wake === "poll" && listenUrl === undefined && reader && !channels.some(listens)
  const nats = nodes !== undefined
  return { link: !alone, reader, bus: control || nats, nats }
}

/** `sockets` holds those of the pool while they are open. */
export const databaseLayer = (
  databaseUrl: string,
  options: Given,
  channels: ReadonlyArray<Channel.Definition>,
  sockets: Set<Duplex>,
  control: boolean
) => {
  const { listenUrl, maxConnections, nodes, startPatience, wake } = options
  const { maxMemoryAge, maxMemoryBytes, maxMemoryEvents } = options
  const { maxReplayMemory, maxReplayQueue, maxReplays } = options
  const direct = listenUrl === undefined ? undefined : Redacted.make(listenUrl)
  const { bus: hasBus, link: listening, reader: reads } = partsOf(options, channels, control)
  const link = PgNotificationSource.layer({ listenUrl: direct, startPatience })
  const { connection } = Result.getOrThrow(secured({ url: Redacted.make(databaseUrl) }))
  const pool = PgClient.layer({
    ...connection,
    maxConnections: maxConnections ?? Defaults.maxConnections,
    applicationName: "effect-realtime",
    stream: () => {
      const socket = connection.stream?.() ?? connect(address(connection))
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
      return socket
    }
  })
  // It needs one more connection and the installed objects, so only when a channel is durable.
  const outbox = reads
    ? OutboxReader.layer({
        readUrl: direct,
        startPatience,
        wake,
        maxMemoryEvents,
        maxMemoryAge,
        maxMemoryBytes,
        maxReplays,
        maxReplayQueue,
        maxReplayMemory
      })
    : // Code that uses the reader checks first that a channel is durable.
      (Layer.empty as unknown as ReturnType<typeof OutboxReader.layer>)
  if (nodes !== undefined) {
    const reader = reads ? Layer.provideMerge(outbox, nodes.feed) : outbox
    const source = listening ? nodes.source.pipe(Layer.provide([link, reader])) : Layer.empty
    return Layer.merge(source, reader).pipe(Layer.provideMerge(nodes.bus), Layer.provideMerge(pool))
  }
  const source = listening ? link : Layer.empty
  // Without a link it fails with its own error.
  const bus = hasBus
    ? (PgNodeBus.layer(options.bus) as Layer.Layer<never, PgNodeBus.StartError, PgClient.PgClient>)
    : Layer.empty
  return bus.pipe(Layer.provideMerge(Layer.merge(source, outbox)), Layer.provideMerge(pool))
}
