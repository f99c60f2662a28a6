/** `serve` as a process: its output, and the signals that end it. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { once } from "node:events"
import { WebSocket } from "ws"
import { layerDatabase, TestDatabase } from "../support/database.ts"
import { freePort } from "../support/freePort.ts"
import { sourceProcess } from "../support/program.ts"
import { until } from "../support/until.ts"

describe("a process of serve", () => {
  it.live(
    "goes on when the reader of its output has left, and drains when its terminal is closed",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const port = yield* freePort
        const child = yield* sourceProcess(
          [
            "src/bin/effect-realtime.ts",
            "serve",
            "--live",
            "news",
            "--allow-all",
            "--port",
            String(port)
          ],
          { DATABASE_URL: url },
          ["ignore", "pipe", "pipe"]
        )
        const exited = once(child, "exit")
        // Its reader leaves before `ready`.
        child.stdout!.destroy()
        child.stderr!.destroy()
        yield* Effect.promise(() =>
          fetch(`http://127.0.0.1:${port}/health`).then(
            ({ status }) => status,
            () => 0
          )
        ).pipe(
          Effect.repeat({
            schedule: Schedule.spaced("50 millis"),
            until: (status) => status === 200
          })
        )
        const socket = new WebSocket(`ws://127.0.0.1:${port}/realtime`)
        const frames: Array<string> = []
        socket.on("message", (data: Buffer) => frames.push(data.toString()))
        yield* Effect.promise(() => once(socket, "open"))
        socket.send(JSON.stringify({ type: "hello", version: 1 }))
        yield* until(() => frames.length > 0)
        const closed = once(socket, "close")
        child.kill("SIGHUP")
        yield* Effect.promise(() => closed)
        expect(frames.at(-1)).toContain('"bye"')
        expect(yield* Effect.promise(() => exited)).toEqual([0, null])
      }).pipe(Effect.provide(layerDatabase))
  )
})
