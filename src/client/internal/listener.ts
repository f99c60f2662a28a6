/**
 * What a subscription calls: the listener of a consumer, and the part of one that collects rows.
 *
 * @since 0.1.0
 */
import type { Any } from "../../Channel.ts"
import type { FrameOf, ServerFrame } from "../../Frame.ts"
import type { InvalidChannelName, InvalidWhere } from "../../RealtimeError.ts"
import type { RealtimeEvent } from "../../RealtimeEvent.ts"
import type { ConnectionStopped, Refused } from "../ClientError.ts"

/**
 * Why a subscription ended.
 *
 * @category errors
 * @since 0.1.0
 */
export type SubscribeError = ConnectionStopped | InvalidChannelName | InvalidWhere | Refused

export type StateFrame = FrameOf<ServerFrame, "state">

/**
 * A consumer outside Effect. Called synchronously, as the frames arrive, the first time possibly
 * before `listen` returns; must not throw.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener<in A> {
  /**
   * What one frame brought, in order, never empty. The last one carries the position after it, except on
   * a volatile channel.
   */
  readonly onEvents: (batch: ReadonlyArray<RealtimeEvent<A>>) => void
  /** The subscription is active, or moved without events: the listener receives all that commits from here on. */
  readonly onCursor?: ((cursor: string) => void) | undefined
  /**
   * The subscription is not active now: the link is away, or the server rejected it for now (`error`). The
   * client subscribes again by itself, after `error.retryAfter`. Called once per change. The next call of
   * `onEvents` or `onCursor` means that the subscription is active again. Without an error also after
   * `ConnectionStopped`, when the client connects again.
   */
  readonly onInactive?: ((error: Refused | undefined) => void) | undefined
  /** Nothing follows; after `ConnectionStopped`, unless it begins again while the listener is there. */
  readonly onEnd: (error: SubscribeError) => void
}

/** The part of a listener that collects rows: states, beside events. */
export interface Collection {
  /** The first frame of a state begins a new collection. Events that follow the last one follow its cursor. */
  readonly onState: (frame: StateFrame, isFirst: boolean) => void
  /** What it has: 0: all rows; 1: all rows, and it asks for them again; 2: it cannot go on without a state. */
  readonly lacks: () => 0 | 1 | 2
}

/** A listener of a share, with its position. */
export interface Member {
  readonly channel: Any
  readonly listener: Listener<unknown>
  readonly collection: Collection | undefined
  /**
   * Its own position, or `null` while it stands where the stream stands. `undefined`: it joins where the
   * first answer says.
   */
  from: string | null | undefined
  /** While its position is newer than the stream: the events that its position does not have. */
  held: Array<RealtimeEvent<unknown>> | undefined
  /** What its `onInactive` received last: the code of the refusal, or "". `undefined` after any other call. */
  away: string | undefined
}

/** What a member receives in one step: events, and a cursor where the events do not carry it. */
export type Told = readonly [
  member: Member,
  batch: ReadonlyArray<RealtimeEvent<unknown>>,
  cursor: string | undefined
]
