/** Runs the command line in this process, and records what it prints. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import {
  ConfigProvider,
  Console,
  Effect,
  Fiber,
  Layer,
  Metric,
  Queue,
  type Scope,
  Stdio,
  Stream
} from "effect"
import { TerminalCapabilities } from "effect/cli"
import { format } from "node:util"
import { codeOf, run } from "../../../src/bin/main.ts"
import { type Ending, exitCodes, OnSignal } from "../../../src/bin/shared/exit.ts"

interface Options {
  readonly stdin?: string
  readonly env?: Readonly<Record<string, string>>
  /** Whether stdout is a terminal without colours. */
  readonly isTerminal?: boolean
}

interface Recorded {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

interface Running {
  /** Each line of stdout, as it is printed. */
  readonly lines: Queue.Dequeue<string>
  /** Interrupts the command as a signal does. */
  readonly signal: Effect.Effect<void>
  readonly ended: Effect.Effect<Recorded>
}

/** Starts a command; it ends with the scope at the latest. */
export const start = (args: ReadonlyArray<string>, options?: Options) =>
  Effect.gen(function* (): Effect.fn.Return<Running, never, Scope.Scope> {
    const lines = yield* Queue.unbounded<string>()
    const out: Array<string> = []
    const err: Array<string> = []
    const console = yield* Console.Console
    const recording: Console.Console = {
      ...console,
      log: (...texts) => {
        const text = format(...(texts as [unknown]))
        out.push(`${text}\n`)
        for (const line of text.split("\n")) Queue.offerUnsafe(lines, line)
      },
      error: (...texts) => {
        err.push(`${format(...(texts as [unknown]))}\n`)
      }
    }
    const onSignal: Ending = { code: exitCodes.interrupted, isServer: false }
    const fiber = yield* run(args).pipe(
      Effect.provide(
        Layer.mergeAll(
          NodeServices.layer,
          Layer.succeed(Console.Console, recording),
          // As in a process of its own: no series of what else runs here.
          Layer.succeed(Metric.MetricRegistry, new Map()),
          Layer.succeed(OnSignal, onSignal),
          Layer.succeed(TerminalCapabilities.TerminalCapabilities, {
            canColor: false,
            canAnimate: options?.isTerminal ?? false,
            canPrompt: false
          }),
          ConfigProvider.layer(ConfigProvider.fromEnv({ env: options?.env ?? {} })),
          Stdio.layerTest({
            stdin: Stream.make(new TextEncoder().encode(options?.stdin ?? ""))
          })
        )
      ),
      Effect.forkScoped
    )
    return {
      lines,
      signal: Fiber.interrupt(fiber),
      ended: Effect.map(Fiber.await(fiber), (exit) => ({
        code: codeOf(exit, onSignal.code),
        stdout: out.join(""),
        stderr: err.join("")
      }))
    }
  })

/** Runs a command to its end. */
export const record = (args: ReadonlyArray<string>, options?: Options) =>
  Effect.scoped(
    Effect.flatMap(start(args, options), ({ ended }) => ended)
  ) as Effect.Effect<Recorded>
