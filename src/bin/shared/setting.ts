/**
 * Settings that have up to three spellings: a flag, a variable of the environment, and a key of the
 * gateway's file.
 *
 * A flag is stronger than its variable. A secret has no flag, because the other users of a machine see the
 * flags of its processes.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Flag from "effect/cli/Flag"

interface Spelled {
  /** Its place in the file, such as `limits.maxSessions`; without one it is no part of the file. */
  readonly key: string | undefined
  readonly variable: string
  /** One clause for the help and the guide. */
  readonly what: string
}

interface Flagged<A> extends Spelled {
  readonly flag: string
  readonly read: Flag.Flag<Option.Option<A>>
}

interface Secret extends Spelled {
  readonly flag: undefined
  readonly read: Config.Config<Option.Option<Redacted.Redacted>>
}

/** One setting. */
export type Setting<A = unknown> = Flagged<A> | Secret

/** The variable of a flag: REALTIME_JWT_KEYS for --jwt-keys. */
export const variableOf = (flag: string): string =>
  `REALTIME_${flag.toUpperCase().replaceAll("-", "_")}`

/** The description of a flag with its variable behind it. */
export const described = (flag: string, what: string): string => `${what} (${variableOf(flag)})`

interface Spelling {
  /** Default: the flag in camel case; `none` for what is no part of the file. */
  readonly key?: string
  readonly what: string
}

const camel = (flag: string): string =>
  flag.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

const setting = <A>(
  flag: string,
  { key = camel(flag), what }: Spelling,
  base: Flag.Flag<A>,
  metavar: string | undefined,
  config: Config.Config<A>,
  more = ""
): Flagged<A> => {
  const shown = base.pipe(
    Flag.withDescription(described(flag, `${what}${more}`)),
    Flag.withFallbackConfig(config)
  )
  return {
    key: key === "none" ? undefined : key,
    flag,
    variable: variableOf(flag),
    what,
    read: Flag.optional(metavar === undefined ? shown : Flag.withMetavar(shown, metavar))
  }
}

/** A text. */
export const text = (flag: string, metavar: string, given: Spelling): Flagged<string> =>
  setting(flag, given, Flag.String(flag), metavar, Config.NonEmptyString(variableOf(flag)))

/** A whole number. */
export const whole = (flag: string, given: Spelling): Flagged<number> =>
  setting(flag, given, Flag.Int(flag), "<n>", Config.Int(variableOf(flag)))

/** Yes or no. */
export const yesOrNo = (
  flag: string,
  given: Spelling,
  base = Flag.Boolean(flag)
): Flagged<boolean> => setting(flag, given, base, undefined, Config.Boolean(variableOf(flag)))

/** One of a few words. */
export const word = <const A extends ReadonlyArray<string>>(
  flag: string,
  words: A,
  given: Spelling
): Flagged<A[number]> =>
  setting(
    flag,
    given,
    Flag.Literals(flag, words),
    `<${words.join("|")}>`,
    Config.Literals(words, variableOf(flag))
  )

/** A duration with its unit. */
export const lasting = (flag: string, given: Spelling): Flagged<Duration.Duration> =>
  setting(
    flag,
    given,
    Flag.String(flag).pipe(
      Flag.filterMap(
        (given) => Duration.fromInput(given as Duration.Input),
        (given) => `--${flag} is a duration such as "30 seconds", not "${given}".`
      )
    ),
    "<duration>",
    Config.Duration(variableOf(flag))
  )

/** May be given several times; the variable has commas between them. */
export const several = (
  flag: string,
  metavar: string,
  given: Spelling
): Flagged<ReadonlyArray<string>> =>
  setting(
    flag,
    given,
    Flag.String(flag).pipe(Flag.withMetavar(metavar), Flag.atLeast(1)) as Flag.Flag<
      ReadonlyArray<string>
    >,
    undefined,
    Config.map(Config.String(variableOf(flag)), listOf),
    "; may be given several times"
  )

/** The parts between commas. */
const listOf = (list: string): ReadonlyArray<string> =>
  list
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "")

/** A secret, which has a variable and a key, and no flag. */
export const secret = (name: string, { key = camel(name), what }: Spelling): Secret => ({
  key,
  flag: undefined,
  variable: variableOf(name),
  what,
  read: Config.option(Config.Redacted(variableOf(name)))
})

/** What was given, by flag. */
export type FlagValues = Readonly<Record<string, Option.Option<unknown>>>

/** The flags of settings, by their names. */
export const flagsOf = (
  settings: ReadonlyArray<Setting>
): Record<string, Flag.Flag<Option.Option<unknown>>> =>
  Object.fromEntries(
    settings.flatMap((one) => (one.flag === undefined ? [] : [[one.flag, one.read] as const]))
  )

/** Puts what was given at its place, as the file would have it. */
export const valuesOf = (settings: ReadonlyArray<Setting>, given: FlagValues) =>
  Effect.gen(function* () {
    const values: Record<string, unknown> = {}
    for (const one of settings) {
      const value = one.flag === undefined ? yield* one.read : given[one.flag]!
      if (one.key === undefined || Option.isNone(value)) continue
      const [name, part] = one.key.split(".") as [string, string?]
      if (part === undefined) values[name] = value.value
      else values[name] = { ...(values[name] as object | undefined), [part]: value.value }
    }
    return values
  })
