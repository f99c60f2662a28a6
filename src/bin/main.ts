/**
 * Runs the command line: arguments to a command, and how the command ended to an exit code.
 *
 * Results are on stdout and everything else on stderr, so that a pipe receives results only.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Stdio from "effect/Stdio"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import { commands } from "./commands.ts"
import { hintOf, layerErrorLines } from "./shared/errorLines.ts"
import { type Ending, exitCodes, OnSignal, wrongUsage } from "./shared/exit.ts"
import { printable, tell } from "./shared/output.ts"
import { version } from "./shared/peers.ts"
import { shellWord } from "./shared/shell.ts"

const root = Command.make("effect-realtime").pipe(
  Command.withDescription("PostgreSQL notifications and table changes in real time."),
  Command.withSubcommands(commands)
)

/** A wrong command line gets its errors and not the whole help, above which they would be lost. */
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Effect.flatMap(CliOutput.Formatter, (formatter) =>
          Console.error(`${formatter.formatErrors(event.errors)}\n${hintOf(event.helpDoc)}`)
        )
      : CliOutput.defaultPresenter.present(event)
}

const settings = Layer.mergeAll(
  // One line for each log, of all commands.
  Logger.layer([Logger.withConsoleError(Logger.map(Logger.formatLogFmt, printable))]),
  CliOutput.layerPresenter(presenter),
  layerErrorLines,
  // A wizard would lose the order of the flags, which `sql` needs.
  CliConfig.layer({
    builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel]
  })
)

/** The parser takes "-5 hours" for short flags, and its "h" for help. */
const checkNegative = (args: ReadonlyArray<string>) => {
  const end = args.indexOf("--")
  const at = args
    .slice(0, end < 0 ? undefined : end)
    .findIndex(
      (arg, index) => /^-\d[^]*[a-z]/i.test(arg) && /^--[^=]+$/.test(args[index - 1] ?? "")
    )
  if (at < 0) return Effect.void
  const [flag, value] = [args[at - 1]!, args[at]!]
  const wrong = wrongUsage(
    `"${value}" begins with "-", so it is read as flags. If it is the value of ${flag}, write ${flag}=${shellWord(value)}.`
  )
  return Effect.andThen(
    tell(`error: ${wrong.message}`),
    Effect.fail(Object.assign(wrong, { [Runtime.errorReported]: false }))
  )
}

/** Runs the command that the arguments name. */
export const run = (args: ReadonlyArray<string>) =>
  Effect.andThen(checkNegative(args), Command.runWith(root, { version })(args)).pipe(
    Effect.updateService(Stdio.Stdio, (stdio) => ({ ...stdio, args: Effect.succeed(args) })),
    Effect.provide(settings)
  )

/** The exit code of a run. */
export const codeOf = <A, E>(exit: Exit.Exit<A, E>, onSignal: number): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return onSignal
  const error = Cause.squash(exit.cause)
  const code = Runtime.getErrorExitCode(error)
  return CliError.isCliError(error) && code !== 0 ? exitCodes.usage : code
}

/** Runs as the process: signals interrupt, and the process exits when the command has ended. */
export const main = (args: ReadonlyArray<string>): void => {
  const onSignal: Ending = { code: exitCodes.interrupted, isServer: false }
  // The reader of a pipe that has left, such as head, wants no more. The clients of a server still do.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (!onSignal.isServer) process.exit(error.code === "EPIPE" ? 0 : exitCodes.failed)
  })
  process.stderr.on("error", () => {
    if (!onSignal.isServer) process.exit(exitCodes.failed)
  })
  process.on("SIGHUP", () => {
    if (!onSignal.isServer) process.exit(exitCodes.hungUp)
    process.emit("SIGTERM")
  })
  run(args).pipe(
    Effect.provideService(OnSignal, onSignal),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain({
      teardown: (exit, onExit) => onExit(codeOf(exit, onSignal.code))
    })
  )
}
