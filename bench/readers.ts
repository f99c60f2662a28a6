/**
 * Nodes that do nothing but read the outbox: a reader each, with its own session and pool, in one
 * process, because PostgreSQL is what is measured.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Exit, Layer, Queue, Redacted, References, Scope } from "effect"
import * as Net from "node:net"
import { address } from "../src/server/internal/link/pgLink.ts"
import * as OutboxReader from "../src/server/OutboxReader.ts"
import { feedOver } from "./lib/feedOver.ts"
import { serve } from "./lib/ipc.ts"
import { statementsOf } from "./lib/statements.ts"
import type { ReadersApi } from "./lib/types.ts"

let scope = Effect.runSync(Scope.make())
let statements = 0
let events = 0

/** A socket to PostgreSQL whose statements are counted. */
const counting = (databaseUrl: string) => () => {
  const socket = Net.connect(address({ url: Redacted.make(databaseUrl) }))
  const count = statementsOf(() => statements++)()
  const write = socket.write.bind(socket)
  socket.write = (data: string | Uint8Array, ...rest: Array<never>) => {
    count(Buffer.from(data as Uint8Array))
    return write(data, ...rest)
  }
  return socket
}

serve<ReadersApi>({
  open: async ({ channel, databaseUrl, nats, nodes, poll }) => {
    const client = PgClient.layer({
      url: Redacted.make(databaseUrl),
      maxConnections: 1,
      stream: counting(databaseUrl)
    })
    const options: OutboxReader.Options =
      poll === undefined ? {} : { wake: "poll", busyInterval: poll, idleInterval: poll }
    const node = Effect.gen(function* () {
      const reader = yield* OutboxReader.make(options)
      const queue = yield* reader.follow(channel)
      yield* Queue.take(queue).pipe(
        Effect.map((item) => {
          if (item._tag === "Batch") events += item.events.length
        }),
        Effect.forever({ disableYield: true }),
        Effect.forkScoped
      )
    })
    const layer = nats === undefined ? client : Layer.provideMerge(feedOver(nats), client)
    await Effect.runPromise(
      Effect.gen(function* () {
        for (let n = 0; n < nodes; n++) {
          yield* Effect.provideContext(node, yield* Layer.build(Layer.fresh(layer)))
        }
      }).pipe(Scope.provide(scope), Effect.provideService(References.MinimumLogLevel, "Warn"))
    )
  },
  count: () => ({ statements, events }),
  close: async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    scope = Effect.runSync(Scope.make())
    statements = events = 0
  }
})
