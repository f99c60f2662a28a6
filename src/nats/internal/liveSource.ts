/**
 * Live channels over NATS: one node listens for all, and each node listens by itself where there is none.
 *
 * In: the source of this node on PostgreSQL, the subjects of the database, and the lease of the bridge. Out: a
 * `NotificationSource`. A channel changes between the two ways with a loss, because nothing says which
 * notifications both had. No notification arrives on both: each way may be behind the other one, so the node
 * hears nothing on the old one while the new one catches up. The numbers are `LiveNode`'s, what the bridge
 * does is `LiveBridge`'s.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { randomUUID } from "node:crypto"
import * as Guarded from "../../server/internal/guarded.ts"
import { isBusChannel } from "../../server/internal/sql/schemaName.ts"
import {
  type Heard,
  type Listener,
  lost,
  type NotificationSource,
  type SourceError,
  type SourceState
} from "../../server/NotificationSource.ts"
import { channelNameFault } from "../../Protocol.ts"
import * as Bridging from "./bridging.ts"
import { numberedOf, standingsOf } from "./liveFrames.ts"
import * as LinkMark from "./linkMark.ts"
import { LiveNode } from "./liveNode.ts"
import type { Sealed } from "./sealed.ts"
import { channelToken } from "./subjects.ts"

/** Where the notifications of this node arrive from: its own LISTEN, or the bridge. */
type Way = "own" | "fed"

interface Ear {
  readonly hear: Listener
  readonly ready: Deferred.Deferred<void, SourceError>
  live: boolean
}

interface Tracked {
  readonly name: string
  readonly ears: Set<Ear>
  /** `undefined` until it was confirmed once. */
  way: Way | undefined
  /** What its own LISTEN brought while the node asks the bridge: it counts only where the bridge refuses. */
  held: Array<Heard> | undefined
  /** Whether the node leaves the bridge, and its own link has not caught up. */
  leaving: boolean
  /** Completes when the bridge listens to it. */
  fed: Deferred.Deferred<void>
  running: Fiber.Fiber<unknown, unknown> | undefined
}

/** Milliseconds between two looks at what the node has. */
const lookEvery = 100
/** Milliseconds that a node waits at its start for a bridge. */
const decideWithin = 1000
/** Milliseconds for which a bridge must be heard until a node leaves its own LISTEN for it. */
const steadyFor = 1000
/** Milliseconds that a bridge may be without its link while this node has one. */
const unlinkedFor = 3000
/** Milliseconds that the bridge has for a channel: the node listens by itself then, and asks again later. */
const patience = 2000
const askAgainAfter = 10_000
/** Notifications of a channel that wait for the bridge. Beyond it one is lost. */
const maxHeld = 1000

export interface LiveSourceOptions {
  readonly inner: NotificationSource["Service"]
  readonly sealed: Sealed
  readonly lease: Bridging.Lease | undefined
}

export const make = ({
  inner,
  lease,
  sealed
}: LiveSourceOptions): Effect.Effect<NotificationSource["Service"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const { prefix } = sealed
    const clock = yield* Clock.Clock
    const scope = yield* Effect.scope
    const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
    const self = randomUUID()
    const startedAt = now()
    const channels = new Map<string, Tracked>()
    const guarded = yield* Guarded.make<Heard>("effect-realtime nats", lost)
    const state = yield* SubscriptionRef.make<SourceState>(yield* SubscriptionRef.get(inner.state))
    const mode = yield* SubscriptionRef.make<Way | undefined>(undefined)
    let innerUp = false
    let natsUp = false
    const works = ({ leaving, name, way }: Tracked): boolean =>
      way === "fed"
        ? !leaving && node.isFed(name) && node.linked && natsUp
        : way === "own" && innerUp
    let isBridge = false
    let steadySince: number | undefined
    let linkedAt = now()
    let subjects = prefix()
    const caughtUp = yield* LinkMark.make(inner)

    const tell = ({ ears }: Tracked, heard: Heard): void => {
      for (const ear of ears) if (heard !== lost || ear.live) ear.hear(heard)
    }
    const confirm = ({ ears }: Tracked): void => {
      for (const ear of ears) {
        ear.live = true
        Deferred.doneUnsafe(ear.ready, Effect.void)
      }
    }
    /** Nothing more begins with it. Another one of its name may have begun since. */
    const forget = (channel: Tracked): void => {
      if (channels.get(channel.name) !== channel) return
      channels.delete(channel.name)
      node.remove(channel.name)
    }
    /** The node asks for it no more: a bridge that answers later does nothing. */
    const unasked = (channel: Tracked): void => {
      if ((channels.get(channel.name) ?? channel) === channel) node.remove(channel.name)
    }
    /** The channel arrives on this way now. */
    const arrive = (channel: Tracked, way: Way): void => {
      if (way === "own") unasked(channel)
      // A node that leaves the bridge heard nothing meanwhile, also where another bridge has it now.
      if (channel.leaving || (channel.way !== undefined && channel.way !== way)) tell(channel, lost)
      channel.way = way
      channel.held = undefined
      channel.leaving = false
      confirm(channel)
    }

    const node = new LiveNode({
      now,
      ask: (b, k, ch, w) => {
        const at = prefix()
        if (at === undefined) return
        for (const text of Bridging.askTexts({ n: self, b, k, ch, w }, sealed.maxBytes())) {
          sealed.publish(`${at}.live.ask`, text)
        }
      },
      hear: (name, heard) => {
        const channel = channels.get(name)
        if (channel?.way !== "fed" || channel.leaving) return
        tell(channel, heard)
        if (heard === lost) confirm(channel)
      },
      confirmed: (name) => {
        const channel = channels.get(name)
        if (channel === undefined) return
        arrive(channel, "fed")
        Deferred.doneUnsafe(channel.fed, Effect.void)
      }
    })

    /** Decides on the way of all channels, and says whether notifications arrive. */
    const look = Effect.gen(function* () {
      node.tick()
      innerUp = (yield* SubscriptionRef.get(inner.state)) === "up"
      natsUp = (yield* SubscriptionRef.get(sealed.state)) === "up"
      const time = now()
      // What it is fed arrives on the subjects from before: it leaves the bridge, and asks again on the present ones.
      const moved = subjects !== undefined && subjects !== prefix()
      subjects = prefix()
      const heard = natsUp && !isBridge && !moved && node.bridge() !== undefined
      steadySince = heard ? (steadySince ?? time) : undefined
      if (node.linked || !innerUp) linkedAt = time
      const before = yield* SubscriptionRef.get(mode)
      const steady = steadySince !== undefined && time - steadySince >= steadyFor
      const fed = heard && time - linkedAt < unlinkedFor && (before !== "own" || steady)
      const waits = before === undefined && natsUp && !isBridge && time - startedAt < decideWithin
      const next = fed ? "fed" : waits ? undefined : "own"
      if (next !== before) yield* SubscriptionRef.set(mode, next)
      let up = next === "fed" ? node.linked : innerUp
      for (const channel of channels.values()) {
        if (works(channel)) confirm(channel)
        else if (channel.way !== undefined) up = false
      }
      if ((yield* SubscriptionRef.get(state)) !== (up ? "up" : "down")) {
        yield* SubscriptionRef.set(state, up ? "up" : "down")
      }
    })

    const modeIs = (wanted: Way) =>
      SubscriptionRef.changes(mode).pipe(
        Stream.filter((now) => now === wanted),
        Stream.runHead
      )

    /** Asks the bridge, until it has confirmed the channel or refuses. */
    const feed = (channel: Tracked, fedScope: Scope.Scope) =>
      Effect.gen(function* () {
        const at = prefix()
        if (at === undefined) return
        const { name } = channel
        channel.fed = yield* Deferred.make<void>()
        yield* sealed.subscribe(`${at}.live.c.${channelToken(name)}`, (text) => {
          const frame = numberedOf(text)
          if (frame !== undefined) node.frame(name, frame)
        })
        yield* Effect.addFinalizer(() => Effect.sync(() => unasked(channel)))
        const confirmed = yield* sealed.flush(patience)
        if (!confirmed || channels.get(name) !== channel || prefix() !== at) return
        if (channel.way === "own") channel.held = []
        node.add(name)
        yield* Deferred.await(channel.fed).pipe(
          Effect.raceFirst(modeIs("own")),
          Effect.timeoutOption(patience)
        )
      }).pipe(Scope.provide(fedScope))

    const close = (one: Scope.Closeable | undefined) =>
      one === undefined ? Effect.void : Scope.close(one, Exit.void)

    /** Keeps a channel on the way of this node, until its last listener leaves. */
    const keep = (channel: Tracked) =>
      Effect.gen(function* () {
        const all = yield* Effect.scope
        const isFed = () => channel.way === "fed"
        let own: Scope.Closeable | undefined
        let fed: Scope.Closeable | undefined
        while (true) {
          const wanted = yield* SubscriptionRef.changes(mode).pipe(
            Stream.filter((now) => now !== undefined),
            Stream.runHead
          )
          let refused = false
          if (wanted._tag === "Some" && wanted.value === "fed" && isFed()) {
            yield* modeIs("own")
            continue
          }
          if (wanted._tag === "Some" && wanted.value === "fed") {
            fed = yield* Scope.fork(all)
            yield* feed(channel, fed)
            refused = !isFed()
            if (refused && own !== undefined) unasked(channel)
            release(channel)
            if (!refused) {
              yield* close(own)
              own = undefined
              yield* modeIs("own")
              continue
            }
          }
          if (own === undefined) {
            own = yield* Scope.fork(all)
            yield* Scope.provide(
              inner.listen(channel.name, (heard) => hearOwn(channel, heard)),
              own
            )
            if (isFed()) {
              // Its link may be behind the bridge, also behind one that has answered meanwhile.
              do {
                channel.leaving = true
                yield* caughtUp
              } while (!channel.leaving)
            }
            arrive(channel, "own")
          }
          yield* close(fed)
          fed = undefined
          if (refused) yield* Effect.sleep(askAgainAfter)
          yield* modeIs("fed")
        }
      }).pipe(
        Effect.scoped,
        Effect.catch((error) =>
          Effect.sync(() => {
            // The next listener tries again.
            forget(channel)
            for (const { ready } of channel.ears) Deferred.doneUnsafe(ready, Effect.fail(error))
          })
        )
      )

    const hearOwn = (channel: Tracked, heard: Heard): void => {
      if (channel.way !== "own") return
      const { held } = channel
      if (held !== undefined) {
        if (held.length < maxHeld) held.push(heard)
        else if (held.at(-1) !== lost) held.push(lost)
        return
      }
      tell(channel, heard)
      if (heard === lost) confirm(channel)
    }

    /** The bridge refused: what its own LISTEN brought meanwhile counts. */
    const release = (channel: Tracked): void => {
      const { held } = channel
      channel.held = undefined
      for (const heard of held ?? []) hearOwn(channel, heard)
    }

    const listen = (name: string, hear: Listener) =>
      isBusChannel(name) || channelNameFault(name) !== undefined
        ? inner.listen(name, hear)
        : Effect.acquireRelease(
            Effect.gen(function* () {
              // The look and the entry are one step, because listeners may come together.
              const ear: Ear = { hear: guarded(hear), ready: Deferred.makeUnsafe(), live: false }
              let channel = channels.get(name)
              if (channel === undefined) {
                channel = {
                  name,
                  ears: new Set([ear]),
                  way: undefined,
                  held: undefined,
                  leaving: false,
                  fed: Deferred.makeUnsafe(),
                  running: undefined
                }
                channels.set(name, channel)
                channel.running = yield* Effect.forkIn(keep(channel), scope)
              } else {
                channel.ears.add(ear)
                if (works(channel)) confirm(channel)
              }
              return { channel, ear }
            }),
            ({ channel, ear }) =>
              Effect.suspend(() => {
                channel.ears.delete(ear)
                if (channel.ears.size > 0) return Effect.void
                forget(channel)
                return channel.running === undefined
                  ? Effect.void
                  : Fiber.interrupt(channel.running)
              })
          ).pipe(Effect.flatMap(({ ear }) => Deferred.await(ear.ready)))

    /** The subjects of the node itself, until the identity of the database changes. */
    const hearing = Effect.gen(function* () {
      const at = prefix()
      if (at === undefined) return yield* Effect.sleep(lookEvery)
      yield* sealed.subscribe(`${at}.live.beat`, (text) => {
        const beat = standingsOf(text)
        if (beat !== undefined && !isBridge) node.beat(beat)
      })
      yield* sealed.subscribe(`${at}.live.answer.${self}`, (text) => {
        const answer = standingsOf(text)
        if (answer !== undefined) node.answer(answer)
      })
      yield* Effect.repeat(Effect.sleep(lookEvery), { until: () => prefix() !== at })
    }).pipe(Effect.scoped)

    yield* Effect.forkScoped(Effect.forever(hearing))
    if (lease !== undefined) {
      yield* Bridging.run({
        sealed,
        inner,
        lease,
        self,
        now,
        caughtUp,
        acting: (is) => {
          isBridge = is
        }
      }).pipe(Effect.forkScoped)
    }
    yield* look
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(lookEvery), look)))
    yield* SubscriptionRef.changes(inner.state).pipe(
      Stream.runForEach(() => look),
      Effect.forkScoped
    )
    return { ...inner, listen, state }
  })
