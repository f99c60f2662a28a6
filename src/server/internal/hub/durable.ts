/**
 * Durable delivery: events are rows of the outbox table, and a cursor resumes for as long as the table
 * keeps them.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Channel from "../../../Channel.ts"
import { make as filterOf } from "../filter.ts"
import type { Item, OutboxReader } from "../../OutboxReader.ts"
import type { Batch } from "./batch.ts"
import { absent, type Delivery, type Narrowing, type OpenError } from "./delivery.ts"
import { DurableChannel } from "./durableChannel.ts"
import { CannotFilter, NoOutbox } from "./errors.ts"
import { batchesOfItem } from "./itemBatches.ts"
import type { Missing } from "./invalidMessage.ts"
import type { OpenChannels } from "./openChannels.ts"
import { ofOutbox } from "./history.ts"
import { toldOf } from "./gapCounter.ts"
import { type StateLimits, SharedStates } from "./states.ts"
import { View } from "./view.ts"
import { type Narrowed, narrowedTo } from "./viewCursor.ts"

export interface DurableOptions {
  /** The most different filters of a channel at once. */
  readonly maxFilters: number
  /** The limits of a state. */
  readonly state: StateLimits
}

export const make = (
  outbox: OutboxReader["Service"],
  openChannels: OpenChannels,
  { maxFilters, state }: DurableOptions
): Effect.Effect<Delivery, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { tally } = openChannels
    const clock = yield* Clock.Clock
    /** Counts items that were handed to the subscribers. */
    const count = (items: ReadonlyArray<Item>, subscribed: boolean) => {
      const now = subscribed ? clock.currentTimeMillisUnsafe() : 0
      for (const item of items) {
        if (item._tag !== "Batch") continue
        tally.eventsIn.durable += item.events.length
        if (!subscribed) continue
        for (const { at } of item.events) {
          tally.deliverySeconds.add(Math.max(0, now - at) / 1000)
        }
      }
    }
    const pump = Effect.fnUntraced(function* (channel: DurableChannel, queue: Queue.Dequeue<Item>) {
      while (true) {
        const items = yield* Queue.takeAll(queue)
        const missing = channel.receive(items)
        count(items, channel.subscribed)
        yield* channel.told.tell(channel.name, missing)
      }
    })

    const kind = yield* openChannels.kind("durable", (name) =>
      Effect.gen(function* () {
        const queue = yield* outbox.follow(name)
        const channel = new DurableChannel(
          name,
          outbox,
          toldOf(outbox),
          maxFilters,
          tally.batchEvents
        )
        yield* Effect.forkScoped(pump(channel, queue))
        return channel
      })
    )

    const batches: Delivery["batches"] = (channel, from) =>
      Stream.suspend((): Stream.Stream<Batch, OpenError> => {
        if (channel.fault !== undefined) return Stream.fail(channel.fault)
        // Each consumer pages at its own pace, so it shares no view.
        const batches = forOne(channel, outbox)
        const items = outbox.batches(channel.name, { from })
        return Stream.unwrap(Effect.as(routed(outbox, channel), items)).pipe(
          Stream.mapEffect(batches),
          Stream.flattenIterable
        )
      })

    const states = yield* SharedStates.make(outbox, state, toldOf(outbox))

    return {
      missing: () => undefined,
      state: outbox.state,
      refused: outbox.refused ?? Effect.never,
      checkTable: (definition) => outbox.checkTable?.(definition) ?? Effect.void,
      open: (channel, narrowing) =>
        narrowing === undefined
          ? Effect.andThen(routed(outbox, channel), kind.view(channel))
          : Effect.flatMap(narrowed(outbox, channel, narrowing), (narrowed) =>
              Effect.andThen(routed(outbox, channel), kind.view(channel, narrowed))
            ),
      ...(states === undefined ? {} : { stateOf: (...args) => states.of(...args) }),
      history: ofOutbox(outbox),
      isOpen: kind.isOpen,
      batches,
      publish: outbox.publish,
      ...(outbox.published === undefined ? {} : { published: outbox.published }),
      resumes: true,
      remembers: true
    }
  })

/** The delivery of a node that reads no outbox. */
export const none = absent((channel) => new NoOutbox({ channel }), true)

/** Tells the reader of the routes of a table, before one of them is followed. */
export const routed = (
  outbox: OutboxReader["Service"],
  { table }: Channel.Any
): Effect.Effect<void> =>
  table === undefined || table.by.length === 0 ? Effect.void : outbox.routed(table.channel)

/** What the view of a narrowing has beside its channel; `undefined` without a filter. */
const narrowed = (
  { secret }: OutboxReader["Service"],
  { fault, name, table }: Channel.Any,
  { boundary, where }: Narrowing
): Effect.Effect<Narrowed | undefined, OpenError> => {
  if (fault !== undefined) return Effect.fail(fault)
  const filter = filterOf(where, boundary)
  if (filter === undefined) return Effect.succeed(undefined)
  const cannot = (reason: string) => Effect.fail(new CannotFilter({ channel: name, reason }))
  if (table === undefined) return cannot("Channel.table does not define it")
  const kept = new Set([...table.by, ...table.filter, ...table.boundary])
  const unkept = [...filter.columns.keys()].find((column) => !kept.has(column))
  if (unkept !== undefined) return cannot(`its definition has no filter or boundary "${unkept}"`)
  if (secret === undefined) {
    return cannot("the OutboxReader of this node has no secret to sign the cursors with")
  }
  return Effect.map(secret, (secret) => narrowedTo(name, filter, where, boundary, secret))
}

/** Whether a named consumer can read a channel. */
export const keeps = ({ delivery }: Channel.Definition): boolean => delivery === "durable"

/** Decodes items of the outbox for one consumer. Counts and logs messages that do not match the schema. */
export const forOne = (
  channel: Channel.Any,
  outbox: OutboxReader["Service"]
): ((item: Item) => Effect.Effect<ReadonlyArray<Batch>>) => {
  const view = new View<never>(
    channel,
    () => Effect.die(new Error("a view of one consumer is not joined")),
    true
  )
  return (item) => {
    const missing: Array<Missing> = []
    const batches = batchesOfItem(view, item, false, missing)
    return Effect.as(toldOf(outbox).tell(view.name, missing), batches)
  }
}
