/**
 * Where raw notifications come from: the contract.
 *
 * In: names of channels. Out: raw text to each listener, in which a lost connection stands as the value
 * `lost` at the place where text may be missing. A source heals by itself and for ever; its
 * listeners survive every reconnect. It decodes nothing and knows no subscribers: that is `Realtime`.
 * PostgreSQL is `PgNotificationSource`, a source in this process `MemorySource`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as SubscriptionRef from "effect/SubscriptionRef"
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
 * The source could not do what was asked.
 *
 * @category errors
 * @since 0.1.0
 */
export class SourceError extends Schema.TaggedError<SourceError>()("SourceError", {
  operation: Schema.Literals(["connect", "listen", "notify"]),
  channel: Schema.optionalKey(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const where = this.channel === undefined ? "" : ` on channel "${this.channel}"`
    const cause = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `${this.operation.toUpperCase()}${where} failed: ${cause}. Check the database URL, and that the role may connect.`
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
 * What a listener hears where notifications may be missing. It comes after LISTEN works again, so whatever
 * is committed after it arrives.
 *
 * @category models
 * @since 0.1.0
 */
export const lost: unique symbol = Symbol.for("effect-realtime/NotificationSource/lost")

/**
 * What a listener hears: the text of one notification as it was sent, or that some may be missing.
 *
 * @category models
 * @since 0.1.0
 */
export type Heard = string | typeof lost

/**
 * Takes what arrives on a channel, in order, in the step in which it arrives. It returns soon and never
 * throws: the source and every other listener wait for it.
 *
 * @category models
 * @since 0.1.0
 */
export type Listener = (heard: Heard) => void

/**
 * @category services
 * @since 0.1.0
 */
export class NotificationSource extends Context.Service<
  NotificationSource,
  {
    /**
     * Listens until the scope closes, and gives `listener` what arrives. Completes once the source
     * confirmed that it listens: what is committed after that arrives. Waits for as long as the source is
     * down. The source itself listens once per channel, however many listen here.
     */
    readonly listen: (
      channel: string,
      listener: Listener
    ) => Effect.Effect<void, SourceError, Scope.Scope>
    /**
     * Sends text to every listener of the channel, on every node. Inside the caller's SQL transaction
     * when there is one: it arrives at commit, and a rollback tells nobody.
     */
    readonly notify: (channel: string, payload: string) => Effect.Effect<void, SourceError>
    readonly state: SubscriptionRef.SubscriptionRef<SourceState>
    /** Logs when nothing of the table of this channel arrives here; absent where that cannot be known. */
    readonly checkTable?: (channel: string) => Effect.Effect<void>
    /**
     * Fails when it is known, before the source was up for the first time, that waiting does not help;
     * never completes otherwise. The source goes on trying all the same. Absent where that cannot be.
     */
    readonly refused?: Effect.Effect<never, SourceRefused>
  }
>()("effect-realtime/server/NotificationSource") {}
