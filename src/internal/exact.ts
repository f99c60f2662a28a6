/**
 * JSON whose numbers keep their digits.
 *
 * In: JSON text that another program wrote, such as `row_to_json`. Out: what `JSON.parse` gives, except
 * that a number that a double cannot hold exactly is a string with the same digits. JSON that JavaScript
 * wrote is exact already and stays the same, so reading twice changes nothing. Schemas decode the strings
 * elsewhere.
 *
 * A text without sixteen digits in a row and without an exponent of three digits is returned after one
 * search, because shorter numbers are always exact. Every step takes time in proportion to the text.
 *
 * @since 0.1.0
 */
import * as JsonNames from "./jsonNames.ts"

/**
 * How a text is read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The text is a row that PostgreSQL wrote, default `false`. Then every integer without an exponent
   * beyond 2^53 - 1 is a string, so that large values of a bigint column have one form: a few of them are
   * exact by chance. PostgreSQL writes a double of that size with an exponent.
   */
  readonly row?: boolean | undefined
}

const dot = 46
const quote = 34

const isDigitOrDot = (code: number): boolean => (code >= 48 && code <= 57) || code === dot

/** A character of a number: a digit or one of `.-+eE`. Beyond the end the code is NaN, which is not one. */
const isOfNumber = (code: number): boolean =>
  isDigitOrDot(code) || code === 45 || code === 43 || code === 101 || code === 69

/** Digits and dots in a row that may be too many for a double. */
const longRow = 16

/** A place within the next long row, or `Infinity`. Skips a row at the end of a string. */
const nextRow = (text: string, from: number): number => {
  // Steps of this length miss no row.
  for (let at = from + longRow - 1; at < text.length; at += longRow) {
    if (!isDigitOrDot(text.charCodeAt(at))) continue
    let start = at
    while (start > from && isDigitOrDot(text.charCodeAt(start - 1))) start--
    let end = at + 1
    while (isDigitOrDot(text.charCodeAt(end))) end++
    if (end - start >= longRow && text.charCodeAt(end) !== quote) return at
    // Skips the rest of this row, which may be the whole text.
    at = end - 1
  }
  return Infinity
}

/** An exponent of three digits or more, where a number can end. A UUID may contain the same characters. */
const exponent = /[0-9][eE][-+]?[0-9]{3,}(?![^\s,\]}])/g

const nextExponent = (text: string, from: number): number => {
  exponent.lastIndex = from
  return exponent.test(text) ? exponent.lastIndex - 1 : Infinity
}

const number = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$/

/** A decimal value: 0.`digits` times ten to the `power`. The digits have no zeros at either end. */
interface Decimal {
  readonly digits: string
  readonly power: number
}

const decimalOf = (token: string): Decimal => {
  const mark = token.search(/[eE]/)
  const mantissa = mark === -1 ? token : token.slice(0, mark)
  const unsigned = mantissa.startsWith("-") ? mantissa.slice(1) : mantissa
  const point = unsigned.indexOf(".")
  const all = point === -1 ? unsigned : unsigned.slice(0, point) + unsigned.slice(point + 1)
  let start = 0
  while (all[start] === "0") start++
  let end = all.length
  while (end > start && all[end - 1] === "0") end--
  const before = (point === -1 ? all.length : point) - start
  return {
    digits: all.slice(start, end),
    power: before + (mark === -1 ? 0 : Number(token.slice(mark + 1)))
  }
}

/**
 * Whether a double holds the value of a number exactly: the double's shortest text has the same decimal
 * value. `token` is a number in the syntax of JSON.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isExact = (token: string): boolean => {
  const nearest = Number(token)
  const shortest = String(nearest)
  if (shortest === token) return true
  const value = decimalOf(token)
  if (value.digits === "") return true
  // No double needs more than 17 digits.
  if (value.digits.length > 17 || nearest === 0 || !Number.isFinite(nearest)) return false
  const same = decimalOf(shortest)
  return same.digits === value.digits && same.power === value.power
}

/** Whether a number in the syntax of JSON has a fraction other than 0. */
export const isFraction = (token: string): boolean => {
  const { digits, power } = decimalOf(token)
  return digits.length > power && digits !== ""
}

/** Whether a text is a number in the syntax of JSON. */
export const isNumber = (text: string): boolean => number.test(text)

/** Whether an integer is within 2^53 - 1, either sign. */
const isSafe = (token: string): boolean => Number.isSafeInteger(Number(token))

/** Also with zeros after the point: a column with a scale writes them, and the value is the same. */
const isWhole = /^-?[0-9]+(?:\.0+)?$/

/**
 * Whether a number stays a number when a text is read with these options. Otherwise it becomes a string.
 */
export const staysNumber = (token: string, options?: Options): boolean =>
  isExact(token) && (options?.row !== true || !isWhole.test(token) || isSafe(token))

/**
 * The digits of a number without the zeros at the end of its fraction, so that one value has one text. A
 * number with an exponent is unchanged.
 */
export const plain = (token: string): string => {
  if (!token.includes(".") || /[eE]/.test(token)) return token
  let end = token.length
  while (token.charCodeAt(end - 1) === 48) end--
  return token.slice(0, token.charCodeAt(end - 1) === dot ? end - 1 : end)
}

/**
 * The same JSON text, with quotes around every number that a double cannot hold exactly. A text that is
 * not JSON stays a text that is not JSON.
 *
 * @category decoding
 * @since 0.1.0
 */
export const rewrite = (text: string, options?: Options): string => marked(text, options, "")

/** The same, with a mark at the beginning of each string made of a number. */
const marked = (text: string, options: Options | undefined, mark: string): string => {
  let row = nextRow(text, 0)
  let power = nextExponent(text, 0)
  if (row === Infinity && power === Infinity) return text
  let written = ""
  let copied = 0
  // Where the next string opens. The loop skips strings from quote to quote.
  let open = text.indexOf('"')
  while (row !== Infinity || power !== Infinity) {
    const at = Math.min(row, power)
    let resume = at
    while (open !== -1 && open < at) {
      const close = JsonNames.closing(text, open)
      if (close > at) resume = close + 1
      open = text.indexOf('"', close + 1)
    }
    // The place is outside of strings.
    if (resume === at) {
      let from = at
      while (isOfNumber(text.charCodeAt(from - 1))) from--
      while (isOfNumber(text.charCodeAt(resume))) resume++
      const token = text.slice(from, resume)
      if (number.test(token) && !staysNumber(token, options) && !JsonNames.isName(text, resume)) {
        written += `${text.slice(copied, from)}"${mark}${plain(token)}"`
        copied = resume
      }
    }
    if (row < resume) row = nextRow(text, resume)
    if (power < resume) power = nextExponent(text, resume)
  }
  return copied === 0 ? text : written + text.slice(copied)
}

/**
 * Reads JSON as `JSON.parse` does, and keeps the digits of every number. Throws what `JSON.parse` throws.
 *
 * **Example** (Reading a row by yourself)
 *
 * ```ts
 * Exact.parse(`{"id":1311768467463790321,"total":10.5}`) // { id: "1311768467463790321", total: 10.5 }
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = (text: string, options?: Options): unknown =>
  JsonNames.parseJson(rewrite(text, options))

/**
 * Distinguishes the strings that `parse` makes of numbers from those that the writer wrote: each made
 * string begins with the mark. The mark is random.
 */
export const parseMarked = (
  text: string,
  options?: Options
): { readonly value: unknown; readonly mark: string } => {
  const mark = Math.random().toString(36).slice(2)
  return { value: JsonNames.parseJson(marked(text, options, mark)), mark }
}
