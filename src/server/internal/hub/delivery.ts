/**
 * The delivery of a channel: everything in which live, durable and volatile channels differ. A node
 * has one of each. The door, `Realtime` and the tests ask it; no other file compares the names of deliveries.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Channel from "../../../Channel.ts"
import type { InvalidChannelName, PayloadTooLarge } from "../../../RealtimeError.ts"
import type { SourceError, SourceState } from "../../NotificationSource.ts"
import type { PublishRefused } from "../../OutboxReader.ts"
import type { JoinError } from "../outbox/catchUp.ts"
import type { DatabaseRefused, SourceRefused } from "../link/databaseRefusal.ts"
import type { OutboxFault } from "../outbox/outboxErrors.ts"
import { make as filterOf } from "../filter.ts"
import type { Lease } from "../outbox/sharedReads.ts"
import type { StateError } from "../outbox/state.ts"
import type { Where } from "../../../Frame.ts"
import type { Batch, BatchEvent } from "./batch.ts"
import {
  CannotFilter,
  type NoEvents,
  type NoHistory,
  type NoOutbox,
  type NoSource,
  type TooManyChannels,
  type TooManyFilters
} from "./errors.ts"
import type { Presence } from "../presence/presence.ts"
import type { Outgoing } from "./outgoing.ts"
import type { View } from "./view.ts"

/** Why a channel was not opened. */
export type OpenError =
  | InvalidChannelName
  | SourceError
  | TooManyChannels
  | TooManyFilters
  | CannotFilter
  | JoinError
  | NoEvents
  | NoOutbox
  | NoSource

/** Why a payload was not sent. */
export type SendError =
  | PayloadTooLarge
  | SourceError
  | NoEvents
  | NoOutbox
  | NoSource
  | PublishRefused

/** Why a node cannot read its database, when waiting does not help. */
export type ReadyError = SourceRefused | DatabaseRefused | OutboxFault

/** Which rows of a table a subscriber receives: those that it asked for, of those that it may see. */
export interface Narrowing {
  /** What the client asked for. */
  readonly where: Where | undefined
  /** What `authorize` added. */
  readonly boundary: Where | undefined
}

/** One frame of a state, shared by all that receive it. */
export interface StateFrame {
  readonly message: Outgoing
  /** Roughly its bytes. */
  readonly bytes: number
  /** Its rows. */
  readonly rows: number
}

/** The state of a view, as of one position. */
export interface ViewState {
  /** Events follow from here: `join` of the view takes it. */
  readonly cursor: string
  /** At least one frame, also of a state without rows. */
  readonly frames: ReadonlyArray<StateFrame>
}

/** Which page to read. */
export interface PastRequest {
  /** The id of an event: events before it. Default: the newest. */
  readonly before?: string | undefined
  /** At most 1,000 count. */
  readonly limit: number
  /** Rows that the subscriber may see; of a table only. Default: all. */
  readonly boundary?: Where | undefined
  /** Whether the events are for the wire. */
  readonly wire: boolean
}

/** A page of history. */
export interface Past {
  /** The oldest first. */
  readonly events: ReadonlyArray<BatchEvent>
  /** Whether there are events before these. */
  readonly more: boolean
  /** Bytes of payload read for this answer, roughly. */
  readonly bytes: number
}

/** Why a page was not read. */
export type HistoryError = OpenError | NoHistory

/** Reads a page of a channel. */
export type ReadPast = (
  channel: Channel.Any,
  request: PastRequest
) => Effect.Effect<Past, HistoryError>

export interface Delivery {
  /** The error of a node that has no channels of this delivery; `undefined` when it has. */
  readonly missing: (channel: string) => NoOutbox | NoSource | undefined
  /** Whether events arrive. `undefined` on a node that has no channels of this delivery. */
  readonly state: SubscriptionRef.SubscriptionRef<SourceState> | undefined
  /** Fails when the database refuses the source for good at the start. Never completes otherwise. */
  readonly refused: Effect.Effect<never, ReadyError>
  /** Logs a warning when no change of a table can arrive, or where its definition does not match it. */
  readonly checkTable: (definition: Channel.Definition) => Effect.Effect<void>
  /**
   * The channel as its definition decodes it, until the scope closes. Completes once the node receives
   * whatever commits from then on.
   */
  readonly open: (
    channel: Channel.Any,
    narrowing?: Narrowing
  ) => Effect.Effect<View<JoinError>, OpenError, Scope.Scope>
  /**
   * The state of a view. Subscribers of equal views that ask within a second share one. `after`: the cursor of
   * a gap, which the state must contain; at most one such state is read in 5 s for each view, and one in 60 s
   * while gaps go on, so this may wait. `unlike`: the state before that gap, which no
   * subscriber receives again: one that cannot be joined would be sent without end. Hold the `lease` while
   * the frames are in use: the memory of all states of a node is limited. Absent where no state can be read.
   */
  readonly stateOf?: (
    view: View<JoinError>,
    after?: string,
    lease?: Lease,
    unlike?: ViewState
  ) => Effect.Effect<ViewState, StateError>
  /** A page of a channel backwards. Opens nothing. */
  readonly history: ReadPast
  /** Whether a subscriber uses the channel or waits for it, or the channel lingers. */
  readonly isOpen: (name: string) => boolean
  /** The batches of a channel for one Stream: after the cursor `from`, or from now on. */
  readonly batches: (
    channel: Channel.Any,
    from: string | undefined
  ) => Stream.Stream<Batch, OpenError>
  /**
   * Sends the JSON text of a payload. `key` makes a retry safe when `resumes`: the same key with the same
   * text, or with the same `sent` if it is given, is sent once. It names the publisher when nothing
   * `remembers`. `latestBy` is that of the channel.
   */
  readonly publish: (
    name: string,
    json: string,
    key: string | undefined,
    sent?: string,
    latestBy?: string
  ) => Effect.Effect<void, SendError>
  /**
   * Whether the message that has this key was published with the same `sent`, or with this text if it was
   * published without `sent`. `undefined` if no message has it. Absent where only the node knows keys.
   */
  readonly published?: (
    name: string,
    json: string,
    key: string,
    sent: string
  ) => Effect.Effect<boolean | undefined, SendError>
  /** The members of its channels. Absent where channels have events. */
  readonly presence?: Presence
  /**
   * Whether the events and the keys of publishes are kept outside of this node. If so, a position
   * outlives the node, a slow socket reads again what its mailbox dropped, a replay is read from the
   * database, and a publish that takes too long is interrupted, because a retry is safe. Otherwise a
   * slow socket receives a gap.
   */
  readonly resumes: boolean
  /**
   * Whether anything of an event is kept when it is delivered: the event itself for a resume, the key of
   * its publish for a retry. If not, the channel has no positions and no gaps, a publish has no key and a
   * rate of its own, and the newest event of each key is enough.
   */
  readonly remembers: boolean
}

/** Fails with a filter: the channels of a delivery without a database have nothing to filter by. */
export const unfiltered = (
  { name }: Channel.Any,
  narrowing: Narrowing | undefined
): Effect.Effect<void, CannotFilter> =>
  narrowing === undefined || filterOf(narrowing.where, narrowing.boundary) === undefined
    ? Effect.void
    : Effect.fail(new CannotFilter({ channel: name, reason: "it is not durable" }))

/** The delivery of a node that has no channels of it. Every use fails with the cure. */
export const absent = (
  missing: (channel: string) => NoOutbox | NoSource,
  resumes: boolean
): Delivery => ({
  missing,
  state: undefined,
  refused: Effect.never,
  checkTable: () => Effect.void,
  open: ({ fault, name }) => Effect.fail(fault ?? missing(name)),
  history: ({ fault, name }) => Effect.fail(fault ?? missing(name)),
  isOpen: () => false,
  batches: ({ fault, name }) => Stream.fail(fault ?? missing(name)),
  publish: (channel) => Effect.fail(missing(channel)),
  resumes,
  remembers: true
})
