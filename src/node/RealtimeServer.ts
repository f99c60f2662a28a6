/**
 * The WebSocket door for people with a `node:http` server: Express, Fastify, Next, or none of them.
 *
 * One object owns everything that the library needs (a small pool, the link, the hub, the door) and
 * gives it all back on `close()`. It answers upgrade requests on its path and nothing else.
 *
 * @since 0.1.0
 */
import type { PgClient } from "@effect/sql-pg"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Server } from "node:http"
import type { Duplex } from "node:stream"
import * as Channel from "../Channel.ts"
import type { Snapshot } from "../RealtimeEvent.ts"
import { attach } from "../server/internal/door/attach.ts"
import { claim, pathOf } from "../server/internal/door/claims.ts"
import * as Door from "../server/internal/door/door.ts"
import type { ChannelConflict } from "../server/internal/session/registry.ts"
import { requireSources } from "../server/internal/door/sources.ts"
import type { NoOutbox, NoSource } from "../server/internal/hub/errors.ts"
import { keeps } from "../server/internal/hub/durable.ts"
import { NotificationSource } from "../server/NotificationSource.ts"
import * as OutboxReader from "../server/OutboxReader.ts"
import { SchemaName } from "../server/PgInstaller.ts"
import type * as PgNotificationSource from "../server/PgNotificationSource.ts"
import { hubOf } from "../server/internal/hub/ofRealtime.ts"
import * as Realtime from "../server/Realtime.ts"
import type { InvalidOption } from "../server/internal/options.ts"
import {
  allowAll,
  type Authenticated,
  type Credentials,
  type IdentityKey,
  type Limits,
  type Rate,
  type Request
} from "../server/ServerOptions.ts"
import { checkArguments } from "./internal/arguments.ts"
import { checkConsumer, startConsumer } from "./internal/consumer.ts"
import { databaseLayer } from "./internal/databaseLayer.ts"
import { eventually } from "./internal/eventually.ts"
import { persistent } from "./internal/persistent.ts"
import { readState } from "./internal/state.ts"
import { waitingDoor } from "./internal/waitingDoor.ts"
import type {
  Consumer,
  ConsumeOptions,
  Eventually,
  Options,
  SnapshotOptions,
  Transaction
} from "./Options.ts"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  RefusedToStart
} from "./internal/arguments.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  TransactionError
} from "./internal/transaction.ts"

/**
 * The server was closed before it could do what it was asked: become ready, publish, or read a state.
 *
 * @category errors
 * @since 0.1.0
 */
export class ServerClosed extends Data.TaggedError("ServerClosed")<{
  readonly before:
    | "it was ready"
    | "it was published"
    | "rights were looked at"
    | "the state was read"
    | "the consumer began"
}> {
  override get message(): string {
    return `The server was closed before ${this.before}. Await that before you call close().`
  }
}

/** How long `close` waits for what is being published or consumed, in milliseconds. */
const finishMillis = 1000

/** How long it waits then for what is rolled back. */
const rollbackMillis = 500

/** How often a start is tried again that was refused for good. */
const startEvery = "30 seconds"

type StartError =
  | PgNotificationSource.StartError
  | ChannelConflict
  | InvalidOption
  | NoOutbox
  | NoSource
  | SqlError

/** What somebody may mend while the process lives: the database, its roles, its certificate, the pooler. */
const mayPass = ({ _tag }: StartError): boolean =>
  _tag === "DatabaseRefused" || _tag === "ListenNotDelivered"

/**
 * The types of the class: of its options, and of what its callbacks are given and give.
 *
 * @category models
 * @since 0.1.0
 */
export declare namespace RealtimeServer {
  export type {
    Authenticated,
    Consumer,
    ConsumeOptions,
    Credentials,
    Eventually,
    IdentityKey,
    Limits,
    Options,
    Rate,
    Request,
    SnapshotOptions,
    Transaction
  }
}

type Services = Realtime.Realtime | OutboxReader.OutboxReader | PgClient.PgClient

/**
 * Attaches a WebSocket door to an HTTP server.
 *
 * Throws at once what its arguments show: `RefusedToStart` when the first is no `http.Server`, when the
 * database URL is missing or cannot be followed, or when `NODE_ENV` is `production` and there is no
 * `authorize`; `InvalidOption` when an option is not known or cannot be what it is, and when another one
 * on this HTTP server has its path and was not closed.
 *
 * Until it has started, and when it could not, upgrades on its path are answered 503.
 *
 * @category constructors
 * @since 0.1.0
 */
export class RealtimeServer<I = undefined> implements AsyncDisposable {
  /** An `authorize` that lets everybody in: for a server that is open on purpose. */
  static readonly allowAll = allowAll

  /**
   * Settles when the server takes clients and hears PostgreSQL: it listens, and with durable channels it reads the
   * outbox. It goes on trying for as long as the database is away. It rejects, with the reason and the cure,
   * when PostgreSQL refuses for `startPatience` (`DatabaseRefused`; `NotInstalled`, `OutdatedInstall`,
   * `NotPrimary` and `OtherOutbox` of the outbox), when its notifications do not arrive (`ListenNotDelivered`), when the
   * channels contradict each other, and with `ServerClosed` when it was closed before. Refused, it is tried again every 30 s:
   * `isReady` tells when it is well.
   */
  readonly ready: Promise<void>
  readonly #runtime: ManagedRuntime.ManagedRuntime<Services, unknown>
  readonly #publishing = new Set<Promise<void>>()
  readonly #consumers = new Set<Consumer>()
  /** Whether a reader of the outbox is there. */
  readonly #readsOutbox: boolean
  /** Ends the pool's sessions. */
  readonly #cut: Effect.Effect<void>
  readonly #stopWaiting: Effect.Effect<void>
  readonly #leavePath: () => void
  /** Why it could not start so far. */
  #failure: unknown
  /** Ends what waits for the start when that has failed. */
  #waiting = new AbortController()
  #door: Door.Door | undefined
  #closed = false
  #draining = false

  constructor(
    server: Server,
    databaseUrl: string | undefined,
    options: Options<I> & IdentityKey<NoInfer<I>> = {} as Options<I> & IdentityKey<I>
  ) {
    checkArguments(server, databaseUrl, options)
    const {
      authenticate,
      authorize,
      channels = Channel.known(),
      identityKey,
      listenUrl,
      maxChannels,
      maxConnections,
      maxMemoryAge,
      maxMemoryBytes,
      maxMemoryEvents,
      maxReplayMemory,
      maxReplayQueue,
      maxReplays,
      schema,
      startPatience,
      wake,
      ...door
    } = options
    const database = {
      listenUrl,
      maxConnections,
      maxMemoryAge,
      maxMemoryBytes,
      maxMemoryEvents,
      maxReplayMemory,
      maxReplayQueue,
      maxReplays,
      startPatience,
      wake
    }
    const path = pathOf(door)
    this.#leavePath = claim(server, path)
    const waiting = Scope.makeUnsafe()
    const answer = () =>
      this.#failure === undefined
        ? "The server is starting."
        : "The server could not start; its log says why."
    Effect.runSync(Scope.provide(attach(waitingDoor(path, answer), server), waiting))
    this.#stopWaiting = Scope.close(waiting, Exit.void)
    /** The pool's sockets: a silent one is cut, because the driver would wait for it. */
    const sockets = new Set<Duplex>()
    const cut = Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
    })
    this.#cut = cut
    this.#readsOutbox = channels.some(keeps)
    const open = Effect.gen({ self: this }, function* () {
      // Last of all, before the pool says goodbye to a database that may not answer.
      yield* Effect.addFinalizer(() => cut)
      yield* requireSources(channels)
      const reader = Option.getOrUndefined(yield* Effect.serviceOption(OutboxReader.OutboxReader))
      const link = Option.getOrUndefined(yield* Effect.serviceOption(NotificationSource))
      // The link noticed that the path is dead; the pool's connections go the same way.
      yield* SubscriptionRef.changes((link ?? reader)!.state).pipe(
        Stream.runForEach((state) => (state === "down" ? cut : Effect.void)),
        Effect.forkScoped
      )
      if (authorize === undefined) {
        yield* Effect.logWarning(
          "effect-realtime serves everybody who connects, because there is no authorize. It will refuse to start in production."
        )
      }
      const served = { ...door, channels }
      const decide = (request: Request<I>) =>
        authorize === undefined
          ? allowAll(request)
          : Effect.orDie(eventually(() => authorize(request)))
      this.#door = yield* Door.make<I, never>(
        authenticate === undefined
          ? // Without `authenticate` the only identity is `undefined`, which is I's default.
            { ...served, authorize: (request) => decide(request as Request<I>) }
          : {
              ...served,
              authenticate: (credentials) => eventually(() => authenticate(credentials)),
              authorize: decide,
              identityKey
            }
      )
      if (this.#draining) yield* this.#door.drain
      yield* attach(this.#door, server)
      // In one step with the above: there is always one who answers, and never two.
      yield* this.#stopWaiting
      if (this.#failure !== undefined)
        yield* Effect.logInfo("effect-realtime has started after all")
      this.#failure = undefined
    })
    const whole = Layer.effectDiscard(open).pipe(
      Layer.provideMerge(
        Layer.effect(
          Realtime.Realtime,
          Realtime.make({ maxChannels, maxMemoryEvents, maxMemoryAge, maxMemoryBytes })
        )
      ),
      Layer.provideMerge(databaseLayer(databaseUrl!, database, channels, sockets)),
      Layer.provideMerge(schema === undefined ? Layer.empty : Layer.succeed(SchemaName, schema))
    )
    const refused = Promise.withResolvers<never>()
    this.#runtime = ManagedRuntime.make(
      persistent<Services, StartError>(whole, {
        every: startEvery,
        mayPass,
        onFailed: (error, next) =>
          Effect.suspend(() => {
            this.#failure = error
            this.#waiting.abort()
            this.#waiting = new AbortController()
            refused.reject(error)
            return Effect.logError(
              `effect-realtime did not start, next try in ${Math.round(next / 1000)} s: ${error.message}`
            )
          })
      })
    )
    const up = this.#unlessClosed(
      Realtime.Realtime.use((realtime) =>
        realtime.source.pipe(
          Stream.filter((state) => state === "up"),
          Stream.runHead,
          Effect.asVoid,
          Effect.raceFirst(hubOf(realtime).refused)
        )
      ),
      "it was ready"
    )
    this.ready = Promise.race([up, refused.promise])
    // Whoever does not await `ready` must neither lose the process to an unhandled rejection, nor
    // wonder why nobody gets in.
    this.ready.catch((error: unknown) => {
      // What is refused is told where it is found out.
      if (this.#closed || this.#failure !== undefined || this.#door !== undefined) return
      this.#failure = error
      Effect.runFork(Effect.logError("effect-realtime did not start", error))
    })
  }

  /**
   * Sends a payload to every subscriber of the channel; see `Realtime.publish`. Waits for the server to
   * start, and rejects when it could not, and with `ServerClosed` when the server was closed before it was
   * sent.
   */
  publish<A>(channel: Channel.Channel<A>, payload: NoInfer<A>): Promise<void> {
    const publishing = this.#onceStarted(Realtime.publish(channel, payload), "it was published")
    const settled: Promise<void> = publishing
      .catch(() => undefined)
      .then(() => void this.#publishing.delete(settled))
    this.#publishing.add(settled)
    return publishing
  }

  /**
   * Runs a query (one `select`, without a semicolon) on the class's own pool and gives its rows with the cursor of exactly that state; see
   * `Realtime.snapshot`. As JSON it is what a page takes as `initial`, or returns from `load`. `values`
   * are those of `$1`, `$2` and so on. `row` types and reads the rows, which have the same values as in
   * events.
   *
   * Waits for the server to start. Rejects with `TransactionError` when PostgreSQL refuses the query,
   * `RowMismatch` when a row does not match, `NotInstalled` and `NotPrimary`, and with `ServerClosed`.
   *
   * **Example** (The state of a page)
   *
   * ```ts
   * await server.snapshot("select * from orders where status = $1", ["new"], { row: Order })
   * ```
   */
  snapshot<A = unknown, I = unknown>(
    text: string,
    values?: ReadonlyArray<unknown>,
    options?: SnapshotOptions<A, I>
  ): Promise<Snapshot<ReadonlyArray<A>>> {
    return this.#onceStarted(readState(text, values, options), "the state was read")
  }

  /**
   * Consumes a durable channel under a name that keeps its cursor in the database; see `Realtime.consume`.
   * `onEvents` is given a transaction that also moves the cursor, so what it writes there happens exactly
   * once, also with several nodes. The batch holds one connection of the pool meanwhile (`maxConnections`).
   *
   * A batch that fails is rolled back, told to `onError`, and tried again. It ends with `stop`, and when
   * the server closes.
   *
   * Throws at once `NotDurable` for a live channel, `NoOutbox` when none of the server's channels is
   * durable, and `InvalidOption`.
   */
  consume<A>(
    channel: Channel.Channel<A, boolean, string, "durable">,
    options: ConsumeOptions<A>
  ): Consumer {
    checkConsumer(channel, options, this.#readsOutbox)
    const consumer = startConsumer(
      channel,
      options,
      (effect, signal) =>
        this.#closed
          ? Promise.resolve(Exit.fail(new ServerClosed({ before: "the consumer began" })))
          : this.#runtime.runPromiseExit(effect, { signal }),
      finishMillis
    )
    this.#consumers.add(consumer)
    const forget = () => void this.#consumers.delete(consumer)
    void consumer.done.then(forget, forget)
    return consumer
  }

  /** Whether this node takes newcomers and its events flow. For health checks. */
  isReady(): boolean {
    return this.#door?.isReady() ?? false
  }

  /** WebSocket sessions open now. */
  sessions(): number {
    return this.#door?.size() ?? 0
  }

  /**
   * Closes every session of an identity on this node with 4101. `key` is what `identityKey` gives for it:
   * the identity itself when that is a string. It may come back with a fresh token if `authenticate` lets it.
   */
  revoke(key: string): void {
    this.#door?.revoke(key)
  }

  /**
   * Asks `authorize` again about every subscription of an identity on this node; those it refuses now end
   * with `channel/forbidden`. `key`: as for `revoke`.
   */
  reauthorize(key: string): Promise<void> {
    const door = this.#door
    return door === undefined
      ? Promise.resolve()
      : this.#unlessClosed(door.reauthorize(key), "rights were looked at")
  }

  /**
   * Refuses newcomers with 503, tells every client `bye`, closes all sessions, and cuts those that do not
   * leave within the limit `drainTimeout` (10 s). The link and the pool stay, so `publish` still works: `close` gives
   * them back. There is no way back: `isReady` is false from now on.
   */
  async drain(): Promise<void> {
    this.#draining = true
    if (this.#closed || this.#door === undefined) return
    await Effect.runPromise(this.#door.drain)
  }

  /**
   * Drains, closes the link and the pool, and leaves the HTTP server running. What is being published or consumed is finished first, if it takes no longer than 1 s. Takes at most
   * the limit `drain` (10 s) and a little, with few clients about 50 ms for each.
   */
  async close(): Promise<void> {
    this.#closed = true
    // While this door drains another one may begin, and is asked when it is gone.
    this.#leavePath()
    const consumed = Effect.promise(() =>
      Promise.all(Array.from(this.#consumers, (consumer) => consumer.stop()))
    )
    await Effect.runPromise(
      Effect.all(
        [
          Effect.timeoutOption(
            Effect.promise(() => Promise.all(this.#publishing)),
            finishMillis
          ),
          // A database that does not answer does not roll back either.
          Effect.timeoutOption(consumed, finishMillis + rollbackMillis)
        ],
        { concurrency: "unbounded" }
      )
    )
    if (this.#consumers.size > 0) await Effect.runPromise(this.#cut)
    await this.#runtime.dispose()
    await Effect.runPromise(this.#stopWaiting)
  }

  /** Waits for the start, and rejects when that has failed. */
  async #onceStarted<A, E>(
    effect: Effect.Effect<A, E, Services>,
    before: ServerClosed["before"]
  ): Promise<A> {
    if (this.#failure !== undefined) throw this.#failure
    try {
      return await this.#unlessClosed(effect, before, { signal: this.#waiting.signal })
    } catch (error) {
      throw this.#failure ?? error
    }
  }

  /** What a close interrupts, or comes after one, says so, and not how. */
  async #unlessClosed<A, E>(
    effect: Effect.Effect<A, E, Services>,
    before: ServerClosed["before"],
    options?: Effect.RunOptions
  ): Promise<A> {
    if (this.#closed) throw new ServerClosed({ before })
    const exit = await this.#runtime.runPromiseExit(effect, options)
    if (Exit.isSuccess(exit)) return exit.value
    throw this.#closed && Cause.hasInterruptsOnly(exit.cause)
      ? new ServerClosed({ before })
      : Cause.squash(exit.cause)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
