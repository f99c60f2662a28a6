/**
 * The WebSocket door for people with a `node:http` server: Express, Fastify, Next, or none of them.
 *
 * One object owns everything that the library needs (a small pool, the link, the hub, the door) and
 * gives it all back on `close()`. It answers upgrade requests on its path and nothing else.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Server } from "node:http"
import { connect } from "node:net"
import type { Duplex } from "node:stream"
import * as Channel from "../Channel.ts"
import { attach } from "../server/internal/door/attach.ts"
import * as Door from "../server/internal/door/door.ts"
import { checkOptions, resolveLimits } from "../server/internal/door/limits.ts"
import { address } from "../server/internal/link/pgLink.ts"
import { NotificationSource } from "../server/NotificationSource.ts"
import * as OutboxReader from "../server/OutboxReader.ts"
import { SchemaName } from "../server/PgInstaller.ts"
import * as PgNotificationSource from "../server/PgNotificationSource.ts"
import { Realtime } from "../server/Realtime.ts"
import {
  allowAll,
  type Authenticated,
  AuthRefused,
  type Credentials,
  type DoorOptions,
  type IdentityKey,
  type Request
} from "../server/ServerOptions.ts"

/** What a callback may give: the value, a Promise of it, or an Effect. */
type Eventually<A, E = never> = A | Promise<A> | Effect.Effect<A, E>

/**
 * The server was told too little to start.
 *
 * @category errors
 * @since 0.1.0
 */
export class RefusedToStart extends Data.TaggedError("RefusedToStart")<{
  readonly reason: "NoAuthorize" | "NoDatabaseUrl" | "BadDatabaseUrl"
}> {
  override get message(): string {
    return {
      NoAuthorize: `NODE_ENV is "production" and there is no authorize: everybody could read every channel. Pass { authorize: ({ channel, action }) => boolean }, or { authorize: allowAll } for a server that is open on purpose.`,
      NoDatabaseUrl: `The database URL is missing. Pass a connection string such as postgres://user:password@host:5432/database; is DATABASE_URL set?`,
      BadDatabaseUrl: `The database URL, or listenUrl, is no URL. Write it like postgres://user:password@host:5432/database, with special characters percent-encoded.`
    }[this.reason]
  }
}

/**
 * The server was closed before it could do what it was asked: become ready, or publish.
 *
 * @category errors
 * @since 0.1.0
 */
export class ServerClosed extends Data.TaggedError("ServerClosed")<{
  readonly before: "it was ready" | "it was published" | "rights were looked at"
}> {
  override get message(): string {
    return `The server was closed before ${this.before}. Await that before you call close().`
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options<I = undefined> extends Omit<DoorOptions, "channels"> {
  /** What clients may know of, default the three known kinds, read-only. */
  readonly channels?: ReadonlyArray<Channel.Definition> | undefined
  /**
   * Tells who a client is, from its token, cookie or header; default: nobody is asked. Throw, reject or
   * fail with `AuthRefused` to keep somebody out.
   */
  readonly authenticate?:
    | ((credentials: Credentials) => Eventually<Authenticated<I>, AuthRefused>)
    | undefined
  /**
   * Who may do what. Without it everybody may, with one warning; in production the server refuses to
   * start without it. What it throws or rejects with is answered `server/internal`.
   */
  readonly authorize?: ((request: Request<I>) => Eventually<boolean>) | undefined
  /**
   * The text that makes two identities the same person, required unless they are strings; see
   * `IdentityOptions` of the server.
   */
  readonly identityKey?: ((identity: I) => string) | undefined
  /**
   * Where the link, and the reader of the outbox, connect when the database URL leads to a transaction
   * pooler.
   */
  readonly listenUrl?: string | undefined
  /** The schema of the installed objects, default `realtime`; see `PgInstaller`. */
  readonly schema?: string | undefined
  /** Connections of the pool that publishes, default 4. The link is one more. */
  readonly maxConnections?: number | undefined
}

/** How long `close` waits for what is being published, in milliseconds. */
const finishMillis = 1000

/**
 * Attaches a WebSocket door to an HTTP server.
 *
 * Throws `RefusedToStart` at once when the database URL is missing, or when `NODE_ENV` is `production`
 * and there is no `authorize`; and `InvalidOption` when an option cannot be what it is.
 *
 * @category constructors
 * @since 0.1.0
 */
export class RealtimeServer<I = undefined> implements AsyncDisposable {
  /**
   * Settles when the server hears PostgreSQL: it listens, and with durable channels it reads the
   * outbox. It goes on trying for as long as the database is away; it rejects when the channels
   * contradict each other, or with `ServerClosed` when it was closed before.
   */
  readonly ready: Promise<void>
  readonly #runtime: ManagedRuntime.ManagedRuntime<Realtime, unknown>
  readonly #identityKey: (identity: I) => string
  readonly #publishing = new Set<Promise<void>>()
  #door: Door.Door | undefined
  #closed = false

  constructor(
    server: Server,
    databaseUrl: string | undefined,
    options: Options<I> & IdentityKey<NoInfer<I>> = {} as Options<I> & IdentityKey<I>
  ) {
    if (databaseUrl === undefined || databaseUrl === "") {
      throw new RefusedToStart({ reason: "NoDatabaseUrl" })
    }
    if (![databaseUrl, options.listenUrl ?? databaseUrl].every((url) => URL.canParse(url))) {
      throw new RefusedToStart({ reason: "BadDatabaseUrl" })
    }
    if (options.authorize === undefined && process.env["NODE_ENV"] === "production") {
      throw new RefusedToStart({ reason: "NoAuthorize" })
    }
    const {
      authenticate,
      authorize,
      channels,
      identityKey,
      listenUrl,
      maxConnections,
      schema,
      ...door
    } = options
    checkOptions({ ...options, authorize: authorize === undefined ? allowAll : authorize })
    resolveLimits(door.limits)
    this.#identityKey = identityKey ?? Door.keyOf
    /** The pool's sockets: a silent one is cut, because the driver would wait for it. */
    const sockets = new Set<Duplex>()
    const cut = Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
    })
    const open = Effect.gen({ self: this }, function* () {
      // Last of all, before the pool says goodbye to a database that may not answer.
      yield* Effect.addFinalizer(() => cut)
      const { state } = yield* NotificationSource
      // The link noticed that the path is dead; the pool's connections go the same way.
      yield* SubscriptionRef.changes(state).pipe(
        Stream.runForEach((state) => (state === "down" ? cut : Effect.void)),
        Effect.forkScoped
      )
      if (authorize === undefined) {
        yield* Effect.logWarning(
          "effect-realtime serves everybody who connects, because there is no authorize. It will refuse to start in production."
        )
      }
      const served = { ...door, channels: channels ?? Channel.known() }
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
      yield* attach(this.#door, server)
    })
    const direct = listenUrl === undefined ? undefined : Redacted.make(listenUrl)
    const source = PgNotificationSource.layer({ listenUrl: direct })
    const connection = { url: Redacted.make(databaseUrl) }
    const pool = PgClient.layer({
      ...connection,
      maxConnections: maxConnections ?? 4,
      applicationName: "effect-realtime",
      stream: () => {
        const socket = connect(address(connection))
        sockets.add(socket)
        socket.once("close", () => sockets.delete(socket))
        return socket
      }
    })
    // One more connection, and the installed objects: only for who asks for them.
    const outbox = (channels ?? []).some(({ delivery }) => delivery === "durable")
      ? OutboxReader.layer({ readUrl: direct })
      : Layer.empty
    this.#runtime = ManagedRuntime.make(
      Layer.effectDiscard(open).pipe(
        Layer.provideMerge(Realtime.layer()),
        Layer.provide(Layer.merge(source, outbox)),
        Layer.provide(pool),
        Layer.provide(schema === undefined ? Layer.empty : Layer.succeed(SchemaName, schema))
      )
    )
    this.ready = this.#unlessClosed(
      Realtime.use((realtime) =>
        realtime.source.pipe(
          Stream.filter((state) => state === "up"),
          Stream.runHead,
          Effect.asVoid
        )
      ),
      "it was ready"
    )
    // Whoever does not await `ready` must neither lose the process to an unhandled rejection, nor
    // wonder why nobody gets in.
    this.ready.catch((error: unknown) => {
      if (!this.#closed) Effect.runFork(Effect.logError("effect-realtime did not start", error))
    })
  }

  /**
   * Sends a payload to every subscriber of the channel; see `Realtime.publish`. Rejects with
   * `ServerClosed` when the server was closed before it was sent.
   */
  publish<A>(channel: Channel.Channel<A>, payload: NoInfer<A>): Promise<void> {
    const publishing = this.#unlessClosed(Realtime.publish(channel, payload), "it was published")
    const settled: Promise<void> = publishing
      .catch(() => undefined)
      .then(() => void this.#publishing.delete(settled))
    this.#publishing.add(settled)
    return publishing
  }

  /** Whether this node takes newcomers and its events flow. For health checks. */
  isReady(): boolean {
    return this.#door?.ready() ?? false
  }

  /** Closes every session of an identity on this node with 4101. */
  revoke(identity: I): void {
    this.#door?.revoke(this.#identityKey(identity))
  }

  /** Asks `authorize` again about every subscription of an identity on this node. */
  reauthorize(identity: I): Promise<void> {
    const door = this.#door
    return door === undefined
      ? Promise.resolve()
      : this.#unlessClosed(door.reauthorize(this.#identityKey(identity)), "rights were looked at")
  }

  /**
   * Says bye to every client, closes their sockets, the link and the pool, and leaves the HTTP server
   * running. What is being published is finished first, if it takes no longer than 1 s. Takes at most
   * the limit `drain` (10 s) and a little, with few clients about 50 ms for each.
   */
  async close(): Promise<void> {
    this.#closed = true
    await Effect.runPromise(
      Effect.promise(() => Promise.all(this.#publishing)).pipe(Effect.timeoutOption(finishMillis))
    )
    await this.#runtime.dispose()
  }

  /** What a close interrupts, or comes after one, says so, and not how. */
  async #unlessClosed<A, E>(
    effect: Effect.Effect<A, E, Realtime>,
    before: ServerClosed["before"]
  ): Promise<A> {
    if (this.#closed) throw new ServerClosed({ before })
    const exit = await this.#runtime.runPromiseExit(effect)
    if (Exit.isSuccess(exit)) return exit.value
    throw this.#closed && Cause.hasInterruptsOnly(exit.cause)
      ? new ServerClosed({ before })
      : Cause.squash(exit.cause)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** `AuthRefused` is an answer, however it comes; anything else that is thrown is a defect. */
const eventually = <A>(evaluate: () => Eventually<A, AuthRefused>): Effect.Effect<A, AuthRefused> =>
  Effect.suspend(() => {
    const value = evaluate()
    return Effect.isEffect(value) ? value : Effect.promise(() => Promise.resolve(value))
  }).pipe(
    Effect.catchDefect((defect) =>
      defect instanceof AuthRefused ? Effect.fail(defect) : Effect.die(defect)
    )
  )
