/**
 * The measured process of workload B: listens to one channel, and says what so many notifications cost.
 *
 * `pg` is the driver's own listener with a counter behind it; ours is `PgNotificationSource` with a
 * counter behind its queue: the link that heals, is watched, and listens to any number of channels.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, ManagedRuntime, Queue, Redacted, Scope } from "effect"
import { type Notification, NotificationSource } from "../src/server/NotificationSource.ts"
import * as PgNotificationSource from "../src/server/PgNotificationSource.ts"
import { inTurn } from "./lib/inTurn.ts"
import { serve } from "./lib/ipc.ts"
import type { Receipt, ReceiverApi } from "./lib/types.ts"
import { pg } from "./server/peers.ts"

interface Listener extends AsyncDisposable {
  /** Notifications so far. */
  readonly count: () => number
  /** The most that waited at once. */
  readonly most: () => number
  readonly listenToo: (channels: number) => Promise<void>
}

const channel = "burst"

const others = (count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `other_${index}`)

const openPg = async (databaseUrl: string): Promise<Listener> => {
  const client = new (await pg()).default.Client({ connectionString: databaseUrl })
  await client.connect()
  let count = 0
  client.on("notification", () => count++)
  await client.query(`listen ${channel}`)
  return {
    count: () => count,
    most: () => 1,
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
  const queue = Effect.runSync(Queue.unbounded<Notification>())
  let count = 0
  let most = 0
  const counting = Queue.takeAll(queue).pipe(
    Effect.tap((some) =>
      Effect.sync(() => {
        count += some.length
        most = Math.max(most, some.length)
      })
    ),
    Effect.forever({ disableYield: true })
  )
  runtime.runFork(counting)
  const listenTo = (name: string) => Scope.provide(listen(name, queue), scope)
  await runtime.runPromise(listenTo(channel))
  return {
    count: () => count,
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

/** Completes when so many have arrived, looked at each millisecond: nobody works while they wait. */
const arrived = (count: number): Promise<void> =>
  new Promise((resolve) => {
    const timer = setInterval(() => {
      if (listener!.count() < count) return
      clearInterval(timer)
      resolve()
    }, 1)
  })

serve<ReceiverApi>({
  open: async ({ databaseUrl, subject }) => {
    listener = await openers[subject]!(databaseUrl)
  },
  receive: async ({ count }): Promise<Receipt> => {
    globalThis.gc?.()
    const before = process.cpuUsage()
    const heapBefore = process.memoryUsage().heapUsed
    const end = listener!.count() + count
    await arrived(end)
    const { system, user } = process.cpuUsage(before)
    const heap = process.memoryUsage().heapUsed - heapBefore
    return { system, user, heap, most: listener!.most() }
  },
  listenToo: async ({ channels }) => {
    const begun = performance.now()
    await listener!.listenToo(channels)
    return { millis: performance.now() - begun }
  },
  close: async () => listener?.[Symbol.asyncDispose]()
})
