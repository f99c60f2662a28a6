/**
 * Clients with a list of nodes, on real PostgreSQL and real sockets: a node is cut off, and nodes are restarted
 * one after the other.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Random, Schema, Scope, Stream } from "effect"
import { Channel } from "effect-realtime"
import { type Connection, RealtimeClient } from "effect-realtime/client"
import { RealtimeServer as NodeServer } from "effect-realtime/node"
import {
  OutboxReader,
  PgInstaller,
  PgNotificationSource,
  Realtime,
  RealtimeServer
} from "effect-realtime/server"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { WebSocket } from "ws"
import { decodeServerMessage, type ServerFrame } from "../../src/Frame.ts"
import { execute, layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { Address, address } from "../support/app.ts"
import { hop } from "../support/hop.ts"
import { until } from "../support/until.ts"

const Order = Schema.Struct({ id: Schema.Int, status: Schema.String })
const Orders = Channel.table("orders", Order, { key: "id", filter: "status" })
const Log = Channel.make("log", Schema.Int, { delivery: "durable", publish: true })
const Notices = Channel.make("notices", Schema.Int)
const channels = [Orders, Log, Notices]

/** A node with a reader of its own. Returns its port. */
const nodeWith = (reader: OutboxReader.Options) =>
  Effect.map(
    Layer.build(
      Layer.fresh(
        Layer.merge(
          HttpRouter.serve(RealtimeServer.layer({ channels, authorize: RealtimeServer.allowAll }), {
            disableListenLog: true,
            disableLogger: true
          }),
          address
        ).pipe(
          Layer.provide(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
          Layer.provide(Realtime.layer()),
          Layer.provide([PgNotificationSource.layer(), OutboxReader.layer(reader)])
        )
      )
    ),
    (context) => Number(new URL(Context.get(context, Address).http).port)
  )

const urlOf = (port: number) => `ws://127.0.0.1:${port}/realtime`

/** The frames that clients received, of all their sockets. */
const recorder = () => {
  const frames: Array<ServerFrame> = []
  class Recorded extends WebSocket {
    constructor(url: string, protocols: Array<string>) {
      super(url, protocols)
      this.on("message", (data) => frames.push(...decodeServerMessage(String(data))))
    }
  }
  return { frames, webSocket: Recorded }
}

const clientOf = (options: RealtimeClient.Options) =>
  Effect.map(
    Layer.build(
      RealtimeClient.layer({ backoff: { initial: 20, cap: 200, resetAfter: 1000 }, ...options })
    ),
    (context) => Context.get(context, RealtimeClient.RealtimeClient)
  )

/** Random numbers that are all the same, so that a list stays in its order. */
const even = Effect.provideService(Random.Random, {
  nextIntUnsafe: () => 0,
  nextDoubleUnsafe: () => 0.5
})

describe("a client whose node is lost", () => {
  it.live(
    "goes on at another one from its positions, also where that one is behind them",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        yield* execute(url, "create table orders (id int primary key, status text not null)")
        yield* PgInstaller.watch({ channel: Orders })
        const write = (first: number, statement: string) =>
          execute(
            url,
            `with log as (select realtime.publish('log', n::text) from generate_series(${first}, ${first + 2}) n), ${statement} select count(*) from log`
          )
        const near = yield* nodeWith({})
        // Its reader looks once at its start, and then for an hour only where a client asks for more.
        const far = yield* nodeWith({ wake: "poll", idleInterval: "1 hour" })
        const network = yield* Scope.make()
        const toNear = yield* Scope.provide(hop({ host: "127.0.0.1", port: near }), network)

        const { frames, webSocket } = recorder()
        const client = yield* even(
          clientOf({ url: [urlOf(toNear.port), urlOf(far)], webSocket: webSocket as never })
        )
        const log: Array<number | string> = []
        const notices: Array<number | string> = []
        let orders: ReadonlyArray<typeof Order.Type> = []
        let status = "loading"
        const told = (into: Array<number | string>) =>
          Stream.runForEach((event: { _tag: string; payload?: number; reason?: string }) =>
            Effect.sync(() =>
              into.push(event._tag === "Gap" ? `gap ${event.reason}` : event.payload!)
            )
          )
        yield* Effect.forkScoped(told(log)(client.events(Log)))
        yield* Effect.forkScoped(told(notices)(client.events(Notices)))
        yield* client.rows(Orders, { where: { status: "new" } }).pipe(
          Stream.runForEach((shown) =>
            Effect.sync(() => {
              orders = shown.rows
              status = shown.status
            })
          ),
          Effect.forkScoped
        )
        const ids = () => orders.map(({ id }) => id).toSorted()
        const subscribed = () => frames.filter((frame) => frame.type === "subscribed")
        yield* until(() => subscribed().length === 3)
        yield* write(1, "rows as (insert into orders values (1, 'new'), (2, 'sent'), (3, 'new'))")
        yield* execute(url, "notify notices, '1'")
        yield* until(() => log.length === 3 && ids().length === 2 && notices.length === 1)

        // The node sends what follows, and the client does not receive it.
        toNear.silence()
        yield* write(
          4,
          "moved as (update orders set status = 'new' where id = 2), gone as (delete from orders where id = 1)"
        )
        yield* execute(url, "notify notices, '2'")
        yield* Scope.close(network, Exit.void)
        yield* until(() => subscribed().length === 6)
        yield* until(() => log.length === 6 && ids().join() === "2,3" && notices.length === 2)
        yield* execute(url, "notify notices, '3'")
        yield* until(() => notices.length === 3)

        expect(log).toEqual([1, 2, 3, 4, 5, 6])
        expect(notices).toEqual([1, "gap retention", 3])
        expect([ids(), status]).toEqual([[2, 3], "live"])
        const states = subscribed().slice(3)
        expect(Object.fromEntries(states.map(({ channel, state }) => [channel, state]))).toEqual({
          log: "recovered",
          table_updates_orders: "recovered",
          notices: "reset"
        })
        // The rows went on from the changes: one state in all.
        expect(frames.filter(({ type }) => type === "state")).toHaveLength(1)
      }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase)),
    20_000
  )
})

/** A node that can be stopped as an orchestrator does it, and started again on its port. */
const restartable = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  let port = 0
  let stop = async () => {}
  const start = Effect.promise(async () => {
    const http = createServer()
    const server = new NodeServer(http, url, {
      channels,
      authorize: () => true,
      limits: { drainTimeout: "1 second" }
    })
    await server.ready
    await new Promise<void>((resolve) => http.listen(port, "127.0.0.1", resolve))
    port = (http.address() as AddressInfo).port
    stop = async () => {
      await server.close()
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    }
  })
  const stopped = Effect.promise(() => stop())
  yield* start
  yield* Effect.addFinalizer(() => stopped)
  return { url: urlOf(port), restart: Effect.andThen(stopped, start) }
})

const isClosing = ({ message }: Connection.State) => message === "The server is closing"

describe("a rolling restart", () => {
  it.live(
    "of two nodes loses no event and no publish of 20 clients, and repeats none",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const nodes = [yield* restartable, yield* restartable]
        const { cursor } = yield* Realtime.snapshot(sql`select 1`)
        const clients = yield* Effect.forEach(Array.from({ length: 20 }), (_, index) =>
          Effect.gen(function* () {
            const webSocket = index % 2 === 0 ? WebSocket : globalThis.WebSocket
            const client = yield* clientOf({
              url: nodes.map(({ url }) => url),
              webSocket: webSocket as never
            })
            const received: Array<number | string> = []
            const states: Array<Connection.State> = []
            const { connection } = client.sync
            connection.subscribe(() => states.push(connection.getSnapshot()))
            yield* client.events(Log, { from: cursor }).pipe(
              Stream.runForEach((event) =>
                Effect.sync(() => {
                  received.push(event._tag === "Gap" ? `gap ${event.reason}` : event.payload)
                })
              ),
              Effect.forkScoped
            )
            return { client, received, states }
          })
        )
        yield* until(() =>
          clients.every(({ client }) => client.sync.connection.getSnapshot().status === "open")
        )
        yield* clients[0]!.client.publish(Log, 0)
        yield* until(() => clients.every(({ received }) => received.includes(0)))

        let last = 0
        let over = false
        // Each client publishes in turn, whatever happens to its node.
        const writing = yield* Effect.whileLoop({
          while: () => !over,
          body: () =>
            Effect.forEach(
              clients,
              ({ client }) => Effect.suspend(() => client.publish(Log, ++last)),
              { concurrency: "unbounded", discard: true }
            ),
          step: () => {}
        }).pipe(Effect.forkScoped)
        for (const { restart } of nodes) yield* restart
        over = true
        yield* Fiber.join(writing)

        const all = Array.from({ length: last + 1 }, (_, n) => n)
        yield* until(() => clients.every(({ received }) => received.length >= all.length))
        for (const { received } of clients) {
          expect(received.toSorted((one, other) => Number(one) - Number(other))).toEqual(all)
          // The publishes of each client are in their order; those of others may be in another one.
          for (const writer of clients.keys()) {
            const own = received.filter((n) => Number(n) > 0 && Number(n) % 20 === writer)
            expect(own).toEqual(all.filter((n) => n > 0 && n % 20 === writer))
          }
        }
        // A node's bye to a healthy session: an attempt at the other node at once, without a wait.
        const closed = clients.flatMap(({ states }) => {
          const first = states.findIndex((state) => state.status === "waiting" || isClosing(state))
          return states.slice(first, first + 1).filter(isClosing)
        })
        expect(closed.map(({ status }) => status)).toEqual(closed.map(() => "connecting"))
        expect(closed.length).toBeGreaterThan(0)
      }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase)),
    20_000
  )
})
