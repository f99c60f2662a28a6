/**
 * Every open channel of a node, reference-counted, whatever its delivery.
 *
 * The first subscriber of a name opens the channel. The channel and its ring outlive the last
 * subscriber by `linger`, so that a subscriber that returns in time resumes without loss. Streams of
 * the process and sockets share these channels.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import type * as Channel from "../../../Channel.ts"
import type { InvalidChannelName } from "../../../RealtimeError.ts"
import { TooManyChannels, type TooManyFilters } from "./errors.ts"
import { Tally } from "../tally.ts"
import { one, opening } from "../eventLoopTurns.ts"
import type { View, Views } from "./view.ts"
import type { Narrowed } from "./viewCursor.ts"

export interface OpenOptions {
  /** How long a channel stays open after its last subscriber left. */
  readonly linger: Duration.Duration
  /** The most channels open at once. */
  readonly maxChannels: number
}

/** A subscriber's use of a channel, from before it is open. */
interface Use<E> {
  member: Views<E> | undefined
  view: View<E> | undefined
  /** Whether the channel is open or opening, also after the subscriber that opened it has left. */
  holds: boolean
}

/** The open channels of one delivery. */
export interface Kind<E, F> {
  /**
   * The view of a channel, released with the scope. A subscriber that waits for the view counts as a
   * user, so that a lingering channel does not close meanwhile.
   */
  readonly view: (
    channel: Channel.Any,
    narrowed?: Narrowed
  ) => Effect.Effect<
    View<E>,
    InvalidChannelName | TooManyChannels | TooManyFilters | F,
    Scope.Scope
  >
  /** Whether a subscriber uses the channel or waits for it, or the channel lingers. */
  readonly isOpen: (name: string) => boolean
}

export class OpenChannels {
  readonly #options: OpenOptions
  /** Counts the open channels, and what they hand to their subscribers. */
  readonly tally: Tally
  #open = 0
  /** Closes a channel that only lingers; the longest lingering first. */
  readonly #lingering = new Map<string, Effect.Effect<void>>()

  constructor(options: OpenOptions, tally = new Tally()) {
    this.#options = options
    this.tally = tally
  }

  /** A delivery's channels; `lookup` opens one until its scope closes. */
  kind<E, F>(
    delivery: Channel.Any["delivery"],
    lookup: (name: string) => Effect.Effect<Views<E>, F, Scope.Scope>
  ): Effect.Effect<Kind<E, F>, never, Scope.Scope> {
    const keyOf = (name: string) => `${delivery} ${name}`
    return Effect.map(
      RcMap.make({
        idleTimeToLive: this.#options.linger,
        lookup: (name: string) => Effect.andThen(this.#countIn(delivery, keyOf(name)), lookup(name))
      }),
      (channels): Kind<E, F> => {
        /** Number of users by name. */
        const users = new Map<string, number>()

        /** Ends a use. A closure of its own, so that it keeps little memory until then. */
        const ending = (name: string, use: Use<E>): Effect.Effect<void> =>
          Effect.sync(() => {
            if (use.view !== undefined) use.member?.release(use.view)
            const left = users.get(name)! - 1
            if (left > 0) {
              users.set(name, left)
              return
            }
            users.delete(name)
            // Without `linger` the channel is closed by now.
            if (use.holds && !Duration.isZero(this.#options.linger)) {
              this.#lingering.set(keyOf(name), RcMap.invalidate(channels, name))
            }
          })

        const isOpen = (name: string) => users.has(name) || this.#lingering.has(keyOf(name))

        const view: Kind<E, F>["view"] = (channel, narrowed) =>
          Effect.gen({ self: this }, function* () {
            const { fault, name } = channel
            if (fault !== undefined) return yield* fault
            const first = !isOpen(name)
            const scope = yield* Effect.scope
            const use: Use<E> = { member: undefined, view: undefined, holds: false }
            yield* Effect.uninterruptible(
              Effect.suspend(() => {
                users.set(name, (users.get(name) ?? 0) + 1)
                this.#lingering.delete(keyOf(name))
                return Scope.addFinalizer(scope, ending(name, use))
              })
            )
            if (first) yield* opening.take(one)
            use.holds = true
            // `RcMap` would keep a failed lookup for as long as a good one.
            const member = yield* Effect.tapError(RcMap.get(channels, name), () => {
              use.holds = false
              return RcMap.invalidate(channels, name)
            })
            use.member = member
            const refused = narrowed && member.refuses(channel, narrowed)
            if (refused !== undefined) return yield* refused
            return (use.view = member.view(channel, narrowed))
          })

        return { view, isOpen }
      }
    )
  }

  /** Counts an open channel until the scope closes. At the limit it closes the one that lingers longest. */
  #countIn(
    delivery: Channel.Any["delivery"],
    key: string
  ): Effect.Effect<void, TooManyChannels, Scope.Scope> {
    return Effect.gen({ self: this }, function* () {
      const { maxChannels } = this.#options
      const [oldest] = this.#lingering
      if (this.#open >= maxChannels && oldest !== undefined) {
        this.#lingering.delete(oldest[0])
        yield* oldest[1]
      }
      // One step, so that no interruption leaves a count behind.
      yield* Effect.acquireRelease(
        Effect.suspend(() => {
          if (this.#open >= maxChannels) return new TooManyChannels({ limit: maxChannels })
          this.#open++
          this.tally.channels[delivery]++
          return Effect.void
        }),
        () =>
          Effect.sync(() => {
            this.#open--
            this.tally.channels[delivery]--
            this.#lingering.delete(key)
          })
      )
      return undefined
    })
  }
}
