/**
 * The bridge, on whichever node has its lease: it listens to live channels for all.
 *
 * In: the lease, the requests of nodes, and the source of this node on PostgreSQL. Out: numbered
 * notifications, answers, and a beat every 250 ms. It sends nothing without the lease, and gives it up when
 * it has had no NATS for 3 s.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { Notices } from "../../server/internal/notices.ts"
import { waitUntilUp } from "../../server/internal/waitUntilUp.ts"
import type { NotificationSource } from "../../server/NotificationSource.ts"
import type { NodeLease } from "../../server/OutboxReader.ts"
import { channelNameFault } from "../../Protocol.ts"
import { LiveBridge } from "./liveBridge.ts"
import { type Ask, askOf, bridgeName, numberedText } from "./liveFrames.ts"
import type { Sealed } from "./sealed.ts"
import { channelToken } from "./subjects.ts"

/** Takes a lease, as the reader of the outbox does. */
export type Lease = (name: string) => Effect.Effect<NodeLease, never, Scope.Scope>

const beatEvery = 250
/** Milliseconds without NATS after which another node may be the bridge. */
const withoutNats = 3000
const leaseName = "listener"

/** Requests for channels, each below the size of a message. */
export const askTexts = ({ ch, ...ask }: Ask, maxBytes: number): ReadonlyArray<string> => {
  // A name has at most 63 bytes, and three more as JSON.
  const each = Math.max(1, Math.floor((Math.min(maxBytes, 65_536) - 500) / 66))
  const texts: Array<string> = []
  for (let from = 0; from < ch.length; from += each) {
    texts.push(JSON.stringify({ ...ask, ch: ch.slice(from, from + each) }))
  }
  return texts
}

interface BridgingOptions {
  readonly sealed: Sealed
  readonly inner: NotificationSource["Service"]
  readonly lease: Lease
  /** The incarnation of this node. */
  readonly self: string
  readonly now: () => number
  /** Completes once this node has handed out everything that was committed before. */
  readonly caughtUp: Effect.Effect<void>
  /** Called when this node becomes the bridge, and when it is it no more. */
  readonly acting: (is: boolean) => void
}

export const run = (options: BridgingOptions): Effect.Effect<never> => {
  /** An election that does not come to rest has a line a minute at first, and fewer later. */
  const elections = new Notices()
  return Effect.gen(function* () {
    yield* waitUntilUp(options.sealed.state)
    const held = yield* options.lease(leaseName)
    yield* Effect.raceAllFirst([
      acts(options, held, elections),
      held.lost,
      natsIsGone(options.sealed)
    ])
  }).pipe(Effect.scoped, Effect.forever, Effect.annotateLogs("component", "effect-realtime nats"))
}

const natsIsGone = ({ state }: Sealed): Effect.Effect<void> =>
  SubscriptionRef.changes(state).pipe(
    // Each attempt to connect may set it again.
    Stream.changes,
    Stream.switchMap((now) =>
      now === "up" ? Stream.never : Stream.fromEffect(Effect.sleep(withoutNats))
    ),
    Stream.runHead,
    Effect.asVoid
  )

const acts = (
  { acting, caughtUp, inner, now, sealed, self }: BridgingOptions,
  held: NodeLease,
  elections: Notices
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { prefix } = sealed
    const at = prefix()
    if (at === undefined) return yield* Effect.sleep(beatEvery)
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const publish = (subject: string, text: string): void => {
      if (held.held()) sealed.publish(`${at}.live.${subject}`, text)
    }
    const refusals = new Notices()
    const b = bridgeName(held.term, self)
    const bridge = new LiveBridge({
      b,
      now,
      send: (channel, listen, number, payload) =>
        publish(`c.${channelToken(channel)}`, numberedText({ b, listen, number, payload })),
      caughtUp: (then) => void runFork(Effect.andThen(caughtUp, Effect.sync(then))),
      answer: (node, standings) => publish(`answer.${node}`, JSON.stringify(standings)),
      listen: (channel, hear, ready) => {
        if (channelNameFault(channel) !== undefined) return () => undefined
        const listening = inner.listen(channel, hear).pipe(
          Effect.andThen(Effect.sync(ready)),
          Effect.andThen(Effect.never),
          Effect.scoped,
          Effect.catch((error) =>
            refusals.due(channel, now()) === undefined
              ? Effect.void
              : Effect.logWarning(error.message)
          )
        )
        const fiber = runFork(listening)
        return () => void runFork(Fiber.interrupt(fiber))
      }
    })
    yield* Effect.acquireRelease(
      Effect.sync(() => acting(true)),
      () =>
        Effect.sync(() => {
          acting(false)
          bridge.close()
        })
    )
    yield* sealed.subscribe(`${at}.live.ask`, (text) => {
      const ask = askOf(text)
      if (ask !== undefined && ask.n !== self) bridge.ask(ask)
    })
    if (elections.due("", now()) !== undefined) {
      yield* Effect.acquireRelease(
        Effect.logInfo("This node listens to the live channels of all nodes"),
        () => Effect.logInfo("This node no longer listens to the live channels of others")
      )
    }
    while (prefix() === at) {
      const linked = (yield* SubscriptionRef.get(inner.state)) === "up"
      publish("beat", JSON.stringify(bridge.beat(linked)))
      bridge.sweep()
      yield* Effect.sleep(beatEvery)
    }
  }).pipe(Effect.scoped)
