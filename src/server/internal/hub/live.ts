/**
 * Live delivery: events are notifications of PostgreSQL, at most once. A node remembers the last ones
 * of each channel.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Channel from "../../../Channel.ts"
import { PayloadTooLarge } from "../../../RealtimeError.ts"
import { type Heard, lost, type NotificationSource } from "../../NotificationSource.ts"
import { waitUntilUp } from "../waitUntilUp.ts"
import { NoState } from "../outbox/state.ts"
import { Budget, type RingLimits, sweeping } from "../ring.ts"
import { Batch } from "./batch.ts"
import { absent, type Delivery, unfiltered } from "./delivery.ts"
import { NoSource } from "./errors.ts"
import { ofRings } from "./history.ts"
import { LiveChannel } from "./liveChannel.ts"
import type { OpenChannels } from "./openChannels.ts"
import * as Pump from "./pump.ts"
import { toldOf } from "./gapCounter.ts"

/** The largest payload of a NOTIFY, in bytes of UTF-8. */
export const maxNotifyBytes = 7999

export interface LiveOptions {
  readonly ring: RingLimits
  /** The shortest time between two deliveries, in milliseconds. */
  readonly batchWindow: number
  /** Whether the node announces the loss and the return of its source on `system_notifications`. */
  readonly announceSource: boolean
}

/** A payload for `system_notifications` about the node's own source. */
const notice = (type: "info" | "warning", message: string) => JSON.stringify({ type, message })
const lossNotice = notice(
  "warning",
  "The connection to the database is lost. Events may be late; missed events are reported as a gap."
)
const returnNotice = notice("info", "The connection to the database is back.")
const notices = "system_notifications"

export const make = (
  source: NotificationSource["Service"],
  openChannels: OpenChannels,
  { announceSource, batchWindow, ring }: LiveOptions
): Effect.Effect<Delivery, never, Scope.Scope> =>
  Effect.gen(function* () {
    const budget = new Budget(ring)
    yield* sweeping(budget)
    const told = toldOf(source)
    const { tally } = openChannels
    const opened = new Map<string, LiveChannel>()
    const pump = new Pump.Pump<Heard>(batchWindow)
    yield* Effect.forkScoped(pump.run)

    if (announceSource) {
      yield* SubscriptionRef.changes(source.state).pipe(
        // Every retry sets the state again. A loss is announced once.
        Stream.changes,
        Stream.runForEach((state) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const channel = opened.get(notices)
            if (state === "up" || channel === undefined) return Effect.void
            channel.push(lossNotice)
            return told.tell(notices, channel.deliver(now))
          })
        ),
        Effect.forkScoped({ startImmediately: true })
      )
    }

    const kind = yield* openChannels.kind("live", (name) =>
      Effect.gen(function* () {
        const channel = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const channel = new LiveChannel(name, budget, told, tally.batchEvents)
            opened.set(name, channel)
            return channel
          }),
          (channel) =>
            Effect.sync(() => {
              channel.close()
              if (opened.get(name) === channel) opened.delete(name)
            })
        )
        const announced = announceSource && name === notices
        yield* source.listen(name, (heard) => {
          if (heard !== lost) tally.eventsIn.live++
          pump.push(channel, heard)
          // After the loss itself, so that the ring of the new epoch keeps it.
          if (announced && heard === lost) pump.push(channel, returnNotice)
        })
        return channel
      })
    )

    const open = (channel: Channel.Any) =>
      Effect.gen(function* () {
        const view = yield* kind.view(channel)
        // A channel that lingers is open while the source is down, but confirms nothing then.
        yield* waitUntilUp(source.state)
        return view
      })

    const batches: Delivery["batches"] = (channel, from) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const view = yield* open(channel)
          // Subscribed before the position is taken, so no batch falls between. The tick skips those in
          // both.
          const batches = yield* PubSub.subscribe(view.batches)
          const { cursor, replay, state, tick } = yield* view.join(from)
          const start =
            state === "reset"
              ? [new Batch(view, tick, cursor, cursor, "retention")]
              : (yield* Effect.forEach(replay, ({ open }) => open)).flat()
          return Stream.fromIterable(start).pipe(
            Stream.concat(
              Stream.fromSubscription(batches).pipe(
                Stream.filter((batch) => batch.tick > tick),
                Stream.mapArray(withGaps(tick))
              )
            )
          )
        })
      )

    return {
      missing: () => undefined,
      state: source.state,
      refused: source.refused ?? Effect.never,
      checkTable: (definition) => source.checkTable?.(definition) ?? Effect.void,
      open: (channel, narrowing) => Effect.andThen(unfiltered(channel, narrowing), open(channel)),
      stateOf: (view) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const channel = opened.get(view.name)
          return channel === undefined
            ? Effect.fail(new NoState({ channel: view.name, reason: "definition" }))
            : Effect.succeed(channel.last(view, now))
        }),
      history: ofRings(opened),
      isOpen: kind.isOpen,
      batches,
      publish: (channel, json) => {
        const bytes = Buffer.byteLength(json)
        return bytes > maxNotifyBytes
          ? Effect.fail(new PayloadTooLarge({ channel, bytes, limit: maxNotifyBytes }))
          : source.notify(channel, json)
      },
      resumes: false,
      remembers: true
    }
  })

/** Whether the events of a channel need a notification source. */
export const listens = ({ delivery }: Channel.Definition): boolean => delivery === "live"

/** The delivery of a node that has no notification source. */
export const none = absent((channel) => new NoSource({ channel }), false)

/** Inserts a gap where the ticks jump: the consumer was too slow, and the PubSub dropped batches. */
const withGaps = (start: number) => {
  let tick = start
  return (batches: readonly [Batch, ...Array<Batch>]): readonly [Batch, ...Array<Batch>] => {
    const [first, ...rest] = batches.flatMap((batch) => {
      const missed = batch.tick !== tick + 1
      tick = batch.tick
      return missed
        ? [
            new Batch(
              { name: batch.channel, resumes: false },
              batch.tick,
              batch.from,
              batch.from,
              "slow"
            ),
            batch
          ]
        : [batch]
    })
    return [first!, ...rest]
  }
}
