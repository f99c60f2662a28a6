/** What `doctor` finds of a server that is not as it should be: each with a server of its own. */
import { PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as Fs from "node:fs"
import { missing as noTls, tlsServer } from "../server/support/tlsServer.ts"
import { ownServer } from "../support/cluster.ts"
import { execute } from "../support/database.ts"
import { record } from "./support/run.ts"

interface Found {
  readonly check: string
  readonly status: string
  readonly text: string
  readonly cure?: string
  readonly lines?: ReadonlyArray<string>
}

const checks =
  "tls primary listen clock install rights tables wake retention transactions queue autovacuum".split(
    " "
  )

/** What one check finds alone, and the code of that. */
const look = (url: string, check: string) => {
  const ignored = checks.flatMap((one) => (one === check ? [] : ["--ignore", one]))
  return Effect.map(
    record(["doctor", "--json", "--database", url, ...ignored]),
    ({ code, stdout }) => {
      const all = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Found)
      return { code, ...all.find((one) => one.check === check)! }
    }
  )
}

const isLong = process.env["REALTIME_TEST_LONG"] === "1"

const session = (url: string) => PgConnection.make({ url: Redacted.make(url) })

describe("doctor, of a server", () => {
  it.live.skipIf(noTls !== undefined)(
    "tls: wants a verified server, and says what to write in the URL",
    () =>
      Effect.gen(function* () {
        const { authority, url } = yield* tlsServer()
        const verified = `sslmode=verify-full&sslrootcert=${authority}`
        expect(yield* look(url(verified), "tls")).toMatchObject({
          code: 0,
          status: "ok",
          text: expect.stringMatching(/^TLSv1\.\d, and the certificate .* \(sslmode=verify-full\)$/)
        })
        expect(yield* look(url("sslmode=require"), "tls")).toMatchObject({
          code: 1,
          status: "fix",
          text: expect.stringContaining("any server may pose as"),
          cure: expect.stringContaining("sslmode=verify-full&sslrootcert=")
        })
        // A server on loopback needs none.
        expect(yield* look(url("sslmode=disable"), "tls")).toMatchObject({
          code: 0,
          text: `not encrypted, and the server is on this machine`
        })
        const stranger = yield* record([
          "doctor",
          "--database",
          url(verified.replace(authority, "/nowhere.pem"))
        ])
        expect([stranger.code, stranger.stdout]).toEqual([64, ""])
      }).pipe(Effect.scoped)
  )

  it.live("primary: names a standby", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      yield* execute(server.url, "create table orders (id int primary key)")
      yield* record(["sql", "--watch-durable", "orders", "--apply", "--database", server.url])
      expect(yield* look(server.url, "primary")).toMatchObject({ code: 0 })
      yield* server.stop("fast")
      Fs.writeFileSync(`${server.dataDirectory}/standby.signal`, "")
      yield* server.start
      const found = yield* look(server.url, "primary")
      expect(found).toMatchObject({ code: 1, status: "fix" })
      expect(`${found.text} ${found.cure ?? ""}`).toMatch(/standby.*primary/s)
      for (const args of [
        ["publish", "jobs", "1", "--delivery", "live"],
        ["publish", "jobs", "1", "--delivery", "durable"],
        ["status"],
        ["sql", "--apply"]
      ]) {
        const refused = yield* record([...args, "--database", server.url])
        expect([refused.code, refused.stdout], args.join(" ")).toEqual([1, ""])
        expect(refused.stderr).toContain("Give the URL of the primary with --database.")
      }
      for (const delivery of ["live", "durable"]) {
        const tail = yield* record(["tail", "a", "--delivery", delivery, "--database", server.url])
        expect([delivery, tail.code, tail.stdout]).toEqual([delivery, 1, ""])
        expect(tail.stderr).toContain("Give the URL of the primary with --database.")
      }
      const serve = ["serve", "--port", "0", "--allow-all", "--database", server.url]
      for (const args of [
        ["--durable", "jobs"],
        ["--table", "orders"],
        // What installs nothing waits 10 s for a promotion.
        ...(isLong
          ? [
              ["--live", "news"],
              ["--table", "orders", "--no-install"]
            ]
          : [])
      ]) {
        const refused = yield* record([...serve, ...args])
        expect([refused.code, refused.stdout], args.join(" ")).toEqual([1, ""])
        expect(refused.stderr).toMatch(
          /^error: The database is a standby, and a gateway needs the primary: .* Give --database the address of the primary, or a name that leads to it\.\n$/m
        )
      }
      // LISTEN is refused there, so nothing is found out.
      expect(yield* look(server.url, "listen")).toMatchObject({
        code: 2,
        status: "unknown"
      })
    }).pipe(Effect.scoped)
  )

  it.live("queue: names the session that listens in a transaction, and what ends it", () =>
    Effect.gen(function* () {
      // The smallest queue, of half a megabyte.
      const { url } = yield* ownServer({ max_notify_queue_pages: "64" })
      expect(yield* look(url, "queue")).toMatchObject({ code: 0, status: "ok" })
      const listener = yield* session(url)
      yield* listener.query("listen anything")
      yield* listener.query("begin")
      const [row] = (yield* listener.query("select pg_backend_pid() as pid, 'a secret' as text"))
        .rows
      const pid = String(Object(row).pid)
      const sender = yield* session(url)
      yield* sender.query(
        "select pg_notify('anything', repeat(md5(n::text), 240)) from generate_series(1, 50) n"
      )
      const found = yield* look(url, "queue")
      expect(found).toMatchObject({
        code: 1,
        status: "fix",
        text: expect.stringMatching(/^The notification queue is [5-9]\d % full/),
        cure: expect.stringContaining(`select pg_terminate_backend(${pid})`)
      })
      expect(found.lines).toEqual([
        expect.stringMatching(
          new RegExp(
            `^open for \\d+ seconds: session ${pid} .*idle in transaction.*; select pg_terminate_backend\\(${pid}\\)$`
          )
        )
      ])
      expect(JSON.stringify(found)).not.toContain("secret")
      // What it says, cures it.
      yield* sender.query(`select pg_terminate_backend(${pid})`)
      const well = yield* Effect.repeat(look(url, "queue"), {
        until: ({ code }) => code === 0
      })
      expect(well).toMatchObject({ status: "ok" })
    }).pipe(Effect.scoped)
  )

  it.live("autovacuum: off for the server, with the line that puts it on", () =>
    Effect.gen(function* () {
      const { url } = yield* ownServer({ autovacuum: "off" })
      expect(yield* look(url, "autovacuum")).toMatchObject({
        code: 1,
        status: "fix",
        cure: expect.stringContaining("Set autovacuum = on")
      })
    }).pipe(Effect.scoped)
  )
})
