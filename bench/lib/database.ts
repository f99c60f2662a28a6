/**
 * A PostgreSQL server for the workloads that need a real one.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { Effect, Exit, Redacted, Scope } from "effect"
import * as EmbeddedPostgres from "../../src/testing/EmbeddedPostgres.ts"

export class Databases implements AsyncDisposable {
  readonly #scope = Effect.runSync(Scope.make())
  #server: Promise<EmbeddedPostgres.EmbeddedPostgres> | undefined
  #made = 0

  /** The URL of a new database: NOTIFYs do not leave theirs. */
  async fresh(): Promise<string> {
    this.#server ??= Effect.runPromise(
      Scope.provide(EmbeddedPostgres.make({ settings: { max_connections: "100" } }), this.#scope)
    )
    const { url, urlFor } = await this.#server
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
