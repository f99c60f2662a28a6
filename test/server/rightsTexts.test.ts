/** What the library says of a role that lacks rights, in errors and in the log, on real PostgreSQL. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, Redacted } from "effect"
import * as DatabaseKeys from "../../src/server/internal/bus/databaseKeys.ts"
import { publish } from "../../src/server/internal/outbox/outboxPublish.ts"
import { SchemaName } from "../../src/server/PgInstaller.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { as, roleOf } from "../support/role.ts"
import { layerInstalled } from "./support/durable.ts"

/** A pool of that role. */
const poolOf = (role: string) =>
  Effect.flatMap(TestDatabase, ({ url }) =>
    Effect.map(Layer.build(PgClient.layer({ url: Redacted.make(as(url, role)) })), (context) =>
      Context.get(context, PgClient.PgClient)
    )
  )

const published = (role: string) =>
  Effect.gen(function* () {
    const error = yield* Effect.flip(publish(yield* poolOf(role), "jobs", "1"))
    return error.message
  }).pipe(Effect.scoped)

describe("what is published to the outbox by a role that may not", () => {
  it.live("fails with the rights that it needs, and is no NOTIFY", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("stranger")
      expect(yield* published(role).pipe(Effect.provide(layerInstalled()))).toBe(
        'Publishing to channel "jobs" failed: permission denied for schema realtime. As the owner, give the role the rights to publish: npx effect-realtime sql --app-role <role> --apply, or PgInstaller.install({ roles: { app } }).'
      )
      const missing = yield* published(role).pipe(
        Effect.provide(layerDatabase),
        Effect.provideService(SchemaName, "events")
      )
      expect(missing).toContain(
        'Publishing to channel "jobs" failed: The database does not have the objects of effect-realtime in the schema "events". Run PgInstaller.install({ schema: "events" })'
      )
      expect(missing).not.toContain("Check the database URL")
    }).pipe(Effect.scoped)
  )
})

describe("the secret of the bus", () => {
  it.live("has its cure in the log where the role may no longer read it", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("node")
      const lines: Array<string> = []
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const keys = yield* DatabaseKeys.make(yield* poolOf(role))
        yield* execute(url, `revoke usage on schema realtime from ${role}`)
        yield* keys.again
        expect(lines).toEqual([
          "The secret of the bus cannot be read: permission denied for schema realtime. As the owner, give the role the rights of a node: npx effect-realtime sql --node-role <role> --apply, or PgInstaller.install({ roles: { node } })."
        ])
        yield* execute(url, `grant usage on schema realtime to ${role}`)
        yield* keys.again
        expect(lines).toEqual([
          expect.any(String),
          expect.stringContaining("The secret of the bus is read again")
        ])
      }).pipe(
        Effect.scoped,
        Effect.provide(layerInstalled({ roles: { node: role } })),
        Effect.provide(
          Logger.layer([Logger.make(({ message }) => void lines.push([message].flat().join(" ")))])
        )
      )
    }).pipe(Effect.scoped)
  )
})
