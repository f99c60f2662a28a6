/**
 * A node in its own process, so that a test can measure its memory and see whether it is alive.
 *
 * It answers each message with the same `id`. It logs to its standard output, and an uncaught error ends
 * it.
 */
import { Effect, Layer, Schema } from "effect"
import { createServer, type Server } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import * as Channel from "../../../src/Channel.ts"
import { RealtimeServer } from "../../../src/node/RealtimeServer.ts"
import { attach } from "../../../src/server/internal/door/attach.ts"
import * as Door from "../../../src/server/internal/door/door.ts"
import * as MemorySource from "../../../src/server/MemorySource.ts"
import * as Realtime from "../../../src/server/Realtime.ts"
import { allowAll, type DoorOptions } from "../../../src/server/ServerOptions.ts"

/** The requests of a test to a node. */
export type Ask =
  | { readonly do: "memory" }
  | { readonly do: "sessions" }
  /** Publishes `count` events of `bytes` bytes each, numbered from `first`. */
  | { readonly do: "flood"; readonly first: number; readonly count: number; readonly bytes: number }

export interface Memory {
  readonly heap: number
  readonly rss: number
  /** Bytes written to sockets that the kernel has not accepted. */
  readonly unsent: number
}

export interface Setup {
  /** The URL of PostgreSQL. Without it the node runs in memory. */
  readonly databaseUrl?: string
  /** The port, default a free one. */
  readonly port?: number
  /** Whether to serve durable channels too. Their objects must be installed. */
  readonly durable?: boolean
  /** The options of each door, by path. */
  readonly doors: Readonly<Record<`/${string}`, Omit<DoorOptions, "channels" | "path">>>
}

const Flood = Channel.make("flood", Schema.Struct({ n: Schema.Int, fill: Schema.String }))
const Moves = Channel.make("moves", Schema.Struct({ x: Schema.Finite }), { publish: true })
const Room = Channel.family("room_", Schema.String, Schema.Unknown, { publish: true })
const Secret = Channel.make("secret", Schema.Unknown, { publish: true })
const Witness = Channel.make("witness", Schema.Struct({ n: Schema.Int }))
const Pointers = Channel.make("pointers", Schema.Struct({ x: Schema.Unknown }), {
  delivery: "volatile",
  publish: true,
  latestBy: "x"
})
const channels = [Flood, Moves, Room, Secret, Witness, Pointers]
const Log = Channel.make("log", Schema.Unknown, { delivery: "durable", publish: true })
const Stored = Channel.make("stored", Schema.Struct({ n: Schema.Int }), { delivery: "durable" })
const Ledger = Channel.family("ledger_", Schema.String, Schema.Unknown, {
  publish: true,
  delivery: "durable"
})

type Handlers = { readonly [Do in Ask["do"]]: (ask: Extract<Ask, { do: Do }>) => Promise<unknown> }

const sockets = new Set<Socket>()

const memory = async (): Promise<Memory> => {
  globalThis.gc?.()
  const { external, heapUsed, rss } = process.memoryUsage()
  const unsent = [...sockets].reduce((sum, { writableLength }) => sum + writableLength, 0)
  return { heap: heapUsed + external, rss, unsent }
}

/** The doors of `./node`, as an app creates them. */
const overPostgres = async (server: Server, databaseUrl: string, { doors, durable }: Setup) => {
  const servers = Object.entries(doors).map(
    ([path, options]) =>
      new RealtimeServer(server, databaseUrl, {
        ...options,
        path: path as `/${string}`,
        channels: durable === true ? [...channels, Log, Stored, Ledger] : channels,
        authorize: ({ channel }) => channel !== "secret"
      })
  )
  await Promise.all(servers.map(({ ready }) => ready))
}

const inMemory = async (server: Server, { doors }: Setup): Promise<Partial<Handlers>> => {
  const made = Effect.gen(function* () {
    const realtime = yield* Realtime.Realtime
    const all = yield* Effect.forEach(Object.entries(doors), ([path, options]) =>
      Effect.gen(function* () {
        const door = yield* Door.make({
          ...options,
          path: path as `/${string}`,
          channels,
          authorize: allowAll
        })
        yield* attach(door, server)
        return door
      })
    )
    const flood = ({ bytes, count, first }: Extract<Ask, { do: "flood" }>) =>
      Effect.forEach(
        Array.from({ length: count }, (_, index) => first + index),
        (n) => realtime.publish(Flood, { n, fill: "x".repeat(bytes) }),
        { discard: true }
      )
    return {
      flood: (ask: Extract<Ask, { do: "flood" }>) => Effect.runPromise(flood(ask)),
      sessions: async () => all.reduce((sum, door) => sum + door.size(), 0)
    }
  })
  return new Promise((resolve, reject) => {
    Effect.runFork(
      Effect.matchCauseEffect(made, {
        onFailure: (cause) => Effect.sync(() => reject(new Error(String(cause)))),
        onSuccess: (handlers) =>
          Effect.andThen(
            Effect.sync(() => resolve(handlers)),
            Effect.never
          )
      }).pipe(
        Effect.scoped,
        Effect.provide(Realtime.layer().pipe(Layer.provideMerge(MemorySource.layer)))
      )
    )
  })
}

const run = async (setup: Setup): Promise<void> => {
  const server = createServer()
  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
  })
  const more =
    setup.databaseUrl === undefined
      ? await inMemory(server, setup)
      : await overPostgres(server, setup.databaseUrl, setup)
  const handlers: Partial<Handlers> = { memory, ...more }
  process.on("message", ({ ask, id }: { readonly id: number; readonly ask: Ask }) => {
    const handle = handlers[ask.do] as ((ask: Ask) => Promise<unknown>) | undefined
    void handle?.(ask).then((answer) => process.send?.({ id, answer }))
  })
  server.listen(setup.port ?? 0, "127.0.0.1", () => {
    process.send?.({ id: 0, answer: (server.address() as AddressInfo).port })
  })
}

if (process.send !== undefined) await run(JSON.parse(process.env["NODE_SETUP"] ?? "{}") as Setup)
