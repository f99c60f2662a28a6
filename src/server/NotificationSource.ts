/**
 * Where raw notifications come from: the contract, and a keeper of it in memory.
 *
 * In: names of channels. Out: raw text in the listener's queue, in which a lost connection stands as
 * the value `lost` at the place where text may be missing. A source heals by itself and for ever; its
 * listeners survive every reconnect. It decodes nothing and knows no subscribers: that is `Realtime`.
 * PostgreSQL is `PgNotificationSource`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Protocol from "../Protocol.ts"

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
 * Stands in a listener's queue where notifications may be missing. It comes after LISTEN works again,
 * so whatever is committed after it arrives.
 *
 * @category models
 * @since 0.1.0
 */
export const lost: unique symbol = Symbol.for("effect-realtime/NotificationSource/lost")

/**
 * What a listener is told: the text of one notification as it was sent, or that some may be missing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Notification {
  readonly channel: string
  readonly payload: string | typeof lost
}

/**
 * @category services
 * @since 0.1.0
 */
export class NotificationSource extends Context.Service<
  NotificationSource,
  {
    /**
     * Listens until the scope closes, and puts what arrives into `into`, which may serve any number of
     * channels. Completes once the source confirmed that it listens: what is committed after that
     * arrives. Waits for as long as the source is down. The source itself listens once per channel,
     * however many listen here.
     *
     * The source does not wait for `into`. An unbounded queue keeps everything that is not taken. A
     * bounded one needs room for 2 at least: when it is full it misses what comes, and is told `lost`
     * before the next notification of that channel that it takes; while nothing more comes, it is not
     * told. A sliding one forgets without a word.
     */
    readonly listen: (
      channel: string,
      into: Queue.Enqueue<Notification>
    ) => Effect.Effect<void, SourceError, Scope.Scope>
    /**
     * Sends text to every listener of the channel, on every node. Inside the caller's SQL transaction
     * when there is one: it arrives at commit, and a rollback tells nobody.
     */
    readonly notify: (channel: string, payload: string) => Effect.Effect<void, SourceError>
    readonly state: SubscriptionRef.SubscriptionRef<SourceState>
    /** Logs when nothing of the table of this channel arrives here; absent where that cannot be known. */
    readonly checkTable?: (channel: string) => Effect.Effect<void>
    /** Set where there is none, as of `layerNone`: a live channel is refused at start then. */
    readonly absent?: true
    /**
     * Fails when it is known, before the source was up for the first time, that waiting does not help;
     * never completes otherwise. The source goes on trying all the same. Absent where that cannot be.
     */
    readonly refused?: Effect.Effect<never, Error>
  }
>()("effect-realtime/server/NotificationSource") {}

/**
 * What a test may do to the source in memory.
 *
 * @category services
 * @since 0.1.0
 */
export class MemorySource extends Context.Service<
  MemorySource,
  {
    /** Loses the connection: state `down`, and notifications go nowhere until `restore`. */
    readonly lose: Effect.Effect<void>
    /** Brings it back: every listener gets `lost`, then state `up`. */
    readonly restore: Effect.Effect<void>
    /** The channels that are listened to now. */
    readonly listening: Effect.Effect<ReadonlyArray<string>>
  }
>()("effect-realtime/server/MemorySource") {}

/**
 * One call of `listen`, as a source keeps it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  readonly into: Queue.Enqueue<Notification>
  /** Its queue was full, and it was not told yet. */
  missed: boolean
}

/**
 * Gives a listener what arrived. What a full queue does not take is missing there, and told before the
 * next one that it takes. For whoever makes a source.
 *
 * @category combinators
 * @since 0.1.0
 */
export const give = (listener: Listener, notification: Notification): void => {
  const { into } = listener
  if (listener.missed) {
    if (!Queue.offerUnsafe(into, { channel: notification.channel, payload: lost })) return
    listener.missed = false
    if (notification.payload === lost) return
  }
  listener.missed = !Queue.offerUnsafe(into, notification)
}

/**
 * A source in this process: no database, the same contract. For tests, and for apps whose nodes need
 * not hear each other.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<NotificationSource | MemorySource> = Layer.effectContext(
  Effect.gen(function* () {
    const state = yield* SubscriptionRef.make<SourceState>("up")
    const listeners = new Map<string, Set<Listener>>()
    let up = true

    const listen = (channel: string, into: Queue.Enqueue<Notification>) =>
      Effect.andThen(
        // Registered only once up: who was not listening at a loss has lost nothing.
        waitUntilUp(state),
        Effect.acquireRelease(
          Effect.sync(() => {
            const listener: Listener = { into, missed: false }
            const set = listeners.get(channel) ?? new Set()
            listeners.set(channel, set.add(listener))
            return listener
          }),
          (listener) =>
            Effect.sync(() => {
              const set = listeners.get(channel)
              if (set?.delete(listener) === true && set.size === 0) listeners.delete(channel)
            })
        )
      )

    const tell = (notification: Notification) => {
      for (const listener of listeners.get(notification.channel) ?? []) give(listener, notification)
    }

    const notify = (channel: string, payload: string) =>
      Effect.suspend(() => {
        if (!up) {
          const cause = new Error("The source in memory is down")
          return Effect.fail(new SourceError({ operation: "notify", channel, cause }))
        }
        tell({ channel, payload })
        return Effect.void
      })

    const lose = Effect.suspend(() => {
      up = false
      return SubscriptionRef.set(state, "down")
    })

    const restore = Effect.suspend(() => {
      up = true
      for (const channel of listeners.keys()) tell({ channel, payload: lost })
      return SubscriptionRef.set(state, "up")
    })

    return Context.make(NotificationSource, { listen, notify, state }).pipe(
      Context.add(MemorySource, {
        lose,
        restore,
        listening: Effect.sync(() => [...listeners.keys()])
      })
    )
  })
)

/**
 * No source at all: for a node whose channels are all durable, so that it needs no link, for example
 * behind a transaction pooler. A server with a live channel fails at start with `NoSource`; whatever else
 * needs a live one fails with `SourceError`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNone: Layer.Layer<NotificationSource> = Layer.effect(
  NotificationSource,
  Effect.map(SubscriptionRef.make<SourceState>("up"), (state) => {
    const refuse = (operation: "listen" | "notify") => (channel: string) =>
      Effect.fail(
        new SourceError({
          operation,
          channel,
          cause: new Error("this node listens to nothing, because it was given layerNone")
        })
      )
    return { listen: refuse("listen"), notify: refuse("notify"), state, absent: true as const }
  })
)

/**
 * Completes at once when the source is up, else when it comes back.
 *
 * @category combinators
 * @since 0.1.0
 */
export const waitUntilUp = (
  state: SubscriptionRef.SubscriptionRef<SourceState>
): Effect.Effect<void> =>
  SubscriptionRef.changes(state).pipe(
    Stream.filter((current) => current === "up"),
    Stream.runHead,
    Effect.asVoid
  )
