import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Logger, Random, References } from "effect"
import { TestClock } from "effect/testing"
import { Outage } from "../../../src/server/internal/outage.ts"
import * as Reconnecting from "../../../src/server/internal/reconnecting.ts"

/** Each delay is half its ceiling: 50 ms, 100 ms, 200 ms, 400 ms, ... */
const halved = Effect.provideService(Random.Random, {
  nextDoubleUnsafe: () => 0.5,
  nextIntUnsafe: () => {
    throw new Error("a backoff draws no integers")
  }
})

const policy = { initial: 100, cap: 10_000, resetAfter: 1000 }

const words = { lost: "It is down", back: "It is back" }

/** What happens until the clock stands at 10 s: the times of the attempts, and the lines of the log. */
const run = (
  fromStart: boolean,
  attempt: (onUp: Effect.Effect<void>, round: number) => Effect.Effect<string, string>,
  onFailure: () => Effect.Effect<Reconnecting.Pause, string> = () =>
    Effect.succeed({ reason: "broken" }),
  outage: Outage | string = new Outage(words),
  during = "10 seconds"
) => {
  const times: Array<number> = []
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel}: ${String(message)}`)
  })
  return Effect.gen(function* () {
    yield* TestClock.setTime(1_000_000)
    const reconnecting = yield* Reconnecting.make(policy, { fromStart, outage })
    const fiber = yield* Effect.forkChild(
      Effect.exit(
        reconnecting(
          (onUp) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) =>
              attempt(onUp, times.push(now - 1_000_000))
            ),
          onFailure
        )
      )
    )
    yield* TestClock.adjust(during as "10 seconds")
    const exit = fiber.pollUnsafe() === undefined ? undefined : yield* Fiber.join(fiber)
    yield* Fiber.interrupt(fiber)
    return { times, lines, exit }
  }).pipe(
    halved,
    Effect.provide(Logger.layer([logger])),
    Effect.provideService(References.MinimumLogLevel, "All")
  )
}

const broken = Effect.fail("broken")

const delays = (lines: ReadonlyArray<string>) =>
  lines.flatMap((line) => [...line.matchAll(/in (\d+) ms/g)].map(([, millis]) => Number(millis)))

const forOperators = (lines: ReadonlyArray<string>) =>
  lines.filter((line) => !line.startsWith("Debug"))

describe("reconnecting", () => {
  it.effect(
    "runs an attempt again, later after each failure in a row, and returns its result",
    () =>
      Effect.gen(function* () {
        const { exit, lines, times } = yield* run(false, (_, round) =>
          round === 4 ? Effect.succeed("done") : broken
        )
        expect(times).toEqual([0, 50, 150, 350])
        expect(exit).toMatchObject({ _tag: "Success", value: "done" })
        expect(lines).toEqual([
          "Warn: It is down: broken",
          "Debug: The next try is in 50 ms",
          "Debug: It is down: broken",
          "Debug: The next try is in 100 ms",
          "Debug: It is down: broken",
          "Debug: The next try is in 200 ms",
          "Info: It is back, after 0.4 s and 3 failed attempts"
        ])
      })
  )

  it.effect("forgives an attempt that was up for long what was before it", () =>
    Effect.gen(function* () {
      const { lines } = yield* run(false, (onUp, round) =>
        round === 5
          ? Effect.never
          : round === 3
            ? onUp.pipe(Effect.andThen(Effect.sleep(1000)), Effect.andThen(broken))
            : broken
      )
      expect(delays(lines)).toEqual([50, 100, 50, 100])
    })
  )

  it.effect("counts an attempt as healthy from its start, where the caller says so", () =>
    Effect.gen(function* () {
      const { lines } = yield* run(true, (_, round) =>
        round === 4 ? Effect.never : round === 3 ? Effect.delay(broken, 1000) : broken
      )
      expect(delays(lines)).toEqual([50, 100, 50])
    })
  )

  it.effect("waits as its caller says, and logs for debugging only what another part logs", () =>
    Effect.gen(function* () {
      const { lines, times } = yield* run(
        false,
        (_, round) => (round === 2 ? Effect.never : broken),
        () => Effect.succeed({ reason: "broken", delay: (usual) => usual / 2 }),
        "It is down"
      )
      expect(times).toEqual([0, 25])
      expect(lines).toEqual(["Debug: It is down: broken", "Debug: The next try is in 25 ms"])
    })
  )

  it.effect("retries a defect, and fails with what its caller lets through", () =>
    Effect.gen(function* () {
      const { lines, times } = yield* run(false, (_, round) =>
        round === 2 ? Effect.never : Effect.die(new Error("a defect"))
      )
      expect(times).toEqual([0, 50])
      expect(lines.filter((line) => line.startsWith("Error"))).toHaveLength(1)
      const { exit } = yield* run(
        false,
        () => broken,
        () => Effect.fail("for good")
      )
      expect(exit).toMatchObject({ _tag: "Failure" })
    })
  )

  it.effect("has 48 lines in a night of 8 hours and 5,000 attempts, and says when it is back", () =>
    Effect.gen(function* () {
      const { lines, times } = yield* run(
        false,
        (onUp) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            now < 1_000_000 + 8 * 3_600_000 ? broken : Effect.andThen(onUp, Effect.never)
          ),
        undefined,
        undefined,
        "9 hours"
      )
      const told = forOperators(lines)
      expect(times.length).toBeGreaterThan(5000)
      expect(told).toHaveLength(49)
      expect(told[0]).toBe("Warn: It is down: broken")
      expect(told[1]).toMatch(/^Warn: It is down, for 10 min and 1\d\d failed attempts: broken$/)
      expect(told.at(-1)).toMatch(/^Info: It is back, after 8 h 0 min and 5\d\d\d failed attempts$/)
    })
  )

  it.effect("is no flood where it is up for a second, a whole night long", () =>
    Effect.gen(function* () {
      const { lines, times } = yield* run(
        false,
        (onUp) => onUp.pipe(Effect.andThen(Effect.sleep(900)), Effect.andThen(broken)),
        undefined,
        undefined,
        "8 hours"
      )
      expect(times.length).toBeGreaterThan(4000)
      const told = forOperators(lines)
      // Three losses and returns in 10 minutes.
      expect(told.length).toBeLessThanOrEqual(48 * 6 + 6)
      expect(told.some((line) => /after \d+ short losses without a line/.test(line))).toBe(true)
    })
  )

  it.effect("has a line for each of five reasons of a loss, whatever their order", () =>
    Effect.gen(function* () {
      let round = 0
      const { lines } = yield* run(
        false,
        () => broken,
        () =>
          Effect.sync(() => ({ reason: `reason ${"abcdefgh"[round++ % 8]!} of port ${round}` })),
        undefined,
        "9 minutes"
      )
      expect(forOperators(lines)).toHaveLength(5)
    })
  )
})
