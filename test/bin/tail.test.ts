/** `publish` and `tail`: what the one sends the other prints, and goes on where it ended. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerDatabase, TestDatabase } from "../support/database.ts"
import { layerInstalled } from "../server/support/durable.ts"
import { record, start } from "./support/run.ts"

const url = Effect.map(TestDatabase, ({ url }) => ["--database", url] as const)
const durable = ["--delivery", "durable"] as const

/** The line of an event, without its time. */
const untimed = (line: string) => line.replace(/^\d{4}-[\dT:.-]+Z/, "<time>")

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "realtime-cli-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

describe("publish and tail", () => {
  it.live("a durable payload is printed with its cursor, from which the next run goes on", () =>
    Effect.gen(function* () {
      const database = yield* url
      expect(yield* record(["publish", "jobs", '{"n":1}', ...durable, ...database])).toEqual({
        code: 0,
        stdout: "published to jobs (durable)\n",
        stderr: ""
      })
      // The outbox has a message of the channel now, so nothing has to say how it is delivered.
      const stdin = '{"n":2}\n\n{"n": 3}\n'
      const sent = yield* record(["publish", "jobs", "--lines", ...database], { stdin })
      expect(sent).toEqual({ code: 0, stdout: "published 2 to jobs (durable)\n", stderr: "" })
      const all = yield* record(["tail", "jobs", "--from", "oldest", "--limit", "2", ...database])
      expect(all.code).toBe(0)
      expect(all.stdout.split("\n").map(untimed)).toEqual([
        '<time>  1  {"n":1}',
        '<time>  2  {"n":2}',
        ""
      ])
      const [, cursor] = /^following jobs \(durable\)\ngo on with --from (\S+)\n$/.exec(all.stderr)!
      const rest = yield* record(["tail", "jobs", "--from", cursor!, "--limit", "1", ...database])
      expect(rest.stdout).toContain('  3  {"n":3}\n')
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("as JSON a file keeps the cursor, and a signal ends the run with 0", () =>
    Effect.gen(function* () {
      const database = yield* url
      const file = Path.join(yield* folder, "cursor")
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
        "gap truncate: events may be missing here, re-read the state",
        ""
      ])
      const change = '{"operation":"INSERT","data":{}}'
      const refused = yield* record(["publish", "table_updates_orders", change, ...database])
      expect([refused.code, refused.stdout]).toEqual([1, ""])
      expect(refused.stderr).toContain("written by the triggers of its table only")
    }).pipe(Effect.provide(layerInstalled()))
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
        [["publish", "jobs", "{", ...durable], 1, "The payload is not JSON"],
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
      expect(yield* sql`select from realtime.messages`).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )
})
