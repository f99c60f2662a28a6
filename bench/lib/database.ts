/**
 * A PostgreSQL server for the workloads that need a real one.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { Effect, Exit, Redacted, Scope } from "effect"
import * as EmbeddedPostgres from "../../src/testing/EmbeddedPostgres.ts"

/**
 * Whether a commit waits for the disk, as it does in production; on a server that is `still` it
 * does not, and no background work runs.
 */
export type Kind = "fleeting" | "flushed" | "still"

/** No checkpoint in the middle of what is measured. */
const noCheckpoint = { max_wal_size: "8GB", checkpoint_timeout: "1h" }

const settings = {
  fleeting: { max_connections: "100" },
  flushed: {
    max_connections: "100",
    fsync: "on",
    full_page_writes: "on",
    ...noCheckpoint
  },
  still: { max_connections: "20", fsync: "off", autovacuum: "off", ...noCheckpoint }
} as const

export class Databases implements AsyncDisposable {
  readonly #scope = Effect.runSync(Scope.make())
  readonly #servers = new Map<Kind, Promise<EmbeddedPostgres.EmbeddedPostgres>>()
  #made = 0

  /** The URL of a new database: NOTIFYs stay within their database. */
  async fresh(kind: Kind): Promise<string> {
    const known = this.#servers.get(kind)
    const server =
      known ??
      Effect.runPromise(
        Scope.provide(EmbeddedPostgres.make({ settings: settings[kind] }), this.#scope)
      )
    this.#servers.set(kind, server)
    const { url, urlFor } = await server
    const name = `bench_${this.#made++}`
    await Effect.runPromise(
      Effect.scoped(
        Effect.flatMap(PgConnection.make({ url: Redacted.make(url) }), (session) =>
          session.query(`create database ${name}`)
        )
      )
    )
    return urlFor("postgres", name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Effect.runPromise(Scope.close(this.#scope, Exit.void))
  }
}
