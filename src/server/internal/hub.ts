/**
 * Every open channel of a node, reference-counted.
 *
 * The first subscriber of a name makes the source listen; the channel and its memory outlive the last
 * one by `linger`, so that somebody who comes back in time resumes without loss. Server-side Streams
 * and sockets meet here and are equal.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Channel from "../../Channel.ts"
import type { InvalidChannelName } from "../../RealtimeError.ts"
import {
  type Item,
  lost,
  type NotificationSource,
  type SourceError,
  waitUntilUp
} from "../NotificationSource.ts"
import { TooManyChannels } from "./errors.ts"
import * as metrics from "./metrics.ts"
import { OpenChannel, type View } from "./openChannel.ts"
import { Budget, type Limits } from "./ring.ts"

export interface HubOptions {
  /** How long a channel stays open after its last subscriber left. */
  readonly linger: Duration.Duration
  /** The most channels open at once. */
  readonly maxChannels: number
  readonly memory: Limits
  /** Whether the loss and the return of the source are told on `system_notifications`. */
  readonly announceSource: boolean
}

/** What this node says on `system_notifications` about its own source. */
const notice = (type: "info" | "warning", message: string) => JSON.stringify({ type, message })
const lossNotice = notice(
  "warning",
  "The connection to the database is lost. Events may be late; what is missed will be told."
)
const returnNotice = notice("info", "The connection to the database is back.")
const notices = "system_notifications"

type OpenError = InvalidChannelName | SourceError | TooManyChannels

export interface Hub {
  /**
   * The channel as its definition sees it, until the scope closes. Completes once the source listens:
   * what is committed after that is delivered.
   */
  readonly open: (channel: Channel.Any) => Effect.Effect<View, OpenError, Scope.Scope>
}

export const make = (
  source: NotificationSource["Service"],
  options: HubOptions
): Effect.Effect<Hub, never, Scope.Scope> =>
  Effect.gen(function* () {
    const budget = new Budget(options.memory)
    const opened = new Map<string, OpenChannel>()
    let open = 0

    /** The return is told after the gap that it ends, so that it outlives the new epoch. */
    const withReturnNotice = (name: string, items: ReadonlyArray<Item>): ReadonlyArray<Item> =>
      options.announceSource && name === notices
        ? items.flatMap((item) => (item === lost ? [lost, returnNotice] : [item]))
        : items

    if (options.announceSource) {
      yield* SubscriptionRef.changes(source.state).pipe(
        Stream.runForEach((state) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            if (state === "down") opened.get(notices)?.receive([lossNotice], now)
          })
        ),
        Effect.forkScoped({ startImmediately: true })
      )
    }

    /** One fiber per open channel: takes what arrived together and delivers it. */
    const pump = Effect.fnUntraced(function* (channel: OpenChannel, queue: Queue.Dequeue<Item>) {
      while (true) {
        const items = withReturnNotice(channel.name, yield* Queue.takeAll(queue))
        const invalid = channel.receive(items, yield* Clock.currentTimeMillis)
        if (invalid > 0) {
          yield* Metric.update(metrics.notificationsInvalid, invalid)
          yield* Effect.logWarning(
            `${invalid} notification(s) on channel "${channel.name}" did not match its schema and were dropped; its subscribers were told.`
          )
        }
      }
    })

    const channels = yield* RcMap.make({
      idleTimeToLive: options.linger,
      lookup: (name: string) =>
        Effect.gen(function* () {
          if (open >= options.maxChannels) {
            return yield* new TooManyChannels({ limit: options.maxChannels })
          }
          open++
          yield* Effect.addFinalizer(() => Effect.sync(() => open--))
          const queue = yield* source.listen(name)
          const channel = new OpenChannel(name, budget)
          yield* Effect.acquireRelease(
            Effect.sync(() => opened.set(name, channel)),
            () => Effect.sync(() => opened.delete(name))
          )
          yield* Effect.forkScoped(pump(channel, queue))
          return channel
        })
    })

    return {
      open: (channel) =>
        Effect.gen(function* () {
          if (channel.fault !== undefined) return yield* channel.fault
          const member = yield* RcMap.get(channels, channel.name).pipe(
            // A failed lookup would be remembered for as long as a good one.
            Effect.tapError(() => RcMap.invalidate(channels, channel.name))
          )
          // A channel that lingers is open while the source is down, but it confirms nothing then.
          yield* waitUntilUp(source.state)
          return yield* Effect.acquireRelease(
            Effect.sync(() => member.view(channel)),
            (view) => Effect.sync(() => view.release())
          )
        })
    }
  })
