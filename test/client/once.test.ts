/**
 * The law of publishing: whatever the network does, each publish happens once or its promise failed; one
 * that failed as not sent never happens, and nothing of any begins after it failed.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Random, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { platform } from "./support/network.ts"

const N = Schema.Struct({ n: Schema.Int, run: Schema.optionalKey(Schema.Int) })
const Live = Channel.make("live", N, { publish: true })
const Durable = Channel.make("durable", N, { delivery: "durable", publish: true })

const waits = [1, 300, 2000, 11_000, 25_000, 61_000] as const

/** What may happen to the publisher, or to the system. */
const Step = Schema.Union([
  Schema.Struct({ publish: Schema.Literals([1, 2, 3]) }),
  // What matters is what happens around it.
  Schema.Struct({
    publish: Schema.Literals([1]),
    after: Schema.Literals(["silence", "lose the answer"])
  }),
  Schema.Struct({ wait: Schema.Literals(waits) }),
  Schema.Struct({
    does: Schema.Literals([
      "cut",
      "silence",
      "resume",
      "lose the answer",
      "offline",
      "online",
      "reconnect",
      "refuse",
      "accept",
      "stop the database",
      "restore the database",
      "kill the server"
    ])
  })
])

const system = RealtimeTest.layer({
  channels: [Live, Durable],
  authorize: RealtimeServer.allowAll
})

let runs = 0

/** A rule makes another payload of a publish each time that it runs. */
const ruled = RealtimeTest.layer({
  channels: [Durable],
  rules: ({ onPublish, onSubscribe }) => [
    onSubscribe(Durable, () => true),
    onPublish(Durable, ({ payload }) => ({ ...payload, run: ++runs }))
  ]
})

interface Publish {
  readonly fiber: Fiber.Fiber<Exit.Exit<void, unknown>>
  /** When it settled. */
  at: number
}

const run = Effect.fnUntraced(function* (
  channel: typeof Live | typeof Durable,
  steps: ReadonlyArray<typeof Step.Type>
) {
  const test = yield* RealtimeTest.RealtimeTest
  const { says } = yield* platform
  let signal = () => {}
  const writer = yield* test.connect({
    signals: (check) => {
      signal = check
      return () => {}
    }
  })
  const witness = yield* test.connect()
  const happened: Array<{ readonly n: number; readonly at: number }> = []
  yield* witness.events(channel as typeof Live).pipe(
    Stream.runForEach((event) =>
      Effect.map(Clock.currentTimeMillis, (at) => {
        if (event._tag === "Event") happened.push({ n: event.payload.n, at })
      })
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  yield* test.settle
  const publishes: Array<Publish> = []
  const publish = Effect.gen(function* () {
    const n = publishes.length
    const fiber = yield* Effect.forkChild(
      Effect.exit(writer.publish(channel as typeof Live, { n })).pipe(
        Effect.tap(() =>
          Effect.map(Clock.currentTimeMillis, (at) => {
            publishes[n]!.at = at
          })
        )
      )
    )
    publishes.push({ fiber, at: Infinity })
  })
  const set = (onLine: boolean) =>
    Effect.sync(() => {
      says(onLine)
      signal()
    })
  const { network } = writer
  /** A server forgets the keys of a live channel, and a lost link loses its events. */
  const durable = (effect: Effect.Effect<void>) => (channel === Durable ? effect : Effect.void)
  const does = {
    cut: network.cut,
    silence: network.silence,
    resume: network.resume,
    "lose the answer": network.loseFrame("published"),
    offline: Effect.andThen(network.silence, set(false)),
    online: Effect.andThen(network.resume, set(true)),
    reconnect: writer.reconnect,
    refuse: network.refuse(true),
    accept: network.refuse(false),
    "stop the database": durable(test.database.stop),
    "restore the database": durable(test.database.restore),
    "kill the server": durable(test.server.kill)
  } as const
  for (const step of steps) {
    if ("after" in step) yield* does[step.after]
    if ("publish" in step) yield* Effect.repeat(publish, { times: step.publish - 1 })
    else if ("wait" in step) yield* TestClock.adjust(step.wait)
    else yield* does[step.does]
    yield* test.settle
  }
  yield* does["restore the database"]
  yield* does.online
  yield* does.accept
  yield* TestClock.adjust("2 minutes")
  yield* test.settle
  return yield* Effect.forEach(publishes, ({ at, fiber }, n) =>
    Effect.map(Fiber.join(fiber), (exit) => ({
      at,
      exit,
      happened: happened.filter((event) => event.n === n).map((event) => event.at)
    }))
  )
})

const errorOf = (exit: Exit.Exit<void, unknown>) => {
  const [reason] = Exit.isFailure(exit) ? exit.cause.reasons : []
  return reason?._tag === "Fail"
    ? (reason.error as { readonly _tag: string; readonly sent: boolean })
    : undefined
}

describe.each([
  { title: "live channel", channel: Live, system, runs: 50 },
  { title: "durable channel", channel: Durable, system, runs: 50 },
  { title: "durable channel with rules", channel: Durable, system: ruled, runs: 25 }
])("a publish on a $title", ({ channel, runs, system }) => {
  const seed = 14
  const seen = new Set<string>()
  it.effect.prop(
    `happens once, or its promise failed (seed ${seed})`,
    { steps: Schema.Array(Step).check(Schema.isMaxLength(40)) },
    ({ steps }) =>
      Effect.gen(function* () {
        for (const { at, exit, happened } of yield* run(channel, steps)) {
          const error = errorOf(exit)
          if (Exit.isSuccess(exit)) assert.strictEqual(happened.length, 1)
          else if (error?._tag !== "Expired") assert.fail(`${error?._tag}`)
          else if (error.sent) assert.isAtMost(happened.length, 1)
          else assert.strictEqual(happened.length, 0)
          if (channel === Live && Exit.isFailure(exit)) {
            for (const time of happened) assert.isAtMost(time, at)
          }
          seen.add(
            error === undefined ? "done" : `${error.sent ? "sent" : "not sent"} ${happened.length}`
          )
        }
      }).pipe(Effect.scoped, Effect.provide(system), Random.withSeed(seed)),
    { arbitrary: { runs, seed, size: 40 } }
  )

  it("ends in each of these ways", () => {
    assert.deepStrictEqual([...seen].toSorted(), ["done", "not sent 0", "sent 0", "sent 1"])
  })
})
