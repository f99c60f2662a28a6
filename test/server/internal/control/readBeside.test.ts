/** A read for which the pool has no answer: real PostgreSQL behind a hop. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import * as ReadBeside from "../../../../src/server/internal/control/readBeside.ts"
import { layerDatabase, TestDatabase } from "../../../support/database.ts"
import { databaseHop } from "../../../support/hop.ts"

describe("A read beside the pool", () => {
  it.live("has its rows while the connection of the pool is dead, and does not wait for that", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const near = yield* databaseHop(url)
      const pool = Context.get(
        yield* Layer.build(PgClient.layer({ url: Redacted.make(near.url), maxConnections: 1 })),
        PgClient.PgClient
      )
      // Closing does not wait for what is silent.
      yield* Effect.addFinalizer(() => Effect.sync(near.cut))
      yield* pool`select 1`
      const read = yield* ReadBeside.make(pool)
      near.silence()
      // What is open stays silent.
      near.heal()
      const rows = yield* Effect.timeoutOption(read("select $1::int as one", [1]), "4 seconds")
      expect(rows).toEqual(Option.some([{ one: 1 }]))
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
