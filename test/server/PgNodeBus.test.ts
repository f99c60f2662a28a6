/** The bus over PostgreSQL: the contract, and what a role without rights can do to it. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Metric, Redacted, type Scope } from "effect"
import { randomBytes } from "node:crypto"
import * as DatabaseKeys from "../../src/server/internal/bus/databaseKeys.ts"
import * as NotifyCarrier from "../../src/server/internal/bus/notifyCarrier.ts"
import { address } from "../../src/server/internal/link/pgLink.ts"
import { busDropped } from "../../src/server/internal/metrics.ts"
import { sqlState } from "../../src/server/internal/link/sqlState.ts"
import { busChannel } from "../../src/server/internal/sql/schemaName.ts"
import type { NodeBus } from "../../src/server/NodeBus.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { database, execute, installedDatabase } from "../support/database.ts"
import { deafHop } from "../support/deafHop.ts"
import { until } from "../support/until.ts"
import { node, reaches, type World } from "./support/busNodes.ts"
import { suite } from "./support/busSuite.ts"

const poolOf = (url: string) =>
  Effect.map(
    Layer.build(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 })),
    Context.get(PgClient.PgClient)
  )

/** A carrier on a link and a pool of its own, as each node has. */
const carrierOn = (url: string, listenUrl = url, pool?: PgClient.PgClient) =>
  Effect.gen(function* () {
    const sql = pool ?? (yield* poolOf(url))
    const source = yield* PgNotificationSource.make({
      selfTest: false,
      listenUrl: Redacted.make(listenUrl),
      backoff: { initial: 10, cap: 100, resetAfter: 30_000 }
    }).pipe(Effect.provideService(PgClient.PgClient, sql))
    return yield* NotifyCarrier.make(source, sql)
  })

const worldOn = (url: string) =>
  Effect.gen(function* (): Effect.fn.Return<World, unknown, Scope.Scope> {
    const keys = yield* DatabaseKeys.make(yield* poolOf(url))
    return { carrier: () => carrierOn(url), keys }
  })

suite(
  "over PostgreSQL",
  Effect.flatMap(installedDatabase, ({ url }) => worldOn(url))
)

const quick = { heartbeat: 80, silentAfter: 400, forgetAfter: 1000, batchWindow: 10 }

const forged = Effect.map(
  Metric.value(Metric.withAttributes(busDropped, { reason: "forged" })),
  ({ count }) => Number(count)
)

describe("PgNodeBus", () => {
  it.live(
    "a role without rights may notify the channel of the bus, and the node only counts it",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const world = yield* worldOn(url)
        const one = yield* node(world, "one", quick)
        const two = yield* node(world, "two", quick)
        yield* until(() => one.changes.length === 1 && two.changes.length === 1)
        const role = `stranger_${randomBytes(4).toString("hex")}`
        yield* Effect.acquireRelease(execute(url, `create role ${role} login`), () =>
          Effect.orDie(execute(url, `drop role ${role}`))
        )
        const theirs = new URL(url)
        if (theirs.searchParams.has("user")) theirs.searchParams.set("user", role)
        else theirs.username = role
        const before = yield* forged
        yield* execute(
          theirs.href,
          `select pg_notify('${busChannel("realtime")}', repeat('x', 100) || n) from generate_series(1, 100) n`
        )
        const error = yield* Effect.flip(execute(theirs.href, "select * from realtime.bus_secrets"))
        expect(sqlState(error)).toBe("42501")
        yield* Effect.flip(execute(theirs.href, "select realtime.rotate_secret()"))
        yield* Effect.repeat(Effect.andThen(Effect.sleep(10), forged), {
          until: (count) => count >= before + 200
        })
        one.send("still here")
        yield* until(() => two.got.length === 1)
        expect([one.changes, two.changes]).toEqual([["appeared two"], ["appeared one"]])
      }).pipe(Effect.scoped)
  )

  it.live("nodes go on over rotations of the secret, of which the second ends the first", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const [early, late] = [yield* worldOn(url), yield* worldOn(url)]
      const one = yield* node(early, "one", quick)
      const two = yield* node(late, "two", quick)
      yield* until(() => one.changes.length === 1 && two.changes.length === 1)
      const first = early.keys.current()!.secrets
      yield* execute(url, "select realtime.rotate_secret()")
      yield* early.keys.again
      one.send("with the new secret")
      // The other node reads it again, because a text arrived that it cannot read.
      yield* until(() => two.got.length === 1)
      const second = early.keys.current()!.secrets
      expect(second).toEqual([expect.any(String), first[0]])
      expect(late.keys.current()!.secrets).toEqual(second)
      yield* execute(url, "select realtime.rotate_secret()")
      yield* early.keys.again
      expect(early.keys.current()!.secrets).toEqual([expect.any(String), second[0]])
      yield* execute(url, "update realtime.bus_secrets set until = now() where until is not null")
      yield* early.keys.again
      expect(early.keys.current()!.secrets.length).toBe(1)
      // The names of members stay.
      expect(yield* (yield* worldOn(url)).keys.lasting).toBe(yield* early.keys.lasting)
    }).pipe(Effect.scoped)
  )

  it.live("a node that still has the last secret is heard for 10 minutes after a rotation", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const world = yield* worldOn(url)
      const before = world.keys.current()!
      const stale = { ...world, keys: { ...world.keys, current: () => before, again: Effect.void } }
      const one = yield* node(stale, "one", quick)
      const two = yield* node(world, "two", quick)
      yield* until(() => one.changes.length === 1 && two.changes.length === 1)
      yield* execute(url, "select realtime.rotate_secret()")
      /** As if the clock of the database had gone on by so many seconds. */
      const later = (seconds: number) =>
        Effect.andThen(
          execute(
            url,
            `update realtime.bus_secrets set until = until - interval '${seconds} seconds'`
          ),
          world.keys.again
        )
      yield* later(570)
      one.send("within 10 minutes")
      yield* until(() => two.got.length === 1)
      yield* later(40)
      const dropped = yield* forged
      one.send("after 10 minutes")
      yield* Effect.repeat(Effect.andThen(Effect.sleep(10), forged), {
        until: (count) => count > dropped
      })
      // It is silent to the other node, and then gone.
      yield* until(() => two.changes.includes("silent one"))
      expect(two.got).toEqual(["within 10 minutes"])
    }).pipe(Effect.scoped)
  )

  it.live("a link that swallows notifications is replaced, and the bus is up again", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const hop = yield* deafHop(address({ url: Redacted.make(url) }), 1)
      const through = new URL(url)
      through.searchParams.set("host", "127.0.0.1")
      through.searchParams.set("port", String(hop.port))
      const world = yield* worldOn(url)
      const deaf = { ...world, carrier: () => carrierOn(url, through.href) }
      const one = yield* node(deaf, "one", quick)
      yield* reaches(one, "deaf")
      yield* reaches(one, "up")
      expect(one.renewed).toBe(1)
      expect(hop.swallowed()).toBeGreaterThan(0)
    }).pipe(Effect.scoped)
  )

  it.live("a node is heard while the application uses its whole pool", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const world = yield* worldOn(url)
      const pool = yield* poolOf(url)
      const one = yield* node({ ...world, carrier: () => carrierOn(url, url, pool) }, "one", quick)
      const two = yield* node(world, "two", quick)
      yield* until(() => one.changes.length === 1 && two.changes.length === 1)
      const sessions = execute(
        url,
        "select count(*)::int n from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime bus'"
      )
      yield* Effect.repeat(sessions, { until: ([row]) => row?.["n"] === 2 })
      const over = yield* Deferred.make<void>()
      const begun: Array<number> = []
      const work = (n: number) =>
        pool.withTransaction(
          Effect.andThen(
            Effect.map(pool`select 1`, () => begun.push(n)),
            Deferred.await(over)
          )
        )
      const working = yield* Effect.forkChild(
        Effect.forEach([1, 2], work, { concurrency: "unbounded" })
      )
      yield* until(() => begun.length === 2)
      one.send("busy")
      yield* Effect.timeout(
        until(() => two.got.length === 1),
        "4 seconds"
      )
      yield* Deferred.succeed(over, undefined)
      yield* Fiber.join(working)
    }).pipe(Effect.scoped)
  )

  it.live("a node has no bus without a link, the objects, or the right to read the secret", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const at = (address: string) =>
        PgNodeBus.make({ name: "one" }).pipe(
          Effect.provide(
            PgNotificationSource.layer({ selfTest: false }).pipe(
              Layer.provideMerge(PgClient.layer({ url: Redacted.make(address) }))
            )
          ),
          Effect.flip,
          Effect.map((error) => error._tag)
        )
      const bare = yield* database
      expect(yield* at(bare.url)).toBe("NotInstalled")
      const role = `app_${randomBytes(4).toString("hex")}`
      yield* Effect.acquireRelease(
        Effect.gen(function* () {
          yield* execute(url, `create role ${role} login`)
          yield* execute(url, `grant usage on schema realtime to ${role}`)
        }),
        () =>
          Effect.orDie(
            Effect.andThen(execute(url, `drop owned by ${role}`), execute(url, `drop role ${role}`))
          )
      )
      const theirs = new URL(url)
      if (theirs.searchParams.has("user")) theirs.searchParams.set("user", role)
      else theirs.username = role
      expect(yield* at(theirs.href)).toBe("BusForbidden")
      const alone = PgNodeBus.make().pipe(
        Effect.provide(PgClient.layer({ url: Redacted.make(url) }))
      ) as Effect.Effect<NodeBus["Service"], PgNodeBus.StartError>
      const error = yield* Effect.flip(Effect.scoped(alone))
      expect(error._tag).toBe("NoBus")
    }).pipe(Effect.scoped)
  )
})
