/** Live channels over a real NATS server: the contract of a source, and what changes of the bridge do. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Queue, Redacted, Scope, Semaphore } from "effect"
import * as LiveSource from "../../src/nats/internal/liveSource.ts"
import type { Lease } from "../../src/nats/internal/bridging.ts"
import * as Sealed from "../../src/nats/internal/sealed.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsNotificationSource from "../../src/nats/NatsNotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { lost, NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { execute, installedDatabase } from "../support/database.ts"
import { listenTo } from "../support/listenTo.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { waitFor } from "../support/until.ts"
import { suite } from "../server/NotificationSourceSuite.ts"

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }

/** A lease of this process. */
const oneLease = (): Lease => {
  let term = 0n
  const permit = Semaphore.makeUnsafe(1)
  return () =>
    Effect.acquireRelease(permit.take(1), () => permit.release(1), { interruptible: true }).pipe(
      Effect.map(() => ({ term: ++term, held: () => true, lost: Effect.never }))
    )
}

const keys = {
  current: () => ({ identity: "database", secrets: ["secret"] }),
  again: Effect.void
}

/** A node on a database in this process, with a connection of its own. */
const node = (
  address: string,
  inner: NotificationSource["Service"],
  lease?: Lease
): Effect.Effect<NotificationSource["Service"], NatsConnection.StartError, Scope.Scope> =>
  Effect.gen(function* () {
    const connection = yield* NatsConnection.make({ servers: address, backoff })
    const sealed = yield* Sealed.make(connection, "test", keys)
    return yield* LiveSource.make({ inner, sealed, lease })
  })

/** Two nodes of one database: the first is the bridge, the second is the one under test. */
const fed = Layer.effectContext(
  Effect.gen(function* () {
    const memory = yield* Layer.build(MemorySource.layer)
    const inner = Context.get(memory, NotificationSource)
    const { address } = yield* natsServer()
    const bridge = yield* node(address, inner, oneLease())
    yield* waitFor(bridge, "up")
    const counting = { ...inner, listen: () => Effect.die("the node listens by itself") }
    const source = yield* node(address, counting)
    return Context.add(memory, NotificationSource, source)
  })
)

if (executablePath !== undefined) {
  suite(
    "over NATS",
    fed as Layer.Layer<NotificationSource, NatsConnection.StartError>,
    Effect.map(Effect.context<NotificationSource>(), (context) => {
      const memory = Context.get(
        context as Context.Context<NotificationSource | MemorySource.MemorySource>,
        MemorySource.MemorySource
      )
      const source = Context.get(context, NotificationSource)
      return {
        send: (channel, payload) => Effect.orDie(source.notify(channel, payload)),
        cut: memory.lose,
        heal: memory.restore
      }
    })
  )
}

/** A source that notes the channels to which it listens now. */
const counting = (
  inner: NotificationSource["Service"],
  listening: Array<string>
): NotificationSource["Service"] => ({
  ...inner,
  listen: (name, hear) =>
    Effect.andThen(
      Effect.acquireRelease(
        Effect.sync(() => void listening.push(name)),
        () => Effect.sync(() => void listening.splice(listening.indexOf(name), 1))
      ),
      inner.listen(name, hear)
    )
})

/** Takes what a listener hears until a payload, and counts the losses. */
const until = (queue: Queue.Dequeue<string | typeof lost>, payload: string) =>
  Effect.gen(function* () {
    let losses = 0
    while (true) {
      const heard = yield* Queue.take(queue)
      if (heard === payload) return losses
      if (heard === lost) losses++
    }
  })

describe.skipIf(executablePath === undefined)("NatsNotificationSource", () => {
  it.live(
    "a node listens by itself when NATS is gone, and is fed again when it is back, each with a loss",
    () =>
      Effect.gen(function* () {
        const memory = yield* Layer.build(MemorySource.layer)
        const inner = Context.get(memory, NotificationSource)
        const server = yield* natsServer()
        const bridge = yield* node(server.address, inner, oneLease())
        yield* waitFor(bridge, "up")
        const own: Array<string> = []
        const counted = counting(inner, own)
        const source = yield* node(server.address, counted)
        const queue = yield* listenTo(source, "..a")
        expect(own).toEqual([])
        yield* inner.notify("..a", "fed")
        expect(yield* Queue.take(queue)).toBe("fed")
        yield* server.stop
        expect(yield* Queue.take(queue)).toBe(lost)
        expect(own).toEqual(["..a"])
        yield* inner.notify("..a", "own")
        expect(yield* Queue.take(queue)).toBe("own")
        yield* server.start
        expect(yield* Queue.take(queue)).toBe(lost)
        yield* inner.notify("..a", "fed again")
        expect(yield* Queue.take(queue)).toBe("fed again")
        yield* Effect.repeat(Effect.sleep(10), { until: () => own.length === 0 })
      }).pipe(Effect.scoped)
  )

  it.live(
    "three nodes have one session of PostgreSQL that listens, and another one when that node stops",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const { address } = yield* natsServer()
        const listening: Array<string> = []
        const counted = Layer.effect(
          NotificationSource,
          Effect.map(PgNotificationSource.make({ selfTest: false }), (inner) =>
            counting(inner, listening)
          )
        )
        const start = Effect.gen(function* () {
          const scope = yield* Scope.fork(yield* Effect.scope)
          const database = PgClient.layer({ url: Redacted.make(url), maxConnections: 2 })
          const context = yield* Layer.buildWithScope(
            NatsNotificationSource.layer.pipe(
              Layer.provide(counted),
              Layer.provide(OutboxReader.layer({ upkeep: false })),
              Layer.provide(NatsConnection.layer({ servers: address, backoff })),
              Layer.provide(database)
            ),
            scope
          )
          return { source: Context.get(context, NotificationSource), scope }
        })
        const send = (payload: string) => execute(url, `select pg_notify('orders', '${payload}')`)
        const first = yield* start
        yield* waitFor(first.source, "up")
        const others = [yield* start, yield* start]
        const queues = yield* Effect.forEach([first, ...others], ({ source }) =>
          listenTo(source, "orders")
        )
        yield* send("1")
        expect(yield* Effect.forEach(queues, (queue) => Queue.take(queue))).toEqual(["1", "1", "1"])
        // The node that listens for all does so for itself and for them.
        expect(new Set(listening)).toEqual(new Set(["orders"]))
        expect(listening.length).toBeLessThanOrEqual(2)
        yield* Scope.close(first.scope, Exit.void)
        const [, second, third] = queues
        const losses = yield* Effect.all([second!, third!].map((queue) => Queue.take(queue)))
        expect(losses).toEqual([lost, lost])
        yield* send("2")
        const counts = yield* Effect.all([second!, third!].map((queue) => until(queue, "2")))
        expect(counts.every((count) => count <= 1)).toBe(true)
      }).pipe(Effect.scoped)
  )
})
