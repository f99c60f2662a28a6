/**
 * The whole system in memory, with faults to inject: server, database, network and clients in one
 * process, without a port, driven by `TestClock`.
 *
 * The server is the real hub and the real door, the clients are real clients; only the sockets between
 * them and the database below, with its outbox for durable channels, are in memory. What works on rows of
 * the app, `Realtime.consume`, `snapshot` and `rows`, asks for a `PgClient` and is for a test with
 * `EmbeddedPostgres`. Whatever takes time follows the Clock of the test, so ten
 * minutes of outage take a millisecond and come out the same each time.
 *
 * @since 0.1.0
 */
import { limits, realtimeTest as Defaults } from "../internal/defaults.ts"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { IncomingHttpHeaders } from "node:http"
import * as Channel from "../Channel.ts"
import * as RealtimeClient from "../client/RealtimeClient.ts"
import type { ServerFrame } from "../Frame.ts"
import type * as MemoryOutbox from "../server/MemoryOutbox.ts"
import { type OutboxPublishError, OutboxReader } from "../server/OutboxReader.ts"
import { keeps } from "../server/internal/hub/durable.ts"
import { checked, count, type InvalidOption } from "../server/internal/options.ts"
import type { ChannelConflict } from "../server/internal/session/registry.ts"
import type { SourceError } from "../server/NotificationSource.ts"
import * as Realtime from "../server/Realtime.ts"
import type {
  AnonymousOptions,
  IdentityKey,
  IdentityOptions,
  Options
} from "../server/ServerOptions.ts"
import * as Database from "./internal/database.ts"
import * as Idle from "./internal/idle.ts"
import * as LeapClock from "./internal/leapClock.ts"
import { type Ground, Path, type Weather } from "./internal/network.ts"
import * as Server from "./internal/server.ts"

/**
 * Options of a client in memory: those of `RealtimeClient`, without an address, and the headers of its
 * upgrade request, such as a cookie.
 *
 * @category options
 * @since 0.1.0
 */
export interface ClientOptions extends Omit<
  RealtimeClient.Options,
  "url" | "webSocket" | "queue" | "signals"
> {
  readonly headers?: IncomingHttpHeaders | undefined
  readonly queue?: RealtimeClient.Options["queue"]
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
  readonly text: string
}

/**
 * What the system is made of besides the options of its door.
 *
 * @category options
 * @since 0.1.0
 */
export interface SystemOptions {
  /** The hub: how much it remembers, how long it lingers. */
  readonly realtime?: Realtime.Options | undefined
  /** The outbox of durable channels: how long it keeps messages, how much is replayed. */
  readonly outbox?: MemoryOutbox.Options | undefined
  /** The client that the layer provides, and the defaults of those that `connect` makes. */
  readonly client?: ClientOptions | undefined
  /**
   * Bytes on their way to a client that did not read them yet, default 64 KiB (65,536 bytes). Beyond
   * it the server must wait, as with a full kernel buffer.
   */
  readonly socketBytes?: number | undefined
}

/**
 * Faults of the way between clients and server. Each takes effect at once.
 *
 * @category models
 * @since 0.1.0
 */
export interface Network {
  /** Breaks all sockets without a close frame. Both ends notice at once; the client sees 1006. */
  readonly cut: Effect.Effect<void>
  /**
   * Swallows everything, both ways, and nobody is told: neither messages nor closes nor attempts to
   * connect arrive until `resume`.
   */
  readonly silence: Effect.Effect<void>
  /**
   * Lets everything through again. A socket of which something was swallowed stays dead all the same,
   * because a stream of bytes never has a hole: its ends must notice by themselves.
   */
  readonly resume: Effect.Effect<void>
  /** Delays each message so long on its way, both ways, in order. Default 0. */
  readonly delay: (duration: Duration.Input) => Effect.Effect<void>
  /** Whether attempts to connect fail. Sockets that are open stay. */
  readonly refuse: (yes: boolean) => Effect.Effect<void>
  /**
   * Loses the next message of the server in which there is a frame of this type, default `events`, once
   * for each client. What was sent before arrives. Nothing after it does on that socket, either way, and
   * nobody is told: a stream of bytes never has a hole. Attempts to connect pass.
   */
  readonly loseFrame: (type?: ServerFrame["type"]) => Effect.Effect<void>
}

/**
 * One more client, with faults of its own.
 *
 * @category models
 * @since 0.1.0
 */
export type Client = RealtimeClient.RealtimeClient["Service"] & { readonly network: Network }

/**
 * The system in memory. Its own faults of the network concern every client.
 *
 * **Example** (A client that was away is told what it missed)
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
     * A commit in the database that publishes to a channel, live or durable, whether or not a server runs.
     * On a channel of a table it is a change of a row.
     */
    readonly publish: <A>(
      channel: Channel.Channel<A>,
      payload: NoInfer<A>,
      options?: Realtime.PublishOptions
    ) => Effect.Effect<void, Realtime.PublishError>
    /** A commit in the database that notifies: any text, whether or not it decodes. For live channels. */
    readonly notify: (channel: string, text: string) => Effect.Effect<void, SourceError>
    /**
     * A transaction in the database that writes to durable channels: any JSON text, whether or not it
     * decodes. All of it commits, or nothing.
     */
    readonly commit: (
      ...messages: ReadonlyArray<Message>
    ) => Effect.Effect<void, OutboxPublishError>
    readonly database: {
      /**
       * The sessions of the server are lost: whatever commits from now on, it does not hear. On a live
       * channel that is missing, on a durable one it waits.
       */
      readonly lose: Effect.Effect<void>
      /** The database is gone altogether: as `lose`, and publishing fails. */
      readonly stop: Effect.Effect<void>
      /**
       * The database crashes: as `stop`, and the last transactions on durable channels are gone, as many as
       * `losing` says, default 0. As those are that commit with `synchronous_commit = off`, or that a
       * standby did not have. Whoever was told of them is told a gap after `restore`.
       */
      readonly crash: (options?: { readonly losing?: number | undefined }) => Effect.Effect<void>
      /**
       * The server listens and reads again. Who missed something on a live channel is told a gap; on a
       * durable one comes what was committed meanwhile.
       */
      readonly restore: Effect.Effect<void>
      /**
       * Forgets what durable channels have kept so far, as when its retention is over. Older cursors are
       * answered `reset`, except by a server that remembers what it sent on an open channel, for 2 minutes.
       */
      readonly prune: Effect.Effect<void>
      /**
       * The position in the durable channels that contains everything committed so far: the cursor that
       * `Realtime.snapshot` gives with a state that is read now.
       */
      readonly position: Effect.Effect<string>
      /** The live channels that the server listens to, also those that linger. */
      readonly listening: Effect.Effect<ReadonlyArray<string>>
    }
    readonly server: {
      /**
       * A deploy: the server drains, and when the last client has left, or was cut at the limit
       * `drainTimeout`, a new one begins that knows nothing of the past of live channels; durable ones go on
       * where each client was. Attempts to connect fail meanwhile.
       * Takes no time when the network has no delay and few clients are there; else fork it.
       */
      readonly restart: Effect.Effect<void>
      /**
       * A rolling deploy: as `restart`, but the new server takes newcomers while the old one drains.
       */
      readonly replace: Effect.Effect<void>
      /** A crash: the server is gone without a word, its sockets are reset, and a new one begins. */
      readonly kill: Effect.Effect<void>
      /**
       * The server is lost: as `kill`, but no new one begins. Attempts to connect fail until `start`, or
       * until `restart`, `replace` or `kill` begin one.
       */
      readonly stop: Effect.Effect<void>
      /** Begins a server after `stop`; does nothing while one runs. */
      readonly start: Effect.Effect<void>
      /** Whether it takes newcomers and its events flow. */
      readonly isReady: Effect.Effect<boolean>
    }
    /**
     * The clocks of server and clients leap, as those of machines that slept: whatever was due
     * meanwhile happens late and at once. `TestClock` itself stays where it is.
     */
    readonly jump: (duration: Duration.Input) => Effect.Effect<void>
    /** Completes when nothing more can happen unless time passes: no message is on its way. */
    readonly settle: Effect.Effect<void>
    /** One more client, until the scope closes. */
    readonly connect: (options?: ClientOptions) => Effect.Effect<Client, never, Scope.Scope>
    /** How many sockets the server holds open. */
    readonly sockets: Effect.Effect<number>
    /** What the server's sockets are subscribed to: a channel per subscription, sorted. */
    readonly subscriptions: Effect.Effect<ReadonlyArray<string>>
  }
>()("effect-realtime/testing/RealtimeTest") {}

/**
 * The system, its first client, and the hub of the server that runs. Whatever is asked of `Realtime`
 * is asked of the server that runs then: a Stream belongs to the server on which it began and ends with
 * it, and the next one goes to the next server. While none runs, a Stream ends at once.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: {
  <R = never>(
    options: AnonymousOptions<R> & SystemOptions
  ): Layer.Layer<
    RealtimeTest | RealtimeClient.RealtimeClient | Realtime.Realtime | OutboxReader,
    ChannelConflict | InvalidOption,
    R
  >
  <I, R = never>(
    options: IdentityOptions<I, R> & IdentityKey<NoInfer<I>> & SystemOptions
  ): Layer.Layer<
    RealtimeTest | RealtimeClient.RealtimeClient | Realtime.Realtime | OutboxReader,
    ChannelConflict | InvalidOption,
    R
  >
} = <I, R>(
  options: Options<I, R> & SystemOptions
): Layer.Layer<
  RealtimeTest | RealtimeClient.RealtimeClient | Realtime.Realtime | OutboxReader,
  ChannelConflict | InvalidOption,
  R
> => Layer.effectContext(make(options))

/** Turns of the event loop in which the fibers of a test may answer what the system did. */
const turnsToSettle = 8
/** Fewer, because it is waited for at each step of the clock. */
const turnsAfterSleep = 2

const make = <I, R>(options: Options<I, R> & SystemOptions) =>
  Effect.gen(function* () {
    const idle = yield* Idle.make
    const clock = yield* LeapClock.make(idle.quiet(turnsAfterSleep))
    /** Everything of the system runs by its clock and is seen by `settle`. */
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
    const { commit, faults, source, table } = yield* Database.make(clock)
    const { outbox } = options
    const server = yield* Server.make({ source, table, outbox }, options, options.realtime)

    const run = yield* FiberSet.makeRuntime<never, void>()
    const ground: Ground = {
      now: () => clock.currentTimeMillisUnsafe(),
      run: (effect) =>
        void run(Effect.catchDefect(effect, (defect) => Effect.logError("network", defect))),
      entrance: server.entrance,
      maxMessageBytes: options.limits?.maxFrameBytes ?? limits.maxFrameBytes,
      socketBytes,
      links: new Set()
    }
    /** What newcomers find. */
    const weather: Weather = { silent: false, refusing: false, delay: 0 }
    const paths = new Set<Path>()
    // Before the server closes: it would drain, and wait for clients that cannot answer any more.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => ground.links.forEach((l) => l.forgetServer()))
    )

    const connect = ({ headers = {}, ...own }: ClientOptions = {}) =>
      Effect.gen(function* () {
        const path = new Path(ground, { ...weather }, headers)
        yield* Effect.acquireRelease(
          Effect.sync(() => paths.add(path)),
          () => Effect.sync(() => paths.delete(path))
        )
        const { headers: _, ...shared } = options.client ?? {}
        const { webSocket } = path
        const client = yield* Layer.build(
          RealtimeClient.layer({ url: "ws://memory/realtime", ...shared, ...own, webSocket })
        )
        return {
          ...Context.get(client, RealtimeClient.RealtimeClient),
          network: networkOf((change) => change(path), path.weather)
        }
      }).pipe(inside)

    const first = yield* connect({ headers: options.client?.headers })
    const { current } = server

    /** A Stream of the server that runs when it begins. */
    const ofServer = <A, E, R>(
      stream: (generation: Server.Generation) => Stream.Stream<A, E, R>
    ): Stream.Stream<A, E, R> =>
      Stream.unwrap(
        Effect.sync(() => {
          const generation = current()
          const { gone } = generation
          if (Deferred.isDoneUnsafe(gone)) return Stream.empty
          return Stream.interruptWhen(stream(generation), Deferred.await(gone)).pipe(
            // What waits in a hub that closes is interrupted by it.
            Stream.catchCause((cause) =>
              Deferred.isDoneUnsafe(gone) && Cause.hasInterruptsOnly(cause)
                ? Stream.empty
                : Stream.failCause(cause)
            )
          )
        })
      ).pipe(Stream.provideService(Clock.Clock, clock))

    /** What the server that runs does when it is asked, by the clock of the system. */
    const byServer = <A, E, R>(
      effect: (generation: Server.Generation) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E, R> =>
      Effect.suspend(() => effect(current())).pipe(Effect.provideService(Clock.Clock, clock))

    const forget = () => ground.links.forEach((l) => l.held && l.forgetServer())

    return Context.make(RealtimeTest, {
      ...networkOf((change) => paths.forEach(change), weather),
      publish: (channel, payload, options) =>
        Effect.suspend(() => {
          if (!keeps(channel)) return current().realtime.publish(channel, payload)
          if (channel.fault !== undefined) return Effect.fail(channel.fault)
          // Past the hub, which leaves the channels of tables to triggers.
          return Effect.flatMap(Effect.fromResult(Channel.toJson(channel, payload)), (text) =>
            commit([{ channel: channel.name, text, key: options?.key }])
          )
        }),
      notify: source.notify,
      commit: (...messages) =>
        commit(
          messages.map(({ channel, text }) => ({
            channel: typeof channel === "string" ? channel : channel.name,
            text
          }))
        ),
      database: faults,
      server: {
        restart: inside(server.restart),
        replace: inside(server.replace),
        kill: inside(server.kill(forget)),
        stop: inside(server.stop(forget)),
        start: inside(server.start),
        isReady: Effect.sync(() => server.running() && current().door.isReady())
      },
      jump: (duration) =>
        Effect.sync(() => clock.leap(Duration.toMillis(Duration.fromInputUnsafe(duration)))),
      settle: idle.quiet(turnsToSettle),
      connect,
      sockets: Effect.sync(() => server.size()),
      subscriptions: Effect.sync(() =>
        [...ground.links].flatMap(({ subscriptions }) => Array.from(subscriptions)).toSorted()
      )
    }).pipe(
      Context.add(RealtimeClient.RealtimeClient, first),
      Context.add(Realtime.Realtime, {
        publish: (channel, payload, options) =>
          byServer(({ realtime }) => realtime.publish(channel, payload, options)),
        events: (channel, from) => ofServer(({ realtime }) => realtime.events(channel, from)),
        batches: (channel, from) => ofServer(({ realtime }) => realtime.batches(channel, from)),
        subscribe: (channel) => ofServer(({ realtime }) => realtime.subscribe(channel)),
        source: ofServer(({ realtime }) => realtime.source),
        get "~effect-realtime/server/Realtime"() {
          return current().realtime["~effect-realtime/server/Realtime"]
        }
      }),
      Context.add(OutboxReader, {
        follow: (channel) => byServer(({ reader }) => reader.follow(channel)),
        join: (...args) => byServer(({ reader }) => reader.join(...args)),
        batches: (channel, from) => ofServer(({ reader }) => reader.batches(channel, from)),
        publish: (...args) => byServer(({ reader }) => reader.publish(...args)),
        position: byServer(({ reader }) => reader.position),
        get state() {
          return current().reader.state
        }
      })
    )
  })

/** The faults of some paths; `weather` is what will hold for those to come. */
const networkOf = (
  each: (
    change: (
      path: Pick<Path, "cut" | "loseNext" | "silence"> & { readonly weather: Weather }
    ) => void
  ) => void,
  weather: Weather
): Network => {
  const become = (change: Partial<Weather>) =>
    Effect.sync(() => {
      Object.assign(weather, change)
      each((path) => void Object.assign(path.weather, change))
    })
  return {
    cut: Effect.sync(() => each((path) => path.cut())),
    silence: Effect.andThen(
      become({ silent: true }),
      Effect.sync(() => each((path) => path.silence()))
    ),
    resume: become({ silent: false }),
    delay: (duration) => become({ delay: Duration.toMillis(Duration.fromInputUnsafe(duration)) }),
    refuse: (refusing) => become({ refusing }),
    loseFrame: (type = "events") =>
      Effect.sync(() => each((path) => path.loseNext((frame) => frame.type === type)))
  }
}
