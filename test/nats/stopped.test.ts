/**
 * The memory of a node that is fed, while it is stopped or its loop is blocked and 200,000 ticks and pages are sent.
 * Linux says how much it is. Runs with REALTIME_TEST_LONG=1.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Sealed from "../../src/nats/internal/sealed.ts"
import { channelToken } from "../../src/nats/internal/subjects.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as DatabaseKeys from "../../src/server/internal/bus/databaseKeys.ts"
import { layerInstalled } from "../server/support/durable.ts"
import { long } from "../server/support/random.ts"
import { TestDatabase } from "../support/database.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { sourceProcess } from "../support/program.ts"
import { until } from "../support/until.ts"

const MiB = 1_048_576
const frames = 200_000

/** A node in its own process. */
const fedNode = (url: string, address: string) =>
  Effect.gen(function* () {
    const said: Array<string> = []
    const child = yield* sourceProcess(
      ["test/whole/support/fedProgram.ts"],
      { DATABASE_URL: url, NATS_SERVER: address },
      ["ignore", "ignore", "inherit", "ipc"]
    )
    child.on("message", (text) => said.push(String(text)))
    yield* until(() => said.includes("ready"))
    return { child, said }
  })

const rssOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024

describe.skipIf(!long || executablePath === undefined || process.platform !== "linux")(
  "A node that hears nothing for a while",
  () => {
    it.live.each(["stopped", "blocked"] as const)(
      "keeps its memory while 200,000 frames are sent to it, and goes on, %s",
      (how) =>
        Effect.gen(function* () {
          const { url } = yield* TestDatabase
          const sql = yield* PgClient.PgClient
          const server = yield* natsServer()
          const { child, said } = yield* fedNode(url, server.address)
          const publish = (text: string) => sql`select realtime.publish('log', ${text})`
          yield* publish(`"before"`)
          yield* until(() => said.includes(`"before"`))

          const connection = yield* NatsConnection.make({ servers: server.address })
          const sealed = yield* Sealed.make(connection, "realtime", yield* DatabaseKeys.make(sql))
          const prefix = sealed.prefix()!
          const ticks: Array<string> = []
          yield* sealed.subscribe(`${prefix}.tick`, (text) => ticks.push(text))
          yield* until(() => ticks.length > 0)
          const tick = JSON.parse(ticks[0]!) as { readonly r: string }
          const page = `${prefix}.page.${channelToken("log")}`
          const fill = "x".repeat(500)

          const before = rssOf(child.pid!)
          let most = before
          const file = Path.join(Os.tmpdir(), `blocked-${child.pid}`)
          Fs.writeFileSync(file, "")
          yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(file, { force: true })))
          if (how === "stopped") child.kill("SIGSTOP")
          else child.send(file)
          for (let n = 0; n < frames; n++) {
            // Ticks of a reader that is not there, and pages without a tick.
            const text =
              n % 2 === 0
                ? JSON.stringify({ ...tick, r: "1.other", n })
                : `${JSON.stringify({ r: "1.other", n, c: "log", k: 0, rows: [["1", "1", 0, 500, -1]] })}\n${fill}`
            while (!sealed.publish(n % 2 === 0 ? `${prefix}.tick` : page, text)) {
              yield* sealed.flush(1000)
            }
            if (n % 1000 === 0) most = Math.max(most, rssOf(child.pid!))
          }
          yield* sealed.flush(10_000)
          if (how === "stopped") child.kill("SIGCONT")
          Fs.rmSync(file)
          yield* publish(`"after"`)
          yield* until(() => {
            most = Math.max(most, rssOf(child.pid!))
            return said.includes(`"after"`)
          })
          yield* Effect.logInfo(
            `${how}: ${Math.round(before / MiB)} MiB before, ${Math.round(most / MiB)} MiB at most`
          )
          expect(said.filter((text) => text !== "ready")).toEqual([`"before"`, `"after"`])
          expect(most - before).toBeLessThan(128 * MiB)
        }).pipe(Effect.scoped, Effect.provide(layerInstalled())),
      240_000
    )
  }
)
