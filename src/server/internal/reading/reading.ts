/**
 * Decodes the text of a payload, or JSON from a client, to the typed payload: numbers stay exact, names
 * that could reach a prototype are rejected, and a payload that does not fit gets a description of the
 * fault.
 *
 * Nearly every payload takes the short path: a scan for such names, `JSON.parse`, the channel's codec. The
 * long path rounds numbers that the Schema reads as a double only, or else describes the fault.
 */
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import type { Codec } from "../../../ChannelBase.ts"
import * as Exact from "../../../internal/exact.ts"
import { refusedNames } from "../../../Protocol.ts"
import { placesToRound } from "./rounding.ts"
import { type Path, pathText, type Unfit, unfitOf, valueAt } from "./mismatch.ts"

/** Options for the text of rows as PostgreSQL writes it. */
export const rowText: Exact.Options = { row: true }

/**
 * How to parse the texts of a channel. A channel holds rows from our triggers when its name begins with
 * `table_updates_`, or when `Channel.tableUpdates` defined it under another name.
 */
export const optionsOf = (name: string, codec: Codec<unknown>): Exact.Options | undefined =>
  codec.row === true || name.startsWith("table_updates_") ? rowText : undefined

/** Where a value was parsed from: a JSON text, and the path of the value in it. */
export interface JsonOrigin {
  readonly text: string
  readonly path: Path
  readonly options: Exact.Options | undefined
}

const unfit = (path: string, expected: string): Result.Result<never, Unfit> =>
  Result.fail({ path, expected, cure: undefined })

/** Decodes the text of one payload of the channel `name`, or the part of it at a path. Never throws. */
export const read = <A>(
  codec: Codec<A>,
  name: string,
  text: string,
  options: Exact.Options | undefined,
  part: Path = []
): Result.Result<A, Unfit> => {
  let json: unknown
  try {
    json = valueAt(Exact.parse(text, options), part)
  } catch {
    return unfit("", "JSON")
  }
  if (mayHoldRefusedName(text)) {
    const found = refusedName(json)
    if (found !== undefined) {
      const path = pathText(codec.schema?.().ast, found.path)
      return unfit(path, `an object without the name ${found.name}`)
    }
  }
  const payload = codec.decode(json, name)
  // A success does not carry the failure's type.
  return Result.isSuccess(payload)
    ? (payload as Result.Success<A, never>)
    : closer(codec, name, json, { text, path: part, options })
}

/** Decodes a value that `Exact` parsed from the text of `source`. Never throws. */
export const decode = <A>(
  codec: Codec<A>,
  name: string,
  value: unknown,
  source: JsonOrigin
): Result.Result<A, Unfit> => {
  const payload = codec.decode(value, name)
  return Result.isSuccess(payload)
    ? (payload as Result.Success<A, never>)
    : closer(codec, name, value, source)
}

/** The long path: examines every issue, and every string that was made from a number. */
const closer = <A>(
  codec: Codec<A>,
  name: string,
  value: unknown,
  { options, path: place, text }: JsonOrigin
): Result.Result<A, Unfit> => {
  const schema = codec.schema?.()
  if (schema === undefined) return unfit("", "another payload")
  const issue = issueOf(schema, value)
  if (issue === undefined) return unfit("", "what the schema's own functions take")
  const { mark, value: whole } = Exact.parseMarked(text, options)
  const made = (path: Path): string | undefined => {
    const found = valueAt(whole, [...place, ...path])
    return typeof found === "string" && found.startsWith(mark)
      ? found.slice(mark.length)
      : undefined
  }
  const rounds = (path: Path) => {
    const digits = made(path)
    return digits !== undefined && Exact.isFraction(digits)
  }
  const places = placesToRound(issue, rounds)
  if (places !== undefined) {
    // A copy: other readers of the text keep their exact values.
    let copy = valueAt(Exact.parse(text, options), place)
    for (const path of places) copy = put(copy, path, Number(made(path)))
    const rounded = codec.decode(copy, name)
    if (Result.isSuccess(rounded)) return Result.succeed(rounded.success)
  }
  return Result.fail(unfitOf(schema.ast, issue, value, made, rounds))
}

/** All issues of a value; `undefined` when a function of the schema throws. */
const issueOf = (schema: Schema.Codec<unknown, Schema.Json>, value: unknown) => {
  try {
    const result = SchemaParser.decodeUnknownResult(schema, { errors: "all" })(value)
    return Result.isFailure(result) ? (result.failure as SchemaIssue.Issue) : undefined
  } catch {
    return undefined
  }
}

/** Sets the value at an existing path. */
const put = (value: unknown, path: Path, inner: unknown): unknown => {
  const last = path[path.length - 1]
  if (last === undefined) return inner
  const holder = valueAt(value, path.slice(0, -1)) as Record<PropertyKey, unknown>
  holder[last] = inner
  return value
}

/** Whether a text may contain a rejected name, which may be written with escapes. */
const mayHoldRefusedName = (text: string): boolean =>
  text.includes("proto") || text.includes("constructor") || text.includes("\\u")

/** A value within another one. */
interface NestedValue {
  readonly value: unknown
  readonly key: PropertyKey | undefined
  readonly up: NestedValue | undefined
}

/** Finds a rejected name in parsed JSON at any depth, in linear time and without recursion. */
const refusedName = (
  value: unknown
): { readonly name: string; readonly path: Path } | undefined => {
  const open: Array<NestedValue> = [{ value, key: undefined, up: undefined }]
  for (let place = open.pop(); place !== undefined; place = open.pop()) {
    const { value } = place
    if (typeof value !== "object" || value === null) continue
    const isArray = Array.isArray(value)
    for (const [key, inner] of Object.entries(value)) {
      const next: NestedValue = { value: inner, key: isArray ? Number(key) : key, up: place }
      if (!isArray && refusedNames.has(key)) return { name: key, path: pathOf(next) }
      if (typeof inner === "object") open.push(next)
    }
  }
  return undefined
}

const pathOf = (place: NestedValue): Path => {
  const path: Array<PropertyKey> = []
  for (let at = place; at.up !== undefined; at = at.up) path.push(at.key!)
  return path.toReversed()
}
