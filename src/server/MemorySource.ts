/**
 * A source of notifications in this process: no database, the contract of `NotificationSource`.
 *
 * For tests, and for apps whose nodes need not hear each other. The service `MemorySource` is what a test
 * may do to it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SubscriptionRef from "effect/SubscriptionRef"
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
 * A source in this process: no database, the same contract. For tests, and for apps whose nodes need
 * not hear each other.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<NotificationSource | MemorySource> = Layer.effectContext(
  Effect.gen(function* () {
    const state = yield* SubscriptionRef.make<SourceState>("up")
    /** Each call of `listen` by itself, also where two give the same function. */
    const listeners = new Map<string, Set<{ readonly hear: Listener }>>()
    let up = true

    const listen = (channel: string, hear: Listener) =>
      Effect.andThen(
        // Registered only once up: a listener that was not there at a loss has lost nothing.
        waitUntilUp(state),
        Effect.acquireRelease(
          Effect.sync(() => {
            const listener = { hear }
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
