/** What is wrong, in one line for each error: after `error:`, so that a log can be searched for it. */
import type * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import type { HelpDoc } from "effect/cli/HelpDoc"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Layer from "effect/Layer"
import { shownText } from "./output.ts"
import { styles } from "./styles.ts"

/** The value of a variable that does not fit: the parser only knows that it is no flag. */
const ofVariable = /^SchemaError\((.*?)\s+at \["(\w+)"\]\)$/s

/** What the parser says of a flag that stands there more than once. */
const times = /^(\d+) occurrences$/

/** What it says of a flag such as --no-install with a value. */
const negated = /^omit the value and use (--[\w-]+)\S* by itself /

const ofRule = "; a claim is a rule of the file that --config names"

/** What the words of a flag cannot say, and where it is said. */
const elsewhere: ReadonlyMap<string, string> = new Map([
  ["read", ofRule],
  ["publish", ofRule]
])

/** What the value of a flag with these words must be. */
export const wantedOf = (flag: string, words: ReadonlyArray<string>): string =>
  `${words.slice(0, -1).join(", ")} or ${words.at(-1)}${elsewhere.get(flag) ?? ""}`

/** The words between which the parser lets choose. */
const wordsOf = (expected: string): ReadonlyArray<string> | undefined =>
  /^("?)[\w-]+\1(?: \| \1[\w-]+\1)+$/.test(expected)
    ? expected.replaceAll('"', "").split(" | ")
    : undefined

/** What a value must be, in our words for those of the parser. */
const inWords = (flag: string, expected: string): string => {
  if (expected.startsWith('Expected "true" | ')) return "true or false"
  if (/^Expected (an integer|.* finite number)$/.test(expected)) return "a whole number"
  const words = wordsOf(expected)
  return words === undefined ? expected : wantedOf(flag, words)
}

const ofValue = ({ expected, kind, option, value }: CliError.InvalidValue): string => {
  const [, reason, variable] = ofVariable.exec(expected) ?? []
  const isSentence = expected.endsWith(".")
  if (variable !== undefined) return `${variable}: ${reason}`
  if (kind === "argument" && isSentence) return expected
  const place = kind === "argument" ? `<${option}>` : `--${option}`
  if (isSentence) return `${place}: ${expected}`
  const [, count] = times.exec(value) ?? []
  if (count !== undefined) return `${place} is given ${count} times. Give it once.`
  const [, no] = negated.exec(expected) ?? []
  if (no !== undefined) return `${no} takes no value, and ${JSON.stringify(value)} is given.`
  return isMissing(value, expected)
    ? `${place} needs a value: ${inWords(option, expected)}.`
    : `${place}: ${JSON.stringify(value)} does not fit. It must be ${inWords(option, expected)}.`
}

/** Of a flag at the end of the line the parser names its kind, or its words without quotes. */
const isMissing = (value: string, expected: string): boolean =>
  value === "" && /^(?:<|[\w-]+(?: \| |$))/.test(expected)

const textOf = (error: CliError.CliError): string => {
  if (error._tag === "MissingOption" && error.option === "database") {
    return "There is no database. Give --database, or set DATABASE_URL."
  }
  return error._tag === "InvalidValue" ? ofValue(error) : error.message
}

/** Which help has more, out of `effect-realtime sql [flags]`. */
export const hintOf = ({ usage }: HelpDoc): string => `See ${usage.split(/ [[<]/)[0]} --help.`

/** Errors as lines, in red on a terminal. */
export const layerErrorLines = Layer.unwrap(
  TerminalCapabilities.useSync(({ canColor }) => {
    const { red } = styles(canColor)
    const line = (text: string) => shownText(`${red("error:")} ${text}`)
    return CliOutput.layer({
      ...CliOutput.defaultFormatter({ colors: canColor }),
      formatError: (error) => line(textOf(error)),
      formatErrors: (errors) => errors.map((error) => line(textOf(error))).join("\n")
    })
  })
)
