/** How a command ends: its exit code, and the sentence on stderr with it. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as CliError from "effect/cli/CliError"

/** The exit codes; `examples/command-line/README.md` has their table. */
export const exitCodes = {
  /** The command failed, or `doctor` found something to change. */
  failed: 1,
  /** `doctor` could not look. */
  blind: 2,
  /** The command line, a variable, the file of `serve` or the URL of a database is wrong. */
  usage: 64,
  /** A package is missing. */
  peers: 69,
  /** A signal ended the command before its end. */
  interrupted: 130,
  /** Its terminal was closed. */
  hungUp: 129
} as const

/** Ends the command with a sentence on stderr, and a code. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{
  readonly message: string
  readonly code: number
}> {
  override readonly [Runtime.errorExitCode] = this.code
  override get [CliError.userMessage](): string {
    return this.message
  }
}

/** What the command was given is wrong: the code `usage`. */
export const wrongUsage = (message: string): CommandFailed =>
  new CommandFailed({ message, code: exitCodes.usage })

/** The command could not do what it was asked for. */
export const failed = (message: string): CommandFailed =>
  new CommandFailed({ message, code: exitCodes.failed })

/** How a command ends from outside. */
export interface Ending {
  /** The exit code where a signal ends it. */
  code: number
  /** Whether it goes on without a reader of stdout, and drains where its terminal is closed. */
  isServer: boolean
}

/** How the command ends from outside. */
export class OnSignal extends Context.Reference<Ending>("effect-realtime/bin/OnSignal", {
  defaultValue: () => ({ code: exitCodes.interrupted, isServer: false })
}) {}

/** For a command that runs until a signal: the signal is then its regular end, with the code 0. */
export const untilSignal: Effect.Effect<void> = OnSignal.use((onSignal) =>
  Effect.sync(() => void (onSignal.code = 0))
)

/** As `untilSignal`, for a server: it goes on without a reader of its output, and SIGHUP ends it as SIGTERM does. */
export const serverUntilSignal: Effect.Effect<void> = OnSignal.use((onSignal) =>
  Effect.andThen(
    untilSignal,
    Effect.sync(() => void (onSignal.isServer = true))
  )
)
