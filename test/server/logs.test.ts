/** What a node logs: a line for each change, warnings with the cure, and nothing of clients' secrets. */
import { describe, expect, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Cause, Effect, Layer, Logger, Redacted, References, Schema } from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import * as Channel from "../../src/Channel.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import {
  allowAll,
  AuthRefused,
  type Options,
  type Request
} from "../../src/server/ServerOptions.ts"
import { layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { layerDoor, settle, TestDoor, visit } from "../support/sessions.ts"
import { until, waitFor } from "../support/until.ts"
import { quick, session } from "./support/durable.ts"

/** Logs at every level into a list. */
const logged = () => {
  const lines: Array<string> = []
  const layer = Layer.merge(
    Logger.layer([
      Logger.make(({ cause, logLevel, message }) => {
        const parts = [message]
          .flat()
          .map((one) => (typeof one === "string" ? one : inspect(one, { depth: 9 })))
        lines.push(`${logLevel} ${parts.join(" ")} ${Cause.pretty(cause)}`.trim())
      })
    ]),
    Layer.succeed(References.MinimumLogLevel, "All")
  )
  return { lines, layer }
}

const Notes = Channel.make("notes", Schema.Struct({ text: Schema.String }), { publish: true })
const Closed = Channel.make("closed", Schema.String)

describe("The log of a node", () => {
  it.effect("says once when it begins to drain and once when it has drained", () => {
    const { layer, lines } = logged()
    const door = layerDoor({ channels: [Notes], authorize: allowAll })
    return Effect.gen(function* () {
      yield* visit()
      yield* visit()
      const { drain } = yield* TestDoor
      const fiber = yield* Effect.forkChild(drain)
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* settle
      expect(fiber.pollUnsafe()).toBeDefined()
      expect(lines.filter((line) => line.includes("drain"))).toEqual([
        "Info The server drains: it rejects new clients, and closes 2 session(s) within 10000 ms",
        "Info The server has drained: 0 of 2 session(s) were cut"
      ])
    }).pipe(Effect.scoped, Effect.provide(door), Effect.provide(layer))
  })

  it.effect(
    "warns once of each refusal that a change of the server would cure, with the cure",
    () => {
      const { layer, lines } = logged()
      const options: Options<string> = {
        channels: [Notes, Closed],
        authorize: allowAll,
        authenticate: ({ token = "" }) =>
          token === "good"
            ? Effect.succeed({ identity: token })
            : Effect.fail(
                new AuthRefused({ code: token === "" ? "auth/required" : "auth/invalid" })
              )
      }
      return Effect.gen(function* () {
        for (let round = 0; round < 2; round++) {
          yield* visit()
          yield* visit({ token: "bad" })
          const visitor = yield* visit({ token: "good" })
          visitor.send({ type: "subscribe", id: 1, channel: "unknown" })
          visitor.send({ type: "publish", id: 2, channel: "closed", key: "k", data: "a" })
          visitor.send({ type: "subscribe", id: 3, channel: "notes", where: { text: "a" } })
          const old = yield* visit({ hello: false })
          old.send({ type: "hello", version: 99 })
          yield* settle
        }
        const warnings = lines.filter((line) => line.startsWith("Warn"))
        for (const cure of [
          "token callback",
          "the issuer and the audience",
          "Add the definition to channels",
          "publish: true",
          "List the column in filter",
          "Update the client or this server"
        ]) {
          expect(
            warnings.filter((line) => line.includes(cure)),
            cure
          ).toHaveLength(1)
        }
      }).pipe(Effect.scoped, Effect.provide(layerDoor(options)), Effect.provide(layer))
    }
  )

  it.effect("has no payload and no token, whatever clients and writers send", () => {
    const { layer, lines } = logged()
    const options: Options<string> = {
      channels: [Notes, Closed],
      authorize: ({ action, channel }: Request<unknown>) =>
        action === "publish" && channel === "notes"
          ? Effect.die(new Error("authorize is broken"))
          : Effect.succeed(channel === "notes"),
      authenticate: ({ token = "" }) =>
        token.startsWith("marked-token-good")
          ? Effect.succeed({ identity: "ann" })
          : Effect.fail(new AuthRefused({ code: "auth/invalid" })),
      limits: { maxFrameBytes: 2000, maxFrameDepth: 5 }
    }
    return Effect.gen(function* () {
      yield* visit({ token: "marked-token-bad" })
      const visitor = yield* visit({ token: "marked-token-good" })
      const source = yield* MemorySource.MemorySource
      visitor.send({ type: "subscribe", id: 1, channel: "notes" })
      yield* settle
      const send = (frame: object | string) =>
        Effect.andThen(
          Effect.sync(() => visitor.send(frame)),
          settle
        )
      yield* send({ type: "authenticate", id: 2, token: "marked-token-other" })
      yield* send({
        type: "publish",
        id: 3,
        channel: "notes",
        key: "k3",
        data: { text: "marked-payload" }
      })
      yield* send({ type: "publish", id: 4, channel: "notes", key: "k4", data: "marked-payload" })
      yield* send({ type: "publish", id: 5, channel: "closed", key: "k5", data: "marked-payload" })
      yield* send({ type: "marked-payload", id: 6 })
      yield* send('{"type":"publish","marked-payload')
      yield* send({
        type: "publish",
        id: 7,
        channel: "notes",
        key: "k7",
        data: [[[[[["marked-payload"]]]]]]
      })
      yield* (yield* NotificationSource).notify("notes", '{"marked-payload":')
      yield* (yield* NotificationSource).notify("notes", '{"text":{"marked-payload":1}}')
      yield* settle
      yield* source.lose
      yield* settle
      yield* source.restore
      yield* settle
      expect(lines.length).toBeGreaterThan(3)
      expect(lines.filter((line) => line.includes("marked"))).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(layerDoor(options)), Effect.provide(layer))
  })

  it.live(
    "has one line for each loss, and no password, while the database and NATS are away",
    () => {
      const { layer, lines } = logged()
      const url = Redacted.make("postgres://ann:marked-secret@127.0.0.1:1/app")
      const app = Layer.merge(
        PgNotificationSource.layer({ backoff: quick.backoff! }),
        OutboxReader.layer(quick)
      ).pipe(Layer.provideMerge(PgClient.layer({ url })))
      return Effect.gen(function* () {
        yield* NatsConnection.make({
          servers: "nats://127.0.0.1:1",
          user: "ann",
          password: Redacted.make("marked-secret"),
          startWithout: true
        })
        const warned = (what: string) => lines.some((line) => line.startsWith(`Warn ${what}`))
        yield* until(() => ["The link to", "The reader of", "The connection to NATS"].every(warned))
        // One line for each, and the attempts for debugging.
        const attempts = (what: string) =>
          lines.filter((line) => line.startsWith(`Debug ${what}`)).length
        yield* until(() => attempts("The link to") > 20 && attempts("The reader of") > 20)
        for (const what of ["The link to", "The reader of", "The connection to NATS"]) {
          expect(lines.filter((line) => line.startsWith(`Warn ${what}`))).toHaveLength(1)
        }
        expect(lines.filter((line) => line.includes("marked"))).toEqual([])
      }).pipe(Effect.scoped, Effect.provide(app), Effect.provide(layer))
    }
  )

  it.live("says once that the link and the reader are back", () => {
    const { layer, lines } = logged()
    const app = Layer.merge(
      PgNotificationSource.layer({ backoff: quick.backoff! }),
      OutboxReader.layer(quick)
    ).pipe(Layer.provideMerge(layerInstalledDatabase))
    return Effect.gen(function* () {
      yield* waitFor(yield* OutboxReader.OutboxReader, "up")
      expect((yield* TestDatabase).url).toBeDefined()
      expect(lines.filter((line) => line.includes(" is back"))).toEqual([])
      const db = yield* session
      yield* db.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'effect-realtime%'"
      )
      yield* until(() => lines.filter((line) => line.includes(" is back")).length >= 2)
      const back = lines.filter((line) => line.includes(" is back")).toSorted()
      expect(back).toEqual([
        expect.stringMatching(
          /^Info The link to PostgreSQL is back, after [\d.]+ s and \d+ failed/
        ),
        expect.stringMatching(
          /^Info The reader of the outbox is back, after [\d.]+ s and \d+ failed/
        )
      ])
      expect(lines.filter((line) => /^Warn .* is down/.test(line))).toHaveLength(2)
    }).pipe(Effect.scoped, Effect.provide(app), Effect.provide(layer))
  })
})
