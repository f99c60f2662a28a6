/**
 * Schemas for the columns of PostgreSQL, for rows as `row_to_json` writes them: in events, in states, and
 * in payloads that SQL publishes.
 *
 * A number that a double holds exactly travels as a number, any other as a string with the same digits,
 * so one column has both. These Schemas read both forms, and encode to the same form, so that equal
 * values have one text. They accept only what PostgreSQL can store. Each is named after its type; the
 * guide `examples/columns/README.md` has the table of all types.
 *
 * **Example** (A row)
 *
 * ```ts
 * const Order = Schema.Struct({ id: PgType.int8, total: PgType.numeric, tags: PgType.array(Schema.String) })
 * ```
 *
 * @since 0.1.0
 */
import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Exact from "./internal/exact.ts"

/** The most digits of a numeric before its point, and after it. */
const maxWhole = 131_072
const maxFraction = 16_383
/** A longer text is not a number of PostgreSQL: sign, digits, point, exponent. */
const maxText = maxWhole + maxFraction + 16

const row: Exact.Options = { row: true }

/** A number in the one form of its value: no exponent, no zeros at either end. */
const decimalText = (given: number | string): string | undefined => {
  const token = String(given)
  if (token.length > maxText || !Exact.isNumber(token)) return undefined
  const [mantissa, exponent = "0"] = token.split(/e/i)
  const negative = mantissa!.startsWith("-")
  const [whole, fraction = ""] = (negative ? mantissa!.slice(1) : mantissa!).split(".")
  const digits = whole! + fraction
  const point = whole!.length + Number(exponent)
  // Checked before zeros are written out.
  if (point > maxWhole || digits.length - point > maxFraction + maxWhole) return undefined
  const before = point <= 0 ? "" : digits.slice(0, point).padEnd(point, "0")
  const after = point >= 0 ? digits.slice(point) : "0".repeat(-point) + digits
  let start = 0
  while (before.charCodeAt(start) === 48) start++
  let end = after.length
  while (after.charCodeAt(end - 1) === 48) end--
  if (before.length - start > maxWhole || end > maxFraction) return undefined
  const text = `${before.slice(start) || "0"}${end === 0 ? "" : `.${after.slice(0, end)}`}`
  return negative && text !== "0" ? `-${text}` : text
}

/** The form in which a number travels, given its one text. */
const travelling = (text: string): number | string =>
  Exact.staysNumber(text, row) ? Number(text) : text

/** A column that travels as a number or as a string. */
const column = <T>(options: {
  readonly to: Schema.Codec<T>
  readonly expected: string
  readonly read: (given: number | string) => T | undefined
  readonly write: (value: T) => number | string | undefined
}): Schema.Codec<T, number | string> => {
  const { expected, read, to, write } = options
  const fits = <A>(value: A | undefined) =>
    value === undefined
      ? Effect.fail(new SchemaIssue.InvalidValue({ expected }))
      : Effect.succeed(value)
  return Schema.Union([Schema.Finite, Schema.String]).pipe(
    Schema.decodeTo(
      to,
      SchemaTransformation.transformEffect<T, number | string>({
        decode: (given) => fits(read(given)),
        encode: (value) => fits(write(value))
      })
    )
  )
}

/** A column whose text stays text. */
const text = (expected: string, pattern: RegExp): Schema.Codec<string> =>
  Schema.String.check(Schema.isPattern(pattern, { expected }))

// -----------------------------------------------------------------------------------------------
// numbers

const int8Text = (given: number | string): string | undefined => {
  if (typeof given === "string" && given.length > 32) return undefined
  const digits = decimalText(given)
  if (digits === undefined || digits.includes(".") || digits.length > 20) return undefined
  return BigInt.asIntN(64, BigInt(digits)) === BigInt(digits) ? digits : undefined
}

const int8Expected = "an integer from -2^63 to 2^63 - 1, as a number or a string"

/**
 * `int8`, `bigint`, `bigserial` as a bigint.
 *
 * @category numbers
 * @since 0.1.0
 */
export const int8: Schema.Codec<bigint, number | string> = /* @__PURE__ */ (() =>
  column({
    to: Schema.BigInt,
    expected: int8Expected,
    read: (given) => {
      const digits = int8Text(given)
      return digits === undefined ? undefined : BigInt(digits)
    },
    write: (value) =>
      BigInt.asIntN(64, value) === value ? travelling(value.toString()) : undefined
  }))()

/**
 * `int8` as its digits: a string that `JSON.stringify` can write, also for small values.
 *
 * @category numbers
 * @since 0.1.0
 */
export const int8String: Schema.Codec<string, number | string> = /* @__PURE__ */ (() =>
  column({
    to: Schema.String,
    expected: int8Expected,
    read: int8Text,
    write: (value) => {
      const digits = int8Text(value)
      return digits === undefined ? undefined : travelling(digits)
    }
  }))()

const special = /^(?:NaN|-?Infinity)$/

const numericExpected = "a decimal number, as a number or a string"

const numericText = (given: number | string): string | undefined =>
  typeof given === "string" && special.test(given) ? given : decimalText(given)

/**
 * `numeric`, `decimal` as the exact value in a string, without zeros at the end of a fraction (1.50 is
 * "1.5"), or `NaN`, `Infinity`, `-Infinity`.
 *
 * @category numbers
 * @since 0.1.0
 */
export const numeric: Schema.Codec<string, number | string> = /* @__PURE__ */ (() =>
  column({
    to: Schema.String,
    expected: numericExpected,
    read: numericText,
    write: (value) => {
      const text = numericText(value)
      return text === undefined || special.test(text) ? text : travelling(text)
    }
  }))()

/**
 * `numeric` as a `BigDecimal`, to calculate with. `NaN` and the infinities do not fit.
 *
 * @category numbers
 * @since 0.1.0
 */
export const numericBigDecimal: Schema.Codec<BigDecimal.BigDecimal, number | string> =
  /* @__PURE__ */ (() =>
    column({
      to: Schema.BigDecimal,
      expected: numericExpected,
      read: (given) => {
        const text = decimalText(given)
        return text === undefined ? undefined : Option.getOrUndefined(BigDecimal.fromString(text))
      },
      write: (value) => {
        const { scale, value: digits } = BigDecimal.normalize(value)
        const text = decimalText(`${digits}e${-scale}`)
        return text === undefined ? undefined : travelling(text)
      }
    }))()

/**
 * A number as the nearest double: `float8`, `float4`, with `NaN` and the infinities. Also for `numeric`
 * and `int8` where an approximation is enough, such as an average. Values beyond 1.8e308 do not fit.
 *
 * @category numbers
 * @since 0.1.0
 */
export const float: Schema.Codec<number, number | string> = /* @__PURE__ */ (() =>
  column({
    to: Schema.Number,
    expected: "a number within the range of a double, as a number or a string",
    read: (given) => {
      if (typeof given === "number") return given
      if (special.test(given)) return Number(given)
      const nearest = given.length <= maxText && Exact.isNumber(given) ? Number(given) : Infinity
      return Number.isFinite(nearest) ? nearest : undefined
    },
    write: (value) => (Number.isFinite(value) ? value : String(value))
  }))()

/**
 * `oid` as a number from 0 to 4,294,967,295. PostgreSQL writes it as a string.
 *
 * @category numbers
 * @since 0.1.0
 */
export const oid: Schema.Codec<number, number | string> = /* @__PURE__ */ (() => {
  const read = (given: number | string): number | undefined => {
    const digits = int8Text(given)
    const value = digits === undefined ? -1 : Number(digits)
    return value >= 0 && value < 2 ** 32 ? value : undefined
  }
  return column({
    to: Schema.Number,
    expected: "an integer from 0 to 2^32 - 1, as a number or a string",
    read,
    write: (value) => read(value)?.toString()
  })
})()

// -----------------------------------------------------------------------------------------------
// time

const infinity = "-?infinity"
const dateText = String.raw`\d{4,7}-\d\d-\d\d`
const timeText = String.raw`\d\d:\d\d:\d\d(?:\.\d{1,6})?`
const offset = String.raw`(?:Z|[+-]\d\d(?::\d\d(?::\d\d)?)?)`

const either = (...texts: ReadonlyArray<string>) => new RegExp(`^(?:${texts.join("|")})$`)

/**
 * `timestamptz` as its text in UTC, to the microsecond, as in `2026-11-28T18:23:57.123456+00:00`. Also
 * `infinity`, and years before our era with ` BC` at the end.
 *
 * @category time
 * @since 0.1.0
 */
export const timestamptz: Schema.Codec<string> = /* @__PURE__ */ (() =>
  text(
    "a date and time with its offset, as in 2026-11-28T18:23:57.123456+00:00",
    either(`${dateText}T${timeText}${offset}(?: BC)?`, infinity)
  ))()

/**
 * `timestamptz` as a `Date`, cut to whole milliseconds. `infinity` does not fit. For a column that is
 * part of a key, use `timestamptz`: its encoding must equal the text in the key.
 *
 * @category time
 * @since 0.1.0
 */
export const timestamptzDate: Schema.Codec<Date, number | string> = /* @__PURE__ */ (() => {
  const parts = new RegExp(
    String.raw`^(\d{4,7})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(${offset})( BC)?$`
  )
  const millisOf = (given: string): number => {
    const found = parts.exec(given)
    if (found === null) return Number.NaN
    const [year, month, day, hour, minute, second] = found.slice(1, 7).map(Number)
    const date = new Date(0)
    date.setUTCFullYear(found[9] === undefined ? year! : 1 - year!, month! - 1, day!)
    // Rejects dates such as the 31st of June.
    if (date.getUTCMonth() !== month! - 1 || hour! > 23 || minute! > 59 || second! > 59)
      return Number.NaN
    date.setUTCHours(hour!, minute!, second!, Number((found[7] ?? "").padEnd(3, "0").slice(0, 3)))
    const zone = found[8] === "Z" ? ["0"] : found[8]!.slice(1).split(":")
    const [hours, minutes = 0, seconds = 0] = zone.map(Number)
    const away = ((hours! * 60 + minutes) * 60 + seconds) * 1000
    return date.getTime() - (found[8]!.startsWith("-") ? -away : away)
  }
  return column({
    to: Schema.Date,
    expected: "a date and time with its offset that a Date holds",
    read: (given) => {
      const millis = typeof given === "string" ? millisOf(given) : Number.NaN
      return Number.isFinite(millis) && Math.abs(millis) <= 8.64e15 ? new Date(millis) : undefined
    },
    write: (value) => {
      if (Number.isNaN(value.getTime())) return undefined
      const year = value.getUTCFullYear()
      const [, rest, millis] = /^.\d+(-.*)\.(\d{3})Z$/.exec(value.toISOString())!
      const fraction = millis === "000" ? "" : `.${millis!.replace(/0+$/, "")}`
      const era = year > 0 ? "" : " BC"
      return `${String(year > 0 ? year : 1 - year).padStart(4, "0")}${rest}${fraction}+00:00${era}`
    }
  })
})()

/**
 * `timestamp` as its text, as in `2026-11-28T18:23:57.123456`. It has no zone, so there is no Schema that
 * makes a `Date` of it.
 *
 * @category time
 * @since 0.1.0
 */
export const timestamp: Schema.Codec<string> = /* @__PURE__ */ (() =>
  text(
    "a date and time without an offset, as in 2026-11-28T18:23:57.123456",
    either(`${dateText}T${timeText}(?: BC)?`, infinity)
  ))()

/**
 * `date` as its text, as in `2026-11-28`. Also `infinity` and ` BC`.
 *
 * @category time
 * @since 0.1.0
 */
export const date: Schema.Codec<string> = /* @__PURE__ */ (() =>
  text("a date, as in 2026-11-28", either(`${dateText}(?: BC)?`, infinity)))()

/**
 * `time`, up to `24:00:00`, and `timetz` with its offset, as their text, as in `12:34:56.1+05:30`.
 *
 * @category time
 * @since 0.1.0
 */
export const time: Schema.Codec<string> = /* @__PURE__ */ (() =>
  text("a time of day, as in 18:23:57.123456", either(`${timeText}${offset}?`)))()

/**
 * `interval` as its text in PostgreSQL's default style, as in `10 mons 3 days -04:05:06.789`. Months and
 * days have no fixed length, so there is no Schema that makes a duration of it. Equal intervals may have
 * different texts.
 *
 * @category time
 * @since 0.1.0
 */
export const interval: Schema.Codec<string> = /* @__PURE__ */ (() => {
  const units = String.raw`[+-]?\d+ (?:year|mon|day)s?`
  const clock = String.raw`[+-]?\d+:\d\d:\d\d(?:\.\d{1,6})?`
  return text(
    "an interval, as in 10 mons 3 days -04:05:06.789",
    either(`${units}(?: ${units}){0,2}(?: ${clock})?`, clock, infinity)
  )
})()

// -----------------------------------------------------------------------------------------------
// others

/**
 * `bytea` as its bytes. It travels as `\x` and two hex digits per byte.
 *
 * @category others
 * @since 0.1.0
 */
export const bytea: Schema.Codec<
  Uint8Array<ArrayBufferLike>,
  number | string
> = /* @__PURE__ */ (() =>
  column({
    to: Schema.Uint8Array,
    expected: "bytes as \\x and hex digits",
    read: (given) => {
      if (typeof given !== "string" || !/^\\x(?:[0-9a-f]{2})*$/i.test(given)) return undefined
      const bytes = new Uint8Array(given.length / 2 - 1)
      for (let at = 0; at < bytes.length; at++) {
        bytes[at] = Number.parseInt(given.slice(2 * at + 2, 2 * at + 4), 16)
      }
      return bytes
    },
    write: (bytes) => {
      let hex = "\\x"
      for (const byte of bytes) hex += byte.toString(16).padStart(2, "0")
      return hex
    }
  }))()

/**
 * `json` and `jsonb` as any JSON. A number in it that a double cannot hold exactly is a string, and looks
 * like any other string. To know it as a number, use a Schema of your own with `PgType.numeric` in it.
 *
 * @category others
 * @since 0.1.0
 */
export const json: Schema.Codec<unknown> = Schema.Unknown

/**
 * An array with elements of a type, which may be null. Nest it for two dimensions. JSON does not keep
 * bounds other than 1.
 *
 * @category others
 * @since 0.1.0
 */
export const array = <T, E>(
  element: Schema.Codec<T, E>
): Schema.Codec<ReadonlyArray<T | null>, ReadonlyArray<E | null>> =>
  Schema.Array(Schema.NullOr(element))

/**
 * `hstore` as an object of strings or nulls.
 *
 * @category others
 * @since 0.1.0
 */
export const hstore: Schema.Codec<{ readonly [name: string]: string | null }> =
  /* @__PURE__ */ (() => Schema.Record(Schema.String, Schema.NullOr(Schema.String)))()
