/** What the log says of a loss, where many of a kind are lost at once, and where nothing is lost. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { Notices } from "../../../src/server/internal/notices.ts"
import { Outage } from "../../../src/server/internal/outage.ts"

const words = { lost: "A Stream is lost", back: "A Stream is back" }

describe("an outage", () => {
  it("that many of a kind have has one line at the loss and one at the return", () => {
    const among = new Notices(600_000)
    const all = Array.from({ length: 1000 }, () => new Outage({ ...words, among }))
    const told = (line: (one: Outage) => string | undefined) =>
      all.map(line).filter((text) => text !== undefined)
    expect(told((one) => one.failed("broken", 0))).toEqual(["A Stream is lost: broken"])
    expect(told((one) => one.failed("broken", 1000))).toEqual([])
    expect(told((one) => one.back(2000))).toEqual([
      "A Stream is back, after 2 s and 2 failed attempts"
    ])
  })

  it("that has its first line late says its return", () => {
    const among = new Notices(600_000)
    const [first, second] = [new Outage({ ...words, among }), new Outage({ ...words, among })]
    expect(first!.failed("broken", 0)).toBeDefined()
    expect(second!.failed("broken", 0)).toBeUndefined()
    expect(second!.failed("broken", 700_000)).toBeDefined()
    expect(second!.back(720_000)).toBe("A Stream is back, after 12 min and 2 failed attempts")
  })

  it.effect("that is none reads no clock where something works", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      let reads = 0
      const counting: Clock.Clock = {
        ...clock,
        currentTimeMillis: Effect.tap(clock.currentTimeMillis, () => Effect.sync(() => reads++))
      }
      const outage = new Outage(words)
      yield* Effect.gen(function* () {
        yield* outage.recovered
        expect(reads).toBe(0)
        yield* outage.failing("broken")
        yield* outage.recovered
        expect(reads).toBe(2)
        yield* outage.recovered
        expect(reads).toBe(2)
      }).pipe(Effect.provideService(Clock.Clock, counting))
    })
  )
})
