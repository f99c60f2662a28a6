/** One node that is fed over NATS, in its own process: it follows the channel "log", and blocks its loop when asked to. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Stream } from "effect"
import { NatsConnection, NatsFeed } from "effect-realtime/nats"
import { OutboxReader } from "effect-realtime/server"
import * as Fs from "node:fs"

const { DATABASE_URL, NATS_SERVER } = process.env
const backoff = { initial: 10, cap: 100, resetAfter: 30_000 }

process.on("disconnect", () => process.exit(1))
/** Blocks the loop while the file exists. */
process.on("message", (file: string) => {
  const never = new Int32Array(new SharedArrayBuffer(4))
  while (Fs.existsSync(file)) Atomics.wait(never, 0, 0, 50)
})

const following = OutboxReader.OutboxReader.use((reader) =>
  Effect.gen(function* () {
    yield* reader.position
    process.send?.("ready")
    yield* reader.batches("log").pipe(
      Stream.runForEach((item) =>
        Effect.sync(() => {
          if (item._tag !== "Batch") return
          for (const { text } of item.events) process.send?.(text)
        })
      )
    )
  })
)

await Effect.runPromise(
  following.pipe(
    Effect.provide(
      OutboxReader.layer({ backoff }).pipe(
        Layer.provide(NatsFeed.layer),
        Layer.provide(NatsConnection.layer({ servers: NATS_SERVER!, backoff })),
        Layer.provide(PgClient.layer({ url: Redacted.make(DATABASE_URL!), maxConnections: 2 }))
      )
    )
  )
)
