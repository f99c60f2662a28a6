/** Runs a program of a test in its own process, which a test kills, stops, and starts again. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process"
import { join } from "node:path"

export interface Program {
  /** Ends it with a signal, unless it has ended. */
  readonly end: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<void>
  /** Starts it again. Completes with its first message. */
  readonly start: Effect.Effect<void>
  readonly signal: (name: "SIGSTOP" | "SIGCONT") => Effect.Effect<void>
  /** Sends it a message, as JSON. */
  readonly send: (message: object) => Effect.Effect<void>
  /** Sends it a message and completes with the next one that it sends. */
  readonly ask: <A>(message: object) => Effect.Effect<A>
}

const root = join(import.meta.dirname, "../..")

const started = (
  args: ReadonlyArray<string>,
  env: NodeJS.ProcessEnv,
  stdio: StdioOptions
): ChildProcess =>
  spawn(process.execPath, ["-C", "@effect-realtime/source", ...args], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio
  })

/** Runs Node on the sources, from the root of the repository, until the scope ends at the latest. */
export const sourceProcess = (
  args: ReadonlyArray<string>,
  env: NodeJS.ProcessEnv,
  stdio: StdioOptions
): Effect.Effect<ChildProcess, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => started(args, env, stdio)),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** `file`: from the root of the repository. The program reads `setup` from PROGRAM_SETUP, as JSON. */
export const program = (file: string, setup: object): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.gen(function* () {
    let child: ChildProcess
    const start = Effect.callback<void>((resume) => {
      let output = ""
      const next = started([file], { PROGRAM_SETUP: JSON.stringify(setup) }, [
        "ignore",
        "pipe",
        "pipe",
        "ipc"
      ])
      child = next
      for (const stream of [next.stdout, next.stderr]) {
        stream?.on("data", (data: Buffer) => {
          output = (output + data.toString()).slice(-20_000)
        })
      }
      next.once("message", () => resume(Effect.void))
      next.once("exit", (code, signal) =>
        resume(Effect.die(new Error(`${file} ended with ${String(code ?? signal)}:\n${output}`)))
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
      start,
      end,
      signal: (name) => Effect.sync(() => void child.kill(name)),
      send: (message) => Effect.sync(() => void child.send(message)),
      ask: <A>(message: object) =>
        Effect.callback<A>((resume) => {
          child.once("message", (answer) => resume(Effect.succeed(answer as A)))
          child.send(message)
        })
    }
  })

/** The setup of this process, which ends with the test, whatever happens to it. */
export const setupOf = <A>(): A => {
  process.on("disconnect", () => process.exit(1))
  return JSON.parse(process.env["PROGRAM_SETUP"]!) as A
}
