/** What is wrong, in one line for each error: after `error:`, so that a log can be searched for it. */
import type * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import type { HelpDoc } from "effect/cli/HelpDoc"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Layer from "effect/Layer"
import { styles } from "./styles.ts"

/** The value of a variable that does not fit: the parser only knows that it is no flag. */
const ofVariable = /^SchemaError\((.*?)(?:\s+at \["(\w+)"\])?\)$/s

const textOf = (error: CliError.CliError): string => {
  if (error._tag === "MissingOption" && error.option === "database") {
    return "There is no database. Give --database, or set DATABASE_URL."
  }
  if (error._tag === "InvalidValue") {
    const [, expected, variable] = ofVariable.exec(error.expected) ?? []
    if (variable !== undefined) {
      return `The variable ${variable} does not fit --${error.option}. ${expected}.`
    }
  }
  return error.message
}

/** Which help has more, out of `effect-realtime sql [flags]`. */
export const hintOf = ({ usage }: HelpDoc): string => `See ${usage.split(/ [[<]/)[0]} --help.`

/** Errors as lines, in red on a terminal. */
export const layerErrorLines = Layer.unwrap(
  TerminalCapabilities.useSync(({ canColor }) => {
    const { red } = styles(canColor)
    const line = (text: string) => `${red("error:")} ${text}`
    return CliOutput.layer({
      ...CliOutput.defaultFormatter({ colors: canColor }),
      formatError: (error) => line(textOf(error)),
      formatErrors: (errors) => errors.map((error) => line(textOf(error))).join("\n")
    })
  })
)
