/**
 * The law of presence over three nodes in memory, under TestClock: nodes are killed, deployed and isolated,
 * clients lose their sockets or fall silent, and the bus loses, doubles and delays messages. So many seconds
 * after the last fault every client sees the members that are open, each once and with its newest state.
 *
 * The test prints its seed: REALTIME_TEST_SEED=<seed> repeats the faults. REALTIME_TEST_LONG=1 has ten times
 * as many of them.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Ref, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import { type Members, PlainClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"
import { long, random, seed } from "../server/support/random.ts"

const Room = Channel.presence("room", Schema.Struct({ name: Schema.String, n: Schema.Int }))
type Shown = Members.Members<Channel.MemberOf<typeof Room>>

interface Guest {
  readonly name: string
  readonly network: RealtimeTest.Client["network"]
  readonly show: (n: number | undefined) => void
  readonly shown: Effect.Effect<Shown | undefined>
}

/** A client that watches, and shows a state when it is told to. */
const guest = (name: string, node: number) =>
  Effect.gen(function* () {
    const test = yield* RealtimeTest.RealtimeTest
    const client = yield* test.connect({ token: () => name, node })
    const last = yield* Ref.make<Shown | undefined>(undefined)
    yield* client.presence(Room).pipe(
      Stream.runForEach((shown) => Ref.set(last, shown)),
      Effect.forkScoped({ startImmediately: true })
    )
    const own = PlainClient.fromClient(client).presence(Room)
    const stop = own.subscribe(() => undefined)
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    const one: Guest = {
      name,
      network: client.network,
      show: (n) => void own.getSnapshot().update(n === undefined ? undefined : { name, n }),
      shown: Ref.get(last)
    }
    return one
  })

const differenceOf = (truth: ReadonlyMap<string, number>, shown: Shown | undefined) => {
  if (shown?.status !== "live") return `nothing live: ${shown?.status}`
  const text = (list: Iterable<readonly [string, number]>) =>
    [...list]
      .map(([name, n]) => `${name} ${n}`)
      .toSorted()
      .join()
  const seen = text(shown.members.map(({ state }) => [state.name, state.n] as const))
  const expected = text(truth)
  return seen === expected ? undefined : `${seen} instead of ${expected}`
}

/** Runs rounds of faults. After each, all lists must be exact that many milliseconds later. */
const story = (
  options: Pick<RealtimeTest.SystemOptions, "realtime"> & {
    readonly limits?: RealtimeServer.Limits
  },
  {
    after,
    rounds,
    seed
  }: { readonly after: number; readonly rounds: number; readonly seed: number }
) =>
  Effect.gen(function* () {
    const dice = random(seed)
    const { chance, int, pick } = dice
    const run = Effect.runForkWith(yield* Effect.context<never>())
    let isLossy = true
    const system = RealtimeTest.layer({
      ...options,
      nodes: 3,
      channels: [Room],
      authenticate: ({ token }) => Effect.succeed({ identity: token! }),
      authorize: RealtimeServer.allowAll,
      client: { token: () => "none" },
      bus: (_, deliver) => {
        if (!isLossy) return deliver()
        for (let copies = chance(0.1) ? 2 : 1; copies > 0; copies--) {
          if (chance(0.1)) continue
          const delay = int(200)
          run(Effect.andThen(Effect.sleep(delay), Effect.sync(deliver)))
        }
      }
    })
    yield* Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const guests = yield* Effect.forEach(["a", "b", "c", "d", "e", "f"], (name, index) =>
        guest(name, index % 3)
      )
      const truth = new Map<string, number>()
      let n = 0
      const churn = Effect.sync(() => {
        const one = pick(guests)
        if (chance(0.25)) {
          truth.delete(one.name)
          one.show(undefined)
        } else {
          truth.set(one.name, ++n)
          one.show(n)
        }
      })
      const pass = (millis: number) =>
        Effect.gen(function* () {
          for (let left = millis; left > 0;) {
            const step = Math.min(left, 50 + int(400))
            yield* churn
            yield* TestClock.adjust(step)
            left -= step
          }
        })
      const node = () => pick(test.nodes)
      const fault = Effect.suspend((): Effect.Effect<unknown> => {
        const one = node()
        const client = pick(guests).network
        return pick<() => Effect.Effect<unknown>>([
          () => one.kill,
          () => Effect.andThen(one.stop, Effect.andThen(pass(int(6000)), one.start)),
          () => Effect.forkChild(one.replace),
          () =>
            Effect.andThen(one.isolate(true), Effect.andThen(pass(int(6000)), one.isolate(false))),
          () => client.cut,
          () =>
            Effect.andThen(
              client.silence,
              Effect.andThen(
                pass(int(8000)),
                // An attempt to connect would wait for an answer for 10 s.
                Effect.andThen(client.resume, client.cut)
              )
            )
        ])()
      })
      yield* pass(3000)
      for (let round = 0; round < rounds; round++) {
        isLossy = true
        for (let faults = 1 + int(3); faults > 0; faults--) {
          yield* fault
          yield* pass(int(1500))
        }
        // Losses are a fault that does not end.
        isLossy = chance(0.7)
        yield* TestClock.adjust(after)
        yield* test.settle
        for (const { name, shown } of guests) {
          const difference = differenceOf(truth, yield* shown)
          expect(difference, `seed ${seed}, round ${round}, ${name}`).toBe(undefined)
        }
      }
    }).pipe(Effect.provide(system))
  }).pipe(Effect.scoped)

describe("Presence on three nodes", () => {
  it.effect(
    `is exact 8 s after the last fault with ping 1 s, slack 1 s and grace 2 s (REALTIME_TEST_SEED=${seed})`,
    () =>
      story(
        {
          limits: { pingInterval: "1 second", pingTimeout: "1 second", drainTimeout: "1 second" },
          realtime: { presenceGrace: "2 seconds" }
        },
        { after: 8000, rounds: long ? 60 : 2, seed }
      ),
    300_000
  )

  it.effect(
    `is exact 60 s after the last fault with the defaults (REALTIME_TEST_SEED=${seed})`,
    () => story({}, { after: 60_000, rounds: long ? 40 : 1, seed }),
    300_000
  )
})
