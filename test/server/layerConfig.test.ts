/** The layers whose options the environment gives: its values are in force, and what is missing is named. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { layerDatabase } from "../support/database.ts"

const Room = Channel.family("room_", Schema.String, Schema.Unknown)

type Variables = Readonly<Record<string, string>>

const environment = (variables: Variables) =>
  ConfigProvider.layer(ConfigProvider.fromUnknown(variables))

/** Why a layer is not built in this environment. */
const failure = <A, E, R>(layer: Layer.Layer<A, E, R>, variables: Variables) =>
  Layer.build(layer).pipe(
    Effect.scoped,
    Effect.asVoid,
    Effect.provide(environment(variables)),
    Effect.flip
  )

const badUrl = "postgres://db.example/app?sslmode=nonsense"

describe("layerConfig", () => {
  it.effect("of Realtime takes its limits from the environment", () => {
    const realtime = Realtime.layerConfig({ maxChannels: Config.Int("MAX_CHANNELS") }).pipe(
      Layer.provide(MemorySource.layer)
    )
    return Effect.gen(function* () {
      const error = yield* Effect.gen(function* () {
        yield* Realtime.events(Room("one")).pipe(
          Stream.runDrain,
          Effect.forkScoped({ startImmediately: true })
        )
        return yield* Effect.flip(Stream.runDrain(Realtime.events(Room("two"))))
      }).pipe(
        Effect.scoped,
        Effect.provide(Layer.provide(realtime, environment({ MAX_CHANNELS: "1" })))
      )
      expect(error).toEqual(new Realtime.TooManyChannels({ limit: 1 }))
      expect(yield* failure(realtime, { MAX_CHANNELS: "0" })).toMatchObject({
        _tag: "InvalidOption",
        option: "maxChannels"
      })
      const missing = yield* failure(realtime, {})
      expect(missing._tag).toBe("ConfigError")
      expect(missing.message).toContain("MAX_CHANNELS")
    })
  })

  it.live("of the link and of the reader takes their addresses from the environment", () => {
    const link = PgNotificationSource.layerConfig({ listenUrl: Config.Redacted("DIRECT_URL") })
    const reader = OutboxReader.layerConfig({ readUrl: Config.Redacted("DIRECT_URL") })
    return Effect.gen(function* () {
      const failures = (variables: Variables) =>
        Effect.all([failure(link, variables), failure(reader, variables)])
      for (const error of yield* failures({ DIRECT_URL: badUrl })) {
        expect(error._tag).toBe("InvalidDatabaseUrl")
      }
      for (const error of yield* failures({})) {
        expect(error._tag).toBe("ConfigError")
        expect(error.message).toContain("DIRECT_URL")
      }
    }).pipe(Effect.provide(layerDatabase))
  })

  it.live("of the installer takes its settings from the environment", () => {
    const installer = PgInstaller.layerConfig({
      retention: Config.Duration("RETENTION"),
      schema: Config.succeed("events")
    })
    return Effect.gen(function* () {
      yield* Layer.build(installer).pipe(
        Effect.scoped,
        Effect.provide(environment({ RETENTION: "36 hours" }))
      )
      const sql = yield* PgClient.PgClient
      const rows = yield* sql`select retention::text from events.settings`
      expect(rows).toEqual([{ retention: "36:00:00" }])
    }).pipe(Effect.provide(layerDatabase))
  })
})
