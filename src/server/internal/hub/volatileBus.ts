/**
 * Carries volatile events to the other nodes over the bus, and theirs to this one.
 *
 * At most once: of each key the newest event within 50 ms is sent, up to a bound. What other nodes sent
 * enters as it is, and is not sent on.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as metrics from "../metrics.ts"
import { NodeBus, type TopicTaken } from "../../NodeBus.ts"
import { Newest } from "./newest.ts"
import type { VolatileEvent } from "./volatileChannel.ts"

/** Milliseconds between two messages of a node. */
const every = 50
/** What a node sends in one message at most: 20 of them a second go to every node. */
const limits = { keys: 500, bytes: 64 * 1024 }

/** An event on its way to other nodes. */
interface OutgoingEvent {
  readonly name: string
  readonly event: VolatileEvent
  readonly bytes: number
}

/** Sends an event to the other nodes. Of each `key` the newest event counts. */
export type SendOn = (name: string, key: () => string, event: VolatileEvent) => void

/** Without a bus in the context nothing is sent. */
export const make = (
  enter: (name: string, event: VolatileEvent) => void
): Effect.Effect<SendOn, TopicTaken, Scope.Scope> =>
  Effect.gen(function* (): Effect.fn.Return<SendOn, TopicTaken, Scope.Scope> {
    const bus = Option.getOrUndefined(yield* Effect.serviceOption(NodeBus))
    if (bus === undefined) return () => undefined
    const clock = yield* Clock.Clock
    const send = yield* bus.join("volatile", {
      receive: (content) => {
        for (const item of Array.isArray(content) ? (content as ReadonlyArray<unknown>) : []) {
          const [name, id, at, publisher, json] = Array.isArray(item)
            ? (item as ReadonlyArray<unknown>)
            : []
          // Of a node of another version it may be of another form.
          if (
            typeof name === "string" &&
            typeof id === "string" &&
            typeof at === "number" &&
            typeof publisher === "string" &&
            typeof json === "string"
          ) {
            enter(name, { id, at, publisher, json })
          }
        }
      }
    })
    let waiting = new Newest<OutgoingEvent>(limits)
    let wake: (() => void) | undefined
    let dropped = 0
    let sentAt = -Infinity
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

    const arrival = Effect.callback<void>((resume) => {
      wake = () => {
        wake = undefined
        resume(Effect.void)
      }
      return Effect.sync(() => (wake = undefined))
    })
    yield* Effect.gen(function* () {
      while (true) {
        if (waiting.size === 0) yield* arrival
        const rest = sentAt + every - now()
        if (rest >= 1) yield* Effect.sleep(rest)
        sentAt = now()
        const sending = waiting
        waiting = new Newest(limits)
        send(
          Array.from(sending.entries(), ([, { name, event }]) => [
            name,
            event.id,
            event.at,
            event.publisher,
            event.json
          ])
        )
        if (dropped > 0) yield* Metric.update(metrics.volatileDropped, dropped)
        dropped = 0
      }
    }).pipe(Effect.forkScoped)

    const sendOn: SendOn = (name, key, event) => {
      // Characters, and what JSON adds to them.
      const bytes = event.json.length + name.length + event.publisher.length + 64
      dropped += waiting.put(`${name} ${key()}`, { name, event, bytes })
      wake?.()
    }
    return sendOn
  })
