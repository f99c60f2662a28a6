/**
 * Validates options before anything starts, also options from JavaScript, which has no types: a limit of
 * `NaN` would limit nothing, and a timeout of `NaN` would expire at once.
 *
 * In: the name of an option and its value. Out: the value in force, or `InvalidOption` thrown.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import type * as Backoff from "../../Backoff.ts"

/**
 * An option has a value that is not allowed. Raised when the server starts, never at the first client.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidOption extends Schema.TaggedError<InvalidOption>()("InvalidOption", {
  /** The option, e.g. `limits.maxSessions`. */
  option: Schema.String,
  /** The value, as text; never a secret. */
  value: Schema.String,
  /** What the value must be. */
  expected: Schema.String
}) {
  override get message(): string {
    return `The option ${this.option} is ${this.value}. It must be ${this.expected}.`
  }
}

/** The error for a value that is not a secret. */
export const invalid = (option: string, value: unknown, expected: string): InvalidOption => {
  const text =
    typeof value === "string"
      ? JSON.stringify(value)
      : Duration.isDuration(value)
        ? Duration.format(value)
        : inspect(value, { depth: 0 })
  return new InvalidOption({ option, value: text, expected })
}

/** Runs a function that throws `InvalidOption` and nothing else. */
export const checked = <A>(evaluate: () => A): Effect.Effect<A, InvalidOption> =>
  Effect.try({ try: evaluate, catch: (error) => error as InvalidOption })

export interface CountRange {
  /** The lowest value. Default 1. */
  readonly least?: number
  /** The highest value. Default: the highest whole number that is exact. */
  readonly most?: number
  /** Whether `Infinity` is allowed, default `true`. */
  readonly unlimited?: boolean
}

/** Validates a whole number. */
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
  /** The shortest duration in milliseconds, default 1. */
  readonly least?: number
  /** The longest one. Default: none. */
  readonly most?: number
  /** Whether an infinite duration is allowed, default `false`. */
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

/** `Duration` reads `NaN`, and an object without a unit, as zero. */
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

/** Validates a duration. Returns milliseconds. */
export const millis = (
  option: string,
  value: Duration.Input,
  { endless = false, least = 1, most = Infinity }: TimeRange = {}
): number => {
  const duration = isNothing(value) ? undefined : Option.getOrUndefined(Duration.fromInput(value))
  const time = duration === undefined ? Number.NaN : Math.round(Duration.toMillis(duration))
  if (time >= least && time <= most && (endless || time !== Infinity)) return time
  const upTo = most === Infinity ? "" : ` and at most ${most} ms`
  const expected = `a duration of at least ${least} ms${upTo}${endless ? "" : ", and not for ever"}, such as "10 seconds"`
  throw invalid(option, value, expected)
}

/** Validates a backoff policy. Only the first delay may be zero, and no delay may be infinite. */
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

/** A rate with a burst. */
export interface Rate {
  /** Tokens added per second. */
  readonly perSecond: number
  /** The most tokens held at once. */
  readonly burst: number
}
