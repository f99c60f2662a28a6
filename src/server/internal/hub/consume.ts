/**
 * A consumer whose cursor the database keeps.
 *
 * In: a durable channel and what handles its batches. Out: an Effect that consumes for ever. The cursor and
 * the transaction are those of `consumers.ts`; this decodes the events.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import type { RealtimeEvent } from "../../../RealtimeEvent.ts"
import { type DurableBatch, type DurableGap, OutboxReader } from "../../OutboxReader.ts"
import * as Consumers from "../outbox/consumers.ts"
import { forOne, keeps, routed } from "./durable.ts"
import { NotDurable } from "./errors.ts"

/**
 * Options of `consume`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConsumeOptions<in A, out E, out R> {
  /** The name that keeps the cursor, 1-200 bytes. A name belongs to one channel. */
  readonly name: string
  /** Where a name without a cursor begins: `now` (default), the `oldest` event kept, or a cursor. */
  readonly start?: "now" | "oldest" | { readonly cursor: string } | undefined
  /**
   * Handles a batch, in the transaction that moves the cursor. Gaps are among the events in their place.
   */
  readonly onEvents: (events: ReadonlyArray<RealtimeEvent<A>>) => Effect.Effect<void, E, R>
}

/**
 * Consumes a durable channel for ever, under a name that keeps its cursor in the database.
 *
 * Each batch is handled in a transaction that also moves the cursor. So what `onEvents` writes to this
 * database happens exactly once. One worker of a name runs at a time, over all nodes: the others wait, and
 * one of them goes on within 5 s when its node dies, or is stopped. The batch of a worker that was
 * overtaken is rolled back, and PostgreSQL ends the session of its transaction. A failure of `onEvents` rolls its
 * batch back and ends the consumer; the next start resumes there. Other channels do not compile, and
 * fail with `NotDurable` when the compiler does not know the delivery.
 *
 * @category subscribing
 * @since 0.1.0
 */
export const consume = <A, E, R>(
  channel: Channel.Channel<A, boolean, string, "durable">,
  options: ConsumeOptions<A, E, R>
): Effect.Effect<never, E | Consumers.ConsumerError | NotDurable, R | OutboxReader | PgClient> => {
  if (!keeps(channel))
    return Effect.fail(new NotDurable({ channel: (channel as Channel.Any).name }))
  const handle = (item: DurableBatch | DurableGap) =>
    Effect.flatMap(OutboxReader, (outbox) =>
      Effect.flatMap(forOne(channel, outbox)(item), (batches) =>
        // The channel's codec decodes the batches, so their payloads are of type A.
        options.onEvents(
          batches.flatMap((batch) => batch.toEvents() as ReadonlyArray<RealtimeEvent<A>>)
        )
      )
    )
  return Effect.andThen(
    Effect.flatMap(OutboxReader, (outbox) => routed(outbox, channel)),
    Consumers.consumeItems({
      name: options.name,
      channel: channel.name,
      start: options.start,
      onBatch: handle,
      onGap: handle
    })
  )
}
