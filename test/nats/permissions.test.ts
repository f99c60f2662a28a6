/** The permissions that the command line prints: a node starts with them, and may do nothing else. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { execFileSync } from "node:child_process"
import * as Path from "node:path"
import * as NatsBus from "../../src/nats/NatsBus.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsNotificationSource from "../../src/nats/NatsNotificationSource.ts"
import {
  channelOfToken,
  channelToken,
  permissionsOf,
  rootFault
} from "../../src/nats/internal/subjects.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { installedDatabase } from "../support/database.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"

const printed = (...args: ReadonlyArray<string>): string =>
  execFileSync(
    process.execPath,
    [
      "-C",
      "@effect-realtime/source",
      Path.resolve(import.meta.dirname, "../../src/bin/effect-realtime.ts"),
      "nats",
      ...args
    ],
    { encoding: "utf8" }
  )

describe("the subjects of a database", () => {
  it("have each name of a channel as one token, and back", () => {
    const names = [".", "..", "a.b", ".a", "a.", "a..b", "a-b_c:d", "2E"]
    for (const name of names) {
      expect(channelToken(name)).toMatch(/^[\w:=-]+$/)
      expect(channelOfToken(channelToken(name))).toBe(name)
    }
    expect(new Set(names.map(channelToken)).size).toBe(names.length)
  })

  it("stand under a root without wildcards, and under the digest of an identity", () => {
    expect(["a", "a.b-c"].map(rootFault)).toEqual([undefined, undefined])
    expect(
      ["", "a..b", "a.*", ">", ".a", "a b"].filter((root) => rootFault(root) === undefined)
    ).toEqual([])
    const { publish, subscribe } = permissionsOf({ root: "r", schema: "s", identity: "i > *" })
    expect(publish).toEqual(subscribe)
    expect(publish[0]).toMatch(/^r\.[0-9a-f]{16}\.s\.>$/)
  })
})

describe.skipIf(executablePath === undefined)("the permissions of a node", () => {
  it.live("are enough for its bus and its live channels, and no more", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const text = printed()
      expect(text).toContain('"effect_realtime.*.realtime.>"')
      const server = yield* natsServer(
        `authorization { users = [ { user: "node", password: "right", ${text} } ] }`
      )
      const options = { servers: server.address, user: "node", password: Redacted.make("right") }
      const connection = yield* NatsConnection.make(options)
      const below = Layer.mergeAll(
        PgClient.layer({ url: Redacted.make(url), maxConnections: 2 }),
        Layer.succeed(NatsConnection.NatsConnection, connection)
      )
      yield* Layer.build(
        Layer.merge(
          NatsBus.layer(),
          NatsNotificationSource.layer.pipe(
            Layer.provide(PgNotificationSource.layer({ selfTest: false }))
          )
        ).pipe(Layer.provide(below))
      )
      const error = yield* Effect.flip(connection.prove(["effect_realtime.a.other.bus"]))
      expect(error._tag).toBe("NatsForbidden")
    }).pipe(Effect.scoped)
  )
})
