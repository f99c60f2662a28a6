/**
 * The WebSocket door for a `node:http` server: Express, Fastify, Next, or no framework.
 *
 * One object owns all that the library needs (a small pool, the link, the hub, the door) and closes it on
 * `close()`. It answers upgrade requests on its path and no other requests.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Server } from "node:http"
import type { Duplex } from "node:stream"
import type * as Channel from "../Channel.ts"
import type { HistoryOptions, HistoryPage, Snapshot } from "../RealtimeEvent.ts"
import { attach } from "../server/internal/door/attach.ts"
import { claim, pathOf } from "../server/internal/door/claimedPaths.ts"
import type * as Door from "../server/internal/door/door.ts"
import { keeps } from "../server/internal/hub/durable.ts"
import { SchemaName } from "../server/PgInstaller.ts"
import type { Control, NodeStats, Reached, Stats } from "../server/internal/control/control.ts"
import type { RevokeOptions, Whose } from "../server/internal/control/whose.ts"
import { hubOf } from "../server/internal/hub/ofRealtime.ts"
import * as QueryResults from "../server/QueryResults.ts"
import * as Realtime from "../server/Realtime.ts"
import {
  allowAll,
  type Authenticated,
  type Credentials,
  type IdentityKey,
  type Limits,
  type Rate,
  type Request
} from "../server/ServerOptions.ts"
import type { Limited, RuleMaker, Rules } from "../server/Rule.ts"
import { checkArguments } from "./internal/arguments.ts"
import { awaited } from "./internal/awaited.ts"
import { checkConsumer, startConsumer } from "./internal/consumer.ts"
import { databaseLayer, partsOf } from "./internal/databaseLayer.ts"
import { finishing, finishMillis } from "./internal/finishing.ts"
import { checkPresence, presentMember } from "./internal/iterateMembers.ts"
import { checkTable, iterate } from "./internal/iterateRows.ts"
import { openDoor } from "./internal/openDoor.ts"
import { persistent } from "./internal/retriedStart.ts"
import { Outage } from "../server/internal/outage.ts"
import { mayPass, type StartError } from "./internal/startError.ts"
import { ServerClosed } from "./internal/serverClosed.ts"
import type { ServerServices } from "./internal/services.ts"
import { readState } from "./internal/snapshot.ts"
import { splitOptions } from "./internal/splitOptions.ts"
import { streamParts } from "./internal/streamParts.ts"
import { waitingDoor } from "./internal/waitingDoor.ts"
import type {
  Consumer,
  ConsumeOptions,
  Eventually,
  Options,
  PresentMember,
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
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ServerClosed
} from "./internal/serverClosed.ts"

/** How often a start is retried after PostgreSQL rejected it. */
const startEvery = "30 seconds"

/**
 * The types of the class's options, and of the arguments and results of its callbacks.
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
    Limited,
    Limits,
    NodeStats,
    Options,
    PresentMember,
    Rate,
    Reached,
    Request,
    RevokeOptions,
    RuleMaker,
    Rules,
    SnapshotOptions,
    Stats,
    Transaction,
    Whose
  }
}

/**
 * Attaches a WebSocket door to an HTTP server.
 *
 * The constructor throws `RefusedToStart` when the first argument is not an `http.Server`, when the
 * database URL is missing or cannot be used, or when `NODE_ENV` is `production` and there is neither
 * `authorize` nor `rules`. It throws `InvalidOption` when an option is unknown or invalid, and when
 * another open server on this HTTP server has the same path.
 *
 * Until the server has started, and after a failed start, it answers upgrades on its path with 503.
 *
 * @category constructors
 * @since 0.1.0
 */
export class RealtimeServer<I = undefined> implements AsyncDisposable {
  /** An `authorize` that lets every client do everything: for a server that is open on purpose. */
  static readonly allowAll = allowAll

  /**
   * Resolves when the server accepts clients and receives events: it listens, and with durable channels
   * it reads the outbox. It waits while the database is unavailable. It rejects, with the reason and the
   * cure, when PostgreSQL rejects the server for `startPatience` (`DatabaseRefused`; `NotInstalled`,
   * `OutdatedInstall`, `NotPrimary` and `OtherOutbox` of the outbox), when its notifications do not
   * arrive (`ListenNotDelivered`), when the channels conflict, and with `ServerClosed` when the server is
   * closed first. After a rejection the server retries every 30 s; `isReady` is true once it has started.
   */
  readonly ready: Promise<void>
  readonly #runtime: ManagedRuntime.ManagedRuntime<ServerServices, unknown>
  readonly #publishing = new Set<Promise<void>>()
  readonly #consumers = new Set<Consumer>()
  /** Whether the server has a reader of the outbox. */
  readonly #readsOutbox: boolean
  /** Ends the pool's sessions. */
  readonly #cut: Effect.Effect<void>
  readonly #stopWaiting: Effect.Effect<void>
  readonly #leavePath: () => void
  /** The failure of the last attempt to start. */
  #failure: unknown
  /** Rejects calls that wait for the start when the start has failed. */
  #waiting = new AbortController()
  #door: Door.Door | undefined
  #control: Control | undefined
  /** Ends the iterations of rows. */
  readonly #closing = new AbortController()
  #closed = false
  #draining = false

  constructor(
    server: Server,
    databaseUrl: string | undefined,
    options: Options<I> & IdentityKey<NoInfer<I>> = {} as Options<I> & IdentityKey<I>
  ) {
    checkArguments(server, databaseUrl, options)
    const { database, door, hub, schema } = splitOptions(options)
    const { channels } = door
    const path = pathOf(door)
    this.#leavePath = claim(server, path)
    const waiting = Scope.makeUnsafe()
    const answer = () =>
      this.#failure === undefined
        ? "The server is starting."
        : "The server could not start; its log says why."
    const parts = partsOf(database, channels, door.control === true)
    const standIn = Effect.andThen(attach(waitingDoor(path, answer), server), awaited(parts))
    Effect.runSync(Scope.provide(standIn, waiting))
    this.#stopWaiting = Scope.close(waiting, Exit.void)
    /** The pool's sockets. The server destroys a silent one, because the driver would wait for it. */
    const sockets = new Set<Duplex>()
    const cut = Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
    })
    this.#cut = cut
    this.#readsOutbox = channels.some(keeps)
    const outage = new Outage({
      lost: "effect-realtime has not started, and tries again",
      back: "effect-realtime has started"
    })
    const open = Effect.gen({ self: this }, function* () {
      const opened = yield* openDoor<I>(door, cut)
      this.#door = opened.door
      this.#control = opened.control
      if (this.#draining) yield* this.#door.drain
      yield* attach(this.#door, server)
      // In the same step as `attach`, so that exactly one door answers at any time.
      yield* this.#stopWaiting
      yield* outage.recovered
      this.#failure = undefined
    })
    // Work ends first, while the door and the pool can still tell its end.
    const whole = QueryResults.layer.pipe(
      Layer.provideMerge(Layer.effectDiscard(open)),
      Layer.provideMerge(Layer.effect(Realtime.Realtime, Realtime.make(hub))),
      Layer.provideMerge(
        databaseLayer(databaseUrl!, database, channels, sockets, door.control === true)
      ),
      Layer.provideMerge(schema === undefined ? Layer.empty : Layer.succeed(SchemaName, schema))
    )
    const refused = Promise.withResolvers<never>()
    this.#runtime = ManagedRuntime.make(
      persistent<ServerServices, StartError>(whole, {
        every: startEvery,
        mayPass,
        onFailed: (error) =>
          Effect.suspend(() => {
            this.#failure = error
            this.#waiting.abort()
            this.#waiting = new AbortController()
            refused.reject(error)
            return outage.failing(error.message)
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
    // An application that does not await `ready` must not crash from an unhandled rejection, and must
    // find the failure in its log.
    this.ready.catch((error: unknown) => {
      // The failing attempt has already logged it.
      if (this.#closed || this.#failure !== undefined || this.#door !== undefined) return
      this.#failure = error
      Effect.runFork(Effect.logError("effect-realtime did not start", error))
    })
  }

  /**
   * Sends a payload to every subscriber of the channel; see `Realtime.publish`. Waits for the server to
   * start. Rejects when the start failed, and with `ServerClosed` when the server was closed before it
   * was sent.
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
   * Runs a query (one `select`) on the server's pool and gives its rows with the cursor of exactly that
   * state; see `Realtime.snapshot`. A page takes its JSON as `initial`, or from `load`. `values` are those
   * of `$1`, `$2` and so on. The option `row` types and decodes the rows. Their values equal those of
   * events.
   *
   * Waits for the server to start. Rejects with `TransactionError` when PostgreSQL rejects the query,
   * `RowMismatch` when a row does not match, `NotInstalled`, `NotPrimary`, `ServerClosed`, and
   * `InvalidOption` for arguments of another type.
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
   * Reads a page of the events that a channel had before; see `Realtime.history`. Waits for the server to
   * start. Rejects with `NoHistory` on a volatile channel, and with `ServerClosed`.
   */
  history<A>(channel: Channel.Channel<A>, options?: HistoryOptions): Promise<HistoryPage<A>> {
    return this.#onceStarted(Realtime.history(channel, options), "the history was read")
  }

  /**
   * The rows of a table, or of those that `where` includes, as they are and as they change; see
   * `Realtime.rows`. Each iteration reads and follows the table by itself, and a slow one receives the newest
   * collection only. It ends with `break`, and when the server closes.
   *
   * Waits for the server to start. An iteration throws `InvalidFilter`, `StateTooLarge`, and the failure of
   * the start. Throws `NotDurable` for a live table, `NoOutbox` when the option `channels` has no durable
   * channel, and `InvalidOption`.
   *
   * **Example** (The orders that are new)
   *
   * ```ts
   * for await (const { rows, status } of server.rows(Orders, { where: { status: "new" } })) {
   *   console.log(status, rows.length)
   * }
   * ```
   */
  rows<D extends Realtime.RowsTable>(
    table: D,
    options?: Realtime.RowsOptions<D>
  ): AsyncIterable<Realtime.Rows<Channel.RowOf<D>>> {
    checkTable(table, this.#readsOutbox)
    const start = () => this.#onceStarted(Effect.context<ServerServices>(), "the rows were read")
    return iterate(Realtime.rows(table, options), start, this.#closing.signal)
  }

  /**
   * The members of a presence channel, as they change; see `Realtime.presence`. A slow iteration receives the
   * newest list only. It ends as that of `rows`. Throws `InvalidOption` for another channel.
   */
  presence<A>(channel: Channel.Presence<A>): AsyncIterable<Realtime.Members<A>> {
    checkPresence(channel)
    const start = () => this.#onceStarted(Effect.context<ServerServices>(), "the members were read")
    return iterate(Realtime.presence(channel), start, this.#closing.signal)
  }

  /**
   * Makes this server a member of a presence channel, with a state of at most 2,048 bytes of JSON, until `leave`
   * of the result. Waits for the server to start. Rejects with `InvalidPayload` and `PayloadTooLarge`.
   */
  async present<A>(channel: Channel.Presence<A>, state: NoInfer<A>): Promise<PresentMember<A>> {
    checkPresence(channel)
    return presentMember(channel, state, (effect) =>
      this.#onceStarted(effect, "the server was a member")
    )
  }

  /**
   * Consumes a durable channel under a name, with its cursor in the database; see `Realtime.consume`.
   * While a consumer of this name runs on another server, this one waits.
   * `onEvents` receives the transaction that also moves the cursor, so what it writes there happens exactly
   * once, also with several nodes. Each batch holds one connection of the pool (`maxConnections`).
   *
   * When a batch fails, the server rolls it back, calls `onError`, and hands the batch over again. The
   * consumer ends with `stop`, and when the server closes.
   *
   * Throws `NotDurable` for a live channel, `NoOutbox` when the option `channels` has no durable channel,
   * and `InvalidOption`.
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

  /**
   * Starts work whose result arrives in parts, on a durable channel; see `QueryResults.stream`. Each element
   * of `parts` is a text or a list that continues the result. A `stop` on the channel, and `close`, call
   * `return` of the iterator. Resolves when the work has started, and rejects with `NotDurable`.
   */
  stream<A>(
    channel: Channel.Channel<Channel.QueryResult<A>, boolean, string, "durable">,
    parts: AsyncIterable<NoInfer<A>>,
    options?: QueryResults.RunOptions<unknown>
  ): Promise<void> {
    return this.#onceStarted(streamParts(channel, parts, options), "the work began")
  }

  /** Whether this node accepts new clients and its events flow. For health checks. */
  isReady(): boolean {
    return this.#door?.isReady() ?? false
  }

  /** The number of open WebSocket sessions. */
  sessions(): number {
    return this.#door?.size() ?? 0
  }

  /**
   * Closes sessions with 4101, of an identity by the text of `identityKey`; see `revoke` of the service. With
   * the option `control` it reaches all nodes, and no node accepts what was revoked until it expires. Waits
   * for the server to start. Rejects with `RevokeFailed` when the database does not store it, with
   * `InvalidOption` for an end that is over and for what names no sessions, and with `ServerClosed`.
   */
  revoke(whose: Whose, options?: RevokeOptions): Promise<Reached> {
    return this.#controlled(({ revoke }) => revoke(whose, options), "sessions were closed")
  }

  /**
   * Calls `authorize` or the rule again for every subscription of an identity, on all nodes with the option
   * `control`, else on this one. Subscriptions that it now rejects end with `channel/forbidden`.
   */
  reauthorize(key: string): Promise<Reached> {
    return this.#controlled(({ reauthorize }) => reauthorize(key), "rights were checked")
  }

  /** Closes sessions with 4205, after which clients stop; see `disconnect` of the service. */
  disconnect(whose: Whose): Promise<Reached> {
    return this.#controlled(({ disconnect }) => disconnect(whose), "sessions were closed")
  }

  /** What the nodes say of themselves, with the option `control` all of them, within a second. */
  stats(): Promise<Stats> {
    return this.#controlled(({ stats }) => stats, "nodes were asked")
  }

  /**
   * Rejects new clients with 503, sends every client `bye`, closes all sessions, and cuts those that do
   * not leave within the limit `drainTimeout` (10 s). The link and the pool stay open, so `publish` still
   * works until `close`. A drained server cannot accept clients again: `isReady` stays false.
   */
  async drain(): Promise<void> {
    this.#draining = true
    if (this.#closed || this.#door === undefined) return
    await Effect.runPromise(this.#door.drain)
  }

  /**
   * Drains, closes the link and the pool, and leaves the HTTP server running. Waits at most 1 s for
   * running publishes and for the batches of consumers. Takes at most the limit `drainTimeout` (10 s) and
   * a little; with few clients about 50 ms for each.
   */
  async close(): Promise<void> {
    this.#closed = true
    this.#closing.abort()
    // While this door drains, another one may begin, and answers once this one is gone.
    this.#leavePath()
    await finishing(this.#publishing, this.#consumers)
    if (this.#publishing.size + this.#consumers.size > 0) await Effect.runPromise(this.#cut)
    await this.#runtime.dispose()
    await Effect.runPromise(this.#stopWaiting)
  }

  #controlled<A, E>(
    act: (control: Control) => Effect.Effect<A, E>,
    before: ServerClosed["before"]
  ): Promise<A> {
    return this.#onceStarted(
      Effect.suspend(() => act(this.#control!)),
      before
    )
  }

  /** Waits for the start, and rejects when the start has failed. */
  async #onceStarted<A, E>(
    effect: Effect.Effect<A, E, ServerServices>,
    before: ServerClosed["before"]
  ): Promise<A> {
    if (this.#failure !== undefined) throw this.#failure
    try {
      return await this.#unlessClosed(effect, before, { signal: this.#waiting.signal })
    } catch (error) {
      throw this.#failure ?? error
    }
  }

  /** A call that `close` interrupts or precedes fails with `ServerClosed`. */
  async #unlessClosed<A, E>(
    effect: Effect.Effect<A, E, ServerServices>,
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
