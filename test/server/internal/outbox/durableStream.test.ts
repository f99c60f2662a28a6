/** A Stream of a durable channel loses nothing where the consumer is slow and the database fails. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import type { CatchUp } from "../../../../src/server/internal/outbox/catchUp.ts"
import { durableStream } from "../../../../src/server/internal/outbox/durableStream.ts"
import { ReplayError } from "../../../../src/server/internal/outbox/outboxErrors.ts"
import type { Take } from "../../../../src/server/internal/outbox/outbox.ts"
import {
  formatPosition,
  type NodePosition,
  placeOf,
  whole
} from "../../../../src/server/internal/outbox/position.ts"
import { type DurableBatch, Followers, Tail } from "../../../../src/server/internal/outbox/tail.ts"

const channel = "orders"

/** The position that sees every transaction up to `tx`, each of which wrote one message with its number. */
const taken = (tx: number): Take => {
  const next = BigInt(tx + 1)
  const last = { tx: BigInt(tx), id: BigInt(tx), at: 0n }
  const snapshot = { xmin: next, xmax: next, running: [] }
  return { ...placeOf(snapshot, last), next, drawn: BigInt(tx), era: "era", written: "0/0" }
}

const batch = (tail: Tail, tx: number, tick: number): DurableBatch => ({
  _tag: "Batch",
  channel,
  from: "",
  cursor: tail.end,
  tick,
  isMidway: false,
  events: [{ id: String(tx), tx: String(tx), at: 0, text: "{}" }],
  cursorAt: () => tail.end
})

/** A reader whose tick `n` has the message `n`. */
const reader = () => {
  const followers = new Followers({ events: 100, maxAge: 60_000, bytes: 1_000_000 })
  const tail = new Tail("AAAAAAAA", "era", taken(1), 1, [])
  /** Takes the next position and hands out its message. */
  const tick = () => {
    tail.advance(taken(tail.tick + 1), "all")
    followers.hand(batch(tail, tail.tick, tail.tick), 0)
  }
  /** A replay from a place to another one has the messages of the ticks between. */
  const replayed = (after: number, to: number) =>
    Array.from({ length: to - after }, (_, index) => batch(tail, after + index + 1, 0))
  return { followers, tail, tick, replayed }
}

describe("A Stream whose backlog overflowed", () => {
  it.live("has every event when its position cannot be looked up at the first attempt", () =>
    Effect.gen(function* () {
      const { followers, replayed, tail, tick } = reader()
      let lookups = 0
      const catchUp: CatchUp = {
        join: () => Effect.die("unused"),
        locate: () =>
          Effect.suspend(() => {
            lookups++
            if (lookups === 1) {
              // The consumer has 2, and 3 was dropped. What the reader hands out now is held.
              tick()
              return Effect.fail(new ReplayError({ channel, cause: new Error("lost") }))
            }
            const { taken: to, tick: now } = tail
            return Effect.succeed({
              tail,
              tick: now,
              position: whole(taken(2)),
              to,
              reason: undefined
            })
          }),
        page: (_tail, _channel, _from, to) =>
          Effect.succeed({
            _tag: "Page",
            batches: replayed(2, Number(to.last.tx)),
            position: whole(to),
            done: true
          })
      }
      const ids: Array<string> = []
      const items = durableStream({
        channel,
        from: undefined,
        filter: undefined,
        backlog: 1,
        followers,
        current: Effect.succeed(tail),
        catchUp
      })
      yield* items.pipe(
        Stream.takeUntil((item) => {
          if (item._tag === "Batch") ids.push(...item.events.map(({ id }) => id))
          if (item._tag === "Position") {
            tick()
            tick()
          }
          return ids.includes("4")
        }),
        Stream.runDrain
      )
      expect(lookups).toBe(2)
      expect(ids).toEqual(["2", "3", "4"])
    })
  )
})

describe("A Stream that begins in the middle of a tick", () => {
  it.effect("has the end of the tick when the rest of it has nothing for the channel", () =>
    Effect.gen(function* () {
      const { followers, tail, tick } = reader()
      tick()
      const [before, to] = [placeOf(taken(1).snapshot, taken(1).last), tail.taken]
      const midway: NodePosition = { ...whole(before), next: to, id: 2n, last: to.last }
      const from = formatPosition(tail.identity, midway)
      const items = yield* durableStream({
        channel,
        from,
        filter: undefined,
        backlog: 9,
        followers,
        current: Effect.succeed(tail),
        catchUp: {
          join: () => Effect.die("unused"),
          locate: () =>
            Effect.succeed({ tail, tick: tail.tick, position: midway, to, reason: undefined }),
          page: () => Effect.succeed({ _tag: "Page", batches: [], position: whole(to), done: true })
        }
      }).pipe(Stream.take(1), Stream.runCollect)
      expect(items).toEqual([{ _tag: "Position", cursor: tail.end, tick: tail.tick, ends: from }])
    })
  )
})
