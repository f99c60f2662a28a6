import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Bucket } from "../../../../src/server/internal/limits/tokenBucket.ts"

const rate = { perSecond: 10, burst: 3 }

describe("Bucket", () => {
  it("a bucket gives its burst at once and returns the milliseconds until the next token", () => {
    const bucket = new Bucket(rate, 0)
    expect([1, 2, 3].map(() => bucket.take(rate, 0))).toEqual([0, 0, 0])
    expect(bucket.take(rate, 0)).toBe(100)
    expect(bucket.take(rate, 40)).toBe(60)
    expect(bucket.take(rate, 99)).toBe(1)
    expect(bucket.take(rate, 100)).toBe(0)
    expect(bucket.take(rate, 100)).toBe(100)
  })

  it("a bucket never holds more tokens than its burst", () => {
    const bucket = new Bucket(rate, 0)
    expect([1, 2, 3].map(() => bucket.take(rate, 1_000_000))).toEqual([0, 0, 0])
    expect(bucket.take(rate, 1_000_000)).toBe(100)
  })

  it("asking a bucket for its wait takes no token", () => {
    const bucket = new Bucket({ perSecond: 1, burst: 1 }, 0)
    expect(bucket.wait(rate, 0)).toBe(0)
    expect(bucket.wait(rate, 0)).toBe(0)
    expect(bucket.take(rate, 0)).toBe(0)
  })

  it("a bucket that was overspent reports its debt in milliseconds until it is paid", () => {
    const bucket = new Bucket(rate, 0)
    for (let n = 0; n < 3; n++) bucket.take(rate, 0)
    expect(bucket.debt(rate, 0)).toBe(0)
    bucket.spend(2)
    expect(bucket.debt(rate, 0)).toBe(200)
    expect(bucket.debt(rate, 150)).toBe(50)
    expect(bucket.debt(rate, 200)).toBe(0)
  })

  it("a clock that goes back gives a bucket no tokens and takes none", () => {
    const bucket = new Bucket(rate, 10_000)
    for (let n = 0; n < 3; n++) bucket.take(rate, 10_000)
    expect(bucket.take(rate, 5000)).toBe(100)
    expect(bucket.take(rate, 5100)).toBe(0)
  })

  it("a bucket is full again once every taken token is restored", () => {
    const bucket = new Bucket(rate, 0)
    expect(bucket.isFull(rate, 0)).toBe(true)
    bucket.take(rate, 0)
    expect(bucket.isFull(rate, 99)).toBe(false)
    expect(bucket.isFull(rate, 100)).toBe(true)
  })

  const Asking = Schema.Struct({
    perSecond: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1000 })),
    burst: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100 })),
    pauses: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 50 })))
  })
  it.effect.prop(
    "a bucket gives at most burst + time × rate tokens, each no earlier and no later than its wait says",
    { asking: Asking },
    ({ asking: { burst, pauses, perSecond } }) =>
      Effect.sync(() => {
        const given = { perSecond, burst }
        const bucket = new Bucket(given, 0)
        let now = 0
        let taken = 0
        for (const pause of pauses) {
          now += pause
          const wait = bucket.wait(given, now)
          if (wait > 1) expect(bucket.wait(given, now + wait - 2)).toBeGreaterThan(0)
          if (wait > 0) now += wait
          expect(bucket.take(given, now)).toBe(0)
          taken++
          expect(taken).toBeLessThanOrEqual(burst + (now * perSecond) / 1000 + 1e-6)
        }
      }),
    { arbitrary: { runs: 300, seed: 4 } }
  )
})
