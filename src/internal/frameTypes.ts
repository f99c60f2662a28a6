/** The frames of the wire as types. `Frame` is their public face. */
import type { JoinState, Retry, SourceState } from "../Protocol.ts"
import type { GapReason, InvalidChange } from "../RealtimeEvent.ts"

/**
 * One value of a column in a filter.
 *
 * @category frames
 * @since 0.1.0
 */
export type Scalar = string | number | boolean

/**
 * A filter on the wire: for each of its columns a value, a list of at most 100 values, or `null`.
 *
 * @category frames
 * @since 0.1.0
 */
export type Where = { readonly [column: string]: Scalar | ReadonlyArray<Scalar> | null }

/**
 * A frame that a client sends. `id` is unique among the client's unanswered requests.
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
      /** Whether the client receives the state first where the cursor does not resume. */
      readonly state?: boolean
      readonly where?: Where
    }
  | {
      readonly type: "state"
      readonly id: number
      readonly channel: string
      readonly view?: string
    }
  | {
      readonly type: "history"
      readonly id: number
      readonly channel: string
      /** The id of an event: the newest events before it. Default: the newest of all. */
      readonly before?: string
      /** How many events at most. The server sends at most 1,000. */
      readonly limit: number
    }
  | {
      readonly type: "unsubscribe"
      readonly id: number
      readonly channel: string
      readonly view?: string
    }
  | {
      readonly type: "publish"
      readonly id: number
      readonly channel: string
      /** After so many milliseconds the server drops it. */
      readonly within?: number
      /** Makes a retry safe. Required except on volatile channels. */
      readonly key?: string
      /** The trace context of the publish, as W3C `traceparent`. */
      readonly trace?: string
      readonly data: unknown
    }
  | {
      /** Joins a presence channel that the session is subscribed to, or changes the own state. */
      readonly type: "present"
      readonly id: number
      readonly channel: string
      readonly member: unknown
    }
  | { readonly type: "absent"; readonly id: number; readonly channel: string }
  | { readonly type: "authenticate"; readonly id: number; readonly token: string }
  | { readonly type: "ping" }
  | { readonly type: "pong" }

/**
 * One event on the wire. `at` is ISO 8601. `tx` is there on durable channels only.
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
 * A frame that a server sends. Durations are milliseconds, relative to the receipt of the frame.
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
        readonly volatilePerSecond: number
      }
    }
  | {
      readonly type: "subscribed"
      readonly id: number
      readonly channel: string
      readonly state: JoinState
      /** Absent on volatile channels, which have no positions. */
      readonly cursor?: string
      /** With a filter: the text that every later frame of the subscription carries. */
      readonly view?: string
    }
  | { readonly type: "unsubscribed"; readonly id: number; readonly channel: string }
  | { readonly type: "published"; readonly id: number }
  | {
      readonly type: "history"
      readonly id: number
      readonly channel: string
      /** The oldest first. */
      readonly events: ReadonlyArray<WireEvent>
      /** Whether the server has events before these. */
      readonly more: boolean
    }
  | { readonly type: "present"; readonly id: number; readonly member: string }
  | { readonly type: "absent"; readonly id: number }
  | { readonly type: "authenticated"; readonly id: number; readonly expires?: number }
  | {
      readonly type: "events"
      readonly channel: string
      readonly view?: string
      /** Absent on volatile channels. */
      readonly cursor?: string
      readonly events: ReadonlyArray<WireEvent>
    }
  | {
      readonly type: "state"
      /** On the first frame of an answer to a `state` request. */
      readonly id?: number
      readonly channel: string
      readonly view?: string
      readonly cursor: string
      readonly rows: ReadonlyArray<unknown>
      /** The keys of rows that do not match the Schema and are left out, at most 100. */
      readonly invalid?: ReadonlyArray<unknown>
      /** Whether the next frame has more rows of this state. */
      readonly more: boolean
    }
  | {
      readonly type: "members"
      readonly channel: string
      /** How many members are here. */
      readonly count: number
      /** The states of members that joined or changed, by the text that names each while it is here. */
      readonly set?: { readonly [member: string]: unknown }
      /** The members that left. */
      readonly gone?: ReadonlyArray<string>
      /** These are all members. Without `set` members are not named any more, only counted. */
      readonly whole?: boolean
    }
  | {
      readonly type: "cursor"
      readonly channel: string
      readonly view?: string
      readonly cursor: string
    }
  | {
      readonly type: "gap"
      readonly channel: string
      readonly view?: string
      /** A client treats an unknown reason as any other gap. */
      readonly reason: GapReason | (string & {})
      readonly cursor: string
      /** With the reason `rights`: the view of every later frame; without it they have none. */
      readonly now?: string
      /** With the reason `invalid`: only this change of a row is missing, and no state follows. */
      readonly change?: InvalidChange
    }
  | {
      readonly type: "ended"
      readonly channel: string
      readonly view?: string
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
