/** `publish` and `tail`: what the one sends the other prints, and goes on where it ended. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerDatabase, TestDatabase } from "../support/database.ts"
import { layerInstalled } from "../server/support/durable.ts"
import { ownServer } from "../support/cluster.ts"
import { temporary } from "../support/temporary.ts"
import { recorded } from "./support/guide.ts"
import { record, start } from "./support/run.ts"

const url = Effect.map(TestDatabase, ({ url }) => ["--database", url] as const)
const durable = ["--delivery", "durable"] as const
const defined = ["--definitions", "examples/command-line/channels.ts"] as const

/** The line of an event, without its time. */
const untimed = (line: string) => line.replace(/^\d{4}-[\dT:.-]+Z/, "<time>")

describe("publish and tail", () => {
  it.live("a durable payload is printed with its cursor, from which the next run goes on", () =>
    Effect.gen(function* () {
      const database = yield* url
      expect(yield* record(["publish", "jobs", '{"n":1}', ...durable, ...database])).toEqual({
        code: 0,
        stdout: recorded("publish"),
        stderr: ""
      })
      // The outbox has a message of the channel now, so nothing has to say how it is delivered.
      const stdin = '{"n":2}\n\n{"n": 3}\n'
      const sent = yield* record(["publish", "jobs", "--lines", ...database], { stdin })
      expect(sent).toEqual({ code: 0, stdout: "published 2 to jobs (durable)\n", stderr: "" })
      const all = yield* record(["tail", "jobs", "--from", "oldest", "--limit", "2", ...database])
      expect(all.code).toBe(0)
      expect(all.stdout.split("\n").map(untimed)).toEqual(recorded("tail").split("\n").map(untimed))
      const [, cursor] = /^following jobs \(durable\)\ngo on with --from (\S+)\n$/.exec(all.stderr)!
      const rest = yield* record(["tail", "jobs", "--from", cursor!, "--limit", "1", ...database])
      expect(rest.stdout).toContain('  3  {"n":3}\n')
      const json = yield* record([
        "tail",
        "jobs",
        "--from",
        "oldest",
        "--limit",
        "1",
        "--json",
        ...database
      ])
      const shown = json.stdout
        .replace(/"at":"[^"]*"/, '"at":"2026-11-29T17:00:00.000Z"')
        .replace(/"tx":"\d+"/, '"tx":"762"')
        .replace(/"cursor":"[^"]*"/, '"cursor":"..."')
      expect(shown).toBe(recorded("tail-json"))
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("as JSON a file keeps the cursor, and a signal ends the run with 0", () =>
    Effect.gen(function* () {
      const database = yield* url
      const file = Path.join(yield* temporary, "cursor")
      const args = ["tail", "jobs", "--json", "--cursor-file", file, ...durable, ...database]
      const first = yield* start(args)
      expect(JSON.parse(yield* Queue.take(first.lines))).toMatchObject({ type: "cursor" })
      yield* record(["publish", "jobs", "1", ...durable, ...database])
      const event = JSON.parse(yield* Queue.take(first.lines)) as Record<string, unknown>
      expect(event).toMatchObject({ type: "event", channel: "jobs", id: "1", payload: 1 })
      yield* first.signal
      expect((yield* first.ended).code).toBe(0)
      // Between the runs.
      yield* record(["publish", "jobs", "2", ...durable, ...database])
      const second = yield* record([...args, "--limit", "1"])
      expect(JSON.parse(second.stdout)).toMatchObject({ id: "2", payload: 2 })
      expect(Fs.readFileSync(file, "utf8").trim()).toBe(
        (JSON.parse(second.stdout) as { cursor: string }).cursor
      )
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a watched table says how its channel is delivered, and a gap is a line of its own", () =>
    Effect.gen(function* () {
      const database = yield* url
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key)`
      yield* PgInstaller.watch({ channel: "table_updates_orders", delivery: "durable" })
      yield* sql`insert into orders values (1)`
      yield* sql`truncate orders`
      const args = ["tail", "table_updates_orders", "--from", "oldest", "--limit", "2"]
      const { stdout } = yield* record([...args, ...database])
      expect(stdout.split("\n").map(untimed)).toEqual([
        '<time>  1  {"operation":"INSERT","data":{"id":1},"key":{"id":1}}',
        "gap truncate: events may be missing here, re-read the state (all rows of the table were removed)",
        ""
      ])
      const change = '{"operation":"INSERT","data":{}}'
      const refused = yield* record(["publish", "table_updates_orders", change, ...database])
      expect([refused.code, refused.stdout]).toEqual([1, ""])
      expect(refused.stderr).toContain("written by the triggers of its table only")
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a gap says why the run cannot go on from its cursor", () =>
    Effect.gen(function* () {
      const database = yield* url
      const sql = yield* PgClient.PgClient
      yield* record(["publish", "jobs", "--lines", ...durable, ...database], { stdin: "1\n2\n3" })
      const from = (cursor: string, ...more: ReadonlyArray<string>) =>
        Effect.map(
          record([
            "tail",
            "jobs",
            "--from",
            cursor,
            "--limit",
            "1",
            ...more,
            ...durable,
            ...database
          ]),
          ({ stdout }) => stdout
        )
      const first = JSON.parse(yield* from("oldest", "--json")) as { readonly cursor: string }
      const { cursor } = first
      expect(yield* from(cursor)).toMatch(/ {2}2\n$/)
      const foreign = cursor.replace(/(?<=^2\.).{8}/, "--------")
      expect(yield* from(foreign)).toBe(
        "gap source: events may be missing here, re-read the state (the cursor is of another database, or of this one before it was restored or its objects were installed anew)\n"
      )
      expect(JSON.parse(yield* from(foreign, "--json"))).toMatchObject({
        type: "gap",
        reason: "source",
        why: expect.stringMatching(/^the cursor is of another database/)
      })
      yield* sql`delete from realtime.messages`
      expect(yield* from(cursor)).toMatch(/^gap source: .* \(the event of the cursor was lost /)
      yield* sql`update realtime.horizon set snapshot = pg_current_snapshot()`
      expect(yield* from(cursor)).toMatch(/^gap retention: .* \(messages were pruned /)
      yield* sql`drop schema realtime cascade`
      yield* record(["sql", "--apply", ...database])
      expect(yield* from(cursor)).toMatch(/^gap source: .* \(the cursor is of another database, /)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live(
    "a line of stdin that cannot be sent is named, with how many before it are published",
    () =>
      Effect.gen(function* () {
        const database = yield* url
        const args = ["publish", "jobs", "--lines", ...durable, ...database]
        const { code, stderr, stdout } = yield* record(args, {
          stdin: '{"n":1}\n\n{"n":2}\n{"n"\n'
        })
        expect([code, stdout]).toEqual([1, ""])
        expect(stderr).toMatch(/Line 4 is not JSON: .*[^.]\. \d+ before it/)
        expect(stderr).toContain("2 before it are published: go on with line 4.")
      }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("no payload sends a code to the terminal, and each is one line", () =>
    Effect.gen(function* () {
      const database = yield* url
      const acting =
        "\u001b[31m\u009b31m\u007f\u0007\u202e\u2028\u2029\u2066\r\n\u0000 \u{1f469}\u200d\u{1f4bb}"
      const payloads = [acting, { [acting]: [acting] }, "\\u001b", 'a"\\', null, 1.5].map((one) =>
        JSON.stringify(one)
      )
      const stdin = payloads.filter((one) => !one.includes("\\u0000")).join("\n")
      yield* record(["publish", "jobs", "--lines", ...durable, ...database], { stdin })
      const count = stdin.split("\n").length
      const tail = ["tail", "jobs", "--from", "oldest", "--limit", String(count), ...durable]
      for (const args of [[], ["--json"]]) {
        const { stdout } = yield* record([...tail, ...args, ...database])
        const lines = stdout.split("\n").slice(0, -1)
        expect(lines).toHaveLength(count)
        expect(stdout.replaceAll("\n", "")).not.toMatch(
          /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/u
        )
        const shown = lines.map((line) =>
          args.length === 0
            ? (JSON.parse(line.replace(/^\S+ {2}\S+ {2}/, "")) as unknown)
            : (JSON.parse(line) as { readonly payload: unknown }).payload
        )
        expect(shown).toEqual(stdin.split("\n").map((one) => JSON.parse(one) as unknown))
      }
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a tail goes on exactly where it was after its database was killed", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const database = ["--database", server.url]
      yield* record(["sql", "--apply", ...database])
      const publish = (...ns: ReadonlyArray<number>) =>
        record(["publish", "jobs", "--lines", ...durable, ...database], { stdin: ns.join("\n") })
      const running = yield* start(["tail", "jobs", "--json", ...durable, ...database])
      const next = Effect.map(
        Queue.take(running.lines),
        (line) => JSON.parse(line) as { readonly type: string; readonly payload?: unknown }
      )
      expect(yield* next).toMatchObject({ type: "cursor" })
      yield* publish(1, 2)
      expect([yield* next, yield* next]).toMatchObject([{ payload: 1 }, { payload: 2 }])
      yield* server.crash
      expect((yield* publish(3, 4)).code).toBe(0)
      expect([yield* next, yield* next]).toMatchObject([{ payload: 3 }, { payload: 4 }])
      yield* running.signal
      const { code, stderr, stdout } = yield* running.ended
      expect([code, stdout.match(/"type":"event"/g)?.length, stdout.includes('"gap"')]).toEqual([
        0,
        4,
        false
      ])
      const [, cursor] = /go on with --from (\S+)\n$/.exec(stderr)!
      yield* publish(5)
      const rest = yield* record([
        "tail",
        "jobs",
        "--from",
        cursor!,
        "--limit",
        "1",
        ...durable,
        ...database
      ])
      expect(rest.stdout).toMatch(/ {2}5\n$/)
    }).pipe(Effect.scoped)
  )

  it.live("without the objects a channel is live", () =>
    Effect.gen(function* () {
      const database = yield* url
      const live = yield* start(["tail", "news", "--limit", "1", ...database])
      // A notification before the LISTEN is for no listener.
      const sent = record(["publish", "news", '{"title":"Hello"}', ...database])
      const line = yield* Effect.raceFirst(
        Queue.take(live.lines),
        Effect.forever(Effect.andThen(sent, Effect.sleep("50 millis")))
      )
      expect(line).toMatch(/^\S+ {2}\S+ {2}\{"title":"Hello"\}$/)
      expect(yield* live.ended).toMatchObject({ code: 0, stderr: "following news (live)\n" })
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("what cannot be sent is refused with a sentence, and sends nothing", () =>
    Effect.gen(function* () {
      const database = yield* url
      const refused = (...args: ReadonlyArray<string>) =>
        Effect.map(record([...args, ...database]), ({ code, stderr }) => [code, stderr] as const)
      for (const [args, code, text] of [
        [["publish", "jobs", '{"n":"one"}', ...defined], 1, 'channel "jobs"'],
        [["publish", "jobs", "{", ...durable], 1, "The payload is not JSON"],
        [["publish", "jobs", '{"a":{"__proto__":1}}', ...durable], 1, "without the name __proto__"],
        [["tail", "jobs"], 64, 'Nothing says how channel "jobs" is delivered'],
        [["tail", "jobs", "--from", "nonsense", ...durable], 64, "--from has no cursor"],
        [["tail", "jobs", "--cursor-file", "/no/x", ...durable], 64, "cannot be read and written"],
        [["publish", "jobs", "1"], 64, 'Nothing says how channel "jobs" is delivered'],
        [["publish", "realtime", "1"], 64, "is reserved"],
        [["publish", "system_notifications", "1"], 1, "system_notifications"],
        [["publish", "jobs", `"${"x".repeat(8000)}"`, "--delivery", "live"], 1, "at most 7999 fit"],
        [["publish", "jobs", "1", "--key", "a", "--delivery", "live"], 64, "--key is for durable"],
        [["tail", "news", "--from", "oldest", "--delivery", "live"], 64, "no event of it is kept"],
        [["tail", "jobs", "--schema", "other", ...durable], 1, "does not have the objects"]
      ] as const) {
        const [was, stderr] = yield* refused(...args)
        expect([was, stderr], args.join(" ").slice(0, 60)).toEqual([
          code,
          expect.stringContaining(text)
        ])
      }
      const sql = yield* PgClient.PgClient
      const kept = sql`select channel, payload from realtime.messages`
      expect(yield* kept).toEqual([])
      // The definition also says that it is durable.
      const sent = yield* record(["publish", "jobs", '{"n": 1}', ...defined, ...database])
      expect(sent).toMatchObject({ code: 0, stdout: recorded("publish") })
      expect(yield* kept).toEqual([{ channel: "jobs", payload: '{"n": 1}' }])
    }).pipe(Effect.provide(layerInstalled()))
  )
})
