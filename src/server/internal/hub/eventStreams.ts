/** Publishes to a channel, and its batches as Streams of typed events: what `Realtime` does with channels of events. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Channel from "../../../Channel.ts"
import type { InvalidChannelName, InvalidPayload } from "../../../RealtimeError.ts"
import type { RealtimeEvent } from "../../../RealtimeEvent.ts"
import type { Batch } from "./batch.ts"
import type { SendError } from "./delivery.ts"
import type { Hub } from "./hub.ts"
import { inSpan } from "../tracing.ts"
import type { EventBatch, EventsOptions, PublishOptions } from "./realtimeOptions.ts"

/** The channel's codec decodes the batch, so its payloads are of type A. */
const eventsOf = <A>(batch: Batch) => batch.toEvents() as ReadonlyArray<RealtimeEvent<A>>

export const eventStreams = ({ deliveryOf }: Hub) => {
  const publish = <A>(channel: Channel.Channel<A>, payload: A, options?: PublishOptions) =>
    Effect.suspend((): Effect.Effect<void, InvalidChannelName | InvalidPayload | SendError> => {
      if (channel.fault !== undefined) return Effect.fail(channel.fault)
      const json = Channel.toJson(channel, payload)
      if (Result.isFailure(json)) return Effect.fail(json.failure)
      const delivery = deliveryOf(channel)
      const { name } = channel
      const sending = delivery.publish(
        name,
        json.success,
        options?.key,
        undefined,
        channel.latestBy
      )
      // Pointers and the like are too many for a span each.
      return delivery.remembers
        ? inSpan("realtime.publish", () => ({
            kind: "producer",
            attributes: { "realtime.channel": name, "realtime.delivery": channel.delivery }
          }))(sending)
        : sending
    })

  const raw = (channel: Channel.Any, options: EventsOptions | undefined) =>
    deliveryOf(channel).batches(channel, options?.from)

  const batches = <A>(channel: Channel.Channel<A>, options?: EventsOptions) =>
    Stream.map(raw(channel, options), (batch): EventBatch<A> => ({
      cursor: batch.cursor,
      events: eventsOf<A>(batch)
    }))

  const events = <A>(channel: Channel.Channel<A>, options?: EventsOptions) =>
    Stream.flatMap(raw(channel, options), (batch) => Stream.fromIterable(eventsOf<A>(batch)))

  const subscribe = <A>(channel: Channel.Channel<A>) =>
    events(channel).pipe(
      Stream.mapEffect((event) =>
        event._tag === "Gap" ? Effect.fail(event) : Effect.succeed(event.payload)
      )
    )

  return { publish, batches, events, subscribe }
}
