/**
 * The whole system in memory, with faults to inject: server, database, network and clients in one
 * process, without a port, driven by `TestClock`.
 *
 * The server is the real hub and the real door, the clients are real clients; only the sockets between
 * them and the database below are in memory. Whatever takes time follows the Clock of the test, so ten
 * minutes of outage take a millisecond and come out the same each time.
 *
 * @since 0.1.0
 */
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
import type { Channel } from "../Channel.ts"
import { RealtimeClient, type RealtimeClientOptions } from "../client/RealtimeClient.ts"
import type { ChannelConflict } from "../server/internal/door/registry.ts"
import {
  layerMemory,
  MemorySource,
  NotificationSource,
  SourceError
} from "../server/NotificationSource.ts"
import * as Realtime from "../server/Realtime.ts"
import type {
  AnonymousOptions,
  IdentityKey,
  IdentityOptions,
  InvalidOption,
  Options
} from "../server/ServerOptions.ts"
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
  RealtimeClientOptions,
  "url" | "webSocket" | "queue" | "signals"
> {
  readonly headers?: IncomingHttpHeaders | undefined
  readonly queue?: RealtimeClientOptions["queue"]
  readonly signals?: RealtimeClientOptions["signals"]
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
}

/**
 * One more client, with faults of its own.
 *
 * @category models
 * @since 0.1.0
 */
export type TestClient = RealtimeClient["Service"] & { readonly network: Network }

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
 *       const test = yield* RealtimeTest
 *       const client = yield* RealtimeClient
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
    /** A commit in the database that publishes to a channel. */
    readonly publish: <A>(
      channel: Channel<A>,
      payload: NoInfer<A>
    ) => Effect.Effect<void, Realtime.PublishError>
    /** A commit in the database that notifies: any text, whether or not it decodes. */
    readonly notify: (channel: string, text: string) => Effect.Effect<void, SourceError>
    readonly database: {
      /** The connection that listens is lost: whatever commits from now on, the server does not hear. */
      readonly lose: Effect.Effect<void>
      /** The database is gone altogether: as `lose`, and publishing fails. */
      readonly stop: Effect.Effect<void>
      /** The server listens again, and everybody who missed something is told. */
      readonly restore: Effect.Effect<void>
      /** The channels that the server listens to, also those that linger. */
      readonly listening: Effect.Effect<ReadonlyArray<string>>
    }
    readonly server: {
      /**
       * A deploy: the server drains, and when the last client has left, or was cut at the limit
       * `drain`, a new one begins that knows nothing of the past. Attempts to connect fail meanwhile.
       * Takes no time when the network has no delay and few clients are there; else fork it.
       */
      readonly restart: Effect.Effect<void>
      /**
       * A rolling deploy: as `restart`, but the new server takes newcomers while the old one drains.
       */
      readonly replace: Effect.Effect<void>
      /** A crash: the server is gone without a word, its sockets are reset, and a new one begins. */
      readonly kill: Effect.Effect<void>
      /** Whether it takes newcomers and its events flow. */
      readonly ready: Effect.Effect<boolean>
    }
    /**
     * The clocks of server and clients leap, as those of machines that slept: whatever was due
     * meanwhile happens late and at once. `TestClock` itself stays where it is.
     */
    readonly jump: (duration: Duration.Input) => Effect.Effect<void>
    /** Completes when nothing more can happen unless time passes: no message is on its way. */
    readonly settle: Effect.Effect<void>
    /** One more client, until the scope closes. */
    readonly connect: (options?: ClientOptions) => Effect.Effect<TestClient, never, Scope.Scope>
    /** How many sockets the server holds open. */
    readonly sockets: Effect.Effect<number>
    /** What the server's sockets are subscribed to: a channel per subscription, sorted. */
    readonly subscriptions: Effect.Effect<ReadonlyArray<string>>
  }
>()("effect-realtime/testing/RealtimeTest") {
  /**
   * The system, its first client, and the hub of the server that runs. A Stream of `Realtime` belongs
   * to the server on which it began and ends with it.
   *
   * @category layers
   */
  static readonly layer: {
    <R = never>(
      options: AnonymousOptions<R> & SystemOptions
    ): Layer.Layer<
      RealtimeTest | RealtimeClient | Realtime.Realtime,
      ChannelConflict | InvalidOption,
      R
    >
    <I, R = never>(
      options: IdentityOptions<I, R> & IdentityKey<NoInfer<I>> & SystemOptions
    ): Layer.Layer<
      RealtimeTest | RealtimeClient | Realtime.Realtime,
      ChannelConflict | InvalidOption,
      R
    >
  } = <I, R>(
    options: Options<I, R> & SystemOptions
  ): Layer.Layer<
    RealtimeTest | RealtimeClient | Realtime.Realtime,
    ChannelConflict | InvalidOption,
    R
  > => Layer.effectContext(make(options))
}

const defaultMessageBytes = 64 * 1024

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
    const memory = yield* Layer.build(Layer.fresh(layerMemory))
    const { listening, lose, restore } = Context.get(memory, MemorySource)
    const { database, source } = withLosses(Context.get(memory, NotificationSource), lose, restore)
    const server = yield* Server.make(source, options, options.realtime)

    const run = yield* FiberSet.makeRuntime<never, void>()
    const ground: Ground = {
      now: () => clock.currentTimeMillisUnsafe(),
      run: (effect) =>
        void run(Effect.catchDefect(effect, (defect) => Effect.logError("network", defect))),
      entrance: server.entrance,
      maxMessageBytes: options.limits?.frameBytes ?? defaultMessageBytes,
      socketBytes: options.socketBytes ?? defaultMessageBytes,
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
          ...Context.get(client, RealtimeClient),
          network: networkOf((change) => change(path), path.weather)
        }
      }).pipe(inside)

    const first = yield* connect({ headers: options.client?.headers })
    const { current } = server
    const hub = current().realtime

    /** A Stream of the server that runs when it begins. */
    const ofServer = <A, E>(
      stream: (realtime: Realtime.Realtime["Service"]) => Stream.Stream<A, E>
    ): Stream.Stream<A, E> =>
      Stream.unwrap(
        Effect.sync(() => {
          const { gone, realtime } = current()
          return Stream.interruptWhen(stream(realtime), Deferred.await(gone)).pipe(
            // What waits in a hub that closes is interrupted by it.
            Stream.catchCause((cause) =>
              Deferred.isDoneUnsafe(gone) && Cause.hasInterruptsOnly(cause)
                ? Stream.empty
                : Stream.failCause(cause)
            )
          )
        })
      ).pipe(Stream.provideService(Clock.Clock, clock))

    return Context.make(RealtimeTest, {
      ...networkOf((change) => paths.forEach(change), weather),
      publish: hub.publish,
      notify: source.notify,
      database: { ...database, listening },
      server: {
        restart: inside(server.restart),
        replace: inside(server.replace),
        kill: inside(server.kill(() => ground.links.forEach((l) => l.held && l.forgetServer()))),
        ready: Effect.sync(() => current().door.ready())
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
      Context.add(RealtimeClient, first),
      Context.add(Realtime.Realtime, {
        ...hub,
        events: (channel, from) => ofServer((realtime) => realtime.events(channel, from)),
        subscribe: (channel) => ofServer((realtime) => realtime.subscribe(channel)),
        source: ofServer((realtime) => realtime.source)
      })
    )
  })

/** The source in memory, over a database to which others write also while nobody hears it. */
const withLosses = (
  memory: NotificationSource["Service"],
  lose: Effect.Effect<void>,
  restore: Effect.Effect<void>
) => {
  let state: "heard" | "unheard" | "gone" = "heard"
  const become = (next: typeof state, then: Effect.Effect<void>) =>
    Effect.andThen(
      Effect.sync(() => {
        state = next
      }),
      then
    )
  return {
    source: {
      ...memory,
      notify: (channel: string, text: string) =>
        Effect.suspend(() =>
          state === "heard"
            ? memory.notify(channel, text)
            : state === "unheard"
              ? Effect.void
              : Effect.fail(
                  new SourceError({
                    operation: "notify",
                    channel,
                    cause: new Error("The database in memory is stopped")
                  })
                )
        )
    },
    database: {
      lose: become("unheard", lose),
      stop: become("gone", lose),
      restore: become("heard", restore)
    }
  }
}

/** The faults of some paths; `weather` is what will hold for those to come. */
const networkOf = (
  each: (
    change: (path: { readonly weather: Weather } & Pick<Path, "cut" | "silence">) => void
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
    refuse: (refusing) => become({ refusing })
  }
}
