import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { resolve } from "node:path"
import { database, execute } from "../support/database.ts"

const program = resolve(import.meta.dirname, "support/exitProgram.ts")

describe("closing server and client", () => {
  it.live(
    "leaves no timer, socket, fiber or session in PostgreSQL, so that the process exits by itself",
    () =>
      Effect.gen(function* () {
        const { url } = yield* database
        const { code, closedAt, endedAt } = yield* Effect.callback<{
          readonly code: number | null
          readonly closedAt: number
          readonly endedAt: number
        }>((resume) => {
          let closedAt = 0
          const child = spawn(process.execPath, ["-C", "@effect-realtime/source", program], {
            env: { ...process.env, DATABASE_URL: url, NODE_ENV: "" },
            stdio: ["ignore", "pipe", "inherit"]
          })
          child.stdout.on("data", (data: Buffer) => {
            if (data.toString().includes("closed")) closedAt = performance.now()
          })
          child.once("exit", (code) =>
            resume(Effect.succeed({ code, closedAt, endedAt: performance.now() }))
          )
          return Effect.sync(() => child.kill("SIGKILL"))
        })
        expect(code).toBe(0)
        expect(closedAt).toBeGreaterThan(0)
        expect(endedAt - closedAt).toBeLessThan(2000)
        const sessions = execute(
          url,
          "select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name like 'effect-realtime%'"
        )
        // A backend notices the closed connection a little later.
        yield* Effect.repeat(sessions, { until: (rows) => rows[0]?.["n"] === 0 })
      }).pipe(Effect.scoped)
  )
})
