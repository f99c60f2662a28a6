/**
 * The database of a test: which server, and a fresh database on it, empty or with everything installed.
 *
 * The servers of a run of vitest are started by `global-setup.ts`. It is the one that
 * REALTIME_TEST_DATABASE_URL names; with REALTIME_TEST_DOCKER=1 a container; otherwise embedded ones,
 * which need nothing, one for each worker. A test that stops or restarts the server makes its own with
 * `ownServer` (`cluster.ts`).
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import { openStatement } from "../../src/server/internal/sql/identity.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { makeCluster, serverOn } from "./cluster.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** Connection strings of the servers' owners, which may create databases. */
    readonly serverUrls: ReadonlyArray<string>
    /** Name of the database, on each server, from which those with everything installed are copied. */
    readonly template: string
  }
}

/** Many test files at a time, each with a pool; two-phase commit is off by default. */
const settings = { max_connections: "200", max_prepared_transactions: "20" }

const container = Effect.acquireRelease(
  Effect.promise(async () => {
    // Imported here because it takes longer than an embedded server takes to start.
    const { GenericContainer, Wait } = await import("testcontainers")
    return new GenericContainer("postgres:18")
      .withEnvironment({ POSTGRES_PASSWORD: "realtime" })
      .withCommand(Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]))
      .withTmpFs({ "/var/lib/postgresql": "rw" })
      .withExposedPorts(5432)
      .withWaitStrategy(
        // The server that only prepares the data of the image logs this too.
        Wait.forLogMessage("database system is ready to accept connections", 2)
      )
      .start()
  }),
  (started) => Effect.promise(() => started.stop())
).pipe(
  Effect.map(
    (started) =>
      `postgres://postgres:realtime@${started.getHost()}:${started.getMappedPort(5432)}/postgres`
  )
)

const theirs = process.env["REALTIME_TEST_DATABASE_URL"] ?? ""

/**
 * The owners' connection strings of as many servers as there are workers, or of the one that is given;
 * they stop with the scope. And the data directory that they are copied from. For the global setup.
 */
export const servers = Effect.fnUntraced(function* (workers: number) {
  const url =
    theirs !== ""
      ? theirs
      : process.env["REALTIME_TEST_DOCKER"] === "1"
        ? yield* container
        : undefined
  if (url !== undefined) return { urls: [url], cluster: "" }
  const cluster = yield* makeCluster
  const urls = yield* Effect.forEach(
    Array.from({ length: workers }),
    () => Effect.map(serverOn(cluster, settings), (server) => server.url),
    { concurrency: "unbounded" }
  )
  return { urls, cluster }
})

/** The server of this worker. Vitest numbers those that run at the same time from 1. */
export const serverUrl = (): string => {
  const urls = inject("serverUrls")
  return urls[Number(process.env["VITEST_POOL_ID"] ?? 1) % urls.length]!
}

export interface Database {
  /** Plain text, as `new RealtimeServer` takes it; `Redacted.make(url)` is for `PgClient`. */
  readonly url: string
  readonly name: string
}

/** Runs one statement on a session of its own. */
export const execute = (url: string, statement: string) =>
  PgConnection.make({ url: Redacted.make(url) }).pipe(
    Effect.flatMap((connection) => connection.query(statement)),
    Effect.map(({ rows }) => rows),
    Effect.scoped
  )

const urlOf = (name: string): string => {
  const url = new URL(serverUrl())
  url.pathname = `/${name}`
  return url.href
}

/**
 * Copies the files instead of logging every page, which takes a seventh of the time where commits
 * do not wait for a disk. A server given by REALTIME_TEST_DATABASE_URL waits for its disk and may
 * be older than the option.
 */
const strategy = theirs === "" ? "strategy file_copy" : ""

const create = (name: string, options: string) =>
  execute(serverUrl(), `create database ${name} ${strategy} ${options}`)

/** A fresh, empty database, dropped with the scope together with the sessions it still has. */
export const databaseWith = (options: string): Effect.Effect<Database, SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    const name = `t_${randomBytes(6).toString("hex")}`
    yield* Effect.acquireRelease(create(name, options), () =>
      Effect.orDie(execute(serverUrl(), `drop database ${name} with (force)`))
    )
    return { url: urlOf(name), name }
  })

export const database = databaseWith("")

export class TestDatabase extends Context.Service<TestDatabase, Database>()("test/TestDatabase") {}

const layerOf = (database: Effect.Effect<Database, SqlError, Scope.Scope>) =>
  Layer.unwrap(
    Effect.map(database, (fresh) =>
      Layer.merge(
        Layer.succeed(TestDatabase, fresh),
        PgClient.layer({ url: Redacted.make(fresh.url) })
      )
    )
  )

/** `database`, and clients that are connected to it. */
export const layerDatabase = layerOf(database)

/**
 * Makes the template unless it exists: once for a server, by the first test that needs it. It is
 * left as before its first `realtime.open`, which names the database that it is run in.
 */
const prepareTemplate = Effect.gen(function* () {
  const name = inject("template")
  const owner = yield* PgConnection.make({ url: Redacted.make(serverUrl()) })
  yield* owner.query("select pg_advisory_lock(hashtextextended($1, 0))", [name])
  const { rows } = yield* owner.query(
    "select not datallowconn as whole from pg_database where datname = $1",
    [name]
  )
  if (rows[0]?.["whole"] === true) return name
  // The rest of a run that was stopped in the middle.
  yield* owner.query(`drop database if exists ${name}`)
  yield* create(name, "")
  yield* Effect.gen(function* () {
    yield* PgInstaller.install()
    yield* PgClient.PgClient.use(
      (sql) => sql`with epoch as (delete from realtime.epoch)
        update realtime.settings set identity = null, token = null, origin = null`
    )
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(urlOf(name)) })), Effect.scoped)
  // No session can be in the template, then, when it is copied.
  yield* owner.query(`alter database ${name} allow_connections false`)
  return name
}).pipe(Effect.orDie, Effect.scoped, Effect.cached, Effect.runSync)

/** A fresh database as `PgInstaller.install()` leaves it. The install itself has its own tests. */
export const installedDatabase: Effect.Effect<Database, SqlError, Scope.Scope> = Effect.gen(
  function* () {
    const template = yield* prepareTemplate
    const fresh = yield* databaseWith(`template ${template}`)
    yield* execute(fresh.url, openStatement)
    return fresh
  }
)

/** Drops the template of `installedDatabase`. For the global setup. */
export const dropTemplate = (url: string, template: string) =>
  execute(url, `drop database if exists ${template}`)

/** `installedDatabase`, and clients that are connected to it. */
export const layerInstalledDatabase = layerOf(installedDatabase)
