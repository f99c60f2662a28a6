/** `status` prints two nodes over a real PostgreSQL, the outbox, and a consumer that is behind. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue, Schema, Stream } from "effect"
import { randomBytes } from "node:crypto"
import * as Os from "node:os"
import * as Channel from "../../src/Channel.ts"
import { readDurable } from "../../src/internal/cursorText.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { layerInstalled, publish } from "../server/support/durable.ts"
import { execute, serverUrl, TestDatabase } from "../support/database.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { connect } from "../support/wire.ts"
import { serve } from "./support/gateway.ts"
import { recorded } from "./support/guide.ts"
import { record, start } from "./support/run.ts"

const Jobs = Channel.make("jobs", Schema.Unknown, { delivery: "durable" })

const serverOn = (url: string) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new RealtimeServer<string>(http, url, {
            channels: [Jobs],
            authenticate: () => ({ identity: "ann" }),
            authorize: () => true,
            control: true
          })
      ),
      (server) => Effect.promise(() => server.close())
    )
    yield* Effect.promise(() => server.ready)
    return { server, ws: `ws://${addressOf(http)}/realtime` }
  })

/** The URL for another user, with the same rights to log in. */
const as = (url: string, user: string): string => {
  const there = new URL(url)
  if (there.searchParams.has("user")) there.searchParams.set("user", user)
  else there.username = user
  return there.href
}

const roleName = Effect.acquireRelease(
  Effect.sync(() => `status_${randomBytes(4).toString("hex")}`),
  (name) => Effect.orDie(execute(serverUrl(), `drop role if exists ${name}`))
)

/** As recorded: names of the nodes in their order, and usual times and sizes. Names decide the width of a column. */
const shownOf = (text: string, names: ReadonlyArray<string> = []): string => {
  let shown = text
  names.forEach((name, at) => {
    shown = shown.replaceAll(name, `web-${at + 1}`)
  })
  return shown
    .replaceAll(`${Os.hostname()}-${process.pid}`, "web-1")
    .replace(/\d+ KiB/, "72 KiB")
    .replaceAll(/[\d.]+ s\b/g, "0.3 s")
    .replaceAll(/ {2,}/g, "  ")
}

/** What a run of `--watch` prints in two looks. */
const twoLooks = (end: string, args: ReadonlyArray<string>, isTerminal: boolean) =>
  Effect.gen(function* () {
    const running = yield* start(["status", "--watch", "--interval", "100 millis", ...args], {
      isTerminal
    })
    const lines = yield* Stream.fromQueue(running.lines).pipe(
      Stream.takeUntil((line) => line === end),
      Stream.runCollect
    )
    yield* Stream.fromQueue(running.lines).pipe(
      Stream.takeUntil((line) => line === end),
      Stream.runDrain
    )
    yield* running.signal
    expect(yield* running.ended).toMatchObject({ code: 0, stderr: "" })
    return lines
  })

/** What moves a cursor, clears a screen, turns the direction of a text, or begins a line. */
const hostile = "a\u001b[2Jb\u009b31mc\u202ed\ne\u0007"
const harmless = "a\\u001b[2Jb\\u009b31mc\\u202ed\\u000ae\\u0007"

describe("status", () => {
  it.live("sends no code of a name to a terminal, and none of an error or of doctor", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      yield* serve(["--durable", "jobs", "--allow-all", "--name", hostile])
      yield* sql`insert into realtime.consumers (name, channel, cursor) values (${hostile}, ${hostile}, 'none')`
      const database = ["--database", url]
      const plain = yield* record(["status", ...database])
      expect([plain.code, plain.stderr]).toEqual([0, ""])
      const of = (start: string) =>
        plain.stdout.split("\n").filter((line) => line.trimStart().startsWith(start))
      expect(of(`${harmless}  ready`)).toHaveLength(1)
      expect(of(`${harmless}  ${harmless}`)).toHaveLength(1)
      const json = yield* record(["status", "--json", ...database])
      expect(JSON.parse(json.stdout)).toMatchObject({
        nodes: [{ node: hostile }],
        consumers: [{ name: hostile, channel: hostile }]
      })
      // A table, and an error of PostgreSQL.
      yield* sql.unsafe(`create table "${hostile}" (id int primary key)`)
      yield* PgInstaller.watch({ channel: "jobs", table: hostile, delivery: "durable" })
      yield* sql.unsafe(`alter table "${hostile}" disable trigger all`)
      const doctor = yield* record(["doctor", ...database])
      expect(doctor.stdout).toContain(harmless)
      const gone = new URL(url)
      gone.pathname = `/${encodeURIComponent(hostile)}`
      const refused = yield* record(["publish", "jobs", "1", "--database", gone.href])
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("a\\u001b[2Jb")])
      for (const { stderr, stdout } of [plain, json, doctor, refused]) {
        expect(`${stdout}${stderr}`.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\u202e]/u)
      }
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("prints the nodes, the outbox and the consumers with the rights of a node", () =>
    Effect.gen(function* () {
      const node = yield* roleName
      const user = yield* roleName
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const sql = yield* PgClient.PgClient
        yield* execute(url, `alter role ${node} login`)
        const database = ["--database", as(url, node)]
        const [one, two] = yield* Effect.all([serverOn(as(url, node)), serverOn(as(url, node))], {
          concurrency: "unbounded"
        })
        const handled = yield* Queue.unbounded<void>()
        let isSlow = false
        one.server.consume(Jobs, {
          name: "mailer",
          start: "oldest",
          onEvents: () => {
            Queue.offerUnsafe(handled, undefined)
            return isSlow ? new Promise<never>(() => undefined) : Promise.resolve()
          }
        })
        yield* publish("jobs", 1)
        yield* Queue.take(handled)
        yield* Effect.repeat(sql`select cursor from realtime.consumers`, {
          // The cursor moved with the first message.
          until: ([row]) =>
            row !== undefined && (readDurable(String(row["cursor"]))?.witness.id ?? 0n) > 0n
        })
        isSlow = true
        yield* publish("jobs", 2)
        yield* publish("other", 1)
        yield* Queue.take(handled)
        const wire = yield* connect(two.ws)
        wire.send({ type: "hello", version: 1 })
        yield* wire.next("welcome")

        const { json, piped, redrawn } = yield* Effect.all(
          {
            json: record(["status", "--json", ...database]),
            piped: twoLooks("", database, false),
            redrawn: twoLooks("\u001b[J", database, true)
          },
          { concurrency: "unbounded" }
        )
        expect([json.code, json.stderr]).toEqual([0, ""])
        const seen = JSON.parse(json.stdout) as { readonly nodes: ReadonlyArray<{ node: string }> }
        expect(seen).toMatchObject({
          hears: true,
          silent: [],
          nodes: [
            { isReady: true, bus: "up", feeds: false },
            { isReady: true, bus: "up", feeds: false }
          ],
          outbox: { rows: 3 },
          consumers: [
            {
              name: "mailer",
              channel: "jobs",
              lag: { messages: 1, isMore: false },
              node: `${Os.hostname()}-${process.pid}`
            }
          ]
        })
        const names = seen.nodes.map((one) => one.node)
        const shown = shownOf(recorded("status"))
        // The tests of one process share its counts.
        const sorted = (text: string) => text.replaceAll(/ \d+ {2}\d+ {2}\d+ /g, " n  n  n ")
        expect(sorted(shownOf(piped.join("\n"), names))).toBe(sorted(shown))
        expect(redrawn[0]).toBe("\u001b[H2 nodes, 1 session\u001b[K")
        expect(redrawn).toHaveLength(piped.length)

        yield* execute(url, `create role ${user} login`)
        const refused = yield* record(["status", "--database", as(url, user)])
        expect([refused.code, refused.stdout]).toEqual([1, ""])
        expect(refused.stderr).toContain(`grant execute on function realtime.holders() to ${user}`)
      }).pipe(Effect.scoped, Effect.provide(layerInstalled({ roles: { node } })))
    }).pipe(Effect.scoped)
  )
})
