/**
 * A source that the bench feeds itself: each listener gets a message as from `PgNotificationSource`
 * when it arrives, and nothing else. The baselines are called directly too.
 */
import { Effect, Layer, SubscriptionRef } from "effect"
import {
  type Listener,
  NotificationSource,
  SourceError,
  type SourceState
} from "../../../src/server/NotificationSource.ts"

export interface Feed {
  readonly layer: Layer.Layer<NotificationSource>
  readonly publish: (channel: string, payload: string) => void
}

export const make = (): Feed => {
  const listeners = new Map<string, Listener>()
  const publish: Feed["publish"] = (channel, payload) => {
    listeners.get(channel)?.(payload)
  }
  const layer = Layer.effect(
    NotificationSource,
    Effect.map(SubscriptionRef.make<SourceState>("up"), (state) => ({
      listen: (channel: string, listener: Listener) =>
        Effect.acquireRelease(
          Effect.sync(() => void listeners.set(channel, listener)),
          () => Effect.sync(() => listeners.delete(channel))
        ),
      notify: (channel: string) =>
        Effect.fail(
          new SourceError({
            operation: "notify",
            channel,
            cause: new Error("only the bench sends")
          })
        ),
      state
    }))
  )
  return { layer, publish }
}
