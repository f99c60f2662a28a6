/**
 * The law of delivery over three server processes, with PostgreSQL alone and with NATS: nodes are replaced,
 * killed, stopped, cut off, and have their clocks stepped, PostgreSQL and NATS crash, and messages between
 * nodes are lost, doubled and late. The laws are those of `support/clusterLaws.ts`.
 *
 * The tests print their seed: REALTIME_TEST_SEED=<seed> repeats the faults. REALTIME_TEST_LONG=1 has ten
 * times as many of them, two at once, and 60 clients.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer } from "effect"
import { RealtimeClient } from "effect-realtime/client"
import { long, random, seed } from "../server/support/random.ts"
import { executablePath } from "../support/natsServer.ts"
import { until } from "../support/until.ts"
import { faultsOf } from "./support/clusterFaults.ts"
import { eventsLaw, type Law, rowsLaw } from "./support/clusterLaws.ts"
import { sumOf } from "./support/clusterNode.ts"
import { world } from "./support/clusterWorld.ts"

interface Size {
  readonly nats: boolean
  readonly seed: number
  readonly clients: number
  readonly faults: number
}

const chaos = ({ clients, faults: faultCount, nats, seed }: Size) =>
  Effect.gen(function* () {
    const dice = random(seed)
    const { chance, int, pick } = dice
    const around = yield* world({ nats, seed })
    const { layerPg, nodes, urlsFor } = around
    const events = eventsLaw(dice)
    const laws: ReadonlyArray<Law> = [events, rowsLaw(around, dice)]

    for (let index = 0; index < clients; index++) {
      const context = yield* Layer.build(
        RealtimeClient.layer({
          url: urlsFor(index),
          backoff: { initial: 20, cap: 300, resetAfter: 1000 }
        })
      )
      const client = yield* Effect.provideContext(RealtimeClient.RealtimeClient, context)
      for (const { follow } of laws) yield* follow(client, `client ${index}`)
    }

    let over = false
    const writing = yield* Effect.forEach(
      laws.flatMap(({ changes }) => changes),
      (change) =>
        Effect.whileLoop({
          while: () => !over,
          body: () =>
            Effect.andThen(
              change,
              Effect.suspend(() => Effect.sleep(int(30)))
            ),
          step: () => {}
        }),
      { concurrency: "unbounded", discard: true }
    ).pipe(Effect.provide(layerPg), Effect.forkScoped)

    const t0 = performance.now()
    const times: Array<string> = []
    const mark = (what: string) =>
      Effect.sync(() => void times.push(`${Math.round(performance.now() - t0)} ${what}`))
    const { counts, kinds } = faultsOf(around, dice, events.calm, long)
    const log: Array<string> = []
    const sum = () => sumOf(nodes.map(({ counts }) => counts()))
    // With NATS the feed is there before the first fault: later a node of it may be another process.
    yield* until(() => laws.every(({ begun }) => begun()) && (!nats || sum().fed > 0))
    yield* mark("begun")
    // Each kind of fault is there before one of them is there again.
    let next = [...kinds]
    const draw = Effect.suspend(() => {
      if (next.length === 0) next = [...kinds]
      const fault = pick(next)
      next.splice(next.indexOf(fault), 1)
      log.push(fault.name)
      return Effect.andThen(fault.inject, mark(fault.name))
    })
    while (log.length < faultCount) {
      const together = long && chance(0.3) ? 2 : 1
      yield* Effect.forEach(Array.from({ length: together }), () => draw, {
        concurrency: together,
        discard: true
      })
      yield* Effect.sleep(int(500))
    }
    // A quick machine may be through with the faults before much was received.
    yield* until(() => laws.every(({ meaningful }) => meaningful())).pipe(
      Effect.timeoutOption("30 seconds")
    )
    for (const { goodNetwork } of nodes) yield* goodNetwork
    over = true
    yield* Fiber.join(writing)

    yield* mark("load ended")
    const said = `seed ${seed}: ${log.join("; ")}`
    const arrived = yield* Effect.forEach(
      laws,
      ({ settled }) => Effect.exit(Effect.timeout(settled, "30 seconds")),
      { concurrency: "unbounded" }
    ).pipe(Effect.provide(layerPg))
    yield* mark("settled")
    if (long) {
      console.log(
        JSON.stringify({ nats, seed, times, ...Object.fromEntries(counts), ...sum() }, null, 1)
      )
    }
    for (const law of laws) expect(law.violations(), said).toEqual([])
    expect(arrived.map(Exit.isSuccess), said).toEqual(laws.map(() => true))
    // The test is meaningful only if much was received and compared.
    for (const { meaningful } of laws) expect(meaningful(), said).toBe(true)
  }).pipe(Effect.scoped)

const minutes = long ? 40 : 4
const seeds = long ? [seed, seed + 1] : [seed]

describe.each(seeds)("three nodes (REALTIME_TEST_SEED=%i)", (seed) => {
  it.live(
    "lose nothing and deliver nothing twice",
    () => chaos({ nats: false, seed, clients: long ? 60 : 8, faults: long ? 60 : 5 }),
    minutes * 60_000
  )

  it.live.skipIf(executablePath === undefined)(
    "lose nothing and deliver nothing twice over NATS",
    () => chaos({ nats: true, seed, clients: long ? 60 : 6, faults: long ? 60 : 4 }),
    minutes * 60_000
  )
})
