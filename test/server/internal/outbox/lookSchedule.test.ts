/** When a reader looks, in virtual time: each case lists the moments of the looks. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import {
  type Looked,
  Pace,
  type Wake
} from "../../../../src/server/internal/outbox/lookSchedule.ts"

import { silentMillis, spareMillis, wakeMillis } from "../../../../src/server/internal/sql/wake.ts"
import { random, seed } from "../../support/random.ts"

/** What a database answers to a look at a moment. */
interface Database {
  /** The messages of the followed channels. */
  readonly found?: (at: number) => number
  readonly xmin?: (at: number) => bigint
  readonly next?: (at: number) => bigint
}

/**
 * The moments of the looks in the first `length` milliseconds, with wakes at the given moments: after some
 * of them commits are silent, after `others` none is.
 */
const looks = (
  wake: Wake,
  length: number,
  wakes: ReadonlyArray<number>,
  { found = () => 0, next = () => 100n, xmin = () => 100n }: Database = {},
  idle?: number,
  others: ReadonlyArray<number> = []
) =>
  Effect.gen(function* () {
    const pace = yield* Pace.make({ busy: 5, idle })
    const moments: Array<number> = []
    let now = 0
    const reading = yield* Effect.gen(function* () {
      let looked: Looked | undefined
      while (true) {
        yield* pace.pause(wake, looked)
        moments.push(now)
        looked = { at: now, found: found(now), xmin: xmin(now), next: next(now) }
      }
    }).pipe(Effect.forkChild({ startImmediately: true }))
    for (; now < length;) {
      if (wakes.includes(now) || others.includes(now)) {
        if (wakes.includes(now)) yield* pace.silence
        else pace.nudge()
        yield* Effect.yieldNow
        yield* TestClock.adjust(0)
      }
      now++
      yield* TestClock.adjust(1)
    }
    yield* Fiber.interrupt(reading)
    return moments
  })

const r = random(seed)

/** Moments at random, at this rate. */
const atRandom = (perSecond: number, length: number): ReadonlyArray<number> => {
  const moments: Array<number> = []
  for (let at = 0; at < length; at -= (1000 / perSecond) * Math.log(1 - r.next())) {
    moments.push(Math.floor(at))
  }
  return moments
}

/** The wakes that the trigger of the database sends for these commits. */
const wakesOf = (commits: ReadonlyArray<number>) => {
  const last: Array<number> = []
  const others: Array<number> = []
  let fullAt = 0
  for (const at of commits) {
    if (fullAt - at > spareMillis) continue
    fullAt = Math.max(fullAt, at) + wakeMillis
    if (fullAt - at <= spareMillis) others.push(at)
    else {
      last.push(at)
      fullAt = at + spareMillis + silentMillis
    }
  }
  return { last, others }
}

describe("The looks of a reader", () => {
  it.effect("a wake after which the next commit wakes too is followed by one look, at once", () =>
    Effect.gen(function* () {
      const others = [50, 57, 60]
      // However long a transaction is open elsewhere.
      const database = { xmin: () => 1n }
      expect(yield* looks("hybrid", 400, [], database, 300, others)).toEqual([50, 57, 60, 360])
    })
  )

  it.effect("a wake after which commits are silent is followed by looks every 5 ms for 21 ms", () =>
    Effect.gen(function* () {
      expect(yield* looks("hybrid", 400, [50], {}, 300)).toEqual([50, 55, 60, 65, 70, 71, 371])
    })
  )

  it.effect("a later one moves the end of these looks, and a wake of the other kind does not", () =>
    Effect.gen(function* () {
      const moments = yield* looks("hybrid", 200, [50, 72], {}, undefined, [52])
      expect(moments).toEqual([50, 52, 57, 62, 67, 71, 72, 77, 82, 87, 92, 93])
    })
  )

  it.effect(
    "the reader looks again at growing intervals until every older transaction is over",
    () =>
      Effect.gen(function* () {
        // No snapshot names transaction 99, because it is the last one.
        const xmin = (at: number) => (at < 200 ? 99n : 100n)
        expect(yield* looks("hybrid", 400, [50], { xmin })).toEqual([
          50, 55, 60, 65, 70, 71, 76, 86, 106, 146, 226
        ])
      })
  )

  it.effect.each([50, 150, 500])(
    `of %i commits a second none waits longer than 5 ms, and most have a look of their own or share one (REALTIME_TEST_SEED=${seed})`,
    (perSecond) =>
      Effect.gen(function* () {
        const commits = atRandom(perSecond, 600)
        const { last, others } = wakesOf(commits)
        const moments = yield* looks("hybrid", 640, last, {}, undefined, others)
        const waits = commits.map((at) => moments.find((moment) => moment >= at)! - at)
        expect(Math.max(...waits)).toBeLessThanOrEqual(5)
        // 5 looks follow a last wake, and none any other.
        expect(moments.length).toBeLessThanOrEqual(others.length + 6 * last.length)
      })
  )

  it.effect("a transaction that begins after these looks is not waited for", () =>
    Effect.gen(function* () {
      const next = (at: number) => BigInt(100 + at)
      const xmin = (at: number) => (at < 80 ? 150n : 200n)
      expect(yield* looks("hybrid", 400, [50], { xmin, next })).toEqual([
        50, 55, 60, 65, 70, 71, 76, 86
      ])
    })
  )

  it.effect("a transaction that stays open costs one look per idle interval", () =>
    Effect.gen(function* () {
      const moments = yield* looks("hybrid", 600, [0], { xmin: () => 1n }, 100)
      expect(moments).toEqual([0, 5, 10, 15, 20, 21, 26, 36, 56, 96, 176, 276, 376, 476, 576])
    })
  )

  it.effect("a reader whose commits all notify looks once per wake", () =>
    Effect.gen(function* () {
      expect(yield* looks("notify", 400, [50, 60], {}, 300)).toEqual([50, 60, 360])
    })
  )

  it.effect("a reader that polls has its own pace, whatever is open", () =>
    Effect.gen(function* () {
      const found = (at: number) => (at === 8 ? 1 : 0)
      const moments = yield* looks("poll", 60, [], { found, xmin: () => 1n }, 20)
      expect(moments).toEqual([8, 13, 20, 32, 49])
    })
  )
})
