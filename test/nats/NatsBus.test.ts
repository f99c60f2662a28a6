/** The bus over NATS: the contract, a NATS that delivers nothing, and an account without rights. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import type { Keys } from "../../src/server/internal/bus/bus.ts"
import * as NatsBus from "../../src/nats/NatsBus.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsCarrier from "../../src/nats/internal/natsCarrier.ts"
import { installedDatabase } from "../support/database.ts"
import { deafNats } from "../support/deafNats.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { until } from "../support/until.ts"
import { node, reaches, type World } from "../server/support/busNodes.ts"
import { suite } from "../server/support/busSuite.ts"

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }

/** A connection of its own for each node, as each has. */
const worldAt = (servers: string, keys: Keys = keysOf("database")): World => ({
  keys,
  carrier: () =>
    Effect.map(NatsConnection.make({ servers, backoff }), (connection) =>
      NatsCarrier.make(connection, "realtime", () => keys.current()?.identity)
    )
})

const keysOf = (identity: string): Keys => ({
  current: () => ({ identity, secrets: ["a secret of the bus"] }),
  lasting: Effect.succeed("lasting"),
  again: Effect.void
})

suite(
  "over NATS",
  Effect.map(natsServer(), ({ address }) => worldAt(address)),
  { skip: executablePath === undefined }
)

const quick = { heartbeat: 80, silentAfter: 400, forgetAfter: 5000, batchWindow: 10 }

describe.skipIf(executablePath === undefined)("NatsBus", () => {
  it.live(
    "a NATS that answers every ping and delivers nothing is left for another connection",
    () =>
      Effect.gen(function* () {
        const server = yield* natsServer()
        const between = yield* deafNats(server.port)
        const one = yield* node(worldAt(`127.0.0.1:${between.port}`), "one", quick)
        const two = yield* node(worldAt(server.address), "two", quick)
        yield* until(() => one.changes.length === 1 && two.changes.length === 1)
        yield* reaches(one, "up")
        between.deafen()
        const before = between.swallowed()
        yield* reaches(one, "deaf")
        // Its own heartbeat in each interval, and those of the other node.
        expect(between.swallowed() - before).toBeLessThan(20)
        yield* reaches(one, "up")
        expect([one.renewed, between.connections()]).toEqual([1, 2])
        two.send("hello")
        yield* until(() => one.got.includes("hello"))
      }).pipe(Effect.scoped)
  )

  it.live("nodes go on after NATS was killed and is back", () =>
    Effect.gen(function* () {
      const server = yield* natsServer()
      const one = yield* node(worldAt(server.address), "one", quick)
      const two = yield* node(worldAt(server.address), "two", quick)
      yield* until(() => one.changes.length === 1 && two.changes.length === 1)
      yield* server.stop
      yield* reaches(one, "down")
      yield* until(() => two.changes.includes("silent one"))
      yield* server.start
      yield* reaches(one, "up")
      yield* until(() => two.changes.at(-1) === "appeared one")
      one.send("after")
      yield* until(() => two.got.includes("after"))
    }).pipe(Effect.scoped)
  )

  it.live("nodes that run while the objects are installed anew hear a node that starts later", () =>
    Effect.gen(function* () {
      const { address } = yield* natsServer()
      let identity = "before"
      const current = () => ({ identity, secrets: ["a secret of the bus"] })
      const one = yield* node(worldAt(address, { ...keysOf("before"), current }), "one", quick)
      yield* reaches(one, "up")
      const other = yield* node(worldAt(address, keysOf("after")), "two", quick)
      yield* reaches(other, "up")
      expect([one.changes, other.changes]).toEqual([[], []])
      identity = "after"
      yield* until(() => one.changes.length === 1 && other.changes.length === 1)
    }).pipe(Effect.scoped)
  )

  it.live(
    "a node starts with the secret of its database, and fails within 2 s where its account may not publish",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const database = PgClient.layer({ url: Redacted.make(url), maxConnections: 2 })
        const at = (servers: string) =>
          NatsBus.make({ name: "one" }).pipe(
            Effect.provide(Layer.merge(database, NatsConnection.layer({ servers })))
          )
        const open = yield* natsServer()
        yield* Effect.scoped(at(open.address))
        const rights = `permissions: { publish: { deny: ">" } }`
        const closed = yield* natsServer(
          `no_auth_user: "node", authorization { users = [ { user: "node", password: "x", ${rights} } ] }`
        )
        const error = yield* Effect.flip(Effect.scoped(at(closed.address)))
        expect(error).toMatchObject({ _tag: "NatsForbidden", operation: "publish" })
        expect(error.message).toMatch(/effect_realtime\.[0-9a-f]{16}\.realtime\.bus/)
      }).pipe(Effect.scoped)
  )
})
