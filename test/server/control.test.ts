/**
 * Control over all nodes: three nodes in one process, over one real PostgreSQL and a bus in memory, whose
 * faults a test chooses. Sessions are plain objects, and the clock is that of the test.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import {
  Clock,
  Context,
  Effect,
  Fiber,
  Layer,
  Metric,
  Redacted,
  Schedule,
  Schema,
  type Scope
} from "effect"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsFeed from "../../src/nats/NatsFeed.ts"
import type { FeedCarrier } from "../../src/server/FeedCarrier.ts"
import * as Control from "../../src/server/internal/control/control.ts"
import type { Whose } from "../../src/server/internal/control/whose.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import * as MemoryBus from "../../src/server/MemoryBus.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { NodeBus } from "../../src/server/NodeBus.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { type Authenticate, AuthRefused } from "../../src/server/ServerOptions.ts"
import { layerDatabase, layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { feedNetwork } from "../support/feedNetwork.ts"
import { databaseHop } from "../support/hop.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { TestDoor, visit, type Visitor } from "../support/sessions.ts"
import { until } from "../support/until.ts"
import { long, random, seed } from "./support/random.ts"

const Orders = Channel.make("orders", Schema.Unknown)
const Notices = Channel.family("notices_", Schema.String, Schema.String, { delivery: "durable" })

interface Token {
  readonly key: string
  readonly jti?: string
  /** Milliseconds since 1970. */
  readonly issued?: number
  readonly expires?: number
}

const authenticate: Authenticate<string> = ({ token }) => {
  if (token === undefined) return Effect.fail(new AuthRefused({ code: "auth/required" }))
  const { expires, issued, jti, key } = JSON.parse(token) as Token
  return Effect.succeed({
    identity: key,
    token: jti,
    ...(issued === undefined ? {} : { issued: new Date(issued) }),
    ...(expires === undefined ? {} : { expires: new Date(expires) })
  })
}

let allowed = true

interface ControlledNode {
  readonly control: Control.Control
  readonly realtime: Realtime.Realtime["Service"]
  readonly visit: (token: Token) => Effect.Effect<Visitor, never, Scope.Scope>
  /** The same with the clock of the machine. */
  readonly enter: (token: Token) => Effect.Effect<Visitor, never, Scope.Scope>
}

/** A node over what it finds: the source in memory, or the outbox as well. */
const nodeOn = (bus: NodeBus["Service"], channels: ReadonlyArray<Channel.Definition>) =>
  Effect.gen(function* () {
    const realtime = yield* Realtime.make()
    return yield* Effect.gen(function* (): Effect.fn.Return<
      ControlledNode,
      unknown,
      Realtime.Realtime | Scope.Scope
    > {
      const prepared = yield* Control.prepare(true)
      const options = { channels, authenticate, authorize: () => Effect.sync(() => allowed) }
      const door = yield* Door.make(options, prepared.door)
      const control = yield* prepared.over(door)
      return {
        control,
        realtime,
        visit: (token) =>
          Effect.provideService(visit({ token: JSON.stringify(token) }), TestDoor, door),
        enter: (token) =>
          Effect.gen(function* () {
            const visitor = yield* Effect.provideService(visit({ hello: false }), TestDoor, door)
            visitor.send({ type: "hello", version: 1, token: JSON.stringify(token) })
            yield* until(() => visitor.last("welcome") !== undefined, 2)
            return visitor
          })
      }
    }).pipe(Effect.provideService(NodeBus, bus), Effect.provideService(Realtime.Realtime, realtime))
  })

const node = (
  network: MemoryBus.Network,
  name: string,
  channels: ReadonlyArray<Channel.Definition>
) => Effect.flatMap(MemoryBus.make(network, { name }), (bus) => nodeOn(bus, channels))

/** Lets the database answer, while no time passes. */
const answers = TestClock.withLive(Effect.sleep(5))

/** Advances the clock by steps in which the database may answer. */
const pass = (millis: number, step = 100) =>
  Effect.repeat(Effect.andThen(answers, TestClock.adjust(step)), {
    times: Math.ceil(millis / step) - 1
  }).pipe(Effect.andThen(answers))

/** The result of a call, and how many milliseconds it took. */
const taking = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    let millis = 0
    while (fiber.pollUnsafe() === undefined) {
      yield* answers
      yield* TestClock.adjust(50)
      millis += 50
      expect(millis).toBeLessThan(10_000)
    }
    return { millis, result: yield* Fiber.join(fiber) }
  })

const layer = Layer.merge(layerInstalledDatabase, MemorySource.layer)

/** Nodes that know each other; messages to those in `deaf` are lost. */
const cluster = (...names: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const deaf = new Set<string>()
    const network = MemoryBus.network(({ to }, deliver) => (deaf.has(to) ? undefined : deliver()))
    const now = yield* Clock.currentTimeMillis
    const build = (name: string) => node(network, name, [Orders])
    const nodes = yield* Effect.forEach(names, build)
    yield* pass(1100)
    return { nodes, deaf, now, build }
  })

const codes = (visitors: ReadonlyArray<Visitor>) => visitors.map(({ closeCode }) => closeCode)

const test = (
  sentence: string,
  body: Effect.Effect<void, unknown, Layer.Success<typeof layer> | Scope.Scope>
) =>
  it.effect(sentence, () =>
    // That of the database. Before anything sleeps, because it would wake for each second until now.
    Effect.andThen(
      Effect.flatMap(TestClock.withLive(Clock.currentTimeMillis), TestClock.setTime),
      body.pipe(Effect.scoped, Effect.provide(layer))
    )
  )

describe("revoke", () => {
  test(
    "of an identity closes its sessions on every node, and its tokens open none on any node, also on one that starts later",
    Effect.gen(function* () {
      const { build, nodes, now } = yield* cluster("one", "two", "three")
      const token = { key: "ann", issued: now, expires: now + 3_600_000 }
      const sessions = yield* Effect.forEach(nodes, (node) => node.visit(token))
      const other = yield* nodes[1]!.visit({ key: "bob" })
      const { millis, result } = yield* taking(nodes[0]!.control.revoke("ann"))
      expect(result).toEqual({ answered: ["one", "two", "three"], missing: [], bus: "up" })
      expect(millis).toBeLessThanOrEqual(1000)
      expect(codes(sessions)).toEqual([4101, 4101, 4101])
      expect(other.closeCode).toBeUndefined()
      const late = yield* build("late")
      const again = yield* Effect.forEach([...nodes, late], (node) => node.visit(token))
      expect(codes(again)).toEqual([4101, 4101, 4101, 4101])
      // A token without the time of its issue could be an old one.
      expect((yield* late.visit({ key: "ann" })).closeCode).toBe(4101)
      const sql = yield* PgClient.PgClient
      expect(
        yield* sql`select kind, name, expires - at between '86390 s' and '86410 s' as day from realtime.revocations`
      ).toEqual([{ kind: "identity", name: "ann", day: true }])
      yield* pass(60_000, 2000)
      const fresh = yield* late.visit({ key: "ann", issued: now + 60_000 })
      expect(fresh.last("welcome")).toBeDefined()
    })
  )

  test(
    "reaches a node that loses the message within its next look, and names it",
    Effect.gen(function* () {
      const { deaf, nodes } = yield* cluster("one", "two", "three")
      const sessions = yield* Effect.forEach(nodes, (node) => node.visit({ key: "ann" }))
      deaf.add("two")
      const closed = yield* Effect.forkChild(
        taking(
          Effect.repeat(Effect.sleep(10), { until: () => sessions[1]!.closeCode !== undefined })
        ),
        { startImmediately: true }
      )
      const { millis, result } = yield* taking(nodes[0]!.control.revoke("ann"))
      expect(result).toEqual({ answered: ["one", "three"], missing: ["two"], bus: "up" })
      expect(millis).toBeLessThanOrEqual(5000)
      expect((yield* Fiber.join(closed)).millis).toBeLessThanOrEqual(2200)
      expect(codes(sessions)).toEqual([4101, 4101, 4101])
      expect((yield* nodes[1]!.visit({ key: "ann" })).closeCode).toBe(4101)
    })
  )

  test(
    "of one session closes one, of a token those that have it, and a fresh token closes none",
    Effect.gen(function* () {
      const { nodes, now } = yield* cluster("one", "two")
      const [one, two] = nodes as [ControlledNode, ControlledNode]
      const tab = { key: "ann", jti: "a" }
      const sessions = [
        yield* one.visit(tab),
        yield* two.visit(tab),
        yield* two.visit({ key: "ann", jti: "b" })
      ]
      sessions[1]!.send({
        type: "authenticate",
        id: 1,
        token: JSON.stringify({ key: "ann", jti: "c" })
      })
      yield* pass(1000)
      expect(sessions[1]!.last("authenticated")).toBeDefined()
      expect(codes(sessions)).toEqual([undefined, undefined, undefined])
      const { session } = sessions[2]!.last("welcome")!
      yield* taking(one.control.revoke({ session }))
      expect(codes(sessions)).toEqual([undefined, undefined, 4101])
      yield* taking(two.control.revoke({ token: "a" }, { expires: new Date(now + 60_000) }))
      expect(codes(sessions)).toEqual([4101, undefined, 4101])
      expect((yield* two.visit(tab)).closeCode).toBe(4101)
      expect((yield* two.visit({ key: "ann", jti: "d" })).closeCode).toBeUndefined()
      // A fresh token that was revoked closes the session that sends it.
      sessions[1]!.send({ type: "authenticate", id: 2, token: JSON.stringify(tab) })
      yield* pass(100)
      expect(sessions[1]!.closeCode).toBe(4101)
      yield* pass(62_000, 2000)
      expect((yield* one.visit(tab)).closeCode).toBeUndefined()
    })
  )

  test(
    "is answered also while others follow without a pause",
    Effect.gen(function* () {
      const { nodes } = yield* cluster("one", "two")
      const first = yield* Effect.forkChild(nodes[0]!.control.revoke("ann"), {
        startImmediately: true
      })
      for (let n = 0; first.pollUnsafe() === undefined && n < 1000; n++) {
        yield* Effect.forkChild(nodes[n % 2]!.control.revoke(`user ${n}`), {
          startImmediately: true
        })
        yield* answers
        yield* TestClock.adjust(10)
      }
      expect(yield* Fiber.join(first)).toEqual({ answered: ["one", "two"], missing: [], bus: "up" })
    })
  )

  test(
    "in a transaction holds from the commit on, and a rollback revokes nothing",
    Effect.gen(function* () {
      const { nodes } = yield* cluster("one", "two")
      const sql = yield* PgClient.PgClient
      const session = yield* nodes[1]!.visit({ key: "ann" })
      const revoke = taking(nodes[0]!.control.revoke("ann"))
      yield* Effect.ignore(sql.withTransaction(Effect.andThen(revoke, Effect.fail("no"))))
      yield* pass(3000)
      expect(session.closeCode).toBeUndefined()
      yield* sql.withTransaction(revoke)
      yield* pass(2200)
      expect(session.closeCode).toBe(4101)
    })
  )

  test(
    "forgets the rows of revocations that are over",
    Effect.gen(function* () {
      const { nodes } = yield* cluster("one")
      const sql = yield* PgClient.PgClient
      yield* sql`select realtime.revoke('identity', 'ann', clock_timestamp() - interval '1 second')`
      yield* taking(nodes[0]!.control.revoke("bob"))
      expect(yield* sql`select name from realtime.revocations`).toEqual([{ name: "bob" }])
    })
  )
})

describe("a table whose ids begin anew", () => {
  test(
    "as after a restore, is read from its beginning",
    Effect.gen(function* () {
      const { nodes } = yield* cluster("one")
      const sql = yield* PgClient.PgClient
      yield* taking(nodes[0]!.control.revoke("bob"))
      yield* sql`truncate realtime.revocations restart identity`
      yield* pass(61_000, 1000)
      const session = yield* nodes[0]!.visit({ key: "ann" })
      yield* sql`select realtime.revoke('identity', 'ann', clock_timestamp() + interval '1 day')`
      yield* pass(3000)
      expect(session.closeCode).toBe(4101)
    })
  )
})

describe("arguments of any type", () => {
  test(
    "concern no sessions, and fail",
    Effect.gen(function* () {
      const { nodes, now } = yield* cluster("one", "two")
      const sessions = yield* Effect.forEach(nodes, (node) => node.visit({ key: "ann" }))
      const { control } = nodes[0]!
      const none: ReadonlyArray<unknown> = [
        { token: undefined },
        { session: undefined },
        { session: "", token: "a" },
        {},
        "",
        undefined,
        null,
        1
      ]
      for (const whose of none as ReadonlyArray<Whose>) {
        for (const call of [control.revoke(whose), control.disconnect(whose)]) {
          expect(yield* Effect.flip(call)).toMatchObject({ _tag: "InvalidOption", option: "whose" })
        }
      }
      expect(yield* Effect.flip(control.reauthorize(""))).toMatchObject({ option: "key" })
      // A claim in seconds is in January 1970.
      for (const end of [now / 1000, now - 1, Number.NaN]) {
        const expires = new Date(end)
        expect(yield* Effect.flip(control.revoke("ann", { expires }))).toMatchObject({
          _tag: "InvalidOption",
          option: "expires"
        })
      }
      yield* pass(2500)
      expect(codes(sessions)).toEqual([undefined, undefined])
    })
  )
})

describe("revoke over PostgreSQL alone", () => {
  it.live("reaches a node whose bus is cut, by its next look at the table", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const path = yield* databaseHop(url)
      const build = (name: string, listenUrl: string) =>
        Effect.gen(function* () {
          const built = yield* Layer.build(
            PgNodeBus.layer({ name }).pipe(
              Layer.provide(
                PgNotificationSource.layer({ selfTest: false, listenUrl: Redacted.make(listenUrl) })
              )
            )
          )
          return yield* nodeOn(Context.get(built, NodeBus), [Orders])
        })
      const one = yield* build("one", url)
      const two = yield* build("two", path.url)
      yield* Effect.repeat(one.control.stats, {
        until: ({ answered }) => answered.length === 2,
        schedule: Schedule.spaced(50)
      })
      const session = yield* two.enter({ key: "ann" })
      path.silence()
      const begun = performance.now()
      const revoke = yield* Effect.forkChild(one.control.revoke("ann"))
      yield* until(() => session.closeCode !== undefined)
      // 2 s, and what a machine with much else to do adds.
      expect(performance.now() - begun).toBeLessThan(5000)
      expect(session.closeCode).toBe(4101)
      expect(yield* Fiber.join(revoke)).toMatchObject({ answered: ["one"], missing: ["two"] })
      expect((yield* two.enter({ key: "bob" })).closeCode).toBeUndefined()
    }).pipe(Effect.scoped, Effect.provide(layer))
  )
})

describe("the other operations", () => {
  test(
    "disconnect closes with 4205 on every node and refuses nothing, reauthorize asks on every node",
    Effect.gen(function* () {
      const { nodes } = yield* cluster("one", "two")
      const [one, two] = nodes as [ControlledNode, ControlledNode]
      const sessions = [yield* one.visit({ key: "ann" }), yield* two.visit({ key: "ann" })]
      for (const session of sessions) session.send({ type: "subscribe", id: 1, channel: "orders" })
      yield* pass(100)
      allowed = false
      const { result } = yield* taking(one.control.reauthorize("ann"))
      allowed = true
      expect(result).toEqual({ answered: ["one", "two"], missing: [], bus: "up" })
      expect(sessions.map((one) => one.last("ended")?.code)).toEqual([
        "channel/forbidden",
        "channel/forbidden"
      ])
      yield* taking(one.control.disconnect("ann"))
      expect(codes(sessions)).toEqual([4205, 4205])
      expect((yield* two.visit({ key: "ann" })).last("welcome")).toBeDefined()
    })
  )

  test(
    "say that the bus is down, also when it has forgotten the other nodes",
    Effect.gen(function* () {
      const { deaf, nodes } = yield* cluster("one", "two")
      deaf.add("one").add("two")
      yield* pass(70_000, 1000)
      const { result } = yield* taking(nodes[0]!.control.disconnect("ann"))
      expect(result).toEqual({ answered: ["one"], missing: [], bus: "deaf" })
    })
  )

  test(
    "stats answer within a second, with the name of a node that is dead",
    Effect.gen(function* () {
      const { deaf, nodes } = yield* cluster("one", "two", "three")
      yield* nodes[1]!.visit({ key: "ann" })
      const stats = nodes[0]!.control.stats
      const usual = { isReady: true, bus: "up", version: schemaVersion, subscriptions: 0 }
      expect((yield* taking(stats)).result).toMatchObject({
        answered: [
          { node: "one", sessions: 0, ...usual },
          { node: "two", sessions: 1, ...usual },
          { node: "three", sessions: 0, ...usual }
        ],
        missing: []
      })
      deaf.add("three")
      const { millis, result } = yield* taking(stats)
      expect(result.answered.map(({ node }) => node)).toEqual(["one", "two"])
      expect(result.missing).toEqual(["three"])
      expect(millis).toBeLessThanOrEqual(1000)
    })
  )
})

describe("a node that cannot read revocations", () => {
  test(
    "accepts no new session after 30 s, keeps the open ones, and accepts again once it can",
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      let down = false
      const failing = new Proxy(sql, {
        get: (target, key) =>
          key === "withoutTransforms"
            ? () => ({
                unsafe: (text: string, values: ReadonlyArray<unknown>) =>
                  down
                    ? Effect.fail(new SqlError({ reason: new UnknownError({ cause: "down" }) }))
                    : target.withoutTransforms().unsafe(text, values)
              })
            : Reflect.get(target, key)
      })
      const one = yield* Effect.provideService(
        node(MemoryBus.network(), "one", [Orders]),
        PgClient.PgClient,
        failing
      )
      const open = yield* one.visit({ key: "ann" })
      down = true
      expect(yield* Effect.flip(one.control.revoke("ann"))).toMatchObject({ _tag: "RevokeFailed" })
      yield* pass(27_000, 1000)
      expect((yield* one.visit({ key: "bob" })).closeCode).toBeUndefined()
      yield* pass(6000, 1000)
      const refused = yield* one.visit({ key: "bob" })
      expect([refused.errors, refused.closeCode]).toEqual([["server/overloaded"], 4003])
      expect(refused.last("error")?.retryAfter).toBeGreaterThan(0)
      expect(open.closeCode).toBeUndefined()
      down = false
      yield* pass(3000)
      expect((yield* one.visit({ key: "bob" })).closeCode).toBeUndefined()
    })
  )

  test(
    "reads them while the application uses its whole pool, and keeps no session for that",
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const pool = Context.get(
        yield* Layer.build(
          PgClient.layer({
            url: Redacted.make(database.url),
            maxConnections: 1,
            applicationName: "pool"
          })
        ),
        PgClient.PgClient
      )
      const one = yield* Effect.provideService(
        node(MemoryBus.network(), "one", [Orders]),
        PgClient.PgClient,
        pool
      )
      const busy = yield* Effect.forkScoped(
        pool.withTransaction(Effect.andThen(pool`select 1`, Effect.never)),
        { startImmediately: true }
      )
      yield* pass(40_000, 500)
      const ann = yield* one.visit({ key: "ann" })
      expect(ann.closeCode).toBeUndefined()
      const sql = yield* PgClient.PgClient
      yield* sql`select realtime.revoke('identity', 'ann', clock_timestamp() + interval '1 day')`
      yield* pass(4000, 500)
      expect(ann.closeCode).toBe(4101)
      expect((yield* one.visit({ key: "ann" })).closeCode).toBe(4101)
      yield* Fiber.interrupt(busy)
      yield* pass(4000, 500)
      expect(
        yield* sql`select application_name from pg_stat_activity where application_name = 'effect-realtime control'`
      ).toEqual([])
    })
  )

  it.effect("has no control without a bus, a database, or the objects", () =>
    Effect.gen(function* () {
      const tag = Effect.map(Effect.flip(Control.prepare(true)), ({ message }) => message)
      expect(yield* tag).toContain("PgNodeBus.layer()")
      const bus = yield* MemoryBus.make(MemoryBus.network(), { name: "one" })
      const second = Effect.andThen(
        nodeOn(bus, [Orders]),
        Effect.provideService(Effect.flip(Control.prepare(true)), NodeBus, bus)
      ).pipe(Effect.scoped, Effect.provide(layer))
      expect((yield* second).message).toContain("a bus of its own")
      const realtimes = Effect.all([Realtime.make(), Realtime.make()]).pipe(
        Effect.provideService(NodeBus, bus),
        Effect.scoped
      )
      expect(yield* Effect.flip(realtimes)).toMatchObject({
        _tag: "TopicTaken",
        message: expect.stringContaining("a bus of its own")
      })
      const withBus = Effect.provideService(tag, NodeBus, bus)
      expect(yield* withBus).toContain("PgClient.layer")
      const bare = Effect.provide(Effect.provideService(tag, NodeBus, bus), layerDatabase)
      expect(yield* bare).toContain("does not have the objects")
    }).pipe(Effect.scoped)
  )
})

const quickly = { initial: 10, cap: 50, resetAfter: 30_000 }

/** A node reads for itself, or one reads for both: over a carrier in memory that loses a fifth, or over NATS. */
const feeds: ReadonlyArray<{
  readonly how: string
  readonly feed: Effect.Effect<
    ((node: string) => Layer.Layer<FeedCarrier, unknown, PgClient.PgClient>) | undefined,
    never,
    Scope.Scope
  >
}> = [
  { how: "that read for themselves", feed: Effect.succeed(undefined) },
  {
    how: "of which one reads for both",
    feed: Effect.sync(() => {
      const network = feedNetwork()
      const { chance } = random(seed)
      network.drops = () => chance(0.2)
      return network.layer
    })
  },
  {
    how: "of which one reads for both over NATS",
    feed: Effect.map(natsServer(), ({ address }) => () => {
      const connection = NatsConnection.layer({ servers: address, backoff: quickly })
      return Layer.fresh(NatsFeed.layer.pipe(Layer.provide(connection)))
    })
  }
]
const fed = Effect.map(
  Metric.value(Metric.withAttributes(metrics.feedTicks, { outcome: "fed" })),
  ({ count }) => Number(count)
)

describe.each(feeds.filter(({ how }) => executablePath !== undefined || !how.endsWith("NATS")))(
  `what was published before, on nodes $how (REALTIME_TEST_SEED=${seed})`,
  ({ feed }) => {
    it.live("arrives before the close, on the node that closes and on the other", () =>
      Effect.gen(function* () {
        const carrier = yield* feed
        const network = MemoryBus.network()
        const nodes = yield* Effect.forEach(["one", "two"], (name) =>
          Effect.gen(function* () {
            const reader = Layer.fresh(OutboxReader.layer())
            const built = yield* Layer.build(
              carrier === undefined ? reader : Layer.provide(reader, carrier(name))
            )
            const one = yield* Effect.provideContext(node(network, name, [Notices]), built)
            return { ...one, built }
          })
        )
        const before = yield* fed
        const publish = ({ built, realtime }: (typeof nodes)[number], key: string) =>
          Realtime.publish(Notices(key), "you are signed out").pipe(
            Effect.provideService(Realtime.Realtime, realtime),
            Effect.provideContext(built)
          )
        const ask = (visitor: Visitor, key: string) =>
          Effect.gen(function* () {
            visitor.send({ type: "subscribe", id: 1, channel: `notices_${key}` })
            yield* until(() => visitor.last("subscribed") !== undefined, 2)
          })
        if (carrier !== undefined) {
          // Until one of them is fed.
          yield* Effect.andThen(publish(nodes[0]!, "nobody"), Effect.delay(fed, 20)).pipe(
            Effect.repeat({ until: (count) => count > before })
          )
        }
        yield* Effect.forEach(
          Array.from({ length: long ? 500 : 30 }, (_, round) => `user${round}`),
          (key, round) =>
            Effect.gen(function* () {
              const sessions = yield* Effect.forEach(nodes, (node) => node.enter({ key }))
              for (const session of sessions) yield* ask(session, key)
              const one = nodes[round % 2]!
              yield* publish(one, key)
              const revokes = round % 3 > 0
              yield* revokes ? one.control.revoke(key) : one.control.disconnect(key)
              yield* until(() => sessions.every(({ closeCode }) => closeCode !== undefined), 2)
              for (const session of sessions) {
                expect(session.closeCode).toBe(revokes ? 4101 : 4205)
                expect(session.of("events").length, key).toBe(1)
              }
            }),
          { concurrency: 10 }
        )
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  }
)
