/** Our own connections to a PostgreSQL with TLS, and without TLS. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Redacted, Schema, SubscriptionRef } from "effect"
import { createServer } from "node:http"
import { userInfo } from "node:os"
import { vi } from "vitest"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { sqlMessage } from "../../src/server/internal/link/sqlState.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as PgTls from "../../src/server/PgTls.ts"
import { execute } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { missing, tlsServer } from "./support/tlsServer.ts"

/** The encryption of a session opened by a URL: the version of TLS, `plain`, or the error. */
const spoken = (url: string) =>
  Effect.gen(function* () {
    const session = yield* PgConnection.make(yield* PgTls.config(url))
    const { rows } = yield* session.query(
      "select coalesce(version, 'plain') as spoken from pg_stat_ssl where pid = pg_backend_pid()"
    )
    // A text larger than one read, both ways.
    const text = "x".repeat(300_000)
    expect((yield* session.query("select $1::text as t", [text])).rows[0]!["t"]).toBe(text)
    return rows[0]!["spoken"]
  }).pipe(
    Effect.scoped,
    Effect.catch((error) => Effect.succeed(sqlMessage(error)))
  )

const tls = "TLSv1.3"
const unknown = expect.stringMatching(/unable to verify|self-signed/)

const names = [
  "@effect/sql-pg",
  "effect-realtime",
  "effect-realtime link",
  "effect-realtime reader"
]

/** Which of our sessions are encrypted, by their names; asked over the socket of the server. */
const encrypted = (url: string) =>
  execute(
    url,
    `select application_name as name, bool_and(ssl) as ssl
    from pg_stat_activity join pg_stat_ssl using (pid)
    where application_name in ('${names.join("', '")}') and pid <> pg_backend_pid() group by 1 order by 1`
  ).pipe(Effect.map((rows) => Object.fromEntries(rows.map(({ name, ssl }) => [name, ssl]))))

/** The link and the reader beside a pool, and what is logged. */
const started = (pool: Layer.Layer<PgClient.PgClient, unknown>) =>
  Effect.gen(function* () {
    const warnings: Array<string> = []
    const logger = Logger.make(({ message }) => void warnings.push(String(message)))
    const context = yield* Layer.build(
      Layer.mergeAll(
        PgNotificationSource.layer({ heartbeatInterval: 20, heartbeatTimeout: 500 }),
        OutboxReader.layer()
      ).pipe(Layer.provide(pool), Layer.provideMerge(Logger.layer([logger])))
    )
    return { context, warnings }
  })

describe.skipIf(missing !== undefined)("PgTls", () => {
  it.live("a session negotiates TLS by the URL as libpq does", () =>
    Effect.gen(function* () {
      const { address, authority, server, stranger, url } = yield* tlsServer()
      const roles = "create role only_tls login; create role only_plain login"
      for (const role of roles.split("; ")) yield* execute(url(""), role)
      const elsewhere = yield* hop({ host: address, port: 5432 })
      const path = `postgres://postgres@127.0.0.1:${elsewhere.port}/postgres`
      const from = `sslrootcert=${encodeURIComponent(authority)}`
      const wrong = `sslrootcert=${encodeURIComponent(stranger)}`
      const rows: ReadonlyArray<readonly [string, unknown]> = [
        [url(""), "plain"],
        [url("sslmode=disable"), "plain"],
        [url("sslmode=allow"), "plain"],
        [url("sslmode=allow", "only_tls"), tls],
        [url("sslmode=allow", "only_plain"), "plain"],
        [url("sslmode=prefer"), tls],
        [url("sslmode=prefer", "only_tls"), tls],
        [url("sslmode=prefer", "only_plain"), "plain"],
        [url(`sslmode=prefer&${from}`), tls],
        [url(`sslmode=prefer&${wrong}`), "plain"],
        [url("sslmode=require"), tls],
        [url("ssl=true"), tls],
        [url("ssl=true&ssl_max_protocol_version=TLSv1.2"), "TLSv1.2"],
        [url("sslmode=require", "only_plain"), expect.stringContaining("no pg_hba.conf entry")],
        [url(`sslmode=require&${from}`), tls],
        [url(`sslmode=require&${wrong}`), unknown],
        [url("sslmode=verify-ca"), unknown],
        [url(`sslmode=verify-ca&${from}`), tls],
        [url(`sslmode=verify-ca&${wrong}`), unknown],
        [`${path}?sslmode=verify-ca&${from}`, tls],
        [url("sslmode=verify-full"), unknown],
        [url(`sslmode=verify-full&${from}`), tls],
        [`${path}?sslmode=verify-full&${from}`, expect.stringContaining("does not match")],
        [url("sslrootcert=system"), unknown],
        [`${server.url}?sslmode=require`, "plain"],
        [`${server.url}?sslmode=prefer`, "plain"]
      ]
      for (const [at, said] of rows) {
        expect([at, yield* spoken(at)]).toEqual([at, said])
      }
    })
  )

  it.live("a session to a server without TLS is plain only if the URL allows it", () =>
    Effect.gen(function* () {
      const { url } = yield* tlsServer("off")
      const none = "The server does not support TLS"
      const rows = [
        ["allow", "plain"],
        ["prefer", "plain"],
        ["require", none],
        ["verify-full", none]
      ]
      for (const [mode, said] of rows) {
        expect([mode, yield* spoken(url(`sslmode=${mode}`))]).toEqual([mode, said])
      }
    })
  )

  it.live(
    "the link and the reader use TLS by the pool's URL when the pool does not, and log a warning",
    () =>
      Effect.gen(function* () {
        const { server, url } = yield* tlsServer()
        const at = Redacted.make(url("ssl=true"))
        yield* Effect.provide(
          PgInstaller.install(),
          PgClient.layer({ url: Redacted.make(server.url) })
        )
        const { context, warnings } = yield* started(PgClient.layer({ url: at }))
        expect(yield* encrypted(server.url)).toEqual({
          "@effect/sql-pg": false,
          "effect-realtime link": true,
          "effect-realtime reader": true
        })
        expect(warnings.filter((line) => line.includes("PgTls.config(url)"))).toHaveLength(1)
        // The heartbeats pass through TLS.
        const beat = execute(
          server.url,
          "select pid || ' ' || state_change as beat from pg_stat_activity where application_name = 'effect-realtime link'"
        )
        const beats = new Set<string>()
        yield* Effect.repeat(
          Effect.tap(beat, ([row]) => Effect.sync(() => beats.add(String(row?.["beat"])))),
          { until: () => beats.size >= 30 }
        )
        expect(new Set([...beats].map((text) => text.split(" ")[0])).size).toBe(1)
        const { state } = yield* Effect.provideContext(NotificationSource, context)
        expect(yield* SubscriptionRef.get(state)).toBe("up")
      }).pipe(Effect.scoped)
  )

  it.live(
    "a pool made by PgTls.config(url) uses TLS like the link and the reader, without a warning",
    () =>
      Effect.gen(function* () {
        const { authority, server, url } = yield* tlsServer()
        yield* Effect.provide(
          PgInstaller.install(),
          PgClient.layer({ url: Redacted.make(server.url) })
        )
        for (const query of ["sslmode=prefer", `sslmode=verify-full&sslrootcert=${authority}`]) {
          yield* Effect.gen(function* () {
            const pool = PgClient.layer(yield* PgTls.config(url(query)))
            const { warnings } = yield* started(pool)
            expect(Object.values(yield* encrypted(server.url))).toEqual([true, true, true])
            expect(warnings).toEqual([])
          }).pipe(Effect.scoped)
        }
      }).pipe(Effect.scoped)
  )

  it.live("the class RealtimeServer uses TLS on all its connections", () =>
    Effect.gen(function* () {
      const { server, url } = yield* tlsServer()
      yield* Effect.provide(
        PgInstaller.install(),
        PgClient.layer({ url: Redacted.make(server.url) })
      )
      const channels = [
        Channel.make("orders", Schema.Unknown, { delivery: "durable" }),
        Channel.systemNotifications
      ]
      for (const query of ["ssl=true", "sslmode=prefer"]) {
        const realtime = new RealtimeServer(createServer(), url(query), {
          authorize: () => true,
          channels
        })
        yield* Effect.promise(() => realtime.ready)
        expect(Object.values(yield* encrypted(server.url))).toEqual([true, true, true])
        yield* Effect.promise(() => realtime.close())
      }
    }).pipe(Effect.scoped)
  )

  it.live("a URL without a user means the user of the process, as for libpq", () =>
    Effect.gen(function* () {
      const { server } = yield* tlsServer()
      const { username } = userInfo()
      // The user of the process may be called postgres.
      yield* Effect.ignore(execute(server.url, `create role "${username}" login`))
      vi.stubEnv("USER", undefined)
      vi.stubEnv("USERNAME", undefined)
      const config = yield* PgTls.config(server.url.replace("postgres@", ""))
      vi.unstubAllEnvs()
      const session = yield* PgConnection.make(config)
      const { rows } = yield* session.query("select current_user::text as who")
      expect(rows).toEqual([{ who: username }])
    }).pipe(Effect.scoped)
  )

  it.live("a wrong password is rejected with its cure, and the error hides it", () =>
    Effect.gen(function* () {
      const { server, url } = yield* tlsServer()
      yield* execute(server.url, "create role password login password 'right'")
      const start = (password: string) =>
        Layer.build(
          PgNotificationSource.layer({ startPatience: 100 }).pipe(
            Layer.provide(PgClient.layer({ url: Redacted.make(url("", `password:${password}`)) }))
          )
        ).pipe(Effect.scoped)
      yield* start("right")
      const error = yield* Effect.flip(start("hunter2"))
      expect(error).toMatchObject({ _tag: "DatabaseRefused", code: "28P01" })
      expect((error as Error).message).toContain("Check the user and the password")
      expect((error as Error).message).not.toContain("hunter2")
    }).pipe(Effect.scoped)
  )

  it.live("a certificate of an unknown authority is rejected with its cure", () =>
    Effect.gen(function* () {
      const { stranger, url } = yield* tlsServer()
      const at = url(`sslmode=verify-full&sslrootcert=${stranger}`)
      const error = yield* Layer.build(
        PgNotificationSource.layer({ startPatience: 100 }).pipe(
          Layer.provide(PgClient.layer(yield* PgTls.config(at)))
        )
      ).pipe(Effect.scoped, Effect.flip)
      expect(error).toMatchObject({ _tag: "DatabaseRefused", session: "link" })
      expect((error as Error).message).toContain("sslmode=verify-full&sslrootcert=<file>")
    }).pipe(Effect.scoped)
  )
})
