/**
 * The part of a node in the feed: it hears the ticks of the elected reader, and is elected itself.
 *
 * In: a carrier, and the leases of the node. Out: what the session of the reader does next. While ticks
 * arrive it looks at nothing. As the elected reader it looks for every channel, at least every 250 ms, and
 * sends each look. Without ticks it reads for itself.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { Feed, FeedCarrier } from "../../FeedCarrier.ts"
import { Notices } from "../notices.ts"
import * as metrics from "../metrics.ts"
import { feedOutcomes } from "../tally.ts"
import type { Leases, NodeLease } from "../outbox/lease.ts"
import type { Look } from "../outbox/look.ts"
import type { Pace } from "../outbox/lookSchedule.ts"
import type { Take } from "../outbox/outbox.ts"
import type { Followers, Tail } from "../outbox/tail.ts"
import { feedFramesOf } from "./feedFrames.ts"
import { FeedNode } from "./feedNode.ts"

/** The lease of the node that reads for all. */
const leaseName = "reader"
/** Milliseconds between two looks of the elected reader. */
const beatEvery = 250
/** Milliseconds between two turns of a session that only listens. */
const restEvery = 1000
/** Milliseconds between two looks at whether the feed works. */
const watchEvery = 500
/** Milliseconds for which the elected reader may not hear itself. */
const deafAfter = 3000
/** Milliseconds that a node waits before it is a candidate again. */
const candidateAgain = 5000

/** What the session does next: look, read to this end, or only what is due now and then. */
type Next = "look" | "rest" | Take

export interface Feeding {
  /** Joins the feed of the database that the session has opened, and becomes a candidate. */
  readonly opened: (identity: string) => Effect.Effect<void>
  /** Whether this node reads for all. */
  readonly reads: () => boolean
  /** Sends a look to the other nodes, if this node reads for all. */
  readonly sent: (look: Look) => void
  /** Until the next pause nothing is handed out here, because the session reads. */
  readonly begin: Effect.Effect<void>
  /** The session is lost. */
  readonly end: Effect.Effect<void>
  /** Waits; `own` is the pause of a reader that reads for itself, `isAsked` whether a caller needs a look. */
  readonly pause: (own: Effect.Effect<void>, isAsked: () => boolean) => Effect.Effect<Next>
}

/** Without a carrier a node reads for itself. */
export const none: Feeding = {
  opened: () => Effect.void,
  reads: () => false,
  sent: () => undefined,
  begin: Effect.void,
  end: Effect.void,
  pause: (own) => Effect.as(own, "look")
}

export interface FeedingOptions {
  readonly tail: () => Tail | undefined
  readonly followers: Followers
  readonly leases: Leases
  readonly pace: Pace
}

export const make = (
  carrier: FeedCarrier["Service"],
  { followers, leases, pace, tail }: FeedingOptions
): Effect.Effect<Feeding, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const clock = yield* Clock.Clock
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const node = new FeedNode({
      tail,
      followers,
      now,
      time: () => clock.currentTimeMillisUnsafe(),
      random: Math.random
    })
    const works = yield* Queue.sliding<void>(1)
    node.onWork = () => void Queue.offerUnsafe(works, undefined)

    const incarnation = randomUUID()
    let feed: Feed | undefined
    let joined: { readonly identity: string; readonly scope: Scope.Closeable } | undefined
    let lease: NodeLease | undefined
    let takenAt = 0
    let n = 0
    followers.onFollow = (channel) => feed?.follow(channel)
    followers.onLeave = (channel) => feed?.leave(channel)

    const reads = () => lease?.held() === true && feed?.isUp() === true

    const until = (condition: () => boolean) =>
      Effect.asVoid(Effect.repeat(Effect.sleep(watchEvery), { until: condition }))

    /** An election that does not come to rest has a line a minute at first, and fewer later. */
    const elections = new Notices()
    /** Holds the lease while the feed works. A node that is fed does not ask for it. */
    const candidate = Effect.gen(function* () {
      yield* until(() => feed?.isUp() === true && !node.isFed)
      const taken = yield* Effect.raceFirst(
        leases.take(leaseName),
        Effect.as(
          until(() => node.isFed),
          undefined
        )
      )
      if (taken === undefined) return 0
      n = 0
      takenAt = now()
      lease = taken
      pace.nudge()
      const told = elections.due("", now()) !== undefined
      if (told) yield* Effect.logInfo("This node reads the outbox for all nodes")
      // The node hears its own ticks where others do.
      const fails = until(
        () => feed?.isUp() !== true || (!node.isFed && now() - takenAt > deafAfter)
      )
      yield* Effect.raceFirst(fails, taken.lost)
      if (told) yield* Effect.logInfo("This node no longer reads the outbox for others")
      return candidateAgain
    }).pipe(
      Effect.ensuring(Effect.sync(() => (lease = undefined))),
      Effect.scoped,
      Effect.flatMap(Effect.sleep),
      Effect.forever
    )

    const opened = (identity: string) =>
      Effect.gen(function* () {
        if (joined?.identity === identity) return
        const before = joined
        joined = feed = undefined
        if (before !== undefined) yield* Scope.close(before.scope, Exit.void)
        const own = yield* Scope.fork(scope)
        yield* Effect.gen(function* () {
          feed = yield* Scope.provide(
            carrier.join(identity, {
              tick: (text) => node.receiveTick(text),
              page: (text) => node.receivePage(text)
            }),
            own
          )
          for (const channel of followers.channels) feed.follow(channel)
          yield* Effect.forkIn(candidate, own)
          joined = { identity, scope: own }
        }).pipe(
          // A session that is lost meanwhile has not joined: the next one joins anew.
          Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
        )
      })

    const sent = (look: Look): void => {
      const { identity } = tail() ?? {}
      if (feed === undefined || identity === undefined || look.channels !== "all" || !reads())
        return
      const { term } = lease!
      const names = { identity, reader: `${term}.${incarnation}`, term: Number(term) }
      const { pages, tick } = feedFramesOf(look, names, n++, feed.maxBytes())
      // The tick first: what arrives after the subscription of a node then has all its pages.
      feed.sendTick(tick)
      for (const { channel, text } of pages) feed.sendPage(channel, text)
    }

    const counted = { fed: 0, repaired: 0, refused: 0 }
    const countTicks = yield* metrics.countBy(metrics.feedTicks, "outcome", feedOutcomes)
    const count = (): void => {
      for (const outcome of feedOutcomes) {
        countTicks(outcome, node.counts[outcome] - counted[outcome])
        counted[outcome] = node.counts[outcome]
      }
    }

    let wasFed = false
    const pause: Feeding["pause"] = (own, isAsked) =>
      Effect.gen(function* () {
        node.busy = false
        count()
        const until = now() + restEvery
        while (true) {
          if (reads()) {
            yield* Effect.raceFirst(own, Effect.sleep(beatEvery))
            return "look"
          }
          if (!node.isFed) {
            // At the end of a feed at once, and then at its own pace, until a tick arrives.
            if (!wasFed) yield* Effect.raceFirst(own, Queue.take(works))
            wasFed = false
            if (node.isFed) continue
            return "look"
          }
          wasFed = true
          if (isAsked()) return "look"
          const repair = node.untilRepair
          if (repair === 0) return node.repairTo() ?? "look"
          const left = until - now()
          if (left <= 0) return "rest"
          yield* Effect.raceAllFirst([
            Effect.sleep(Math.max(1, Math.min(repair ?? left, node.untilSilent, left))),
            Queue.take(works),
            pace.nudged
          ])
        }
      }).pipe(Effect.tap(() => Effect.sync(() => (node.busy = true))))

    return {
      opened,
      reads,
      sent,
      begin: Effect.sync(() => (node.busy = true)),
      end: Effect.sync(() => (node.busy = false)),
      pause
    }
  })
