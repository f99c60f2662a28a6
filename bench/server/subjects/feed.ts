/**
 * A source that the bench feeds itself: each message goes into the listener's queue as
 * `PgNotificationSource` puts it there when it arrives, and nothing else. The baselines are called
 * directly too.
 */
import { Effect, Layer, Queue, SubscriptionRef } from "effect"
import {
  type Notification,
  NotificationSource,
  SourceError,
  type SourceState
} from "../../../src/server/NotificationSource.ts"

export interface Feed {
  readonly layer: Layer.Layer<NotificationSource>
  readonly publish: (channel: string, payload: string) => void
}

export const make = (): Feed => {
  const listeners = new Map<string, Queue.Enqueue<Notification>>()
  const publish: Feed["publish"] = (channel, payload) => {
    const into = listeners.get(channel)
    if (into !== undefined) Queue.offerUnsafe(into, { channel, payload })
  }
  const layer = Layer.effect(
    NotificationSource,
    Effect.map(SubscriptionRef.make<SourceState>("up"), (state) => ({
      listen: (channel: string, into: Queue.Enqueue<Notification>) =>
        Effect.acquireRelease(
          Effect.sync(() => void listeners.set(channel, into)),
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
