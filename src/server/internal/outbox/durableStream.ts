/**
 * A durable channel as a Stream for one consumer, which pulls at its own speed.
 *
 * It reads pages on the pool until it has caught up, then takes what the reader hands out. The backlog of a
 * slow consumer is bounded: beyond the bound it drops what arrives, and the consumer catches up from its
 * cursor again once it has taken the rest.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Backoff from "../../../Backoff.ts"
import { isMidway } from "../../../internal/cursorText.ts"
import type { Filter } from "../filter.ts"
import type { CatchUp } from "./catchUp.ts"
import { type OutboxFault, ReplayError } from "./outboxErrors.ts"
import { formatPosition, type NodePosition, type Place, whole } from "./position.ts"
import type { Followers, Item, Tail } from "./tail.ts"
import { streamNotices } from "../notices.ts"
import { Outage } from "../outage.ts"
import * as Reconnecting from "../reconnecting.ts"

/** Items handed out and not yet taken, without a hole. */
class Backlog {
  /** Whether an item was dropped after those held. */
  overflowed = false
  readonly #limit: number
  #items: Array<Item> = []
  #arrival: Deferred.Deferred<void> | undefined

  constructor(limit: number) {
    this.#limit = limit
  }

  readonly offer = (item: Item): void => {
    if (this.overflowed) return
    if (this.#items.length >= this.#limit) this.overflowed = true
    else this.#items.push(item)
    if (this.#arrival !== undefined) Deferred.doneUnsafe(this.#arrival, Effect.void)
    this.#arrival = undefined
  }

  /** Waits until an item is held or one was dropped. */
  readonly take: Effect.Effect<ReadonlyArray<Item>> = Effect.suspend(() => {
    if (this.#items.length === 0 && !this.overflowed) {
      this.#arrival ??= Deferred.makeUnsafe()
      return Effect.flatMap(Deferred.await(this.#arrival), () => this.take)
    }
    const items = this.#items
    this.#items = []
    return Effect.succeed(items)
  })
}

/** A read in progress, from a position to the end of a tick. */
interface Replay {
  readonly tail: Tail
  readonly to: Place
  readonly position: NodePosition
}

type Items = readonly [Item, ...Array<Item>]

const isSome = (items: ReadonlyArray<Item>): items is Items => items.length > 0

export const durableStream = (options: {
  readonly channel: string
  readonly from: string | undefined
  /** What is read from the table leaves out what it excludes; what the reader hands out does not. */
  readonly filter: Filter | undefined
  /** The most batches in the backlog. */
  readonly backlog: number
  readonly followers: Followers
  readonly current: Effect.Effect<Tail, OutboxFault>
  readonly catchUp: CatchUp
}): Stream.Stream<Item, OutboxFault> => {
  const { catchUp, channel, current, followers } = options
  return Stream.unwrap(
    Effect.gen(function* () {
      const held = new Backlog(options.backlog)
      yield* Effect.acquireRelease(
        Effect.sync(() => followers.add(channel, held)),
        () => Effect.sync(() => followers.remove(channel, held))
      )
      const reconnecting = yield* Reconnecting.make(Backoff.link, {
        fromStart: true,
        outage: new Outage({
          lost: `Channel "${channel}" cannot be read for a Stream`,
          back: `Channel "${channel}" is read for a Stream again`,
          among: streamNotices(followers)
        })
      })
      /** Everything up to here was emitted; `undefined` only before the first item. */
      let cursor = options.from
      /** The tick attached at: items of later ticks follow. */
      let attached = 0
      let replay: Replay | undefined
      /** Whether an item was emitted, or a position found. */
      let began = false
      /** Whether the replay, or else what is held, follows the cursor without a hole. */
      let follows = false

      /** Locates the cursor relative to the reader's position. */
      const attach = Effect.gen(function* () {
        // Set before the position is taken: items of the time between are held, or in the replay. Where no
        // position is found, what is held has a hole before it until the next attempt finds one.
        follows = false
        held.overflowed = false
        if (cursor === undefined) {
          const { end, tick } = yield* current
          attached = tick
          cursor = end
          return [{ _tag: "Position", cursor: end, tick }] satisfies Items
        }
        const found = yield* catchUp.locate(channel, cursor)
        if (found.reason === undefined) {
          const { position, tail, tick, to } = found
          attached = tick
          replay = { tail, to, position }
          return []
        }
        return reset(found.tail, found.reason === "retention" ? "retention" : "source")
      })

      const reset = (tail: Tail, reason: "retention" | "source"): Items => {
        replay = undefined
        attached = tail.tick
        cursor = tail.end
        return [{ _tag: "Gap", reason, cursor: tail.end, tick: tail.tick }]
      }

      const next = Effect.fnUntraced(function* () {
        if (!follows || (held.overflowed && replay === undefined)) {
          // The held items are older than the dropped ones.
          const rest = follows ? live(yield* held.take) : []
          if (isSome(rest)) return rest
          const told = yield* attach
          began = follows = true
          if (isSome(told)) return told
        }
        if (replay !== undefined) {
          const { position, tail, to } = replay
          const page = yield* catchUp.page(tail, channel, position, to, undefined, options.filter)
          if (page._tag === "Reset") {
            return reset(yield* current, page.reason === "retention" ? "retention" : "source")
          }
          replay = page.done ? undefined : { ...replay, position: page.position }
          const items: Array<Item> = [...page.batches]
          cursor = items.at(-1)?.cursor ?? cursor
          // The rest of the tick had nothing.
          if (page.done && cursor !== undefined && isMidway(cursor)) {
            const end = formatPosition(tail.identity, whole(to))
            items.push({ _tag: "Position", cursor: end, tick: attached, ends: cursor })
            cursor = end
          }
          if (isSome(items)) return items
          if (replay !== undefined) return []
        }
        return live(yield* held.take)
      })

      const live = (items: ReadonlyArray<Item>): ReadonlyArray<Item> => {
        const later = items.filter((item) => item.tick > attached)
        const last = later[later.length - 1]
        if (last !== undefined) cursor = last.cursor
        return later
      }

      const some = Effect.gen(function* () {
        while (true) {
          const items = yield* next()
          if (isSome(items)) return items
        }
      })
      const pull: Effect.Effect<Items, OutboxFault> = reconnecting(
        () => some,
        (cause) => {
          const failed = Cause.findError(cause)
          if (Result.isFailure(failed)) return Effect.failCause(failed.failure)
          const error = failed.success
          // At the start the Stream fails. Later the error may be a failover, and is retried.
          return !began && !(error instanceof ReplayError)
            ? Effect.fail(error)
            : Effect.succeed({ reason: error.message })
        }
      )
      return Stream.fromPull(Effect.succeed(pull))
    })
  )
}
