/**
 * What a node with its real drivers logs in a night in which PostgreSQL and NATS are away: all at once, and back one
 * after the other.
 *
 * The sockets are real, and the Clock is that of the test: while all are away it goes on when each attempt to connect
 * has failed, and else slowly.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Layer, Logger, Redacted, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as NatsBus from "../../src/nats/NatsBus.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import { address } from "../../src/server/internal/link/pgLink.ts"
import type { NodeBus } from "../../src/server/NodeBus.ts"
import type { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { installedDatabase } from "../support/database.ts"
import { freePort } from "../support/freePort.ts"
import { hop } from "../support/hop.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { hurried } from "../support/until.ts"
import { apart, scrape } from "./support/series.ts"

const night = Duration.hours(process.env["REALTIME_TEST_LONG"] === "1" ? 8 : 2)
/** How the lines about a loss and about a return begin. */
const parts = {
  link: ["The link to PostgreSQL is down", "The link to PostgreSQL is back"],
  reader: ["The reader of the outbox is down", "The reader of the outbox is back"],
  bus: ["The bus does not deliver", "The bus delivers: this node hears its own heartbeats"],
  nats: ["The connection to NATS is down", "The connection to NATS is back"],
  secret: ["The secret of the bus cannot be read", "The secret of the bus is read again"],
  pruning: [
    "Pruning realtime.messages fails and is retried",
    "Pruning realtime.messages works again"
  ]
} as const
type Part = keyof typeof parts

const isKnown = (text: string) =>
  Object.values(parts).some((starts) => starts.some((start) => text.startsWith(start)))

interface Line {
  /** Milliseconds of the clock of the test. */
  readonly at: number
  readonly level: string
  readonly text: string
}

const logged = () => {
  const lines: Array<Line> = []
  /** When each loop connects again, by what tells it. */
  const dues = new Map<string, number>()
  const layer = Layer.merge(
    Logger.layer([
      Logger.make(({ date, fiber, logLevel, message }) => {
        const at = date.getTime()
        const text = [message].flat().join(" ")
        const wait = /^The next try is in (\d+) ms$/.exec(text)
        if (wait !== null) {
          const { component } = fiber.getRef(References.CurrentLogAnnotations)
          dues.set(String(component), at + Number(wait[1]) + 2)
        }
        if (text.startsWith(parts.secret[0])) dues.set(parts.secret[0], at + 10_002)
        if (logLevel !== "Debug") lines.push({ at, level: logLevel, text })
      })
    ]),
    Layer.succeed(References.MinimumLogLevel, "All")
  )
  /** Waits until each attempt to connect that is due has failed. */
  const quiet = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.repeat(turn, { until: () => [...dues.values()].every((due) => due > now) })
  )
  /** Until the secret is read again, which has 5 s for it. All else has longer. */
  const goOn = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    TestClock.adjust(Math.max(1, dues.get(parts.secret[0])! - now))
  )
  return { dues, goOn: Effect.andThen(quiet, goOn), lines, layer, quiet }
}

const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** The way to a server that may be away: then its port refuses. */
const way = (target: Parameters<typeof hop>[0]) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const outer = yield* Effect.scope
    let open: Scope.Closeable | undefined
    const back = Effect.gen(function* () {
      open = yield* Scope.fork(outer)
      yield* Scope.provide(hop(target, undefined, port), open)
    })
    const lose = Effect.suspend(() => Scope.close(open!, Exit.void))
    yield* back
    return { port, back, lose }
  })

/** Over the port of this machine. */
const onPort = (url: string, port: number) => {
  const there = Object.assign(new URL(url), { hostname: "127.0.0.1", port: String(port) })
  there.searchParams.delete("host")
  there.searchParams.delete("port")
  return Redacted.make(there.href)
}

/** Lets the clock go on with time for the sockets until an effect has ended. */
const lively = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.forkScoped(effect), (fiber) => hurried(fiber))

const untilTrue = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  lively(Effect.repeat(Effect.delay(condition, 100), { until: (holds) => holds }))

const ups = Effect.map(scrape, ({ bus_up, link_up, nats_up, reader_up }) => ({
  link: link_up,
  reader: reader_up,
  bus: bus_up,
  nats: nats_up
}))
const all = (value: number) => ({ link: value, reader: value, bus: value, nats: value })

/** Which ways are back one after the other, and of which parts the log says then that they are. */
const returns = {
  PostgreSQL: [
    ["nats", ["nats"]],
    ["reader", ["reader"]],
    ["pool", ["secret"]],
    ["link", ["link", "bus"]]
  ],
  NATS: [
    ["link", ["link"]],
    ["pool", ["secret"]],
    ["nats", ["nats", "bus"]],
    ["reader", ["reader"]]
  ]
} as const

describe.skipIf(executablePath === undefined)(
  "A night in which PostgreSQL and NATS are away",
  () => {
    it.effect.each(["PostgreSQL", "NATS"] as const)(
      "has a line in 10 minutes for each part, and one for each return, with the bus over %s",
      (carrier) => {
        const { dues, goOn, layer, lines, quiet } = logged()
        const told = (part: Part, level: string) =>
          lines.filter(
            (line) =>
              line.level === level && parts[part].some((start) => line.text.startsWith(start))
          )
        return apart(
          Effect.gen(function* () {
            const { url } = yield* TestClock.withLive(installedDatabase)
            const server = yield* TestClock.withLive(natsServer())
            const database = address({ url: Redacted.make(url) })
            const ways = {
              link: yield* way(database),
              reader: yield* way(database),
              pool: yield* way(database),
              nats: yield* way({ host: "127.0.0.1", port: server.port })
            }
            // The clock goes on by 100 ms in 5 ms, and servers answer in no less time for that.
            const patient = { heartbeatTimeout: "10 seconds" } as const
            const bus = { heartbeatInterval: "5 seconds", silentAfter: "15 seconds" } as const
            const nodeBus: Layer.Layer<
              NodeBus,
              unknown,
              NatsConnection.NatsConnection | NotificationSource | PgClient.PgClient
            > = carrier === "NATS" ? NatsBus.layer(bus) : PgNodeBus.layer(bus)
            const app = Layer.merge(
              nodeBus,
              OutboxReader.layer({ ...patient, readUrl: onPort(url, ways.reader.port) })
            ).pipe(
              Layer.provideMerge(
                PgNotificationSource.layer({ ...patient, listenUrl: onPort(url, ways.link.port) })
              ),
              Layer.provideMerge(
                NatsConnection.layer({ ...patient, servers: `127.0.0.1:${ways.nats.port}` })
              ),
              Layer.provideMerge(
                PgClient.layer({ url: onPort(url, ways.pool.port), connectTimeout: "1 minute" })
              )
            )
            const scope = yield* Scope.make()
            yield* lively(Scope.provide(Layer.build(app), scope))
            yield* untilTrue(Effect.map(ups, (now) => Object.values(now).every((up) => up === 1)))
            // A transaction that is open before the loss.
            const open = yield* TestClock.withLive(PgConnection.make({ url: Redacted.make(url) }))
            yield* TestClock.withLive(open.query("begin"))
            yield* TestClock.withLive(open.query("select pg_current_xact_id()::text"))
            yield* untilTrue(
              Effect.map(scrape, (series) => series["oldest_transaction_seconds"]! > 0)
            )
            expect(lines).toEqual([])

            const lostAt = yield* Clock.currentTimeMillis
            for (const one of Object.values(ways)) yield* one.lose
            // Until each has failed, the clock goes on slowly.
            const loops = carrier === "NATS" ? 4 : 5
            yield* untilTrue(Effect.sync(() => dues.size === loops))
            while ((yield* Clock.currentTimeMillis) < lostAt + Duration.toMillis(night)) {
              yield* goOn
            }
            yield* quiet
            expect(yield* ups).toEqual(all(0))
            // The reader does not see it now.
            expect(yield* scrape).toMatchObject({ oldest_transaction_seconds: 0 })
            for (const part of ["link", "reader", "bus", "nats", "secret"] as const) {
              const [first, ...later] = told(part, "Warn").map(({ at }) => at - lostAt)
              expect(first, part).toBeLessThan(30_000)
              // What it is once it stays away has a line of its own.
              const news = later.filter((at) => at < 60_000)
              expect(news.length, part).toBeLessThanOrEqual(1)
              const reminders = later.slice(news.length)
              for (const [n, at] of reminders.entries()) {
                const since = at - (n === 0 ? (news[0] ?? first!) : reminders[n - 1]!)
                expect(since, part).toBeGreaterThanOrEqual(600_000)
                expect(since, part).toBeLessThan(660_000)
              }
              expect(reminders.length, part).toBeGreaterThanOrEqual(5 * Duration.toHours(night))
              expect(told(part, "Info"), part).toEqual([])
            }

            const back: Array<Part> = []
            for (const [one, mended] of returns[carrier]) {
              yield* ways[one].back
              yield* untilTrue(
                Effect.sync(() => mended.every((part) => told(part, "Info").length > 0))
              )
              back.push(...mended)
            }
            expect(yield* ups).toEqual(all(1))
            for (const part of back) {
              const [line, ...more] = told(part, "Info")
              expect(more, part).toEqual([])
              const minutes = Math.floor((line!.at - told(part, "Warn")[0]!.at) / 60_000)
              expect(line!.text).toContain(
                `, after ${Math.floor(minutes / 60)} h ${minutes % 60} min`
              )
            }
            // What the reader does on the pool fails only where the reader is back before it.
            const infos = lines.filter(({ level }) => level === "Info").length
            expect(infos - told("pruning", "Info").length).toBe(back.length)
            // No other line.
            expect(lines.filter(({ text }) => !isKnown(text))).toEqual([])
            const series = yield* scrape
            expect(series).toMatchObject({
              'reconnects_total{session="link"}': 1,
              'reconnects_total{session="reader"}': 1,
              nats_reconnects_total: 1
            })
            // It is still open.
            expect(series["oldest_transaction_seconds"]).toBeGreaterThan(Duration.toSeconds(night))
            yield* lively(Scope.close(scope, Exit.void))
          }).pipe(Effect.scoped)
        ).pipe(Effect.provide(layer))
      },
      40_000
    )
  }
)
