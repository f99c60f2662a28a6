/** How our own connections speak to a PostgreSQL with TLS, and one without. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Logger, Queue, Redacted } from "effect"
import { sqlMessage } from "../../src/server/internal/link/sqlState.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as PgTls from "../../src/server/PgTls.ts"
import { execute } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { listenTo } from "../support/listenTo.ts"
import { missing, tlsServer } from "./support/tlsServer.ts"

/** How a session that is opened by a URL speaks: the version of TLS, `plain`, or why there is none. */
const spoken = (url: string) =>
  Effect.gen(function* () {
    const session = yield* PgConnection.make(yield* PgTls.config(url))
    const { rows } = yield* session.query(
      "select coalesce(version, 'plain') as spoken from pg_stat_ssl where pid = pg_backend_pid()"
    )
    // What is larger than one read, both ways.
    const text = "x".repeat(300_000)
    expect((yield* session.query("select $1::text as t", [text])).rows[0]!["t"]).toBe(text)
    return rows[0]!["spoken"]
  }).pipe(
    Effect.scoped,
    Effect.catch((error) => Effect.succeed(sqlMessage(error)))
  )

const tls = "TLSv1.3"
const unknown = expect.stringMatching(/unable to verify|self-signed/)

describe.skipIf(missing !== undefined)("PgTls", () => {
  it.live("speaks to a server with TLS as libpq does", () =>
    Effect.gen(function* () {
      const { address, authority, stranger, url } = yield* tlsServer()
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
        [url("sslrootcert=system"), unknown]
      ]
      for (const [at, said] of rows) {
        expect([at, yield* spoken(at)]).toEqual([at, said])
      }
    })
  )

  it.live("speaks plain text to a server without TLS only where the URL lets it", () =>
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
})
