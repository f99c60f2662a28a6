/**
 * Errors that are known while layers are built fail there; rejections by PostgreSQL fail after some
 * patience.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  type LogLevel,
  Redacted,
  References,
  Schema,
  Stream,
  SubscriptionRef
} from "effect"
import { HttpRouter } from "effect/http"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Channel from "../../src/Channel.ts"
import { address } from "../../src/server/internal/link/pgLink.ts"
import { Doubt } from "../../src/server/internal/link/databaseRefusal.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { database, execute, installedDatabase, serverUrl } from "../support/database.ts"
import { tcpServer } from "../support/tcpServer.ts"
import { deafHop } from "../support/deafHop.ts"
import { folder, followIn, installedOn, serverOn } from "./support/recovery.ts"
import { hurried, waitFor } from "../support/until.ts"

const Live = Channel.make("prices", Schema.Unknown)
const Durable = Channel.make("orders", Schema.Unknown, { delivery: "durable" })
const Rooms = Channel.family("room_", Schema.String, Schema.Unknown, { delivery: "durable" })

const quick = { backoff: { initial: 10, cap: 50, resetAfter: 30_000 } }
const pool = (url: string) => PgClient.layer({ url: Redacted.make(url) })
const withDatabase = (name: string) =>
  Object.assign(new URL(serverUrl()), { pathname: `/${name}` }).href
const withUser = (url: string, user: string) => Object.assign(new URL(url), { username: user }).href

/** Collects what is logged from here on, with its level. */
const logged = (least: LogLevel.LogLevel = "Info") => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${message}`))
  const level = Layer.succeed(References.MinimumLogLevel, least)
  return { lines, layer: Layer.merge(Logger.layer([logger]), level) }
}

const warnings = (lines: ReadonlyArray<string>) => lines.filter((line) => line.startsWith("Warn"))

describe("A server without a source for its channels", () => {
  const outbox = MemoryOutbox.layer()
  const start = <E>(
    channels: ReadonlyArray<Channel.Definition>,
    realtime: Layer.Layer<Realtime.Realtime, E>
  ) =>
    Layer.build(
      RealtimeServer.layer({ channels, authorize: RealtimeServer.allowAll }).pipe(
        Layer.provide([HttpRouter.layer, realtime])
      )
    ).pipe(Effect.scoped, Effect.exit)
  const beneath = Realtime.layer().pipe(Layer.provide([MemorySource.layer, outbox]))
  const beside = Layer.merge(Realtime.layer().pipe(Layer.provide(MemorySource.layer)), outbox)
  const none = Realtime.layer().pipe(Layer.provide(MemorySource.layer))

  it.effect.each([
    ["without OutboxReader", none, [Live, Durable], "NoOutbox", "orders"],
    ["with OutboxReader merged beside Realtime", beside, [Durable], "NoOutbox", "orders"],
    ["with a family without OutboxReader", none, [Live, Rooms], "NoOutbox", "room_*"],
    [
      "without a live source",
      Realtime.layerDurable().pipe(Layer.provide(outbox)),
      [Durable, Live],
      "NoSource",
      "prices"
    ]
  ] as const)(
    "a server %s fails at start with an error that names the channel",
    ([, realtime, channels, tag, name]) =>
      Effect.gen(function* () {
        const exit = yield* start(channels, realtime)
        expect(exit).toMatchObject(Exit.fail({ _tag: tag, channel: name }))
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(`"${name}"`)
      })
  )

  it.effect("a server starts with the sources it needs, and without those it does not need", () =>
    Effect.gen(function* () {
      expect(Exit.isSuccess(yield* start([Live, Durable, Rooms], beneath))).toBe(true)
      expect(Exit.isSuccess(yield* start([Live], none))).toBe(true)
    })
  )

  it.effect("consuming a live channel fails with NotDurable", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        // @ts-expect-error A live channel does not compile; in JavaScript it fails when it runs.
        Realtime.consume(Live, { name: "ledger", onEvents: () => Effect.void })
      )
      expect(error).toMatchObject({ _tag: "NotDurable", channel: "prices" })
    }).pipe(Effect.provide([outbox, Layer.mock(PgClient.PgClient, {} as PgClient.PgClient)]))
  )

  it.effect("durable channels need no link, and a live channel fails with NoSource", () =>
    Effect.gen(function* () {
      const realtime = yield* Realtime.Realtime
      expect(yield* Stream.runHead(realtime.source)).toMatchObject({ value: "up" })
      const told = yield* Effect.flip(realtime.publish(Live, 1))
      expect(told._tag).toBe("NoSource")
      const heard = yield* Effect.flip(Stream.runDrain(realtime.events(Live)))
      expect(heard.message).toContain("layerDurable")
    }).pipe(Effect.provide(Realtime.layerDurable().pipe(Layer.provide(outbox))))
  )
})

describe("Two servers of one router", () => {
  const door = (path: `/${string}`) =>
    RealtimeServer.layer({ channels: [Live], authorize: RealtimeServer.allowAll, path })
  const built = (...paths: ReadonlyArray<`/${string}`>) =>
    Effect.forEach(paths, (path) => Layer.build(door(path))).pipe(
      Effect.scoped,
      Effect.provide(HttpRouter.layer),
      Effect.provide(Realtime.layer().pipe(Layer.provide(MemorySource.layer)))
    )

  it.effect("two servers of a router need two paths, and one path for both is rejected", () =>
    Effect.gen(function* () {
      yield* built("/one", "/two")
      for (const other of ["/one", "/one/"] as const) {
        const error = yield* Effect.flip(built("/one", other))
        expect(error).toMatchObject({ _tag: "InvalidOption", option: "path" })
      }
    })
  )

  it.effect("a path of the health that the door has ends the start, and is named", () =>
    Effect.gen(function* () {
      for (const [path, socket, named] of [
        ["/health", "/health/", "/health"],
        ["/health/", "/health", "/health"],
        ["/health", "/health/live", "/health/live"],
        ["/", "/live", "/live"]
      ] as const) {
        const both = RealtimeServer.layerHealth({ path }).pipe(Layer.provide(door(socket)))
        const exit = yield* Layer.build(both).pipe(
          Effect.scoped,
          Effect.provide(HttpRouter.layer),
          Effect.provide(Realtime.layer().pipe(Layer.provide(MemorySource.layer))),
          Effect.exit
        )
        expect(String(Exit.isFailure(exit) && Cause.squash(exit.cause))).toContain(`'${named}'`)
      }
    })
  )

  it.effect("a path that is no text is rejected with an example", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(built(5 as unknown as "/"))
      expect(error).toMatchObject({ _tag: "InvalidOption", option: "path" })
      expect((error as Error).message).toContain('such as "/realtime"')
    })
  )
})

describe("Rejections by PostgreSQL", () => {
  it("a rejection is believed after three equal ones in a row, over the whole startPatience", () => {
    const doubt = new Doubt("10 seconds")
    const at = (code: string | undefined, now: number) => {
      doubt.note(code, now)
      return doubt.believed(now)
    }
    expect(at("28P01", 1000)).toBeUndefined()
    expect(at("28P01", 11_000)).toBeUndefined()
    expect(at("28P01", 11_001)).toEqual({ times: 3, millis: 10_001 })
    expect(at("3D000", 11_002)).toBeUndefined()
    expect(at("3D000", 12_000)).toBeUndefined()
    expect(at("3D000", 21_001)).toBeUndefined()
    expect(doubt.delay(5000, 21_001)).toBe(1)
    expect(at(undefined, 30_000)).toBeUndefined()
    expect(doubt.delay(5000, 30_000)).toBe(5000)
    expect(at("3D000", 30_001)).toBeUndefined()
    expect(doubt.delay(5000, 30_001)).toBe(5000)
  })

  it.live("a missing database fails the layers with its cure, after one warning each", () =>
    Effect.gen(function* () {
      const { layer: logger, lines } = logged()
      const options = { ...quick, startPatience: 200 }
      const refused = <A>(layer: Layer.Layer<A, Error, PgClient.PgClient>) =>
        Layer.build(
          layer.pipe(Layer.provide([pool(withDatabase("no_such_database")), logger]))
        ).pipe(Effect.scoped, Effect.flip)
      const errors = {
        link: yield* refused(PgNotificationSource.layer(options)),
        "reader of the outbox": yield* refused(OutboxReader.layer(options))
      }
      for (const [session, error] of Object.entries(errors)) {
        expect(error).toMatchObject({ _tag: "DatabaseRefused", code: "3D000", session })
        expect(error.message).toMatch(/^PostgreSQL refused the .* times in 0\.[2-9] s: /)
        expect(error.message).toContain("Create the database")
      }
      expect(lines.filter((line) => line.startsWith("Warn"))).toHaveLength(2)
      expect(lines.filter((line) => line.startsWith("Error"))).toEqual([])
    })
  )

  it.live("a database that is created within startPatience ends the rejections", () =>
    Effect.gen(function* () {
      const { name } = yield* database
      const later = `${name}_later`
      const building = yield* Effect.forkScoped(
        Layer.build(
          PgNotificationSource.layer({ ...quick, startPatience: "1 hour" }).pipe(
            Layer.provide(pool(withDatabase(later)))
          )
        )
      )
      // It is rejected more than three times.
      yield* Effect.repeat(
        execute(serverUrl(), `select 1`).pipe(
          Effect.andThen(Effect.sync(() => building.pollUnsafe()))
        ),
        { times: 20 }
      )
      expect(building.pollUnsafe()).toBeUndefined()
      yield* Effect.acquireRelease(execute(serverUrl(), `create database ${later}`), () =>
        Effect.orDie(execute(serverUrl(), `drop database ${later} with (force)`))
      )
      yield* Fiber.join(building)
    }).pipe(Effect.scoped)
  )

  it.live("a link that was up retries for ever after rejections, and logs the cure once", () =>
    Effect.gen(function* () {
      const { name, url } = yield* database
      const role = `r_${name}`
      yield* Effect.acquireRelease(execute(url, `create role ${role} login`), () =>
        Effect.orDie(execute(url, `drop role ${role}`))
      )
      const { layer: logger, lines } = logged("Debug")
      const context = yield* Layer.build(
        PgNotificationSource.layer({ ...quick, startPatience: 0 }).pipe(
          Layer.provide([pool(withUser(url, role)), logger])
        )
      )
      const { refused, state } = yield* Effect.provideContext(NotificationSource, context)
      const verdict = yield* Effect.forkChild(Effect.exit(refused!))
      yield* execute(url, `alter role ${role} nologin`)
      yield* execute(
        url,
        `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${role}'`
      )
      yield* waitFor({ state }, "down")
      const refusals = Effect.map(execute(url, "select 1"), () =>
        lines.filter((line) => line.includes("not permitted to log in"))
      )
      yield* Effect.repeat(refusals, { until: ({ length }) => length >= 3 })
      const told = warnings(lines).filter((line) => line.includes("not permitted to log in"))
      expect(told).toEqual([expect.stringContaining("that the role may log in")])
      yield* execute(url, `alter role ${role} login`)
      yield* waitFor({ state }, "up")
      expect(verdict.pollUnsafe()).toBeUndefined()
    }).pipe(Effect.scoped)
  )

  it.live("a rejected pool beside a working link is named as the pool", () =>
    Effect.gen(function* () {
      const { name, url } = yield* database
      const role = `r_${name}`
      yield* Effect.acquireRelease(execute(url, `create role ${role} nologin`), () =>
        Effect.orDie(execute(url, `drop role ${role}`))
      )
      const pools = [
        [withDatabase(`${name}_none`), "3D000", "Create the database"],
        [withUser(url, role), "28000", "that the role may log in"]
      ] as const
      for (const [at, code, cure] of pools) {
        const { layer: logger, lines } = logged()
        const listenUrl = Redacted.make(url)
        const error = yield* Layer.build(
          PgNotificationSource.layer({ ...quick, startPatience: 100, listenUrl }).pipe(
            Layer.provide([pool(at), logger])
          )
        ).pipe(Effect.scoped, Effect.flip)
        expect(error).toMatchObject({ _tag: "DatabaseRefused", code, session: "pool" })
        expect((error as Error).message).toMatch(/^PostgreSQL refused the pool /)
        expect((error as Error).message).toContain(cure)
        expect(warnings(lines)).toEqual([expect.stringContaining("the pool could not notify it")])
      }
    }).pipe(Effect.scoped)
  )

  it.live("a link or pool on a standby is believed, and its cure logged once", () =>
    Effect.gen(function* () {
      const data = Path.join(yield* folder, "standby")
      const before = yield* installedOn(data)
      yield* before.stop("fast")
      yield* followIn(data, before)
      const standby = yield* serverOn(data)
      const { url } = yield* database
      for (const listen of [undefined, url]) {
        const { layer: logger, lines } = logged()
        const listenUrl = listen === undefined ? undefined : Redacted.make(listen)
        const context = yield* Layer.build(
          PgNotificationSource.layer({ ...quick, startPatience: 100, listenUrl }).pipe(
            Layer.provide([pool(standby.url), logger])
          )
        )
        const error = yield* Effect.flip(Context.get(context, NotificationSource).refused!)
        expect((error as { readonly _tag?: string })._tag).toBe("NotPrimary")
        const [told, ...more] = warnings(lines)
        expect(more).toEqual([])
        expect(told).toContain("the address of the primary")
        expect(told?.includes("the pool could not notify it")).toBe(listen !== undefined)
      }
    }).pipe(Effect.scoped)
  )

  it.live("a link to another database than the pool's fails, and the error says so", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* database, yield* database]
      const error = yield* Layer.build(
        PgNotificationSource.layer({ ...quick, listenUrl: Redacted.make(other.url) }).pipe(
          Layer.provide(pool(one.url))
        )
      ).pipe(Effect.scoped, Effect.flip)
      expect(error._tag).toBe("ListenNotDelivered")
      expect((error as Error).message).toContain("that leads to another database")
    }).pipe(Effect.scoped)
  )

  it.live("connections that take 2.5 s each do not fail the start", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const target = address({ url: Redacted.make(url) })
      const slow = yield* tcpServer((near) => {
        setTimeout(() => {
          const far = Net.connect(target)
          far.on("error", () => near.destroy())
          near.on("close", () => far.destroy())
          near.pipe(far).pipe(near)
        }, 2500)
      })
      const through = new URL(url)
      through.searchParams.set("host", "127.0.0.1")
      through.searchParams.set("port", String(slow))
      const context = yield* Layer.build(
        PgNotificationSource.layer(quick).pipe(Layer.provide(pool(through.href)))
      )
      const { state } = yield* Effect.provideContext(NotificationSource, context)
      expect(yield* SubscriptionRef.get(state)).toBe("up")
    }).pipe(Effect.scoped)
  )
})

describe("A link that delivers no notifications", () => {
  /** Starts on a link whose first `deaf` sessions receive no notification. */
  const startDeaf = (deaf: number) =>
    Effect.gen(function* () {
      const { url } = yield* database
      const hop = yield* deafHop(address({ url: Redacted.make(url) }), deaf)
      const through = new URL(url)
      through.searchParams.set("host", "127.0.0.1")
      through.searchParams.set("port", String(hop.port))
      const starting = yield* PgNotificationSource.make({
        ...quick,
        listenUrl: Redacted.make(through.href),
        // No look at the link but the self-test's.
        heartbeatInterval: "1 hour",
        heartbeatTimeout: "1 hour"
      }).pipe(Effect.provide(pool(url)), Effect.exit, Effect.forkScoped)
      // Time runs four times as fast as real time: a good echo has half a second.
      return { exit: yield* hurried(starting, "20 millis"), hop }
    })

  it.effect("a link with two deaf sessions is ready with the third", () =>
    Effect.gen(function* () {
      const { exit, hop } = yield* startDeaf(2)
      expect([hop.sessions(), hop.swallowed()]).toEqual([3, 2])
      const source = yield* exit
      expect(yield* SubscriptionRef.get(source.state)).toBe("up")
    }).pipe(Effect.scoped)
  )

  it.effect("a link with three deaf sessions fails, and the error names listenUrl", () =>
    Effect.gen(function* () {
      const { exit, hop } = yield* startDeaf(Infinity)
      expect([hop.sessions(), hop.swallowed()]).toEqual([3, 3])
      expect(exit).toMatchObject(Exit.fail({ _tag: "ListenNotDelivered", waited: 2000 }))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("listenUrl")
    }).pipe(Effect.scoped)
  )
})

describe("An outbox that cannot be read", () => {
  const read = (url: string, options?: OutboxReader.Options) =>
    Effect.gen(function* () {
      const { layer: logger, lines } = logged()
      const context = yield* Layer.build(
        OutboxReader.layer({ ...quick, startPatience: 200, ...options }).pipe(
          Layer.provide([pool(url), logger])
        )
      )
      const reader = yield* Effect.provideContext(OutboxReader.OutboxReader, context)
      const refused = yield* Effect.flip(reader.refused!)
      expect(yield* SubscriptionRef.get(reader.state)).toBe("down")
      return { ...reader, refused, warnings: () => warnings(lines) }
    })

  it.live("an outbox not installed warns once, and is up when it is installed", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const { refused, state, warnings } = yield* read(url)
      expect(refused).toMatchObject({ _tag: "NotInstalled" })
      expect(warnings()).toEqual([expect.stringContaining("PgInstaller")])
      yield* Effect.provide(PgInstaller.install(), pool(url))
      yield* waitFor({ state }, "up")
    }).pipe(Effect.scoped)
  )

  it.live("an outbox not installed in the named schema has a cure with that name", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { refused, warnings } = yield* read(url, { schema: "other" })
      expect(refused).toMatchObject({ _tag: "NotInstalled", schema: "other" })
      for (const text of [refused.message, warnings()[0]]) {
        expect(text).toContain('in the schema "other"')
        expect(text).toContain('PgInstaller.install({ schema: "other" })')
        expect(text).toContain("npx effect-realtime sql --schema other")
      }
      const check = Effect.provideService(PgInstaller.check, PgInstaller.SchemaName, "other")
      const missed = yield* Effect.flip(Effect.provide(check, pool(url)))
      expect((missed as Error).message).toBe(refused.message)
      expect(
        new PgInstaller.OutdatedInstall({ installed: 2, needed: 3, schema: "other" }).message
      ).toContain("--schema other")
      expect(new PgInstaller.NotInstalled({}).message).not.toContain("schema")
    }).pipe(Effect.scoped)
  )

  it.live("an outbox in another database than the pool's warns at start", () =>
    Effect.gen(function* () {
      const [one, other, none] = [
        yield* installedDatabase,
        yield* installedDatabase,
        yield* database
      ]
      for (const { url } of [one, none]) {
        const { refused, warnings } = yield* read(url, { readUrl: Redacted.make(other.url) })
        expect(refused).toMatchObject({ _tag: "OtherOutbox" })
        expect(warnings()).toEqual([expect.stringContaining("Give readUrl")])
      }
      const same = yield* Layer.build(
        OutboxReader.layer({ ...quick, readUrl: Redacted.make(one.url) }).pipe(
          Layer.provide(pool(one.url))
        )
      )
      const { state } = yield* Effect.provideContext(OutboxReader.OutboxReader, same)
      yield* waitFor({ state }, "up")
    }).pipe(Effect.scoped)
  )

  it.live("an outbox that is later found to be in another database is down", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* installedDatabase, yield* installedDatabase]
      const role = `r_${one.name}`
      yield* Effect.acquireRelease(execute(one.url, `create role ${role} login`), () =>
        Effect.orDie(
          Effect.andThen(
            execute(one.url, `drop owned by ${role}`),
            execute(one.url, `drop role ${role}`)
          )
        )
      )
      const { layer: logger, lines } = logged()
      const context = yield* Layer.build(
        OutboxReader.layer({ ...quick, readUrl: Redacted.make(other.url) }).pipe(
          Layer.provide([pool(withUser(one.url, role)), logger])
        )
      )
      const { state } = yield* Effect.provideContext(OutboxReader.OutboxReader, context)
      yield* waitFor({ state }, "up")
      yield* Effect.provide(PgInstaller.install({ roles: { node: role } }), pool(one.url))
      yield* execute(
        other.url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime reader'"
      )
      const told = Effect.map(execute(one.url, "select 1"), () =>
        lines.some((line) => line.includes("another database than the pool"))
      )
      yield* Effect.repeat(told, { until: (told) => told })
    }).pipe(Effect.scoped)
  )

  it.live(
    "an outbox that the role may not read names the missing right, and is up when that is granted",
    () =>
      Effect.gen(function* () {
        const { name, url } = yield* installedDatabase
        const role = `r_${name}`
        yield* Effect.acquireRelease(execute(url, `create role ${role} login`), () =>
          Effect.orDie(
            Effect.andThen(execute(url, `drop owned by ${role}`), execute(url, `drop role ${role}`))
          )
        )
        const { refused, state, warnings } = yield* read(withUser(url, role))
        expect(refused).toMatchObject({ _tag: "DatabaseRefused", code: "42501" })
        expect(refused.message).toContain("PgInstaller.install({ roles: { node } })")
        expect(warnings()).toEqual([expect.stringContaining("roles: { node }")])
        yield* Effect.provide(PgInstaller.install({ roles: { node: role } }), pool(url))
        yield* waitFor({ state }, "up")
      }).pipe(Effect.scoped)
  )
})
