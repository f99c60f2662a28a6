/**
 * The frames of the wire as types, with their texts in both directions.
 *
 * Decoders are written by hand, because a Schema would cost every browser 14 kB. The server states
 * the same frames as Schemas (`FrameSchema`), and a property test holds both together. Encoders write
 * the fields in one fixed order, so equal frames are equal bytes.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import { maxDepth, type Retry } from "./Protocol.ts"

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
      readonly key: string
      readonly data: unknown
    }
  | { readonly type: "authenticate"; readonly id: number; readonly token: string }
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
      readonly state: "fresh" | "recovered" | "reset"
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
      readonly reason: "source" | "slow" | "retention" | "invalid"
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
  | { readonly type: "status"; readonly source: "up" | "down" }
  | { readonly type: "ping" }
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
// encoding

const order: Record<string, ReadonlyArray<string>> = {
  hello: ["type", "version", "token", "client"],
  subscribe: ["type", "id", "channel", "cursor"],
  unsubscribe: ["type", "id", "channel"],
  publish: ["type", "id", "channel", "key", "data"],
  authenticate: ["type", "id", "token"],
  welcome: ["type", "version", "session", "ping", "slack", "expires", "limits"],
  subscribed: ["type", "id", "channel", "state", "cursor"],
  unsubscribed: ["type", "id", "channel"],
  published: ["type", "id"],
  authenticated: ["type", "id", "expires"],
  events: ["type", "channel", "cursor", "events"],
  cursor: ["type", "channel", "cursor"],
  gap: ["type", "channel", "reason", "cursor"],
  ended: ["type", "channel", "code", "message", "retry"],
  error: ["type", "id", "code", "message", "retry", "retryAfter"],
  status: ["type", "source"],
  bye: ["type", "reconnectAfter"],
  ping: ["type"],
  pong: ["type"]
}

/**
 * The text of a frame, fields in the order of the protocol's document. `data` must be JSON already
 * checked by its channel.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (frame: ClientFrame | ServerFrame): string => {
  const ordered: Record<string, unknown> = {}
  for (const key of order[frame.type]!) {
    ordered[key] = (frame as unknown as Record<string, unknown>)[key]
  }
  return JSON.stringify(ordered)
}

/**
 * The text of a `publish` frame around a payload that is JSON text already.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodePublish = (id: number, channel: string, key: string, json: string): string =>
  `{"type":"publish","id":${id},"channel":"${channel}","key":${JSON.stringify(key)},"data":${json}}`

/**
 * The text of one event around a payload that is JSON text already.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeEvent = (id: string, at: string, json: string, tx?: string): string =>
  tx === undefined
    ? `{"id":"${id}","at":"${at}","data":${json}}`
    : `{"id":"${id}","at":"${at}","data":${json},"tx":"${tx}"}`

/**
 * The text of an `events` frame around events that are text already.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeEvents = (
  channel: string,
  cursor: string,
  events: ReadonlyArray<string>
): string =>
  `{"type":"events","channel":"${channel}","cursor":"${cursor}","events":[${events.join(",")}]}`

// -----------------------------------------------------------------------------------------------
// decoding

/**
 * A frame that cannot be used, with the `id` it asked an answer for when it had a valid one.
 *
 * @category errors
 * @since 0.1.0
 */
export class FrameFault extends Data.TaggedError("FrameFault")<{
  readonly code: "frame/malformed" | "frame/unknown"
  readonly id: number | undefined
  readonly reason: string
}> {
  override get message(): string {
    return `${this.code}: ${this.reason}`
  }
}

const refusedKeys = new Set(["__proto__", "constructor", "prototype"])

/** Names the first thing in a parsed value that the wire does not allow. */
const treeFault = (value: unknown, depth: number, limit: number): string | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  if (depth > limit) return `nested deeper than ${limit} levels`
  if (Array.isArray(value)) {
    for (const item of value) {
      const fault = treeFault(item, depth + 1, limit)
      if (fault !== undefined) return fault
    }
    return undefined
  }
  for (const [key, item] of Object.entries(value)) {
    if (refusedKeys.has(key)) return `the key ${key} is not allowed`
    const fault = treeFault(item, depth + 1, limit)
    if (fault !== undefined) return fault
  }
  return undefined
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isString = (value: unknown): value is string => typeof value === "string"

const isOptionalString = (value: unknown): value is string | undefined =>
  value === undefined || typeof value === "string"

/** An integer from 0 to 2^53-1: an id or a duration in milliseconds. */
const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0

const isOptionalCount = (value: unknown): value is number | undefined =>
  value === undefined || isCount(value)

const isRetry = (value: unknown): value is Retry =>
  value === "never" || value === "later" || value === "refresh"

type Fields = Readonly<Record<string, unknown>>

const clientDecoders: {
  readonly [Type in ClientFrame["type"]]: (fields: Fields) => FrameOf<ClientFrame, Type> | undefined
} = {
  hello: ({ client, token, version }) => {
    if (!isCount(version) || !isOptionalString(token)) return undefined
    const base = { type: "hello", version, ...(token === undefined ? {} : { token }) } as const
    if (client === undefined) return base
    if (!isRecord(client)) return undefined
    const { name, version: clientVersion } = client
    return isString(name) && isString(clientVersion)
      ? { ...base, client: { name, version: clientVersion } }
      : undefined
  },
  subscribe: ({ channel, cursor, id }) =>
    isCount(id) && isString(channel) && isOptionalString(cursor)
      ? { type: "subscribe", id, channel, ...(cursor === undefined ? {} : { cursor }) }
      : undefined,
  unsubscribe: ({ channel, id }) =>
    isCount(id) && isString(channel) ? { type: "unsubscribe", id, channel } : undefined,
  publish: ({ channel, data, id, key }) =>
    isCount(id) &&
    isString(channel) &&
    isString(key) &&
    key.length >= 1 &&
    key.length <= 64 &&
    data !== undefined
      ? { type: "publish", id, channel, key, data }
      : undefined,
  authenticate: ({ id, token }) =>
    isCount(id) && isString(token) ? { type: "authenticate", id, token } : undefined,
  pong: () => ({ type: "pong" })
}

/**
 * Reads one message of a client. Drops unknown fields; refuses what is not a frame, nests too deep
 * or carries a key that could reach a prototype. Never throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeClientFrame = (
  text: string,
  options?: { readonly maxDepth?: number | undefined }
): Result.Result<ClientFrame, FrameFault> => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return malformed(undefined, "not JSON")
  }
  if (!isRecord(value)) return malformed(undefined, "not a JSON object")
  const id = isCount(value["id"]) ? value["id"] : undefined
  const fault = treeFault(value, 1, options?.maxDepth ?? maxDepth)
  if (fault !== undefined) return malformed(id, fault)
  const { type } = value
  if (!isString(type)) return malformed(id, "no type")
  if (!Object.hasOwn(clientDecoders, type)) {
    return Result.fail(
      new FrameFault({ code: "frame/unknown", id, reason: "a frame type that is not known" })
    )
  }
  const frame = clientDecoders[type as ClientFrame["type"]](value)
  return frame === undefined ? malformed(id, `not a valid ${type} frame`) : Result.succeed(frame)
}

const malformed = (id: number | undefined, reason: string) =>
  Result.fail(new FrameFault({ code: "frame/malformed", id, reason }))

const wireEvent = (value: unknown): WireEvent | undefined => {
  if (!isRecord(value)) return undefined
  const { at, data, id, tx } = value
  if (!isString(id) || !isString(at) || data === undefined || !isOptionalString(tx)) {
    return undefined
  }
  return tx === undefined ? { id, at, data } : { id, at, data, tx }
}

/** All of them or nothing: a batch that lacked one event would be a silent loss. */
const wireEvents = (value: unknown): ReadonlyArray<WireEvent> | undefined => {
  if (!Array.isArray(value)) return undefined
  const events: Array<WireEvent> = []
  for (const item of value) {
    const event = wireEvent(item)
    if (event === undefined) return undefined
    events.push(event)
  }
  return events
}

const serverDecoders: {
  readonly [Type in ServerFrame["type"]]: (fields: Fields) => FrameOf<ServerFrame, Type> | undefined
} = {
  welcome: ({ expires, limits, ping, session, slack, version }) => {
    if (!isCount(version) || !isString(session) || !isCount(ping) || !isCount(slack)) {
      return undefined
    }
    if (!isOptionalCount(expires) || !isRecord(limits)) return undefined
    const { frameBytes, publishPerSecond, subscriptions } = limits
    if (!isCount(subscriptions) || !isCount(frameBytes) || !isCount(publishPerSecond)) {
      return undefined
    }
    return {
      type: "welcome",
      version,
      session,
      ping,
      slack,
      ...(expires === undefined ? {} : { expires }),
      limits: { subscriptions, frameBytes, publishPerSecond }
    }
  },
  subscribed: ({ channel, cursor, id, state }) =>
    isCount(id) &&
    isString(channel) &&
    isString(cursor) &&
    (state === "fresh" || state === "recovered" || state === "reset")
      ? { type: "subscribed", id, channel, state, cursor }
      : undefined,
  unsubscribed: ({ channel, id }) =>
    isCount(id) && isString(channel) ? { type: "unsubscribed", id, channel } : undefined,
  published: ({ id }) => (isCount(id) ? { type: "published", id } : undefined),
  authenticated: ({ expires, id }) =>
    isCount(id) && isOptionalCount(expires)
      ? { type: "authenticated", id, ...(expires === undefined ? {} : { expires }) }
      : undefined,
  events: ({ channel, cursor, events: items }) => {
    const events = wireEvents(items)
    return isString(channel) && isString(cursor) && events !== undefined
      ? { type: "events", channel, cursor, events }
      : undefined
  },
  cursor: ({ channel, cursor }) =>
    isString(channel) && isString(cursor) ? { type: "cursor", channel, cursor } : undefined,
  gap: ({ channel, cursor, reason }) =>
    isString(channel) &&
    isString(cursor) &&
    (reason === "source" || reason === "slow" || reason === "retention" || reason === "invalid")
      ? { type: "gap", channel, reason, cursor }
      : undefined,
  ended: ({ channel, code, message, retry }) =>
    isString(channel) && isString(code) && isString(message) && isRetry(retry)
      ? { type: "ended", channel, code, message, retry }
      : undefined,
  error: ({ code, id, message, retry, retryAfter }) =>
    isOptionalCount(id) &&
    isString(code) &&
    isString(message) &&
    isRetry(retry) &&
    isOptionalCount(retryAfter)
      ? {
          type: "error",
          ...(id === undefined ? {} : { id }),
          code,
          message,
          retry,
          ...(retryAfter === undefined ? {} : { retryAfter })
        }
      : undefined,
  status: ({ source }) =>
    source === "up" || source === "down" ? { type: "status", source } : undefined,
  ping: () => ({ type: "ping" }),
  bye: ({ reconnectAfter }) =>
    isCount(reconnectAfter) ? { type: "bye", reconnectAfter } : undefined
}

/**
 * Reads one frame of a server; `undefined` for anything this version does not know, which a client
 * ignores. Never throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeServerFrame = (text: string): ServerFrame | undefined => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!isRecord(value)) return undefined
  const { type } = value
  if (!isString(type) || !Object.hasOwn(serverDecoders, type)) return undefined
  return serverDecoders[type as ServerFrame["type"]](value)
}

/**
 * Reads one message of a server: one frame, or several separated by line feeds.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeServerMessage = (text: string): ReadonlyArray<ServerFrame> => {
  const frames: Array<ServerFrame> = []
  for (const line of text.includes("\n") ? text.split("\n") : [text]) {
    const frame = decodeServerFrame(line)
    if (frame !== undefined) frames.push(frame)
  }
  return frames
}
