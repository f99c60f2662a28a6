/**
 * A source of notifications in this process, without a database, with the contract of
 * `NotificationSource`.
 *
 * For tests, and for applications whose nodes do not share notifications. The service `MemorySource`
 * controls the source in tests.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Guarded from "./internal/guarded.ts"
import { waitUntilUp } from "./internal/waitUntilUp.ts"
import {
  type Heard,
  type Listener,
  lost,
  NotificationSource,
  SourceError,
  type SourceState
} from "./NotificationSource.ts"

/**
 * Controls the source in memory, for tests.
 *
 * @category services
 * @since 0.1.0
 */
export class MemorySource extends Context.Service<
  MemorySource,
  {
    /** Loses the connection: the state is `down`, and the source drops notifications until `restore`. */
    readonly lose: Effect.Effect<void>
    /** Reconnects: every listener receives `lost`, then the state is `up`. */
    readonly restore: Effect.Effect<void>
    /** The channels that have a listener now. */
    readonly listening: Effect.Effect<ReadonlyArray<string>>
  }
>()("effect-realtime/server/MemorySource") {}

/**
 * A source in this process, without a database, with the same contract. For tests, and for applications
 * whose nodes do not share notifications.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<NotificationSource | MemorySource> = Layer.effectContext(
  Effect.gen(function* () {
    const state = yield* SubscriptionRef.make<SourceState>("up")
    /** One entry for each call of `listen`, also when two calls pass the same function. */
    const listeners = new Map<string, Set<{ readonly hear: Listener }>>()
    const guarded = yield* Guarded.make<Heard>("effect-realtime source", lost)
    let up = true

    const listen = (channel: string, hear: Listener) =>
      Effect.andThen(
        // Registered only once up: a later listener has missed nothing at a loss before it.
        waitUntilUp(state),
        Effect.acquireRelease(
          Effect.sync(() => {
            const listener = { hear: guarded(hear) }
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

    const tell = (channel: string, heard: Heard) => {
      for (const { hear } of listeners.get(channel) ?? []) hear(heard)
    }

    const notify = (channel: string, payload: string) =>
      Effect.suspend(() => {
        if (!up) {
          const cause = new Error("The source in memory is down")
          return Effect.fail(new SourceError({ operation: "notify", channel, cause }))
        }
        tell(channel, payload)
        return Effect.void
      })

    const lose = Effect.suspend(() => {
      up = false
      return SubscriptionRef.set(state, "down")
    })

    const restore = Effect.suspend(() => {
      up = true
      for (const channel of listeners.keys()) tell(channel, lost)
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
