/**
 * The database of a test: which server, and a fresh database on it.
 *
 * One server serves a whole run of vitest (`global-setup.ts`). It is the one that
 * REALTIME_TEST_DATABASE_URL names; with REALTIME_TEST_DOCKER=1 a container; otherwise the embedded
 * one, which needs nothing. A test that stops or restarts the server makes its own with
 * `EmbeddedPostgres.make()`.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import * as EmbeddedPostgres from "../../src/testing/EmbeddedPostgres.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** Connection string of the server's owner, who may create databases. */
    readonly serverUrl: string
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
        // Said for the first time by the server that only prepares the image's data.
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

/** Connection string of the server's owner; the server stops with the scope. For the global setup. */
export const server: Effect.Effect<string, EmbeddedPostgres.EmbeddedPostgresError, Scope.Scope> =
  Effect.suspend(() => {
    const url = process.env["REALTIME_TEST_DATABASE_URL"]
    if (url !== undefined && url !== "") return Effect.succeed(url)
    if (process.env["REALTIME_TEST_DOCKER"] === "1") return container
    return Effect.map(EmbeddedPostgres.make({ settings }), ({ url }) => url)
  })

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

/** A fresh, empty database, dropped with the scope together with the sessions it still has. */
export const databaseWith = (options: string): Effect.Effect<Database, SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    const owner = inject("serverUrl")
    const name = `t_${randomBytes(6).toString("hex")}`
    yield* Effect.acquireRelease(execute(owner, `create database ${name} ${options}`), () =>
      Effect.orDie(execute(owner, `drop database ${name} with (force)`))
    )
    const url = new URL(owner)
    url.pathname = `/${name}`
    return { url: url.href, name }
  })

export const database = databaseWith("")

export class TestDatabase extends Context.Service<TestDatabase, Database>()("test/TestDatabase") {}

/** `database`, and clients that are connected to it. */
export const layerDatabase = Layer.unwrap(
  Effect.map(database, (fresh) =>
    Layer.merge(
      Layer.succeed(TestDatabase, fresh),
      PgClient.layer({ url: Redacted.make(fresh.url) })
    )
  )
)
