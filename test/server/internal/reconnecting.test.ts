import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Logger, Random, References } from "effect"
import { TestClock } from "effect/testing"
import * as Reconnecting from "../../../src/server/internal/reconnecting.ts"

/** Each delay is half its ceiling: 50 ms, 100 ms, 200 ms, 400 ms, ... */
const halved = Effect.provideService(Random.Random, {
  nextDoubleUnsafe: () => 0.5,
  nextIntUnsafe: () => {
    throw new Error("a backoff draws no integers")
  }
})

const policy = { initial: 100, cap: 10_000, resetAfter: 1000 }

const text = (delay: number) => `again in ${delay} ms`

/** What happens until the clock stands at 10 s: the times of the attempts, and the lines of the log. */
const run = (
  fromStart: boolean,
  attempt: (onUp: Effect.Effect<void>, round: number) => Effect.Effect<string, string>,
  onFailure: () => Effect.Effect<Reconnecting.Pause, string> = () => Effect.succeed({ text })
) => {
  const times: Array<number> = []
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel}: ${String(message)}`)
  })
  return Effect.gen(function* () {
    yield* TestClock.setTime(1_000_000)
    const reconnecting = yield* Reconnecting.make(policy, { fromStart })
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
    yield* TestClock.adjust("10 seconds")
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
          "Warn: again in 50 ms",
          "Warn: again in 100 ms",
          "Warn: again in 200 ms"
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
      expect(lines.map((line) => line.slice(15))).toEqual(["50 ms", "100 ms", "50 ms", "100 ms"])
    })
  )

  it.effect("counts an attempt as healthy from its start, where the caller says so", () =>
    Effect.gen(function* () {
      const { lines } = yield* run(true, (_, round) =>
        round === 4 ? Effect.never : round === 3 ? Effect.delay(broken, 1000) : broken
      )
      expect(lines.map((line) => line.slice(15))).toEqual(["50 ms", "100 ms", "50 ms"])
    })
  )

  it.effect("waits as its caller says, and logs a known failure for debugging only", () =>
    Effect.gen(function* () {
      const { lines, times } = yield* run(
        false,
        (_, round) => (round === 2 ? Effect.never : broken),
        () => Effect.succeed({ text, delay: (usual) => usual / 2, known: true })
      )
      expect(times).toEqual([0, 25])
      expect(lines).toEqual(["Debug: again in 25 ms"])
    })
  )

  it.effect("retries a defect, and fails with what its caller lets through", () =>
    Effect.gen(function* () {
      const { times } = yield* run(false, (_, round) =>
        round === 2 ? Effect.never : Effect.die(new Error("a defect"))
      )
      expect(times).toEqual([0, 50])
      const { exit } = yield* run(
        false,
        () => broken,
        () => Effect.fail("for good")
      )
      expect(exit).toMatchObject({ _tag: "Failure" })
    })
  )
})
