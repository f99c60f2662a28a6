/**
 * The WebSocket door for people with a `node:http` server: Express, Fastify, Next, or none of them.
 *
 * One object owns everything that the library needs (a small pool, the link, the hub, the door) and
 * gives it all back on `close()`. It answers upgrade requests on its path and nothing else.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { Server } from "node:http"
import * as Channel from "../Channel.ts"
import { attach } from "../server/internal/attach.ts"
import * as Door from "../server/internal/door.ts"
import * as PgNotificationSource from "../server/PgNotificationSource.ts"
import { Realtime } from "../server/Realtime.ts"
import { allowAll, type Options as DoorOptions, type Request } from "../server/ServerOptions.ts"

/**
 * The server was told too little to start.
 *
 * @category errors
 * @since 0.1.0
 */
export class RefusedToStart extends Data.TaggedError("RefusedToStart")<{
  readonly reason: "NoAuthorize" | "NoDatabaseUrl"
}> {
  override get message(): string {
    return this.reason === "NoAuthorize"
      ? `NODE_ENV is "production" and there is no authorize: everybody could read every channel. Pass { authorize: ({ channel, action }) => boolean }, or { authorize: allowAll } for a server that is open on purpose.`
      : `The database URL is missing. Pass a connection string such as postgres://user:password@host:5432/database; is DATABASE_URL set?`
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options extends Omit<DoorOptions, "channels" | "authorize"> {
  /** What clients may know of, default the three known kinds, read-only. */
  readonly channels?: ReadonlyArray<Channel.Definition> | undefined
  /**
   * Who may do what. Without it everybody may, with one warning; in production the server refuses to
   * start without it. A Promise that rejects is answered `server/internal`.
   */
  readonly authorize?:
    | ((request: Request) => boolean | Promise<boolean> | Effect.Effect<boolean>)
    | undefined
  /** Where the link connects, when the database URL leads to a transaction pooler. */
  readonly listenUrl?: string | undefined
  /** Connections of the pool that publishes, default 4. The link is one more. */
  readonly maxConnections?: number | undefined
}

/**
 * Attaches a WebSocket door to an HTTP server.
 *
 * Throws `RefusedToStart` at once when the database URL is missing, or when `NODE_ENV` is `production`
 * and there is no `authorize`.
 *
 * @category constructors
 * @since 0.1.0
 */
export class RealtimeServer implements AsyncDisposable {
  /**
   * Settles when the server listens to PostgreSQL. It goes on trying for as long as the database is
   * away; it rejects when the channels contradict each other, or when it was closed before.
   */
  readonly ready: Promise<void>
  readonly #runtime: ManagedRuntime.ManagedRuntime<Realtime, unknown>

  constructor(server: Server, databaseUrl: string | undefined, options: Options = {}) {
    if (databaseUrl === undefined || databaseUrl === "") {
      throw new RefusedToStart({ reason: "NoDatabaseUrl" })
    }
    if (options.authorize === undefined && process.env["NODE_ENV"] === "production") {
      throw new RefusedToStart({ reason: "NoAuthorize" })
    }
    const { authorize, channels, listenUrl, maxConnections, ...door } = options
    const open = Effect.gen(function* () {
      if (authorize === undefined) {
        yield* Effect.logWarning(
          "effect-realtime serves everybody who connects, because there is no authorize. It will refuse to start in production."
        )
      }
      const opened = yield* Door.make({
        ...door,
        channels: channels ?? Channel.known(),
        authorize: authorize === undefined ? allowAll : (request) => decide(authorize(request))
      })
      yield* attach(opened, server)
    })
    const source = PgNotificationSource.layer({
      listenUrl: listenUrl === undefined ? undefined : Redacted.make(listenUrl)
    })
    const pool = PgClient.layer({
      url: Redacted.make(databaseUrl),
      maxConnections: maxConnections ?? 4,
      applicationName: "effect-realtime"
    })
    this.#runtime = ManagedRuntime.make(
      Layer.effectDiscard(open).pipe(
        Layer.provideMerge(Realtime.layer()),
        Layer.provide(source),
        Layer.provide(pool)
      )
    )
    this.ready = this.#runtime.runPromise(
      Realtime.use((realtime) =>
        realtime.source.pipe(
          Stream.filter((state) => state === "up"),
          Stream.runHead,
          Effect.asVoid
        )
      )
    )
    // Whoever does not await `ready` must not lose the process to an unhandled rejection.
    this.ready.catch(() => undefined)
  }

  /** Sends a payload to every subscriber of the channel; see `Realtime.publish`. */
  publish<A>(channel: Channel.Channel<A>, payload: NoInfer<A>): Promise<void> {
    return this.#runtime.runPromise(Realtime.publish(channel, payload))
  }

  /**
   * Says bye to every client, closes their sockets, the link and the pool, and leaves the HTTP server
   * running. Takes at most the limit `drain` (1 s) and a little.
   */
  close(): Promise<void> {
    return this.#runtime.dispose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

const decide = (
  verdict: boolean | Promise<boolean> | Effect.Effect<boolean>
): Effect.Effect<boolean> =>
  Effect.isEffect(verdict)
    ? verdict
    : typeof verdict === "boolean"
      ? Effect.succeed(verdict)
      : Effect.promise(() => verdict)
