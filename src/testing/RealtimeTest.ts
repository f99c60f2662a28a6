/**
 * The whole system in memory, with faults to inject: nodes, database, network and clients in one
 * process, without a port, driven by `TestClock`.
 *
 * Each node has the real hub and the real door, and the clients are real clients. Only the sockets
 * between them, the bus between the nodes, and the database below, with its outbox for durable channels, are
 * in memory.
 * Tables that `Channel.table` defines have rows. `Realtime.consume`, `snapshot` and `readRows` read the
 * application's own database, so they need a `PgClient`: use `EmbeddedPostgres` in a test of them. All times follow the Clock of the test, so ten minutes of outage
 * take a millisecond and give the same result each time.
 *
 * @since 0.1.0
 */
import { limits, realtimeTest as Defaults } from "../internal/defaults.ts"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import type { IncomingHttpHeaders } from "node:http"
import * as Channel from "../Channel.ts"
import * as RealtimeClient from "../client/RealtimeClient.ts"
import type * as MemoryBus from "../server/MemoryBus.ts"
import type * as MemoryOutbox from "../server/MemoryOutbox.ts"
import { type OutboxPublishError, OutboxReader } from "../server/OutboxReader.ts"
import { keeps } from "../server/internal/hub/durable.ts"
import { checked, count, type InvalidOption } from "../server/internal/options.ts"
import type { SourceError } from "../server/NotificationSource.ts"
import * as Realtime from "../server/Realtime.ts"
import type { ChannelConflict, Definitions } from "../server/RealtimeServer.ts"
import type { Rules, RuleServices } from "../server/Rule.ts"
import type {
  AnonymousOptions,
  AnonymousRules,
  IdentityKey,
  IdentityOptions,
  IdentityRules,
  Options
} from "../server/ServerOptions.ts"
import * as Database from "./internal/database.ts"
import * as BusNetwork from "./internal/busNetwork.ts"
import * as Idle from "./internal/idle.ts"
import { type Network, networkOf } from "./internal/faults.ts"
import * as LeapClock from "./internal/leapClock.ts"
import { type Ground, Path, type Weather } from "./internal/network.ts"
import * as Node from "./internal/node.ts"
import * as Server from "./internal/server.ts"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Network
} from "./internal/faults.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Node
} from "./internal/node.ts"

/**
 * Options of a client in memory: those of `RealtimeClient` without an address, and the headers of its
 * upgrade request, such as a cookie.
 *
 * @category options
 * @since 0.1.0
 */
export interface ClientOptions extends Omit<
  RealtimeClient.Options,
  "url" | "webSocket" | "queue" | "signals"
> {
  /**
   * The index of the node to which the client connects. Default: the first one. While that one does not accept
   * clients, the next one that does takes its place, as behind a load balancer.
   */
  readonly node?: number | undefined
  /** The headers of the upgrade request, such as a cookie. Default: none. */
  readonly headers?: IncomingHttpHeaders | undefined
  /** As in `RealtimeClient`. */
  readonly queue?: RealtimeClient.Options["queue"]
  /** As in `RealtimeClient`. */
  readonly signals?: RealtimeClient.Options["signals"]
}

/**
 * A message on a durable channel, as a trigger or another program writes it: any JSON text.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message {
  readonly channel: Channel.Any | string
  /** Any JSON text. */
  readonly text: string
}

/**
 * Options of the system besides those of its door.
 *
 * @category options
 * @since 0.1.0
 */
export interface SystemOptions {
  /**
   * The nodes, default 1, at most 100. Several have one database, and a bus between them, as a single one has
   * with `control`. A node with a bus sends the members of presence channels when it has heard the others, 1.2 s
   * after its start.
   */
  readonly nodes?: number | undefined
  /**
   * What the bus does with each text, by the names of the nodes: `node 1`, and after its first restart `node
   * 1.2`. Default: it delivers each at once. See also `isolate` of a node.
   */
  readonly bus?: MemoryBus.Fault | undefined
  /** The options of the hub: how much it keeps in memory, how long it lingers. */
  readonly realtime?: Realtime.Options | undefined
  /** The options of the outbox: how long it keeps messages, how much it replays. */
  readonly outbox?: MemoryOutbox.Options | undefined
  /** The client that the layer provides, and the defaults of the clients that `connect` makes. */
  readonly client?: ClientOptions | undefined
  /**
   * Bytes in flight to a client that has not read them yet, default 64 KiB (65,536 bytes). Beyond it the
   * server must wait, as with a full kernel buffer.
   */
  readonly socketBytes?: number | undefined
}

/**
 * A client in memory, with its own network faults.
 *
 * @category models
 * @since 0.1.0
 */
export type Client = RealtimeClient.RealtimeClient["Service"] & { readonly network: Network }

/**
 * Controls the system in memory. Its own network faults affect every client.
 *
 * **Example** (A client that reconnects receives what it missed)
 *
 * ```ts
 * import { expect, layer } from "@effect/vitest"
 * import { Effect, Fiber, Stream } from "effect"
 * import { RealtimeClient } from "effect-realtime/client"
 * import { RealtimeServer } from "effect-realtime/server"
 * import { RealtimeTest } from "effect-realtime/testing"
 * import { TestClock } from "effect/testing"
 *
 * layer(RealtimeTest.layer({ channels: [Orders], authorize: RealtimeServer.allowAll }))((it) => {
 *   it.effect("survives the loss of the database", () =>
 *     Effect.gen(function* () {
 *       const test = yield* RealtimeTest.RealtimeTest
 *       const client = yield* RealtimeClient.RealtimeClient
 *       const two = yield* client
 *         .events(Orders)
 *         .pipe(Stream.take(2), Stream.runCollect, Effect.forkChild)
 *       yield* test.settle
 *       yield* test.database.lose
 *       yield* test.publish(Orders, { n: 1 })
 *       yield* test.database.restore
 *       yield* test.publish(Orders, { n: 2 })
 *       expect((yield* Fiber.join(two)).map((event) => event._tag)).toEqual(["Gap", "Event"])
 *     })
 *   )
 * })
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class RealtimeTest extends Context.Service<
  RealtimeTest,
  Network & {
    /**
     * Commits a publish to a channel in the database, live or durable, whether or not a server runs. On a
     * channel of a table it is an event that no change of `rows` caused. On a volatile channel the running server publishes it.
     */
    readonly publish: <A>(
      channel: Channel.Channel<A>,
      payload: NoInfer<A>,
      options?: Realtime.PublishOptions
    ) => Effect.Effect<void, Realtime.PublishError>
    /** The rows of tables that `Channel.table` defines, durable ones. */
    readonly rows: MemoryOutbox.RowWriter
    /**
     * Runs an Effect as one transaction. The changes of `rows` in it, and what it publishes on durable
     * channels, are committed together when it succeeds, and none of them when it fails. Within another
     * transaction it is a savepoint.
     */
    readonly transaction: <A, E, R>(
      effect: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E | MemoryOutbox.TransactionError, R>
    /** Commits a NOTIFY in the database: any text, whether or not it decodes. For live channels. */
    readonly notify: (channel: string, text: string) => Effect.Effect<void, SourceError>
    /**
     * Commits a transaction that writes to durable channels: any JSON text, whether or not it decodes.
     * Commits all messages or none.
     */
    readonly commit: (
      ...messages: ReadonlyArray<Message>
    ) => Effect.Effect<void, OutboxPublishError>
    /** Faults of the database, and what it holds. */
    readonly database: {
      /**
       * The server loses its sessions with the database and receives nothing that commits from now on. On
       * a live channel these events are lost, on a durable one they wait.
       */
      readonly lose: Effect.Effect<void>
      /** The database is unavailable: as `lose`, and publishing fails. */
      readonly stop: Effect.Effect<void>
      /**
       * The database crashes: as `stop`, and the last transactions on durable channels are lost, as many
       * as `losing` says, default 0. Real databases lose transactions that commit with
       * `synchronous_commit = off`, or that a promoted standby did not have. The rows that they changed
       * are as before. Subscribers that received their events receive a gap after `restore`.
       */
      readonly crash: (options?: { readonly losing?: number | undefined }) => Effect.Effect<void>
      /**
       * The server listens and reads again. Subscribers of a live channel that missed events receive a
       * gap, those of a durable one the events committed meanwhile.
       */
      readonly restore: Effect.Effect<void>
      /**
       * Removes what the durable channels have kept so far, as when the retention is over. Older cursors
       * are answered `reset`, except by a server that still has the events of an open channel in memory,
       * for 2 minutes.
       */
      readonly prune: Effect.Effect<void>
      /**
       * The position in the durable channels that contains everything committed so far: the cursor that
       * `Realtime.snapshot` would give with a state read now.
       */
      readonly position: Effect.Effect<string>
      /** The live channels that the server listens to, including those that linger. */
      readonly listening: Effect.Effect<ReadonlyArray<string>>
    }
    /** The nodes; by default there is one. */
    readonly nodes: ReadonlyArray<Node.Node>
    /** The first node: its faults and deploys. */
    readonly server: Node.Node
    /**
     * The clocks of nodes and clients leap, like those of machines that slept: everything due meanwhile
     * happens late and at once. `TestClock` itself does not move.
     */
    readonly jump: (duration: Duration.Input) => Effect.Effect<void>
    /** Completes when nothing more can happen unless time passes: no message is in flight. */
    readonly settle: Effect.Effect<void>
    /** Connects one more client, until the scope closes. */
    readonly connect: (options?: ClientOptions) => Effect.Effect<Client, never, Scope.Scope>
    /** The number of sockets that the nodes hold open. */
    readonly sockets: Effect.Effect<number>
    /** The channels to which the sockets of the nodes are subscribed: one for each subscription, sorted. */
    readonly subscriptions: Effect.Effect<ReadonlyArray<string>>
  }
>()("effect-realtime/testing/RealtimeTest") {}

/**
 * A layer of the system, its first client and the hub of its first node.
 *
 * @category models
 * @since 0.1.0
 */
export type SystemLayer<R> = Layer.Layer<
  RealtimeTest | RealtimeClient.RealtimeClient | Realtime.Realtime | OutboxReader,
  ChannelConflict | InvalidOption,
  R
>

/**
 * The system. Each call of `Realtime` goes to the server that runs then as the first node. A Stream belongs to
 * the server on which it began and ends with it; the next Stream goes to the next server. While no server runs,
 * a Stream ends at once. Fails with `InvalidOption` for options that a server rejects, and for `nodes`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: {
  <
    R = never,
    const Channels extends Definitions = Definitions,
    const List extends Rules = Rules<never>
  >(
    options: (AnonymousOptions<R, Channels> | AnonymousRules<Channels, List>) & SystemOptions
  ): SystemLayer<R | RuleServices<List[number]>>
  <
    I,
    R = never,
    const Channels extends Definitions = Definitions,
    const List extends Rules = Rules<never>
  >(
    options: (IdentityOptions<I, R, Channels> | IdentityRules<I, R, Channels, List>) &
      IdentityKey<NoInfer<I>> &
      SystemOptions
  ): SystemLayer<R | RuleServices<List[number]>>
} = <I, R>(options: Options<I, R> & SystemOptions): SystemLayer<R> =>
  Layer.effectContext(make(options))

/** Turns of the event loop in which the fibers of a test may react to the system. */
const turnsToSettle = 8
/** Fewer, because each step of the clock waits for them. */
const turnsAfterSleep = 2

const make = <I, R>(options: Options<I, R> & SystemOptions) =>
  Effect.gen(function* () {
    const idle = yield* Idle.make
    const clock = yield* LeapClock.make(idle.quiet(turnsAfterSleep))
    /** The system runs by its own clock, and `settle` sees its fibers. */
    const inside = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(
        Effect.provideService(Clock.Clock, clock),
        Effect.provideService(Scheduler.Scheduler, idle.scheduler)
      )
    return yield* inside(system(options, clock, idle, inside))
  })

const system = <I, R>(
  options: Options<I, R> & SystemOptions,
  clock: LeapClock.LeapClock,
  idle: Idle.Idle,
  inside: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const socketBytes = yield* checked(() =>
      count("socketBytes", options.socketBytes ?? Defaults.socketBytes)
    )
    const { commit, faults, revocations, rows, source, table, transaction } = yield* Database.make(
      clock,
      options.outbox
    )
    const size = yield* checked(() =>
      count("nodes", options.nodes ?? Defaults.nodes, { most: 100, unlimited: false })
    )
    const database = { source, table, outbox: options.outbox, revocations }
    const endOf = size > 1 || options.control === true ? BusNetwork.make(options.bus) : undefined
    const servers = yield* Effect.forEach(Array.from({ length: size }).keys(), (index) => {
      const end = endOf?.(index)
      return Effect.map(Server.make(database, end?.link, options, options.realtime), (server) => ({
        server,
        end
      }))
    })

    const run = yield* FiberSet.makeRuntime<never, void>()
    const ground: Ground = {
      now: () => clock.currentTimeMillisUnsafe(),
      run: (effect) =>
        void run(Effect.catchDefect(effect, (defect) => Effect.logError("network", defect))),
      enter: (peer, headers, first) => {
        for (let at = first; at < first + size; at++) {
          const node = at % size
          const ears = servers[node]!.server.entrance(peer, headers)
          if (ears !== undefined) return { ears, node }
        }
        return undefined
      },
      maxMessageBytes: options.limits?.maxFrameBytes ?? limits.maxFrameBytes,
      socketBytes,
      links: new Set()
    }
    /** The faults that a new client starts with. */
    const weather: Weather = { silent: false, refusing: false, delay: 0 }
    const paths = new Set<Path>()
    // Before the server closes: it would drain, and wait for clients that cannot answer any more.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => ground.links.forEach((l) => l.forgetServer()))
    )

    const connect = ({ headers = {}, node = 0, ...own }: ClientOptions = {}) =>
      Effect.gen(function* () {
        const path = new Path(ground, { ...weather }, headers, node)
        yield* Effect.acquireRelease(
          Effect.sync(() => paths.add(path)),
          () => Effect.sync(() => paths.delete(path))
        )
        const { headers: _, node: __, ...shared } = options.client ?? {}
        const { webSocket } = path
        const client = yield* Effect.orDie(
          Layer.build(
            RealtimeClient.layer({ url: "ws://memory/realtime", ...shared, ...own, webSocket })
          )
        )
        return {
          ...Context.get(client, RealtimeClient.RealtimeClient),
          network: networkOf((change) => change(path), path.weather)
        }
      }).pipe(inside)

    const first = yield* connect({ headers: options.client?.headers, node: options.client?.node })
    const nodes = servers.map(({ end, server }, index) =>
      Node.make(server, end, ground, index, clock, inside)
    )
    const [node] = nodes as [(typeof nodes)[number]]

    return Context.make(RealtimeTest, {
      ...networkOf((change) => paths.forEach(change), weather),
      publish: (channel, payload, options) =>
        Effect.suspend(() => {
          if (!keeps(channel)) return node.realtime.publish(channel, payload)
          if (channel.fault !== undefined) return Effect.fail(channel.fault)
          // Not through the hub, which leaves the channels of tables to triggers.
          return Effect.flatMap(Effect.fromResult(Channel.toJson(channel, payload)), (text) =>
            commit([{ channel: channel.name, text, key: options?.key }])
          )
        }),
      rows,
      transaction,
      notify: source.notify,
      commit: (...messages) =>
        commit(
          messages.map(({ channel, text }) => ({
            channel: typeof channel === "string" ? channel : channel.name,
            text
          }))
        ),
      database: faults,
      nodes,
      server: node,
      jump: (duration) =>
        Effect.sync(() => clock.leap(Duration.toMillis(Duration.fromInputUnsafe(duration)))),
      settle: idle.quiet(turnsToSettle),
      connect,
      sockets: Effect.sync(() => servers.reduce((sum, { server }) => sum + server.size(), 0)),
      subscriptions: Effect.sync(() =>
        [...ground.links].flatMap(({ subscriptions }) => Array.from(subscriptions)).toSorted()
      )
    }).pipe(
      Context.add(RealtimeClient.RealtimeClient, first),
      Context.add(Realtime.Realtime, node.realtime),
      Context.add(OutboxReader, node.reader)
    )
  })
