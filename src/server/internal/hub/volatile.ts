/**
 * Volatile delivery: events go from publishers to subscribers through no database. Nothing is
 * remembered, and what waits for a busy subscriber is the newest event of each key.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import * as Cursor from "../../../internal/cursorText.ts"
import { PayloadTooLarge } from "../../../RealtimeError.ts"
import type { TopicTaken } from "../../NodeBus.ts"
import { type Delivery, unfiltered } from "./delivery.ts"
import { Told } from "./gapCounter.ts"
import { ofNothing } from "./history.ts"
import type { OpenChannels } from "./openChannels.ts"
import * as Pump from "./pump.ts"
import * as VolatileBus from "./volatileBus.ts"
import { volatileKeyOf, VolatileChannel, type VolatileEvent } from "./volatileChannel.ts"
import { VolatileStream } from "./volatileStream.ts"

/** The largest payload in bytes of UTF-8: half of what waits for a busy socket by default. */
const maxVolatileBytes = 512 * 1024

export const make = (
  openChannels: OpenChannels,
  { batchWindow }: { readonly batchWindow: number }
): Effect.Effect<Delivery, TopicTaken, Scope.Scope> =>
  Effect.gen(function* () {
    const told = new Told("is dropped")
    const { tally } = openChannels
    const opened = new Map<string, VolatileChannel>()
    const pump = new Pump.Pump<VolatileEvent>(batchWindow)
    yield* Effect.forkScoped(pump.run)
    const clock = yield* Clock.Clock
    /** Differs from node to node, so that no two events have the same id. */
    const epoch = randomBytes(6).toString("base64url")
    let published = 0

    const kind = yield* openChannels.kind("volatile", (name) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const channel = new VolatileChannel(name, told, tally.batchEvents)
          opened.set(name, channel)
          return channel
        }),
        (channel) =>
          Effect.sync(() => {
            if (opened.get(name) === channel) opened.delete(name)
          })
      )
    )

    /** Takes an event into this node: the one way in, also for events that other nodes publish. */
    const enter = (name: string, event: VolatileEvent): void => {
      const channel = opened.get(name)
      if (channel === undefined) return
      tally.eventsIn.volatile++
      pump.push(channel, event)
    }

    const sendOn = yield* VolatileBus.make(enter)

    return {
      missing: () => undefined,
      state: undefined,
      refused: Effect.never,
      checkTable: () => Effect.void,
      open: (channel, narrowing) =>
        Effect.andThen(unfiltered(channel, narrowing), kind.view(channel)),
      history: ofNothing,
      isOpen: kind.isOpen,
      batches: (channel) =>
        Stream.unwrap(
          Effect.gen(function* () {
            const view = yield* kind.view(channel)
            const stream = new VolatileStream(view)
            yield* Effect.acquireRelease(
              Effect.sync(() => view.subscribe(stream)),
              () => Effect.sync(() => view.unsubscribe(stream))
            )
            return Stream.fromEffectRepeat(stream.next)
          })
        ),
      publish: (channel, json, publisher = "", _sent, latestBy) =>
        Effect.suspend(() => {
          const bytes = Buffer.byteLength(json)
          if (bytes > maxVolatileBytes) {
            return Effect.fail(new PayloadTooLarge({ channel, bytes, limit: maxVolatileBytes }))
          }
          const id = Cursor.formatLive(epoch, ++published)
          const event = { id, at: clock.currentTimeMillisUnsafe(), publisher, json }
          enter(channel, event)
          sendOn(channel, () => volatileKeyOf(latestBy, json, publisher), event)
          return Effect.void
        }),
      resumes: false,
      remembers: false
    }
  })
