/**
 * Settings that have up to three spellings: a flag, a variable of the environment, and a key of the
 * gateway's file.
 *
 * A flag is stronger than its variable. A secret has no flag, because the other users of a machine see the
 * flags of its processes. A value that does not fit is refused in one line, with the spelling that was used.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Flag from "effect/cli/Flag"
import { wantedOf } from "./errorLines.ts"
import { type CommandFailed, wrongUsage } from "./exit.ts"
import { pathFlag } from "./pathFlag.ts"

/** One setting. */
export interface Setting<A = unknown> {
  /** Its place in the file, such as `limits.maxSessions`; without one it is no part of the file. */
  readonly key: string | undefined
  readonly flag: string | undefined
  readonly variable: string
  /** One clause for the help and the guide. */
  readonly what: string
  /** The flag as it is given. */
  readonly raw: Flag.Flag<Option.Option<unknown>> | undefined
  /** The value of the flag as it is given, or of the text of the variable; `undefined` for one that does not fit. */
  readonly read: (raw: unknown) => A | undefined
  /** What the value must be. */
  readonly expected: string
  /** Whether the value must not be repeated. */
  readonly isHidden: boolean
}

/** The variable of a flag: REALTIME_JWT_KEYS for --jwt-keys. */
export const variableOf = (flag: string): string =>
  `REALTIME_${flag.toUpperCase().replaceAll("-", "_")}`

/** The description of a flag with its variable behind it. */
export const described = (flag: string, what: string, variable = variableOf(flag)): string =>
  `${what} (${variable})`

interface SettingGiven {
  /** Default: the flag in camel case; `none` for what is no part of the file. */
  readonly key?: string
  readonly what: string
  readonly variable?: string
}

const camel = (flag: string): string =>
  flag.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

const keyOf = (flag: string, { key = camel(flag) }: SettingGiven): string | undefined =>
  key === "none" ? undefined : key

const setting = <A>(
  flag: string,
  given: SettingGiven,
  base: Flag.Flag<unknown>,
  expected: string,
  read: (raw: unknown) => A | undefined,
  more = ""
): Setting<A> => {
  const { variable = variableOf(flag), what } = given
  const shown = Flag.withDescription(base, described(flag, `${what}${more}`, variable))
  return {
    key: keyOf(flag, given),
    flag,
    variable,
    what,
    raw: Flag.optional(shown),
    read,
    expected,
    isHidden: false
  }
}

const asText = (flag: string, metavar: string) => Flag.withMetavar(Flag.String(flag), metavar)

const notEmpty = (raw: unknown): string | undefined => (raw === "" ? undefined : (raw as string))

/** A text. */
export const text = (flag: string, metavar: string, given: SettingGiven): Setting<string> =>
  setting(flag, given, asText(flag, metavar), "a text that is not empty", notEmpty)

/** The path of a file. */
export const file = (flag: string, given: SettingGiven): Setting<string> =>
  setting(
    flag,
    given,
    Flag.withMetavar(pathFlag(flag), "<file>"),
    "a path that is not empty",
    notEmpty
  )

/** The URL of a database, which holds a password. */
export const database = (flag: string, given: SettingGiven): Setting<Redacted.Redacted> => ({
  ...setting(flag, given, Flag.withMetavar(Flag.Redacted(flag), "<url>"), "a URL", (raw) =>
    Redacted.isRedacted(raw) ? (raw as Redacted.Redacted) : Redacted.make(raw as string)
  ),
  isHidden: true
})

/** A whole number. */
export const whole = (flag: string, given: SettingGiven): Setting<number> =>
  setting(flag, given, asText(flag, "<n>"), "a whole number", (raw) =>
    /^[-+]?\d+$/.test(raw as string) ? Number(raw) : undefined
  )

const no = new Set(["false", "no", "off", "0", "n"])
const yes = new Set(["true", "yes", "on", "1", "y"])

/** Yes or no. */
export const yesOrNo = (
  flag: string,
  given: SettingGiven,
  base = Flag.Boolean(flag)
): Setting<boolean> =>
  setting(flag, given, base, "true or false", (raw) => {
    const word = String(raw).toLowerCase()
    return yes.has(word) ? true : no.has(word) ? false : undefined
  })

/** One of a few words. */
export const word = <const A extends ReadonlyArray<string>>(
  flag: string,
  words: A,
  given: SettingGiven
): Setting<A[number]> =>
  setting(
    flag,
    given,
    Flag.withMetavar(Flag.Literals(flag, words), `<${words.join("|")}>`),
    wantedOf(flag, words),
    (raw) => (words.includes(raw as string) ? (raw as A[number]) : undefined)
  )

/** A duration with its unit. */
export const lasting = (flag: string, given: SettingGiven): Setting<Duration.Duration> =>
  setting(flag, given, asText(flag, "<duration>"), 'a duration such as "30 seconds"', (raw) =>
    Option.getOrUndefined(Duration.fromInput(raw as Duration.Input))
  )

/** The parts between commas. */
const listOf = (list: string): ReadonlyArray<string> =>
  list
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "")

/** May be given several times; the variable has commas between them. */
export const several = (
  flag: string,
  metavar: string,
  given: SettingGiven
): Setting<ReadonlyArray<string>> =>
  setting(
    flag,
    given,
    Flag.atLeast(asText(flag, metavar), 1),
    "a list with commas",
    (raw) => {
      const list = typeof raw === "string" ? listOf(raw) : (raw as ReadonlyArray<string>)
      return list.includes("") || list.length === 0 ? undefined : list
    },
    "; may be given several times"
  )

/** A secret, which has a variable and a key, and no flag. */
export const secret = (name: string, given: SettingGiven): Setting<Redacted.Redacted> => ({
  key: keyOf(name, given),
  flag: undefined,
  variable: variableOf(name),
  what: given.what,
  raw: undefined,
  read: (raw) => Redacted.make(raw as string),
  expected: "a text",
  isHidden: true
})

/** What was given, by flag. */
export type FlagValues = Readonly<Record<string, Option.Option<unknown>>>

/** The flags of settings, by their names. */
export const flagsOf = (
  settings: ReadonlyArray<Setting>
): Record<string, Flag.Flag<Option.Option<unknown>>> =>
  Object.fromEntries(
    settings.flatMap(({ flag, raw }) =>
      flag === undefined || raw === undefined ? [] : [[flag, raw] as const]
    )
  )

/** A value, and the flag or variable that gave it. */
export interface Spelled<A = unknown> {
  readonly value: A
  readonly place: string
}

/** The values that were given by a flag or else by its variable. */
export const spelledOf = (
  settings: ReadonlyArray<Setting>,
  given: FlagValues
): Effect.Effect<ReadonlyMap<Setting, Spelled>, CommandFailed | Config.ConfigError> =>
  Effect.gen(function* () {
    const spelled = new Map<Setting, Spelled>()
    for (const one of settings) {
      const { expected, flag, isHidden, read, variable } = one
      const ofFlag = flag === undefined ? Option.none() : given[flag]!
      const place = Option.isSome(ofFlag) ? `--${flag}` : variable
      const raw = Option.isSome(ofFlag) ? ofFlag : yield* Config.option(Config.String(variable))
      if (Option.isNone(raw)) continue
      const value = read(raw.value)
      if (value === undefined) {
        const shown = isHidden ? "" : `${JSON.stringify(String(raw.value))} does not fit. `
        return yield* wrongUsage(`${place}: ${shown}It must be ${expected}.`)
      }
      spelled.set(one, { value, place })
    }
    return spelled
  })

/** Puts what was given at its place, as the file would have it. */
export const valuesOf = (
  spelled: ReadonlyMap<Setting, Spelled>
): Readonly<Record<string, unknown>> => {
  const values: Record<string, unknown> = {}
  for (const [{ key }, { value }] of spelled) {
    if (key === undefined) continue
    const [name, part] = key.split(".") as [string, string?]
    values[name] =
      part === undefined ? value : { ...(values[name] as object | undefined), [part]: value }
  }
  return values
}
