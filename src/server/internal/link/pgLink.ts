/**
 * One PostgreSQL session that listens: the link.
 *
 * It runs on a socket of our own, because nothing else ends a silently dead connection in bounded time:
 * keepalive does not detect a dead middlebox, a cancelled query waits 5 s for a dead server, and UNLISTEN
 * has no timeout at all. Destroying the socket ends all of them at once. A session is dead when it sends
 * nothing at all: a single answer may be late behind a flood.
 *
 * The session is pinned once; every LISTEN and every heartbeat shares it. It never opens a transaction,
 * because PostgreSQL holds notifications back from a session inside one.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Net from "node:net"
import * as Os from "node:os"
import type { Duplex } from "node:stream"
import { inSchema, usual } from "../sql/schemaName.ts"
import { optionFault } from "./certificates.ts"
import {
  type InvalidDatabaseUrl,
  invalidBy,
  lastOf,
  namesNoUser,
  readUrl,
  type Tls
} from "./databaseUrl.ts"
import * as Listens from "./listenBatch.ts"
import { Negotiated } from "./tlsNegotiation.ts"

export interface LinkOptions {
  readonly connection: PgClientConfig
  /** The time between two heartbeats. */
  readonly heartbeat: Duration.Duration
  /** How long the server may take to answer one. */
  readonly heartbeatTimeout: Duration.Duration
  /** The name of the session in `pg_stat_activity`, default `effect-realtime link`. */
  readonly name?: string | undefined
  /** Whether `query` keeps its statements prepared, default `false`. */
  readonly prepare?: boolean | undefined
  /** The schema of the objects that `query` uses, default `realtime`. */
  readonly schema?: string | undefined
}

export interface PgLink {
  readonly processId: number
  /** Completes once PostgreSQL confirmed it; silence for `heartbeatTimeout` destroys the session. */
  readonly listen: (
    channel: string
  ) => Effect.Effect<Queue.Dequeue<PgConnection.Notification, SqlError>, SqlError, Scope.Scope>
  /** Runs a short statement; silence for `within` before its answer destroys the session. */
  readonly query: (
    text: string,
    params: ReadonlyArray<unknown>,
    within: Duration.Duration
  ) => Effect.Effect<ReadonlyArray<PgConnection.Row>, SqlError>
  /** Sends heartbeats for ever; fails when the session is dead. */
  readonly beat: Effect.Effect<never, SqlError>
  /** Ends the session now, also in the middle of a statement. */
  readonly destroy: () => void
}

/** The address to connect to, by the rules of libpq: `host` and `port` may stand in the query. */
export const address = (config: PgClientConfig): Net.NetConnectOpts => {
  if (config.path !== undefined) return { path: config.path }
  const url = config.url === undefined ? undefined : new URL(Redacted.value(config.url))
  const query = url?.searchParams
  const said = (name: string) => (query === undefined ? undefined : lastOf(query, name))
  const host =
    config.host ??
    said("host") ??
    decodeURIComponent(url?.hostname.replace(/^\[|\]$/g, "") || "localhost")
  const port = config.port ?? Number(said("port") ?? (url?.port || 5432))
  return host.startsWith("/")
    ? { path: `${host}/.s.PGSQL.${port}` }
    : { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 10_000 }
}

/**
 * The application's own address, or another URL. With another URL no setting of the application's address
 * holds, its sockets included, except its `ssl` where the URL does not mention TLS.
 */
export const connectionOf = (
  config: PgClientConfig,
  url: Redacted.Redacted | undefined
): PgClientConfig => {
  if (url === undefined) return config
  const elsewhere = { host: undefined, port: undefined, path: undefined, stream: undefined }
  const somebody = { database: undefined, username: undefined, password: undefined }
  const said = Result.getOrElse(readUrl(url), () => undefined)
  const secret = said === undefined ? {} : { ssl: undefined }
  return { ...config, ...elsewhere, ...somebody, ...secret, url }
}

/** A connection that follows the TLS settings of its URL, and whether the driver alone would differ. */
export interface Secured {
  readonly connection: PgClientConfig
  readonly differs: boolean
}

/** Whether the driver finds a user by itself. */
const hasUser = ({ url, username }: PgClientConfig): boolean => {
  const at = url === undefined ? undefined : new URL(Redacted.value(url))
  const given = at !== undefined && (at.username !== "" || at.searchParams.has("user"))
  const { USER, USERNAME } = process.env
  return given || (username ?? USER ?? USERNAME) !== undefined
}

/** Adds the user of the process, as libpq does: in a container the environment often has none. */
const withUser = (config: PgClientConfig): Result.Result<PgClientConfig, InvalidDatabaseUrl> =>
  hasUser(config)
    ? Result.succeed(config)
    : Result.try({
        try: () => ({ ...config, username: Os.userInfo().username }),
        catch: () => namesNoUser
      })

/** Secures a connection by its URL, unless the application gives `ssl`, which holds then. */
export const secured = (config: PgClientConfig): Result.Result<Secured, InvalidDatabaseUrl> => {
  // The driver would find the fault after the server agreed to TLS, and would end the process.
  const fault = typeof config.ssl === "object" ? optionFault(config.ssl) : undefined
  if (fault !== undefined) return Result.fail(invalidBy(fault))
  return Result.flatMap(
    config.url === undefined ? Result.succeed(undefined) : readUrl(config.url),
    (tls) => Result.map(withUser(config), (config) => speaking(config, tls))
  )
}

const speaking = (config: PgClientConfig, tls: Tls | undefined): Secured => {
  if (tls === undefined || config.ssl !== undefined || config.stream !== undefined) {
    return { connection: config, differs: false }
  }
  const to = address(config)
  // As libpq: a unix socket needs no TLS.
  const mode = "path" in to ? "disable" : tls.mode
  const differs = !tls.native
  if (mode === "disable") return { connection: { ...config, ssl: false }, differs }
  if (mode !== "allow" && mode !== "prefer") {
    return { connection: { ...config, ssl: tls.options }, differs }
  }
  const host = "host" in to ? to.host : undefined
  const stream = () =>
    new Negotiated({ mode, connect: () => Net.connect(to), tls: { ...tls.options, host } })
  return { connection: { ...config, ssl: false, stream }, differs }
}

const compared = new WeakSet<PgClientConfig>()

/** Warns, once for a pool, when the driver does not follow the TLS settings of the pool's URL. */
export const compare = (pool: PgClientConfig): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (compared.has(pool)) return Effect.void
    compared.add(pool)
    const own = secured(pool)
    if (Result.isSuccess(own) && !own.success.differs) return Effect.void
    return Effect.logWarning(
      Result.isFailure(own)
        ? `The pool may not do what its URL says. ${own.failure.message}`
        : "The pool does not do what its URL says about TLS: @effect/sql-pg reads neither ssl=true nor sslrootcert, and verifies the certificate in every other mode. Give it the URL as PgTls.config(url)."
    )
  })

/** Opens a session; it closes with the scope. */
export const open = (options: LinkOptions): Effect.Effect<PgLink, SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    const { connection } = options
    let socket: Duplex | undefined
    const destroy = () => {
      socket?.destroy()
    }
    // The driver calls this again for a CancelRequest: the first socket is the session.
    const stream = () => {
      const opened = connection.stream?.() ?? Net.connect(address(connection))
      socket ??= opened
      return opened
    }
    const session = yield* PgConnection.make({
      ...connection,
      stream,
      applicationName: options.name ?? "effect-realtime link",
      // LISTEN takes no parameters and each is sent once: a statement cache gains nothing.
      prepare: (options.prepare ?? false) && connection.prepare !== false
    })
    const pinned = yield* session.pin
    const schema = options.schema ?? usual

    /** Bytes received so far; a stream of the application's may not count them. */
    const heard = () =>
      socket instanceof Net.Socket || socket instanceof Negotiated ? socket.bytesRead : 0

    /** Destroys the session when it receives nothing for `within`; never completes. */
    const watch = (within: Duration.Duration) =>
      Effect.gen(function* () {
        while (true) {
          const before = heard()
          yield* Effect.sleep(within)
          // A process that was busy for so long first reads the bytes that arrived meanwhile.
          yield* Effect.yieldNow
          if (heard() === before) break
        }
        // Destroyed, not timed out: a cancelled query would wait for the dead server.
        destroy()
        return yield* Effect.never
      })

    const { query: send } = pinned
    yield* Listens.join(pinned, (sql) =>
      Effect.raceFirst(send(sql), watch(options.heartbeatTimeout))
    )

    const query: PgLink["query"] = (text, params, within) =>
      pinned.query(inSchema(schema, text), params).pipe(
        Effect.raceFirst(watch(within)),
        Effect.map(({ rows }) => rows)
      )

    const beat = query("select 1", [], options.heartbeatTimeout).pipe(
      Effect.andThen(Effect.sleep(options.heartbeat)),
      Effect.forever({ disableYield: true })
    )
    return { processId: session.processId, listen: pinned.listen, query, beat, destroy }
  })
