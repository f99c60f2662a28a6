/**
 * Every open channel of a node, reference-counted.
 *
 * The first subscriber of a name makes the source listen; the channel and its memory outlive the last
 * one by `linger`, so that somebody who comes back in time resumes without loss. Server-side Streams
 * and sockets meet here and are equal.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Channel from "../../../Channel.ts"
import type { InvalidChannelName } from "../../../RealtimeError.ts"
import {
  type Notification,
  type NotificationSource,
  type SourceError,
  waitUntilUp
} from "../../NotificationSource.ts"
import type * as Outbox from "../../OutboxReader.ts"
import type { OutboxReader } from "../../OutboxReader.ts"
import { NoOutbox, TooManyChannels } from "./errors.ts"
import { DurableChannel, type DurableError } from "./durableChannel.ts"
import { LiveChannel } from "./liveChannel.ts"
import * as Memory from "../memory.ts"
import * as Pump from "./pump.ts"
import { one, opening } from "../turns.ts"
import { toldOf } from "./told.ts"
import type { View, Views } from "./view.ts"

export interface HubOptions {
  /** How long a channel stays open after its last subscriber left. */
  readonly linger: Duration.Duration
  /** The most channels open at once. */
  readonly maxChannels: number
  readonly memory: Memory.Limits
  /** The shortest time between two deliveries of what is live, in milliseconds. */
  readonly batchWindow: number
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

export type OpenError = InvalidChannelName | SourceError | TooManyChannels | DurableError | NoOutbox

export interface Hub {
  /**
   * The channel as its definition sees it, until the scope closes. Completes once the source listens:
   * what is committed after that is delivered.
   */
  readonly open: (channel: Channel.Any) => Effect.Effect<View<DurableError>, OpenError, Scope.Scope>
  /** Whether somebody uses the channel, waits for it, or did a moment ago. */
  readonly isOpen: (channel: Channel.Any) => boolean
  /** For Streams, which wait for the source as long as it takes. */
  readonly openLive: (
    channel: Channel.Any
  ) => Effect.Effect<View, InvalidChannelName | SourceError | TooManyChannels, Scope.Scope>
}

/** The open channels of one kind of delivery, and how many use each. */
interface Kind<E, F> {
  readonly name: string
  readonly channels: RcMap.RcMap<string, Views<E>, F>
  readonly users: Map<string, number>
}

const kindOf = <E, F, R>(
  name: Channel.Delivery,
  linger: Duration.Duration,
  lookup: (name: string) => Effect.Effect<Views<E>, F, R>
) =>
  Effect.map(RcMap.make({ idleTimeToLive: linger, lookup }), (channels): Kind<E, F> => ({
    name,
    channels,
    users: new Map()
  }))

/** Somebody's use of a channel, from before it is open. */
interface Use<E> {
  member: Views<E> | undefined
  view: View<E> | undefined
}

export const make = (
  source: NotificationSource["Service"],
  outbox: OutboxReader["Service"] | undefined,
  options: HubOptions
): Effect.Effect<Hub, never, Scope.Scope> =>
  Effect.gen(function* () {
    const budget = new Memory.Budget(options.memory)
    yield* Memory.sweeping(budget)
    const told = toldOf(source)
    const opened = new Map<string, LiveChannel>()
    let open = 0

    if (options.announceSource) {
      yield* SubscriptionRef.changes(source.state).pipe(
        // Every try to come back sets the state again: a loss is told once.
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

    const arrived = yield* Queue.unbounded<Notification>()
    yield* Pump.run({
      arrived,
      channels: opened,
      window: options.batchWindow,
      afterLoss: (name) => (options.announceSource && name === notices ? returnNotice : undefined)
    }).pipe(Effect.forkScoped)

    /** What is under way to a channel that closes is for nobody: not for the next one of its name. */
    const closed = (name: string) => {
      opened.delete(name)
      const waiting = Effect.runSync(Queue.clear(arrived))
      Queue.offerAllUnsafe(
        arrived,
        waiting.filter(({ channel }) => channel !== name)
      )
    }

    const pumpDurable = Effect.fnUntraced(function* (
      channel: DurableChannel,
      queue: Queue.Dequeue<Outbox.Item>
    ) {
      while (true) {
        const items = yield* Queue.takeAll(queue)
        yield* channel.told.tell(channel.name, channel.receive(items))
      }
    })

    /** How to close the channels that only linger, the longest first. */
    const lingering = new Map<string, Effect.Effect<void>>()

    /** Counts one more open channel, until the scope closes. Who only lingers makes room. */
    const countIn = Effect.fnUntraced(function* (key: string) {
      const [oldest] = lingering
      if (open >= options.maxChannels && oldest !== undefined) {
        lingering.delete(oldest[0])
        yield* oldest[1]
      }
      if (open >= options.maxChannels) {
        return yield* new TooManyChannels({ limit: options.maxChannels })
      }
      open++
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          open--
          lingering.delete(key)
        })
      )
      return undefined
    })

    const live = yield* kindOf("live", options.linger, (name) =>
      Effect.gen(function* () {
        yield* countIn(`live ${name}`)
        const channel = new LiveChannel(name, budget, told)
        // Known before it listens: what arrives at once has somewhere to go.
        yield* Effect.acquireRelease(
          Effect.sync(() => opened.set(name, channel)),
          () =>
            Effect.sync(() => {
              channel.close()
              if (opened.get(name) === channel) closed(name)
            })
        )
        yield* source.listen(name, arrived)
        return channel
      })
    )

    const durable = yield* kindOf("durable", options.linger, (name) =>
      Effect.gen(function* () {
        if (outbox === undefined) return yield* new NoOutbox({ channel: name })
        yield* countIn(`durable ${name}`)
        const queue = yield* outbox.follow(name)
        const channel = new DurableChannel(name, outbox, toldOf(outbox))
        yield* Effect.forkScoped(pumpDurable(channel, queue))
        return channel
      })
    )

    const inUse = (kind: Pick<Kind<never, never>, "name" | "users">, name: string): boolean =>
      kind.users.has(name) || lingering.has(`${kind.name} ${name}`)

    /** Ends a use. Apart from where it begins, so that what it keeps until then is little. */
    const ending = <E, F>(kind: Kind<E, F>, name: string, use: Use<E>): Effect.Effect<void> =>
      Effect.sync(() => {
        if (use.view !== undefined) use.member?.release(use.view)
        const left = kind.users.get(name)! - 1
        if (left > 0) {
          kind.users.set(name, left)
          return
        }
        kind.users.delete(name)
        // What does not linger is closed by now.
        if (use.view !== undefined && !Duration.isZero(options.linger)) {
          lingering.set(`${kind.name} ${name}`, RcMap.invalidate(kind.channels, name))
        }
      })

    /**
     * The view of a channel, given back with the scope. Whoever waits for it uses it already: a channel
     * that lingered must not be closed meanwhile.
     */
    const view = <E, F>(kind: Kind<E, F>, channel: Channel.Any) =>
      Effect.gen(function* () {
        const { name } = channel
        const first = !inUse(kind, name)
        const scope = yield* Effect.scope
        const use: Use<E> = { member: undefined, view: undefined }
        yield* Effect.uninterruptible(
          Effect.suspend(() => {
            kind.users.set(name, (kind.users.get(name) ?? 0) + 1)
            lingering.delete(`${kind.name} ${name}`)
            return Scope.addFinalizer(scope, ending(kind, name, use))
          })
        )
        if (first) yield* opening.take(one)
        // A failed lookup would be remembered for as long as a good one.
        const member = yield* Effect.tapError(RcMap.get(kind.channels, name), () =>
          RcMap.invalidate(kind.channels, name)
        )
        use.member = member
        return (use.view = member.view(channel))
      })

    const openLive: Hub["openLive"] = (channel) =>
      Effect.gen(function* () {
        if (channel.fault !== undefined) return yield* channel.fault
        const opened = yield* view(live, channel)
        // A channel that lingers is open while the source is down, but it confirms nothing then.
        yield* waitUntilUp(source.state)
        return opened
      })

    const openDurable = (channel: Channel.Any) =>
      Effect.gen(function* () {
        if (channel.fault !== undefined) return yield* channel.fault
        return yield* view(durable, channel)
      })

    return {
      openLive,
      isOpen: ({ delivery, name }) => inUse(delivery === "live" ? live : durable, name),
      open: (channel) => (channel.delivery === "live" ? openLive(channel) : openDurable(channel))
    }
  })
