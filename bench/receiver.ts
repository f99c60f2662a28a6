/**
 * The measured process of workload B: listens to one channel, and reports the cost of its
 * notifications.
 *
 * `pg` is the driver's own listener with a counter behind it; ours is `PgNotificationSource` with a
 * counter behind its queue: a link that reconnects, is watched, and listens to any number of
 * channels.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, ManagedRuntime, Queue, Redacted, Scope } from "effect"
import { lost, type Heard, NotificationSource } from "../src/server/NotificationSource.ts"
import * as PgNotificationSource from "../src/server/PgNotificationSource.ts"
import { inTurn } from "./lib/inTurn.ts"
import { serve } from "./lib/ipc.ts"
import { Tally } from "./lib/Tally.ts"
import type { Receipt, ReceiverApi } from "./lib/types.ts"
import { pg } from "./server/peers.ts"

interface Listener extends AsyncDisposable {
  /** The most notifications that waited at once; `undefined` where the listener has no queue. */
  readonly most: () => number | undefined
  readonly listenToo: (channels: number) => Promise<void>
}

const channel = "burst"
const tally = new Tally()

const others = (count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `other_${index}`)

const openPg = async (databaseUrl: string): Promise<Listener> => {
  const client = new (await pg()).default.Client({ connectionString: databaseUrl })
  await client.connect()
  client.on("notification", () => tally.take(1))
  await client.query(`listen ${channel}`)
  return {
    most: () => undefined,
    listenToo: async (channels) => {
      await inTurn(others(channels), (name) => client.query(`listen ${name}`))
    },
    [Symbol.asyncDispose]: () => client.end()
  }
}

const openOurs = async (databaseUrl: string): Promise<Listener> => {
  const pool = PgClient.layer({ url: Redacted.make(databaseUrl), maxConnections: 1 })
  const runtime = ManagedRuntime.make(PgNotificationSource.layer().pipe(Layer.provide(pool)))
  const { listen } = await runtime.runPromise(NotificationSource)
  const scope = Effect.runSync(Scope.make())
  const queue = Effect.runSync(Queue.unbounded<Heard>())
  let most = 0
  const counting = Queue.takeAll(queue).pipe(
    Effect.tap((some) =>
      Effect.sync(() => {
        tally.take(some.length)
        if (some.includes(lost)) tally.fail(new Error("some may be lost"))
        most = Math.max(most, some.length)
      })
    ),
    Effect.forever({ disableYield: true })
  )
  runtime.runFork(counting)
  const listenTo = (name: string) =>
    Scope.provide(
      listen(name, (heard) => Queue.offerUnsafe(queue, heard)),
      scope
    )
  await runtime.runPromise(listenTo(channel))
  return {
    most: () => most,
    listenToo: (channels) =>
      runtime.runPromise(
        Effect.forEach(others(channels), listenTo, { concurrency: "unbounded", discard: true })
      ),
    [Symbol.asyncDispose]: () => runtime.dispose()
  }
}

const openers: Readonly<Record<string, (databaseUrl: string) => Promise<Listener>>> = {
  "effect-realtime": openOurs,
  pg: openPg
}

let listener: Listener | undefined

serve<ReceiverApi>({
  open: async ({ databaseUrl, subject }) => {
    listener = await openers[subject]!(databaseUrl)
  },
  receive: async ({ count }): Promise<Receipt> => {
    globalThis.gc?.()
    const before = process.cpuUsage()
    const heapBefore = process.memoryUsage().heapUsed
    await tally.arrive(count)
    const { system, user } = process.cpuUsage(before)
    const heap = process.memoryUsage().heapUsed - heapBefore
    const most = listener!.most()
    return { system, user, heap, ...(most === undefined ? {} : { most }) }
  },
  listenToo: async ({ channels }) => {
    const begun = performance.now()
    await listener!.listenToo(channels)
    return { millis: performance.now() - begun }
  },
  close: async () => listener?.[Symbol.asyncDispose]()
})
