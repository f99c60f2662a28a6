/**
 * Starts a node in its own process, sends it requests, and reports whether it is alive.
 */
import { Effect, type Scope } from "effect"
import type { ChildProcess } from "node:child_process"
import { sourceProcess } from "../../support/program.ts"
import type { Ask, Memory, Setup } from "./nodeProgram.ts"

export interface Node {
  readonly port: number
  readonly memory: Effect.Effect<Memory>
  readonly sessions: Effect.Effect<number>
  readonly flood: (first: number, count: number, bytes: number) => Effect.Effect<void>
  /** Its output so far. */
  readonly output: () => string
  readonly alive: () => boolean
  /** Kills it, and completes when the process has ended. */
  readonly kill: Effect.Effect<void>
}

/** A node that ends with the scope. */
export const node = (setup: Setup): Effect.Effect<Node, never, Scope.Scope> =>
  Effect.gen(function* () {
    let output = ""
    const child = yield* sourceProcess(
      ["--expose-gc", "test/whole/support/nodeProgram.ts"],
      { NODE_SETUP: JSON.stringify(setup) },
      ["ignore", "pipe", "pipe", "ipc"]
    )
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data: Buffer) => {
        output += data.toString()
      })
    }
    const ask = asker(child, () => output)
    const port = (yield* ask.first) as number
    return {
      port,
      memory: ask({ do: "memory" }) as Effect.Effect<Memory>,
      sessions: ask({ do: "sessions" }) as Effect.Effect<number>,
      flood: (first, count, bytes) => Effect.asVoid(ask({ do: "flood", first, count, bytes })),
      output: () => output,
      alive: () => child.exitCode === null && child.signalCode === null,
      kill: Effect.callback<void>((resume) => {
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
    }
  })

const asker = (child: ChildProcess, output: () => string) => {
  const waiting = new Map<number, (answer: Effect.Effect<unknown>) => void>()
  let lastId = 0
  child.on("message", ({ answer, id }: { readonly id: number; readonly answer: unknown }) => {
    waiting.get(id)?.(Effect.succeed(answer))
    waiting.delete(id)
  })
  child.on("exit", () => {
    for (const resume of waiting.values()) {
      resume(Effect.die(new Error(`The node died:\n${output()}`)))
    }
  })
  const answerTo = (id: number): Effect.Effect<unknown> =>
    Effect.callback((resume) => {
      waiting.set(id, resume)
      return Effect.sync(() => waiting.delete(id))
    })
  return Object.assign(
    (ask: Ask) =>
      Effect.suspend(() => {
        const id = ++lastId
        child.send({ id, ask })
        return answerTo(id)
      }),
    { first: answerTo(0) }
  )
}
