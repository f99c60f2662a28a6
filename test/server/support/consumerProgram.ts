/**
 * A node in its own process that consumes under one name, with Effect or with the class of `./node`.
 *
 * It writes each event into the table `done`, and reports to its parent. At the event `held` it waits in
 * the middle of its transaction until the parent sends a message.
 */
import { PgClient } from "@effect/sql-pg"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Redacted, Schema } from "effect"
import { createServer } from "node:http"
import * as Channel from "../../../src/Channel.ts"
import { RealtimeServer } from "../../../src/node/RealtimeServer.ts"
import * as OutboxReader from "../../../src/server/OutboxReader.ts"
import * as Realtime from "../../../src/server/Realtime.ts"

export interface Setup {
  readonly url: string
  readonly who: string
  readonly kind: "effect" | "class"
  /** The number at which the first worker waits. */
  readonly held?: number
}

const setup = JSON.parse(process.env["CONSUMER_SETUP"]!) as Setup
const Log = Channel.make("log", Schema.Int, { delivery: "durable" })
const name = "ledger"

process.on("disconnect", () => process.exit())

const said = (text: string): void => void process.send!(text)

let waits = setup.held
/** Waits once, in the transaction of this number. */
const waiting = async (n: number): Promise<void> => {
  if (n !== waits) return
  waits = undefined
  said("held")
  await new Promise((resolve) => process.once("message", resolve))
}

const insert = "insert into done (n, who) values ($1, $2)"

if (setup.kind === "class") {
  const server = new RealtimeServer(createServer(), setup.url, {
    channels: [Log],
    authorize: () => true
  })
  server.consume(Log, {
    name,
    start: "oldest",
    onEvents: async (events, { query }) => {
      for (const event of events) {
        if (event._tag !== "Event") throw new Error(event.reason)
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await query(insert, [event.payload, setup.who])
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await waiting(event.payload)
      }
    }
  })
  void server.ready.then(() => said("ready"))
} else {
  const program = Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    said("ready")
    return yield* Realtime.consume(Log, {
      name,
      start: "oldest",
      onEvents: (events) =>
        Effect.forEach(
          events,
          (event) =>
            event._tag === "Event"
              ? Effect.andThen(
                  sql.unsafe(insert, [event.payload, setup.who]),
                  Effect.promise(() => waiting(event.payload))
                )
              : Effect.die(new Error(event.reason)),
          { discard: true }
        )
    })
  })
  const layer = OutboxReader.layer().pipe(
    Layer.provideMerge(PgClient.layer({ url: Redacted.make(setup.url) }))
  )
  NodeRuntime.runMain(Effect.provide(program, layer))
}
