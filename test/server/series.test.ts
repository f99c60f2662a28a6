/** How many series a node has, and what neither they, nor the health, nor the log may hold. */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Layer, Logger, References, Redacted, Schema } from "effect"
import { HttpRouter } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { SignJWT } from "jose"
import { createServer } from "node:http"
import { inspect } from "node:util"
import * as Channel from "../../src/Channel.ts"
import { sqlState } from "../../src/server/internal/link/sqlState.ts"
import * as Jwt from "../../src/server/Jwt.ts"
import { NotificationSource, SourceError } from "../../src/server/NotificationSource.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { Address, address } from "../support/app.ts"
import { execute, layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { layerDoor, refusals, settle, visit } from "../support/sessions.ts"
import { until } from "../support/until.ts"
import { connect, type Wire } from "../support/wire.ts"
import { layerReaderOnly, quick } from "./support/durable.ts"
import { long } from "./support/random.ts"
import { apart, scrape, untilScraped } from "./support/series.ts"

/** A hundredth of 100,000 names, 10,000 identities, 1,000 unknown channels and errors by default. */
const many = long ? 100 : 1

describe("the series of a node", () => {
  const Rooms = Channel.family("room_", Schema.String, Schema.String, { publish: true })

  /** Every publish fails, each with another text. */
  let failures = 0
  const failing = Layer.effect(
    NotificationSource,
    Effect.map(NotificationSource, (source) => ({
      ...source,
      notify: (channel: string) => {
        const cause = new Error(`marked error ${failures++} at 10.0.0.${failures % 256}`)
        return Effect.fail(new SourceError({ operation: "notify", channel, cause }))
      }
    }))
  )
  const door = layerDoor(
    {
      channels: [Rooms],
      authorize: RealtimeServer.allowAll,
      authenticate: ({ token = "" }) => Effect.succeed({ identity: token }),
      limits: {
        frameRate: { perSecond: 1e6, burst: 1e6 },
        subscribeRate: { perSecond: 1e6, burst: 1e6 },
        publishRate: { perSecond: 1e6, burst: 1e6 },
        channelOpenRate: { perSecond: 1e6, burst: 1e6 },
        maxSessionsPerAddress: 1e6
      }
    },
    { linger: 0 },
    failing
  )

  it.effect(
    "are the same after many names, identities, unknown channels and errors",
    () =>
      apart(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "marked-first" })
          const before = yield* scrape
          const errors = 10 * many
          let id = 0
          const names = 1000 * many
          for (let n = 0; n < names; n++) {
            visitor.send({ type: "subscribe", id: ++id, channel: `room_marked${n}` })
            visitor.send({ type: "unsubscribe", id: ++id, channel: `room_marked${n}` })
            if (n % 40 === 39) yield* settle
          }
          expect(visitor.of("subscribed")).toHaveLength(names)
          const identities = 100 * many
          for (let n = 0; n < identities; n += 50) {
            yield* Effect.gen(function* () {
              for (let at = n; at < n + 50; at++) {
                const one = yield* visit({ hello: false })
                one.send({ type: "hello", version: 1, token: `marked-identity-${at}` })
              }
              yield* settle
            }).pipe(Effect.scoped)
          }
          for (let n = 0; n < errors; n++) {
            visitor.send({ type: "subscribe", id: ++id, channel: `marked_unknown_${n}` })
            const key = `marked-${n}`
            visitor.send({ type: "publish", id: ++id, channel: "room_a", key, data: "marked" })
            if (n % 40 === 39) yield* settle
          }
          expect(yield* refusals("channel/unknown")).toBe(errors)
          expect(failures).toBe(errors)
          const text = yield* PrometheusMetrics.format()
          expect(Object.keys(yield* scrape)).toEqual(Object.keys(before))
          expect(text.length).toBeLessThan(200_000)
          expect(text).not.toContain("marked")
        }).pipe(Effect.scoped, Effect.provide(door))
      ),
    many === 1 ? 30_000 : 900_000
  )
})

describe("What clients, writers and the database say", () => {
  const Row = Schema.Struct({ id: Schema.Int, owner: Schema.String, size: Schema.Int })
  const Rooms = Channel.family("room_", Schema.String, Schema.Struct({ text: Schema.String }), {
    publish: true
  })
  const Log = Channel.make("log", Schema.Struct({ text: Schema.String }), {
    delivery: "durable",
    publish: true
  })
  const Moves = Channel.make("moves", Schema.Struct({ text: Schema.String }), {
    delivery: "volatile",
    publish: true
  })
  const Members = Channel.presence("members", Schema.Struct({ text: Schema.String }))
  const Things = Channel.table("things", Row, { key: "id", filter: ["owner", "size"] })

  const secret = "marked-password-of-32-bytes-or-more"
  const sign = (sub: string, key = secret) =>
    Effect.promise(() =>
      new SignJWT({ sub, exp: 4e9, "marked-token": "marked-token" })
        .setProtectedHeader({ alg: "HS256", kid: "marked-token" })
        .sign(new TextEncoder().encode(key))
    )

  /** Logs at every level into a list, each line also with all that an error holds. */
  const logged = () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ cause, logLevel, message }) => {
      const parts = [message, cause].map((one) => inspect(one, { depth: 20, showHidden: true }))
      lines.push(`${logLevel} ${parts.join(" ")} ${Cause.pretty(cause)}`)
    })
    const layer = Layer.merge(
      Logger.layer([logger]),
      Layer.succeed(References.MinimumLogLevel, "All")
    )
    return { lines, layer }
  }

  const app = HttpRouter.serve(
    RealtimeServer.layerHealth().pipe(
      Layer.provideMerge(
        RealtimeServer.layer({
          channels: [Rooms, Log, Moves, Members, Things],
          authenticate: Jwt.authenticate({ keys: Redacted.make(secret) }),
          authorize: ({ channel, identity }) =>
            channel === "room_marked-defect"
              ? Effect.die(new Error("the rule is broken"))
              : Effect.succeed(identity !== "marked-identity-none"),
          limits: { maxFrameBytes: 4000, maxFrameDepth: 6 }
        })
      )
    ),
    { disableListenLog: true, disableLogger: true }
  ).pipe(
    Layer.provideMerge(address),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
    Layer.provideMerge(Realtime.layer()),
    Layer.provideMerge(
      Layer.unwrap(
        TestDatabase.useSync(({ url }) => {
          const to = new URL(url)
          to.password = "marked-password"
          const direct = Redacted.make(to.href)
          return Layer.merge(
            PgNotificationSource.layer({ backoff: quick.backoff!, listenUrl: direct }),
            layerReaderOnly({ readUrl: direct })
          )
        })
      )
    ),
    Layer.provideMerge(PgInstaller.layer({ watch: [Things], wake: "notify" })),
    Layer.provideMerge(
      Layer.effectDiscard(
        Effect.flatMap(TestDatabase, ({ url }) =>
          execute(url, "create table things (id int primary key, owner text, size int)")
        )
      )
    ),
    Layer.provideMerge(layerInstalledDatabase)
  )

  /** A client that says hello with a token. */
  const hello = (ws: string, token: string) =>
    Effect.gen(function* () {
      const wire = yield* connect(ws)
      wire.send({ type: "hello", version: 1, token })
      return wire
    })

  it.live(
    "is in no label and no health body; no payload, token or password is in the log",
    () => {
      const { layer, lines } = logged()
      return apart(
        Effect.gen(function* () {
          const { http, ws } = yield* Address
          const { url } = yield* TestDatabase
          const sql = yield* PgClient.PgClient
          let id = 0
          /** Sends a request and waits for its answer. */
          const ask = (wire: Wire, frame: object) =>
            Effect.gen(function* () {
              const mine = ++id
              wire.send({ ...frame, id: mine })
              yield* until(() => wire.frames.some((one) => "id" in one && one.id === mine))
              return wire.frames.find((one) => "id" in one && one.id === mine)!
            })
          const publish = (wire: Wire, channel: string, data: unknown) =>
            ask(wire, { type: "publish", channel, key: `k${id}`, data, trace: "marked-payload" })

          // The door.
          for (const request of [
            {
              headers: { origin: "https://elsewhere.example", cookie: "marked-token=marked-token" }
            },
            { headers: { authorization: "Bearer marked-token" }, protocols: ["marked-token"] }
          ]) {
            yield* Effect.flip(connect(`${ws}?token=marked-token`, request))
          }
          yield* Effect.flip(connect(`${ws}/marked-token`))

          // Tokens: no JWT, a wrong signature, and one of a client that may do nothing.
          const wrong = yield* sign("marked-identity-a", "another-password-of-32-bytes-or-so")
          for (const token of ["marked-token", "marked.token.token", wrong]) {
            expect(yield* (yield* hello(ws, token)).closed).toBeGreaterThan(4000)
          }
          const none = yield* hello(ws, yield* sign("marked-identity-none"))
          yield* none.next("welcome")
          expect(
            yield* ask(none, { type: "subscribe", channel: "room_marked-name" })
          ).toMatchObject({
            type: "error"
          })

          const wire = yield* hello(ws, yield* sign("marked-identity-b"))
          yield* wire.next("welcome")
          expect(yield* ask(wire, { type: "authenticate", token: wrong })).toMatchObject({
            type: "error"
          })
          for (const channel of ["room_marked-name", "log", "moves", "members", Things.name]) {
            const answer = yield* ask(wire, { type: "subscribe", channel })
            expect(answer, JSON.stringify(answer)).toMatchObject({ type: "subscribed" })
          }
          // Requests that the server refuses.
          for (const frame of [
            { type: "subscribe", channel: "marked-unknown" },
            { type: "subscribe", channel: "room_marked-defect" },
            { type: "subscribe", channel: "room_marked-name-2", where: { text: "marked-payload" } },
            { type: "subscribe", channel: Things.name, where: { size: "marked-payload" } },
            { type: "subscribe", channel: Things.name, where: { "marked-payload": 1 } },
            { type: "subscribe", channel: "log", cursor: "marked-payload" },
            { type: "publish", channel: "log", key: "k", data: "marked-payload" },
            { type: "publish", channel: "log", key: "k", data: { text: ["marked-payload"] } },
            {
              type: "publish",
              channel: "moves",
              key: "k",
              data: { text: { a: "marked-payload" } }
            },
            { type: "publish", channel: Things.name, key: "k", data: { text: "marked-payload" } },
            { type: "publish", channel: "room_a", key: "k", data: [[[[[[["marked-payload"]]]]]]] },
            { type: "present", channel: "members", member: { text: ["marked-payload"] } },
            { type: "marked-payload" }
          ]) {
            const answer = yield* ask(wire, frame)
            expect(answer.type, JSON.stringify(frame)).toMatch(/^(error|subscribed)$/)
          }
          wire.send('{"type":"publish","marked-payload')
          // What is published, and what members say.
          expect(yield* publish(wire, "log", { text: "marked-payload" })).toMatchObject({
            type: "published"
          })
          yield* publish(wire, "moves", { text: "marked-payload" })
          yield* publish(wire, "room_marked-name", { text: "marked-payload" })
          yield* ask(wire, {
            type: "present",
            channel: "members",
            member: { text: "marked-payload" }
          })

          // What does not match its Schema.
          yield* sql`select pg_notify('room_marked-name', '{"marked-payload":')`
          yield* sql`select pg_notify('room_marked-name', '{"text":{"marked-payload":1}}')`
          yield* sql`select realtime.publish('log', '{"text":["marked-payload"]}'::text)`
          yield* sql`insert into things values (1, null, null), (2, 'marked-payload', 1)`
          yield* until(() => wire.frames.filter(({ type }) => type === "gap").length >= 4)

          // Errors of PostgreSQL whose text, detail or context has the payload.
          yield* execute(
            url,
            `alter table realtime.messages add constraint small check (payload not like '%again%')`
          )
          expect(yield* publish(wire, "log", { text: "marked-payload again" })).toMatchObject({
            type: "error"
          })
          yield* Effect.exit(Realtime.publish(Log, { text: "marked-payload again" }))
          yield* Effect.exit(Realtime.publish(Log, { text: "marked-payload \0" }))
          // 1,000 of them, each with a text and a SQLSTATE of its own.
          yield* execute(
            url,
            `create function refuse() returns trigger language plpgsql as $$ begin
              raise exception 'marked error %', new.payload::json->>'text'
                using errcode = 'ZZ' || lpad(new.payload::json->>'text', 3, '0');
            end $$`
          )
          yield* execute(
            url,
            `create trigger refuse before insert on realtime.messages for each row
              when (new.payload ~ '"\\d+"') execute function refuse()`
          )
          const known = Object.keys(yield* scrape)
          const errors = yield* Effect.forEach(
            Array.from({ length: 1000 }).keys(),
            (n) => Effect.flip(Realtime.publish(Log, { text: String(n) })),
            { concurrency: 8 }
          )
          const states = errors.map(({ cause }) => sqlState((cause as Error).cause))
          expect(new Set(states)).toHaveLength(1000)
          expect(Object.keys(yield* scrape)).toEqual(known)
          expect(yield* publish(wire, "log", { text: "1" })).toMatchObject({ type: "error" })
          expect(Object.keys(yield* scrape)).toEqual(known)
          yield* execute(url, "alter table realtime.messages rename to away")
          expect(yield* publish(wire, "log", { text: "marked-payload" })).toMatchObject({
            type: "error"
          })
          yield* untilScraped(({ reader_up }) => reader_up === 0)
          const health = (path: string) =>
            Effect.promise(() =>
              fetch(`${http}${path}`, { headers: { cookie: "a=marked-token" } }).then((answer) =>
                answer.text()
              )
            )
          const bodies = [yield* health("/health"), yield* health("/health/live")]
          expect(bodies).toEqual(['{"status":"not ready"}', '{"status":"live"}'])
          yield* execute(url, "alter table realtime.away rename to messages")
          yield* untilScraped(({ reader_up }) => reader_up === 1)
          bodies.push(yield* health("/health"))

          // The sessions, which log in with a password, are lost.
          yield* execute(
            url,
            `select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name like 'effect-realtime%'`
          )
          yield* untilScraped((series) => series['reconnects_total{session="link"}'] === 1)

          const series = yield* PrometheusMetrics.format()
          for (const text of [series, ...bodies]) {
            for (const hidden of ["marked", "elsewhere", "broken", "violates", "small"]) {
              expect(text).not.toContain(hidden)
            }
          }
          expect(lines.length).toBeGreaterThan(10)
          for (const hidden of ["marked-payload", "marked-token", "marked-password", wrong]) {
            expect(lines.filter((line) => line.includes(hidden))).toEqual([])
          }
        }).pipe(Effect.scoped, Effect.provide(app), Effect.provide(layer))
      )
    },
    60_000
  )
})
