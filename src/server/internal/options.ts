/**
 * What an option must be, looked at before anything begins: also for those who come without types. A number
 * that is none limits nothing, and a time that is none is over at once.
 *
 * In: the name of an option and what was given for it. Out: the value in force, or `InvalidOption` thrown.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import type * as Backoff from "../../Backoff.ts"

/**
 * An option cannot be what it is. Said at start, never at the first client.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidOption extends Schema.TaggedError<InvalidOption>()("InvalidOption", {
  /** The option, e.g. `limits.maxSessions`. */
  option: Schema.String,
  /** What it is, as text; never a secret. */
  value: Schema.String,
  /** What it must be. */
  expected: Schema.String
}) {
  override get message(): string {
    return `The option ${this.option} is ${this.value}. It must be ${this.expected}.`
  }
}

/** What to say of a value that is no secret. */
export const invalid = (option: string, value: unknown, expected: string): InvalidOption => {
  const text = typeof value === "string" ? JSON.stringify(value) : inspect(value, { depth: 0 })
  return new InvalidOption({ option, value: text, expected })
}

/** Runs what throws `InvalidOption` and nothing else. */
export const checked = <A>(evaluate: () => A): Effect.Effect<A, InvalidOption> =>
  Effect.try({ try: evaluate, catch: (error) => error as InvalidOption })

export interface CountRange {
  /** Default 1. */
  readonly least?: number
  /** Default: the highest whole number that is exact. */
  readonly most?: number
  /** Whether `Infinity` is one, default `true`. */
  readonly unlimited?: boolean
}

/** A whole number of something. */
export const count = (
  option: string,
  value: number,
  { least = 1, most = Number.MAX_SAFE_INTEGER, unlimited = true }: CountRange = {}
): number => {
  if (unlimited && value === Infinity) return value
  if (Number.isSafeInteger(value) && value >= least && value <= most) return value
  const upTo = most === Number.MAX_SAFE_INTEGER ? "" : ` and at most ${most}`
  const endless = unlimited ? ", or Infinity" : ""
  throw invalid(option, value, `a whole number of at least ${least}${upTo}${endless}`)
}

export interface TimeRange {
  /** In milliseconds, default 1. */
  readonly least?: number
  /** Whether for ever is one, default `false`. */
  readonly endless?: boolean
}

const units: ReadonlySet<string> = new Set<keyof Duration.DurationObject>([
  "weeks",
  "days",
  "hours",
  "minutes",
  "seconds",
  "milliseconds",
  "microseconds",
  "nanoseconds"
])

/** `Duration` takes what is no number, and an object without a unit, for no time at all. */
const isNothing = (input: unknown): boolean => {
  if (typeof input !== "object" || input === null) return Number.isNaN(input)
  if (Duration.isDuration(input)) return false
  const numbers = Object.values(input) as ReadonlyArray<unknown>
  return (
    numbers.length === 0 ||
    !numbers.every((number) => typeof number === "number" && !Number.isNaN(number)) ||
    !(Array.isArray(input) || Object.keys(input).every((unit) => units.has(unit)))
  )
}

/** A time, in milliseconds. */
export const millis = (
  option: string,
  value: Duration.Input,
  { endless = false, least = 1 }: TimeRange = {}
): number => {
  const duration = isNothing(value) ? undefined : Option.getOrUndefined(Duration.fromInput(value))
  const time = duration === undefined ? Number.NaN : Math.round(Duration.toMillis(duration))
  if (time >= least && (endless || time !== Infinity)) return time
  const expected = `a duration of at least ${least} ms${endless ? "" : ", and not for ever"}, such as "10 seconds"`
  throw invalid(option, value, expected)
}

/** When to try again. A first try may come at once; those that follow it never do for ever. */
export const backoff = (policy: Backoff.Policy): Backoff.Policy => {
  if (typeof policy !== "object" || policy === null) {
    throw invalid("backoff", policy, "times by their names, such as Backoff.link")
  }
  millis("backoff.initial", policy.initial)
  millis("backoff.cap", policy.cap)
  millis("backoff.resetAfter", policy.resetAfter, { least: 0, endless: true })
  if (policy.first !== undefined) millis("backoff.first", policy.first, { least: 0 })
  if (policy.atOnceAfter !== undefined) {
    millis("backoff.atOnceAfter", policy.atOnceAfter, { least: 0, endless: true })
  }
  return policy
}

/** So many per second on average, so many at once. */
export interface Rate {
  /** Tokens that come back per second. */
  readonly perSecond: number
  /** The most that are there at once. */
  readonly burst: number
}
