/**
 * How the events of a channel travel: everything that is different from one delivery to another, and a
 * node has one of each. The door, the hub's face and the tests ask here; nobody else compares names.
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
import type { OutboxFault } from "../outbox/faults.ts"
import type { Batch } from "./batch.ts"
import type { NoOutbox, NoSource, TooManyChannels } from "./errors.ts"
import type { View } from "./view.ts"

/** Why a channel was not opened. */
export type OpenError =
  | InvalidChannelName
  | SourceError
  | TooManyChannels
  | JoinError
  | NoOutbox
  | NoSource

/** Why a payload was not sent. */
export type SendError = PayloadTooLarge | SourceError | NoOutbox | NoSource | PublishRefused

/** Why a node does not hear its database, when it is known that waiting does not help. */
export type ReadyError = SourceRefused | DatabaseRefused | OutboxFault

export interface Delivery {
  /** Why this node has no channel of this delivery; `undefined` when it has. */
  readonly missing: (channel: string) => NoOutbox | NoSource | undefined
  /** Whether events arrive; `undefined` where nothing can. */
  readonly state: SubscriptionRef.SubscriptionRef<SourceState> | undefined
  /** Fails when what is read from is refused for good at the start; never completes otherwise. */
  readonly refused: Effect.Effect<never, ReadyError>
  /** Logs when nothing of the table of this channel arrives. */
  readonly checkTable: (channel: string) => Effect.Effect<void>
  /**
   * The channel as its definition sees it, until the scope closes. Completes once what is committed from
   * then on is delivered.
   */
  readonly open: (channel: Channel.Any) => Effect.Effect<View<JoinError>, OpenError, Scope.Scope>
  /** Whether a subscriber uses the channel, waits for it, or did a moment ago. */
  readonly isOpen: (name: string) => boolean
  /** The batches of a channel for one Stream, after the cursor `from`, or from now on. */
  readonly batches: (
    channel: Channel.Any,
    from: string | undefined
  ) => Stream.Stream<Batch, OpenError>
  /** Sends the JSON text of a payload; `key` makes a retry safe where `resumes`. */
  readonly publish: (
    name: string,
    json: string,
    key: string | undefined
  ) => Effect.Effect<void, SendError>
  /**
   * Whether what was sent is kept outside of this node, with its key. Then a position outlives the node,
   * a slow socket reads again what was dropped, a replay is read from the database, and a publish that
   * takes too long is taken back, because it may be repeated. Otherwise a slow socket is told a gap.
   */
  readonly resumes: boolean
}

/** Of a node that has nothing for it: every use fails with the cure. */
export const absent = (
  missing: (channel: string) => NoOutbox | NoSource,
  resumes: boolean
): Delivery => ({
  missing,
  state: undefined,
  refused: Effect.never,
  checkTable: () => Effect.void,
  open: ({ fault, name }) => Effect.fail(fault ?? missing(name)),
  isOpen: () => false,
  batches: ({ fault, name }) => Stream.fail(fault ?? missing(name)),
  publish: (channel) => Effect.fail(missing(channel)),
  resumes
})
