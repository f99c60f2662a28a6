/** Runs one node of a cluster in its own process, behind hops, and starts it again after it ended. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import type { Setup } from "./clusterProgram.ts"

export interface ClusterNode {
  /** Ends it with a signal and starts it again. Completes when it is ready. */
  readonly restart: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<void>
  /** Stops it for so many milliseconds. */
  readonly pause: (millis: number) => Effect.Effect<void>
  /** Its output so far. */
  readonly output: () => string
}

const root = join(import.meta.dirname, "../../..")

export const clusterNode = (setup: Setup): Effect.Effect<ClusterNode, never, Scope.Scope> =>
  Effect.gen(function* () {
    let output = ""
    let child: ChildProcess
    const start = Effect.callback<void>((resume) => {
      const started = spawn(
        process.execPath,
        ["-C", "@effect-realtime/source", join(import.meta.dirname, "clusterProgram.ts")],
        {
          cwd: root,
          env: { ...process.env, NODE_SETUP: JSON.stringify(setup) },
          stdio: ["ignore", "pipe", "pipe", "ipc"]
        }
      )
      child = started
      for (const stream of [started.stdout, started.stderr]) {
        stream?.on("data", (data: Buffer) => {
          output = (output + data.toString()).slice(-20_000)
        })
      }
      started.once("message", () => resume(Effect.void))
      started.once("exit", (code, signal) =>
        resume(
          Effect.die(new Error(`${setup.name} ended with ${String(code ?? signal)}:\n${output}`))
        )
      )
    })
    const end = (signal: "SIGKILL" | "SIGTERM") =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill(signal)
      })
    yield* Effect.acquireRelease(start, () => end("SIGKILL"))
    return {
      restart: (signal) => Effect.andThen(end(signal), start),
      pause: (millis) =>
        Effect.acquireUseRelease(
          Effect.sync(() => child.kill("SIGSTOP")),
          () => Effect.sleep(millis),
          () => Effect.sync(() => child.kill("SIGCONT"))
        ),
      output: () => output
    }
  })
