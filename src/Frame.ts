/**
 * The frames of the wire as types, with their texts in both directions.
 *
 * Two tables name the fields of each frame, in the order in which they are written, so equal frames
 * are equal bytes. They are read by a few functions of our own, because a Schema would cost every
 * browser 14 kB. The server states the same frames as Schemas (`FrameSchema`), and a property test
 * holds both together.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import * as Exact from "./internal/exact.ts"
import { keepText, tooDeep } from "./internal/frameText.ts"
import * as JsonNames from "./internal/jsonNames.ts"
import {
  joinStates,
  type JoinState,
  maxDepth,
  refusedNames,
  retries,
  type Retry,
  sourceStates,
  type SourceState
} from "./Protocol.ts"
import type { GapReason } from "./RealtimeEvent.ts"

/**
 * Client to server. `id` is unique among the client's unanswered requests.
 *
 * @category frames
 * @since 0.1.0
 */
export type ClientFrame =
  | {
      readonly type: "hello"
      readonly version: number
      readonly token?: string
      readonly client?: { readonly name: string; readonly version: string }
    }
  | {
      readonly type: "subscribe"
      readonly id: number
      readonly channel: string
      readonly cursor?: string
    }
  | { readonly type: "unsubscribe"; readonly id: number; readonly channel: string }
  | {
      readonly type: "publish"
      readonly id: number
      readonly channel: string
      /** After so many milliseconds the server drops it. */
      readonly within?: number
      readonly key: string
      readonly data: unknown
    }
  | { readonly type: "authenticate"; readonly id: number; readonly token: string }
  | { readonly type: "ping" }
  | { readonly type: "pong" }

/**
 * One event on the wire; `at` is ISO 8601, `tx` only on durable channels.
 *
 * @category frames
 * @since 0.1.0
 */
export interface WireEvent {
  readonly id: string
  readonly at: string
  readonly data: unknown
  readonly tx?: string
}

/**
 * Server to client. Durations are milliseconds, relative to the receipt of the frame.
 *
 * @category frames
 * @since 0.1.0
 */
export type ServerFrame =
  | {
      readonly type: "welcome"
      readonly version: number
      readonly session: string
      readonly ping: number
      readonly slack: number
      readonly expires?: number
      readonly limits: {
        readonly subscriptions: number
        readonly frameBytes: number
        readonly publishPerSecond: number
      }
    }
  | {
      readonly type: "subscribed"
      readonly id: number
      readonly channel: string
      readonly state: JoinState
      readonly cursor: string
    }
  | { readonly type: "unsubscribed"; readonly id: number; readonly channel: string }
  | { readonly type: "published"; readonly id: number }
  | { readonly type: "authenticated"; readonly id: number; readonly expires?: number }
  | {
      readonly type: "events"
      readonly channel: string
      readonly cursor: string
      readonly events: ReadonlyArray<WireEvent>
    }
  | { readonly type: "cursor"; readonly channel: string; readonly cursor: string }
  | {
      readonly type: "gap"
      readonly channel: string
      /** One that is not known is a gap like any other. */
      readonly reason: GapReason | (string & {})
      readonly cursor: string
    }
  | {
      readonly type: "ended"
      readonly channel: string
      readonly code: string
      readonly message: string
      readonly retry: Retry
    }
  | {
      readonly type: "error"
      readonly id?: number
      readonly code: string
      readonly message: string
      readonly retry: Retry
      readonly retryAfter?: number
    }
  | { readonly type: "status"; readonly source: SourceState }
  | { readonly type: "ping" }
  | { readonly type: "pong" }
  | { readonly type: "bye"; readonly reconnectAfter: number }

/**
 * Selects one frame of a union by its `type`.
 *
 * @category frames
 * @since 0.1.0
 */
export type FrameOf<Frame extends { readonly type: string }, Type extends Frame["type"]> = Extract<
  Frame,
  { readonly type: Type }
>

// -----------------------------------------------------------------------------------------------
// the fields

/** Stands for a value that is not allowed in its place. `undefined` is one that was left out. */
const wrong = /* @__PURE__ */ Symbol()

/** What a value of parsed JSON means. */
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

/** What is no object has none of the fields that an object must have. */
const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> => Object(value)

/** In the order in which they are written. */
type Fields<A> = { readonly [Key in Exclude<keyof A, "type">]-?: Read<A[Key]> }

/** Fields that nobody knows are dropped. */
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

/** Written out, because there may be 100,000 in a second and a `record` takes twice as long. */
const wireEvent: Read<WireEvent> = (value) => {
  const { at, data, id, tx } = fieldsOf(value)
  if (typeof id !== "string" || typeof at !== "string" || data === undefined) return wrong
  if (tx === undefined) return { id, at, data }
  return typeof tx === "string" ? { id, at, data, tx } : wrong
}

/** All of them or nothing: a batch that lacked one event would be a silent loss. */
const wireEvents: Read<ReadonlyArray<WireEvent>> = (value) => {
  const events = Array.isArray(value) && value.map((item) => wireEvent(item))
  return !events || events.includes(wrong) ? wrong : (events as ReadonlyArray<WireEvent>)
}

type Table<Frame extends { readonly type: string }> = {
  readonly [Type in Frame["type"]]: Fields<FrameOf<Frame, Type>>
}

/** 1-64 characters that every database stores and tells apart: no NUL, no half of a surrogate pair. */
const key: Read<string> = (value) =>
  typeof value === "string" &&
  value.length >= 1 &&
  value.length <= 64 &&
  !value.includes("\0") &&
  value.isWellFormed()
    ? value
    : wrong

const optionalCount = /* @__PURE__ */ optional(count)

const clientFields: Table<ClientFrame> = {
  hello: {
    version: count,
    token: /* @__PURE__ */ optional(string),
    client: /* @__PURE__ */ optional(/* @__PURE__ */ record({ name: string, version: string }))
  },
  subscribe: { id: count, channel: string, cursor: /* @__PURE__ */ optional(string) },
  unsubscribe: { id: count, channel: string },
  publish: {
    id: count,
    channel: string,
    within: optionalCount,
    key,
    // Any JSON: what it may be is up to the channel's codec.
    data: (value) => value ?? (value === null ? null : wrong)
  },
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
      publishPerSecond: count
    })
  },
  subscribed: {
    id: count,
    channel: string,
    state: /* @__PURE__ */ word(joinStates),
    cursor: string
  },
  unsubscribed: { id: count, channel: string },
  published: { id: count },
  authenticated: { id: count, expires: optionalCount },
  events: { channel: string, cursor: string, events: wireEvents },
  cursor: { channel: string, cursor: string },
  gap: {
    channel: string,
    // Of a newer server: whatever the reason, it is a gap.
    reason: string,
    cursor: string
  },
  ended: { channel: string, code: string, message: string, retry },
  error: { id: optionalCount, code: string, message: string, retry, retryAfter: optionalCount },
  status: { source: /* @__PURE__ */ word(sourceStates) },
  ping: {},
  pong: {},
  bye: { reconnectAfter: count }
}

// -----------------------------------------------------------------------------------------------
// encoding

/**
 * The text of a frame, fields in the order of the protocol's document. `data` must be JSON already
 * checked by its channel.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (frame: ClientFrame | ServerFrame): string => {
  const { type } = frame
  const ordered: Record<string, unknown> = { type }
  for (const key in { ...clientFields, ...serverFields }[type]) {
    ordered[key] = (frame as unknown as Readonly<Record<string, unknown>>)[key]
  }
  return JSON.stringify(ordered)
}

// -----------------------------------------------------------------------------------------------
// decoding

/**
 * A frame that cannot be used, with the `id` it asked an answer for when it had a valid one.
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

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Names the first thing in a parsed value that the wire does not allow. */
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
 * V8 13.6 misreads names with an escape once it has seen a name with a backslash in that place, for as
 * long as the process lives, wherever else the process reads JSON. So no client brings one in: it is
 * found with this in the place of the backslash.
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
 * Reads one message of a client. A number that a double does not hold exactly is a string with the same
 * digits. Drops unknown fields; refuses what is not a frame, nests too deep, or carries a key that
 * could reach a prototype or holds a backslash. Never throws.
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
 * Reads one frame of a server; `undefined` for anything this version does not know, which a client
 * ignores. Never throws.
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
 * Reads one message of a server: one frame, or several separated by line feeds.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeServerMessage = (text: string): ReadonlyArray<ServerFrame> =>
  text.split("\n").flatMap((line) => decodeServerFrame(line) ?? [])
