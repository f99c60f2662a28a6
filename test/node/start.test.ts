/** The class RealtimeServer at start: invalid arguments, rejections by PostgreSQL, and retries. */
import { describe, expect, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Exit, Layer, Redacted, Ref, Schema } from "effect"
import { TestClock } from "effect/testing"
import { createServer, type Server } from "node:http"
import * as Http2 from "node:http2"
import * as Net from "node:net"
import { vi } from "vitest"
import * as Channel from "../../src/Channel.ts"
import { persistent } from "../../src/node/internal/retriedStart.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { tallyOf } from "../../src/server/internal/tally.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { DatabaseRefused } from "../../src/server/ServerError.ts"
import { database, execute, installedDatabase, serverUrl } from "../support/database.ts"
import { until } from "../support/until.ts"
import { connect, greet } from "../support/wire.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"

const url = "postgres://u@127.0.0.1:1/x"
const open = { authorize: () => true }
const Durable = Channel.make("orders", Schema.Unknown, { delivery: "durable", publish: true })

const doorOf = (server: Server) => `ws://${addressOf(server)}/realtime`

/** Arguments that JavaScript may pass. */
const construct = (...args: ReadonlyArray<unknown>) =>
  Reflect.construct(RealtimeServer, args) as RealtimeServer

const started = (http: Server, url: string, options: object) =>
  Effect.acquireRelease(
    Effect.sync(() => construct(http, url, { ...open, startPatience: 300, ...options })),
    (server) => Effect.promise(() => server.close())
  )

const thrown = (...args: ReadonlyArray<unknown>): Error & { readonly _tag?: string } => {
  try {
    void construct(...args).close()
  } catch (error) {
    return error as Error
  }
  throw new Error("nothing was thrown")
}

/** An Express app is a function with the methods of an emitter. */
const express = Object.assign(() => undefined, { on: () => undefined, listen: () => undefined })

describe("Invalid arguments of the class", () => {
  const http = createServer()

  it.each([
    ["an Express app", express, "a function"],
    ["a Fastify instance", { server: http }, "an object (Object)"],
    ["a TCP server", Net.createServer(), "an object (Server)"],
    ["undefined", undefined, "undefined"]
  ])("the constructor throws for %s in place of a node:http server", (_, server, said) => {
    const error = thrown(server, url, open)
    expect(error).toMatchObject({ _tag: "RefusedToStart", reason: "NoHttpServer" })
    expect(error.message).toContain(`${said}, not an http.Server`)
    expect(error.message).toContain("http.createServer(app)")
  })

  it.live("the constructor accepts an HTTP/2 server", () =>
    Effect.promise(async () => {
      await construct(Http2.createServer(), url, open).close()
    })
  )

  it.each([
    ["mysql://u:secret@h/d", /is not one of PostgreSQL \(mysql:\/\/\)/],
    ["u:secret@h/d", /is not one of PostgreSQL\. Write/],
    ["postgres://u:secret@h/d?sslmode=on", /says sslmode=on\. It is one of disable, allow/],
    ["postgres://u:secret@h/d?ssl=false", /says ssl=false\. Write ssl=true, or sslmode=disable/],
    ["postgres://u:secret@h/d?sslMode=require", /has a parameter sslMode, which is not known/],
    ["postgres://u:secret@h/d?ssl=true&sslmode=disable", /says both/],
    ["postgres://u:secret@h/d?sslmode=verify-ca&sslrootcert=/none", /\/none.*ENOENT/],
    ["postgres://u:secret@h/d?sslmode=require&sslrootcert=/etc/hosts", /is no PEM/],
    ["postgres://u:secret@h/d?sslrootcert=/etc/hosts", /no sslmode/],
    ["postgres://u:secret@h/d?channel_binding=require", /channel_binding=require.*verify-full/],
    ["postgres://u:secret@h:1,i:2/d", /names several hosts/],
    ["postgres://u:secret@h/d?host=h,i", /names several hosts/],
    ["postgres://h/d?target_session_attrs=primary", /target_session_attrs=primary/],
    ["postgres://u:secret#s@h/d", /is no URL|has a #/],
    ["postgres://u:secret%zz@h/d", /has a % in it/],
    ["postgres://u:secret@h/d?port=0", /says port=0/],
    ["postgres://u:secret@h/d?connect_timeout=1s", /says connect_timeout=1s/],
    ["postgres:u:secret@db.example.com/app", /has no \/\/ behind its scheme.*postgres:\/\/user/],
    ["postgresql:/u:secret@db.example.com/app", /has no \/\/ behind its scheme/],
    [" postgres:/db.example.com", /has no \/\/ behind its scheme/],
    ["postgres://u:12/secret@h/d", /has an @ behind its host.*%2F/],
    ["postgres://u:12?secret@h/d", /has an @ behind its host.*%3F/],
    ["postgres://u:secret%00@h/d", /has a %00 in it/],
    [
      "postgres://u@h/d?sslmode=disable&sslmode=require&ssl_max_protocol_version=TLSv1.1",
      /TLSv1.2, at most TLSv1.1/
    ],
    [
      "postgres://h/d?ssl=true&ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
      /allows no version of TLS: at least TLSv1.3, at most TLSv1.2/
    ],
    [5432, /is number, not a text/]
  ])("the constructor throws for the URL %s and hides its password", (url, said) => {
    const error = thrown(http, url, open)
    expect(error).toMatchObject({ _tag: "RefusedToStart", reason: "BadDatabaseUrl" })
    expect(error.message).toMatch(said)
    expect(error.message).not.toContain("secret")
    const other = thrown(http, "postgres://u@h/d", { ...open, listenUrl: url })
    expect(other.message).toMatch(/^The listenUrl /)
  })

  it.each([
    ["authorise", () => true, "one of authenticate, authorize"],
    ["channels", "orders", "a list of definitions"],
    ["channels", ["orders"], "a definition"],
    ["listenURL", url, "one of authenticate"],
    ["maxConnections", "4", "a whole number"],
    ["maxConnections", 0, "a whole number"],
    ["path", 5, "a path"],
    ["path", "/chât", 'written as clients send it: "/ch%C3%A2t"'],
    ["path", "/a/../b", 'written as clients send it: "/b"'],
    ["schema", "My Schema", "1-31 of a-z"],
    ["startPatience", "soon", "a duration"],
    ["wake", "notify", `"poll"`]
  ])("the constructor throws for the option %s: %j", (name, value, expected) => {
    const error = thrown(http, url, { ...open, [name]: value })
    expect(error._tag).toBe("InvalidOption")
    expect(error.message).toContain(`The option ${name}`)
    expect(error.message).toContain(expected)
  })

  it("the constructor throws for a path that another server of the HTTP server has, until that is closed", async () => {
    const first = construct(http, url, open)
    const other = construct(http, url, { ...open, path: "/other/" })
    for (const path of [undefined, "/realtime", "/realtime/", "/other"]) {
      const error = thrown(http, url, { ...open, path })
      expect(error).toMatchObject({ _tag: "InvalidOption", option: "path" })
      expect(error.message).toContain("no other door of this HTTP server has: close the other one")
    }
    const elsewhere = construct(createServer(), url, open)
    const closing = first.close()
    const next = construct(http, url, { ...open, path: "/realtime/" })
    await closing
    await first.close()
    expect(thrown(http, url, open)._tag).toBe("InvalidOption")
    await Promise.all([next.close(), other.close(), elsewhere.close()])
    expect(http.listenerCount("upgrade")).toBe(0)
  })

  it("the constructor throws for options that are no object, and for a channel name of 69 bytes", () => {
    expect(thrown(http, url, "path").message).toContain("options by their names")
    const long = Channel.family("room_", Schema.String, Schema.String)("x".repeat(64))
    expect(thrown(http, url, { ...open, channels: [long] })._tag).toBe("InvalidChannelName")
    expect(http.listenerCount("upgrade")).toBe(0)
  })
})

describe("Rejections by PostgreSQL", () => {
  const withDatabase = (name: string) => {
    const url = new URL(serverUrl())
    url.pathname = `/${name}`
    return url.href
  }

  it.live(
    "after three rejections ready and publish reject with DatabaseRefused, and upgrades get 503",
    () =>
      Effect.gen(function* () {
        const http = yield* httpServer
        const server = yield* started(http, withDatabase("no_such_database"), {})
        const published = server.publish(Channel.systemNotifications, {
          type: "info",
          message: "m"
        })
        const lost = yield* Effect.flip(Effect.tryPromise(() => published))
        const during = yield* Effect.flip(connect(doorOf(http)))
        expect(during.status).toBe(503)
        const error = yield* Effect.flip(Effect.tryPromise(() => server.ready))
        expect(error.cause).toBeInstanceOf(DatabaseRefused)
        const refused = error.cause as DatabaseRefused
        expect(refused).toMatchObject({ code: "3D000", session: "link" })
        expect(refused.times).toBeGreaterThanOrEqual(3)
        expect(refused.millis).toBeGreaterThanOrEqual(300)
        expect(refused.message).toContain("Create the database, or correct its name")
        expect(lost.cause).toBe(refused)
        const again = server.publish(Channel.systemNotifications, { type: "info", message: "m" })
        expect((yield* Effect.flip(Effect.tryPromise(() => again))).cause).toBe(refused)
        expect(server.isReady()).toBe(false)
        yield* Effect.promise(() => server.close())
        expect(http.listenerCount("upgrade")).toBe(0)
      })
  )

  /** A clock that advances by itself, and can be advanced. */
  const puttableForward = Effect.acquireRelease(
    Effect.sync(() => {
      const toFake = ["setTimeout", "clearTimeout", "Date"] as const
      vi.useFakeTimers({ toFake: [...toFake], shouldAdvanceTime: true })
    }),
    () => Effect.sync(() => vi.useRealTimers())
  )

  const missing = `t_missing_${process.pid}`
  const withUser = (url: string, username: string) =>
    Object.assign(new URL(url), { username, password: "secret" }).href

  it.live.each([
    {
      what: "the database",
      address: () => withDatabase(missing),
      code: /^3D000$/,
      cure: "Create the database, or correct its name in the database URL",
      make: `create database ${missing}`,
      drop: `drop database ${missing} with (force)`
    },
    {
      what: "the user",
      address: () => withUser(serverUrl(), missing),
      // By the server's settings, the rejection is a missing role or a wrong password.
      code: /^28(000|P01)$/,
      cure: "Check the user",
      make: `create role ${missing} login password 'secret'`,
      drop: `drop role ${missing}`
    }
  ])(
    "a server whose start failed retries after 30 s, and is ready once $what exists",
    ({ address, code, cure, drop, make }) =>
      Effect.gen(function* () {
        yield* puttableForward
        const http = yield* httpServer
        const server = yield* started(http, address(), {})
        const { cause } = yield* Effect.flip(Effect.tryPromise(() => server.ready))
        expect(cause).toMatchObject({ _tag: "DatabaseRefused", code: expect.stringMatching(code) })
        expect((cause as Error).message).toContain(cure)
        const refused = Effect.map(Effect.flip(connect(doorOf(http))), ({ status }) => status)
        expect(yield* refused).toBe(503)
        yield* Effect.acquireRelease(execute(serverUrl(), make), () =>
          Effect.orDie(
            Effect.andThen(
              Effect.promise(() => server.close()),
              execute(serverUrl(), drop)
            )
          )
        )
        vi.advanceTimersByTime(25_000)
        expect(yield* refused).toBe(503)
        expect(server.isReady()).toBe(false)
        vi.advanceTimersByTime(5000)
        yield* until(() => server.isReady())
        const wire = yield* greet(doorOf(http))
        wire.send({ type: "subscribe", id: 1, channel: "system_notifications" })
        yield* wire.next("subscribed")
        const payload = { type: "info", message: "well" } as const
        yield* Effect.promise(() => server.publish(Channel.systemNotifications, payload))
        expect((yield* wire.next("events")).events[0]!.data).toEqual(payload)
        // A settled promise stays as it is.
        expect((yield* Effect.flip(Effect.tryPromise(() => server.ready))).cause).toBe(cause)
      })
  )

  it.live(
    "a server without an installed outbox rejects ready, and is ready once the outbox is installed",
    () =>
      Effect.gen(function* () {
        const { url } = yield* database
        const http = yield* httpServer
        const server = yield* started(http, url, { channels: [Durable] })
        const error = yield* Effect.flip(Effect.tryPromise(() => server.ready))
        expect(error.cause).toMatchObject({ _tag: "NotInstalled" })
        const wire = yield* greet(doorOf(http))
        wire.send({ type: "subscribe", id: 1, channel: "orders" })
        expect(yield* wire.next("error")).toMatchObject({ code: "source/down", retry: "later" })
        expect(server.isReady()).toBe(false)
        yield* Effect.provide(PgInstaller.install(), PgClient.layer({ url: Redacted.make(url) }))
        yield* Effect.repeat(
          Effect.map(execute(url, "select 1"), () => server.isReady()),
          { until: (ready) => ready }
        )
        wire.send({ type: "subscribe", id: 2, channel: "orders" })
        yield* wire.next("subscribed")
      })
  )

  it.live("the link, the reader and the bus are down in its metrics from the first moment", () =>
    Effect.gen(function* () {
      const counted = tallyOf(Context.empty())
      const shown = () =>
        (["linkUp", "readerUp", "busUp", "natsUp"] as const).map((name) => counted.read(name))
      expect(shown()).toEqual([undefined, undefined, undefined, undefined])
      yield* Effect.gen(function* () {
        const http = yield* httpServer
        yield* started(http, url, { channels: [Durable], control: true })
        expect(shown()).toEqual([0, 0, 0, undefined])
      }).pipe(Effect.scoped)
      expect(shown()).toEqual([undefined, undefined, undefined, undefined])
    })
  )

  it.live("durable and volatile channels with wake: poll alone need no link and no LISTEN", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const http = yield* httpServer
      const Volatile = Channel.make("typing", Schema.Boolean, { delivery: "volatile" })
      const channels = [Durable, Volatile]
      const server = yield* started(http, url, { channels, wake: "poll" })
      yield* Effect.promise(() => server.ready)
      const wire = yield* greet(doorOf(http))
      wire.send({ type: "subscribe", id: 1, channel: "orders" })
      yield* wire.next("subscribed")
      yield* Effect.promise(() => server.publish(Durable, { n: 1 }))
      expect((yield* wire.next("events")).events[0]!.data).toEqual({ n: 1 })
      wire.send({ type: "subscribe", id: 2, channel: "typing" })
      yield* wire.next("subscribed")
      yield* Effect.promise(() => server.publish(Volatile, true))
      expect((yield* wire.next("events")).events[0]!.data).toBe(true)
      const sessions = yield* execute(
        url,
        "select application_name as name, query from pg_stat_activity where datname = current_database() and application_name like 'effect%'"
      )
      expect(sessions.map(({ name }) => name)).not.toContain("effect-realtime link")
      expect(sessions.filter(({ query }) => String(query).includes("LISTEN"))).toEqual([])
    })
  )

  it.live("a live channel with wake: poll still has its link", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const http = yield* httpServer
      const channels = [Durable, Channel.systemNotifications]
      const server = yield* started(http, url, { channels, wake: "poll" })
      yield* Effect.promise(() => server.ready)
      const [row] = yield* execute(
        url,
        "select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime link'"
      )
      expect(row).toEqual({ n: 1 })
    })
  )
})

describe("persistent layers", () => {
  const trying = (outcomes: ReadonlyArray<Effect.Effect<void, string>>, took: number) =>
    Effect.gen(function* () {
      const tries = yield* Ref.make(0)
      const failed: Array<string> = []
      const layer = Layer.effectDiscard(
        Effect.gen(function* () {
          const n = yield* Ref.getAndUpdate(tries, (n) => n + 1)
          yield* Effect.sleep(took)
          yield* outcomes[n] ?? Effect.void
        })
      )
      const fiber = yield* Effect.forkScoped(
        Layer.build(
          persistent(layer, {
            every: "30 seconds",
            mayPass: (error) => error === "passes",
            onFailed: (error, next) => Effect.sync(() => void failed.push(`${error} ${next}`))
          })
        )
      )
      return { tries: Ref.get(tries), failed, fiber }
    })

  it.effect("persistent starts a try every 30 s until one succeeds, however long it takes", () =>
    Effect.gen(function* () {
      const fails = Effect.fail("passes")
      const { failed, fiber, tries } = yield* trying([fails, fails], 10_000)
      yield* TestClock.adjust("29 seconds")
      expect(yield* tries).toBe(1)
      yield* TestClock.adjust("1 second")
      expect(yield* tries).toBe(2)
      yield* TestClock.adjust("39 seconds")
      expect(fiber.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust("1 second")
      expect(fiber.pollUnsafe()).toMatchObject({ _tag: "Success" })
      expect(failed).toEqual(["passes 20000", "passes 20000"])
    }).pipe(Effect.scoped)
  )

  it.effect("persistent fails at once with an error that does not pass", () =>
    Effect.gen(function* () {
      const { failed, fiber } = yield* trying([Effect.fail("never")], 0)
      yield* TestClock.adjust(0)
      expect(fiber.pollUnsafe()).toEqual(Exit.fail("never"))
      expect(failed).toEqual([])
    }).pipe(Effect.scoped)
  )
})
