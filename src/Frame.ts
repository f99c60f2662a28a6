/**
 * The frames of the wire as types, and their texts in both directions.
 *
 * Two tables name the fields of each frame in the order in which they are written, so equal frames are
 * equal bytes. Hand-written functions read them, because a Schema would add 14 kB to every browser
 * bundle. `FrameSchema` has the same frames as Schemas for servers, and a property test compares both.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import * as Exact from "./internal/exact.ts"
import { keepText, tooDeep } from "./internal/frameText.ts"
import * as JsonNames from "./internal/jsonNames.ts"
import type {
  ClientFrame,
  FrameOf,
  Scalar,
  ServerFrame,
  Where,
  WireEvent
} from "./internal/frameTypes.ts"
import { joinStates, maxDepth, refusedNames, retries, sourceStates } from "./Protocol.ts"

export type {
  ClientFrame,
  FrameOf,
  Scalar,
  ServerFrame,
  Where,
  WireEvent
} from "./internal/frameTypes.ts"

// -----------------------------------------------------------------------------------------------
// the fields

/** Stands for a value that is not allowed in its place. `undefined` stands for a missing one. */
const wrong = /* @__PURE__ */ Symbol()

/** Checks a value of parsed JSON. */
type Read<out A> = (value: unknown) => A | typeof wrong

const string: Read<string> = (value) => (typeof value === "string" ? value : wrong)

/** An integer from 0 to 2^53-1: an id or a duration in milliseconds. */
const count: Read<number> = (value) =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : wrong

const word =
  <Word extends string>(words: ReadonlyArray<Word>): Read<Word> =>
  (value) =>
    words.includes(value as Word) ? (value as Word) : wrong

const optional =
  <A>(read: Read<A>): Read<A | undefined> =>
  (value) =>
    value === undefined ? value : read(value)

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A value that is not an object has no fields. */
const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> => Object(value)

/** The fields in the order in which they are written. */
type Fields<A> = { readonly [Key in Exclude<keyof A, "type">]-?: Read<A[Key]> }

/** Drops unknown fields. */
const record =
  <A extends object>(fields: Fields<A>): Read<A> =>
  (value) => {
    const given = fieldsOf(value)
    const known: Record<string, unknown> = {}
    for (const key in fields) {
      const field = (fields as Readonly<Record<string, Read<unknown>>>)[key]!(given[key])
      if (field === wrong) return wrong
      if (field !== undefined) known[key] = field
    }
    return known as A
  }

/** Hand-written: there may be 100,000 in a second, and a `record` takes twice as long. */
const wireEvent: Read<WireEvent> = (value) => {
  const { at, data, id, tx } = fieldsOf(value)
  if (typeof id !== "string" || typeof at !== "string" || data === undefined) return wrong
  if (tx === undefined) return { id, at, data }
  return typeof tx === "string" ? { id, at, data, tx } : wrong
}

/** All events or none: a batch without one of its events would lose it silently. */
const wireEvents: Read<ReadonlyArray<WireEvent>> = (value) => {
  const events = Array.isArray(value) && value.map((item) => wireEvent(item))
  return !events || events.includes(wrong) ? wrong : (events as ReadonlyArray<WireEvent>)
}

type Table<Frame extends { readonly type: string }> = {
  readonly [Type in Frame["type"]]: Fields<FrameOf<Frame, Type>>
}

/** 1-64 characters that every database stores unchanged: no NUL, no half of a surrogate pair. */
const key: Read<string> = (value) =>
  typeof value === "string" &&
  value.length >= 1 &&
  value.length <= 64 &&
  !value.includes("\0") &&
  value.isWellFormed()
    ? value
    : wrong

const flag: Read<boolean> = (value) => (typeof value === "boolean" ? value : wrong)

const isScalar = (value: unknown): value is Scalar =>
  ["string", "number", "boolean"].includes(typeof value)

const where: Read<Where> = (value) =>
  isRecord(value) &&
  Object.values(value).every(
    (one) => one === null || isScalar(one) || (Array.isArray(one) && one.every(isScalar))
  )
    ? (value as Where)
    : wrong

const list: Read<ReadonlyArray<unknown>> = (value) => (Array.isArray(value) ? value : wrong)

/** Any JSON. The channel's codec checks it. */
const data: Read<unknown> = (value) => value ?? (value === null ? null : wrong)

const texts: Read<ReadonlyArray<string>> = (value) =>
  Array.isArray(value) && value.every((one) => typeof one === "string") ? value : wrong

const members: Read<{ readonly [member: string]: unknown }> = (value) =>
  isRecord(value) ? value : wrong

const optionalFlag = /* @__PURE__ */ optional(flag)
const optionalCount = /* @__PURE__ */ optional(count)
const optionalString = /* @__PURE__ */ optional(string)

const clientFields: Table<ClientFrame> = {
  hello: {
    version: count,
    token: optionalString,
    client: /* @__PURE__ */ optional(/* @__PURE__ */ record({ name: string, version: string }))
  },
  subscribe: {
    id: count,
    channel: string,
    cursor: optionalString,
    state: optionalFlag,
    where: /* @__PURE__ */ optional(where)
  },
  state: { id: count, channel: string, view: optionalString },
  history: { id: count, channel: string, before: optionalString, limit: count },
  unsubscribe: { id: count, channel: string, view: optionalString },
  publish: {
    id: count,
    channel: string,
    within: optionalCount,
    key: /* @__PURE__ */ optional(key),
    trace: optionalString,
    data
  },
  present: { id: count, channel: string, member: data },
  absent: { id: count, channel: string },
  authenticate: { id: count, token: string },
  ping: {},
  pong: {}
}

const retry = /* @__PURE__ */ word(retries)

const serverFields: Table<ServerFrame> = {
  welcome: {
    version: count,
    session: string,
    ping: count,
    slack: count,
    expires: optionalCount,
    limits: /* @__PURE__ */ record({
      subscriptions: count,
      frameBytes: count,
      publishPerSecond: count,
      volatilePerSecond: count
    })
  },
  subscribed: {
    id: count,
    channel: string,
    state: /* @__PURE__ */ word(joinStates),
    cursor: optionalString,
    view: optionalString
  },
  unsubscribed: { id: count, channel: string },
  published: { id: count },
  history: { id: count, channel: string, events: wireEvents, more: flag },
  present: { id: count, member: string },
  absent: { id: count },
  authenticated: { id: count, expires: optionalCount },
  events: { channel: string, view: optionalString, cursor: optionalString, events: wireEvents },
  state: {
    // First, as in the request.
    id: optionalCount,
    channel: string,
    view: optionalString,
    cursor: string,
    rows: list,
    invalid: /* @__PURE__ */ optional(list),
    more: flag
  },
  members: {
    channel: string,
    count,
    set: /* @__PURE__ */ optional(members),
    gone: /* @__PURE__ */ optional(texts),
    whole: optionalFlag
  },
  cursor: { channel: string, view: optionalString, cursor: string },
  gap: {
    channel: string,
    view: optionalString,
    // A newer server may send a new reason.
    reason: string,
    cursor: string,
    now: optionalString,
    change: /* @__PURE__ */ optional(
      /* @__PURE__ */ record({
        id: string,
        tx: string,
        operation: /* @__PURE__ */ word(["INSERT", "UPDATE", "DELETE"]),
        key: members
      })
    )
  },
  ended: { channel: string, view: optionalString, code: string, message: string, retry },
  error: { id: optionalCount, code: string, message: string, retry, retryAfter: optionalCount },
  status: { source: /* @__PURE__ */ word(sourceStates) },
  ping: {},
  pong: {},
  bye: { reconnectAfter: count }
}

// -----------------------------------------------------------------------------------------------
// encoding

/**
 * The text of a frame, its fields in the order of the protocol's document. The channel must have checked
 * `data`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (frame: ClientFrame | ServerFrame): string => {
  const { type } = frame
  const ordered: Record<string, unknown> = { type }
  // Some types go both ways. Of these only the client's frames name a channel, except where the server's
  // say whether there is more.
  const fields =
    "more" in frame || (type in serverFields && !("channel" in frame))
      ? serverFields[type as ServerFrame["type"]]
      : { ...serverFields, ...clientFields }[type]
  for (const key in fields) {
    ordered[key] = (frame as unknown as Readonly<Record<string, unknown>>)[key]
  }
  return JSON.stringify(ordered)
}

// -----------------------------------------------------------------------------------------------
// decoding

/**
 * A frame that a server cannot use. `id` is the frame's own when it has a valid one.
 *
 * @category errors
 * @since 0.1.0
 */
export class FrameFault
  extends /* @__PURE__ */ Data.TaggedError("FrameFault")<{
    readonly code: "frame/malformed" | "frame/unknown"
    readonly id: number | undefined
    readonly reason: string
  }>
{
  override get message(): string {
    return `${this.code}: ${this.reason}`
  }
}

/** Names the first part of a parsed value that the wire does not allow. */
const treeFault = (value: unknown, depth: number, limit: number): string | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  if (depth > limit) return tooDeep(limit)
  if (Array.isArray(value)) {
    for (const item of value) {
      const fault = treeFault(item, depth + 1, limit)
      if (fault !== undefined) return fault
    }
    return undefined
  }
  for (const [key, item] of Object.entries(value)) {
    if (refusedNames.has(key)) return `the key ${key} is not allowed`
    if (key.includes("\\") || key.includes(masked)) return "a key with a backslash is not allowed"
    const fault = treeFault(item, depth + 1, limit)
    if (fault !== undefined) return fault
  }
  return undefined
}

/**
 * V8 13.6 misreads names with an escape once it has read a name with a backslash in the same place. This
 * lasts for the life of the process and affects all JSON that it reads. So a client's frame must not have
 * such a name: this text replaces the backslash, and the check finds it.
 */
const masked = "\ud800\ud800"
const backslashes = /\\\\|\\u005c/gi

const read = <Frame extends { readonly type: string }>(
  table: Table<Frame>,
  value: unknown
): Frame | undefined => {
  const type = fieldsOf(value)["type"] as Frame["type"]
  const known = typeof type === "string" && Object.hasOwn(table, type)
  const fields = known ? record<object>(table[type])(value) : wrong
  return fields === wrong ? undefined : ({ type, ...fields } as Frame)
}

/**
 * Reads one message of a client. A number that a double cannot hold exactly becomes a string with the
 * same digits. Drops unknown fields. Rejects text that is not a frame, that nests deeper than `maxDepth`
 * (default 64), or that has a key that could reach a prototype or holds a backslash. Never throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeClientFrame = (
  text: string,
  options?: { readonly maxDepth?: number | undefined }
): Result.Result<ClientFrame, FrameFault> => {
  let value: unknown
  const limit = options?.maxDepth ?? maxDepth
  const exact = Exact.rewrite(text)
  try {
    value = parseFrame(exact, limit)
  } catch {
    return malformed(undefined, "not JSON")
  }
  if (!isRecord(value)) return malformed(undefined, "not a JSON object")
  const given = count(value["id"])
  const id = given === wrong ? undefined : given
  const fault = treeFault(value, 1, limit)
  if (fault !== undefined) return malformed(id, fault)
  const { type } = value
  if (typeof type !== "string") return malformed(id, "no type")
  if (!Object.hasOwn(clientFields, type)) {
    return Result.fail(
      new FrameFault({ code: "frame/unknown", id, reason: "a frame type that is not known" })
    )
  }
  const frame = read(clientFields, value)
  if (frame === undefined) return malformed(id, `not a valid ${type} frame`)
  if (exact !== text) keepText(frame, text)
  return Result.succeed(frame)
}

/** Looks for names with a backslash before it parses any. */
const parseFrame = (text: string, limit: number): unknown => {
  const hidden = text.includes("\\") ? text.replace(backslashes, masked) : text
  if (hidden === text) return JsonNames.parseJson(text)
  const value = JsonNames.parseJson(hidden)
  return treeFault(value, 1, limit) === undefined ? JsonNames.parseJson(text) : value
}

const malformed = (id: number | undefined, reason: string) =>
  Result.fail(new FrameFault({ code: "frame/malformed", id, reason }))

/**
 * Reads one frame of a server. Gives `undefined` for a frame that this version does not know; a client
 * ignores it. Never throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeServerFrame = (text: string): ServerFrame | undefined => {
  try {
    return read(serverFields, JSON.parse(text))
  } catch {
    return undefined
  }
}

/**
 * Reads one message of a server: one frame, or several frames separated by line feeds.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeServerMessage = (text: string): ReadonlyArray<ServerFrame> =>
  text.split("\n").flatMap((line) => decodeServerFrame(line) ?? [])
