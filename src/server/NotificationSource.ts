/**
 * The contract of a source of raw notifications.
 *
 * In: names of channels. Out: raw text to each listener. The value `lost` marks the place where text may
 * be missing after a lost connection. A source reconnects by itself and never stops retrying, and its
 * listeners survive every reconnect. It decodes nothing and knows no subscribers; `Realtime` does that.
 * `PgNotificationSource` is a source on PostgreSQL, `MemorySource` one in this process.
 *
 * @since 0.1.0
 */
import type * as Channel from "../Channel.ts"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import { errorText } from "../internal/errorText.ts"
import type * as Protocol from "../Protocol.ts"
import type { SourceRefused } from "./internal/link/databaseRefusal.ts"

export type {
  /**
   * @category errors
   * @since 0.1.0
   */
  SourceRefused
} from "./internal/link/databaseRefusal.ts"

/**
 * The source could not listen or send as requested, or the outbox could not store what was published.
 *
 * @category errors
 * @since 0.1.0
 */
export class SourceError extends Schema.TaggedError<SourceError>()("SourceError", {
  operation: Schema.Literals(["connect", "listen", "notify", "publish"]),
  channel: Schema.optionalKey(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const isPublish = this.operation === "publish"
    const where =
      this.channel === undefined ? "" : ` ${isPublish ? "to" : "on"} channel "${this.channel}"`
    const what = isPublish ? "Publishing" : this.operation.toUpperCase()
    const why = errorText(this.cause)
    // A cause that is a sentence has its own cure.
    return `${what}${where} failed: ${why.endsWith(".") ? why : `${why}. Check the database URL, and that the role may connect.`}`
  }
}

/**
 * `up` while notifications arrive, `down` from the loss of the connection until LISTEN works again.
 *
 * @category models
 * @since 0.1.0
 */
export type SourceState = Protocol.SourceState

/**
 * What a listener receives where notifications may be missing. The source sends it after LISTEN works
 * again, so everything that commits after it arrives.
 *
 * @category models
 * @since 0.1.0
 */
export const lost: unique symbol = Symbol.for("effect-realtime/NotificationSource/lost")

/**
 * What a listener receives: the text of one notification as it was sent, or `lost`.
 *
 * @category models
 * @since 0.1.0
 */
export type Heard = string | typeof lost

/**
 * Receives what arrives on a channel, in order and in the same step. It must return soon and never throw:
 * the source and all other listeners wait for it.
 *
 * @category models
 * @since 0.1.0
 */
export type Listener = (heard: Heard) => void

/**
 * The source of the notifications of live channels.
 *
 * @category services
 * @since 0.1.0
 */
export class NotificationSource extends Context.Service<
  NotificationSource,
  {
    /**
     * Listens until the scope closes, and calls `listener` with what arrives. Completes once the source
     * has confirmed that it listens: what commits after that arrives. Waits while the source is down. The
     * source listens once per channel, whatever the number of listeners.
     */
    readonly listen: (
      channel: string,
      listener: Listener
    ) => Effect.Effect<void, SourceError, Scope.Scope>
    /**
     * Sends text to every listener of the channel, on every node. Within a SQL transaction of the caller
     * it arrives at commit, and a rollback sends nothing.
     */
    readonly notify: (channel: string, payload: string) => Effect.Effect<void, SourceError>
    /** Whether notifications arrive now. */
    readonly state: SubscriptionRef.SubscriptionRef<SourceState>
    /**
     * Logs a warning when nothing of the table of this definition can arrive here, or where the definition
     * and the table differ. Absent when the source cannot know that.
     */
    readonly checkTable?: (definition: Channel.Definition) => Effect.Effect<void>
    /**
     * Closes the connection and opens another: the present one delivers nothing, and the source does not
     * notice. Listeners receive `lost` as after any loss. Absent when a source cannot do that.
     */
    readonly renew?: Effect.Effect<void>
    /**
     * Fails when the source finds, before it was up for the first time, that waiting cannot help. It
     * never completes otherwise, and the source keeps retrying. Absent when a source cannot find that.
     */
    readonly refused?: Effect.Effect<never, SourceRefused>
  }
>()("effect-realtime/server/NotificationSource") {}
