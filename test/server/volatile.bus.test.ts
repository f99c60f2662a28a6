/** Volatile channels over the nodes of one bus, which here is a list of receivers in memory. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Metric, Schema, Stream, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { type BusState, NodeBus, type Part } from "../../src/server/NodeBus.ts"
import * as Realtime from "../../src/server/Realtime.ts"

const Pointer = Schema.Struct({ user: Schema.String, x: Schema.Int })
const Pointers = Channel.make("pointers", Pointer, { delivery: "volatile", latestBy: "user" })

/** The nodes of a test, and each message that one of them sent. */
const network = () => {
  const parts = new Map<string, Part>()
  const sent: Array<ReadonlyArray<unknown>> = []
  const node = (name: string) =>
    Layer.effect(
      NodeBus,
      Effect.gen(function* () {
        const self = { name, incarnation: "1" }
        return NodeBus.of({
          self,
          join: (topic, part) =>
            Effect.sync(() => {
              if (topic !== "volatile") return () => undefined
              parts.set(name, part)
              return (content: unknown) => {
                const copy = JSON.parse(JSON.stringify(content)) as ReadonlyArray<unknown>
                sent.push(copy)
                for (const [other, { receive }] of parts) if (other !== name) receive(copy, self)
              }
            }),
          nodes: Effect.succeed([]),
          secret: Effect.never,
          state: yield* SubscriptionRef.make<BusState>("up")
        })
      })
    )
  const make = (name: string) =>
    Layer.build(Realtime.layerVolatile().pipe(Layer.provide(node(name)), Layer.fresh))
  return { sent, parts, make }
}

const settle = Effect.andThen(TestClock.adjust(1), Effect.yieldNow)

const publish = (user: string, x: number) => Realtime.publish(Pointers, { user, x })

/** What a node receives. */
const receiving = Effect.gen(function* () {
  const seen: Array<string> = []
  const fiber = yield* Realtime.subscribe(Pointers).pipe(
    Stream.runForEach(({ user, x }) => Effect.sync(() => seen.push(`${user}${x}`))),
    Effect.forkScoped
  )
  yield* settle
  return { seen, fiber }
})

describe("A volatile channel over several nodes", () => {
  it.effect("an event reaches the others once, the newest of each key within 50 ms", () =>
    Effect.gen(function* () {
      const { make, sent } = network()
      const [a, b, c] = yield* Effect.forEach(["a", "b", "c"], make)
      const atA = yield* Effect.provide(receiving, a!)
      const atB = yield* Effect.provide(receiving, b!)
      yield* Effect.provide(publish("ann", 1), a!)
      yield* settle
      // The first one does not wait.
      expect([atA.seen, atB.seen, sent.length]).toEqual([["ann1"], ["ann1"], 1])
      for (let x = 2; x < 9; x++) yield* Effect.provide(publish("ann", x), a!)
      yield* Effect.provide(publish("bob", 1), a!)
      yield* settle
      expect(atA.seen).toEqual([
        "ann1",
        "ann2",
        "ann3",
        "ann4",
        "ann5",
        "ann6",
        "ann7",
        "ann8",
        "bob1"
      ])
      expect(atB.seen).toEqual(["ann1"])
      yield* TestClock.adjust(50)
      yield* settle
      expect([atB.seen, sent.length]).toEqual([["ann1", "ann8", "bob1"], 2])
      // A node without subscribers has received it, and does not send it on.
      yield* TestClock.adjust(1000)
      expect(sent.length).toBe(2)
      yield* Effect.provide(publish("cyd", 1), c!)
      yield* settle
      expect([atA.seen.at(-1), atB.seen.at(-1)]).toEqual(["cyd1", "cyd1"])
      yield* Fiber.interrupt(atA.fiber)
    }).pipe(Effect.scoped)
  )

  it.effect("too many keys within 50 ms are dropped and counted, the oldest first", () =>
    Effect.gen(function* () {
      const { make, sent } = network()
      const [a] = yield* Effect.forEach(["a", "b"], make)
      const before = (yield* Metric.value(metrics.volatileDropped)).count
      yield* Effect.provide(publish("first", 0), a!)
      yield* settle
      for (let n = 0; n < 600; n++) yield* Effect.provide(publish(`u${n}`, n), a!)
      yield* TestClock.adjust(100)
      yield* settle
      const all = sent[1] as ReadonlyArray<ReadonlyArray<unknown>>
      expect(all.length).toBe(500)
      expect(JSON.parse(String(all.at(-1)?.[4]))).toEqual({ user: "u599", x: 599 })
      expect((yield* Metric.value(metrics.volatileDropped)).count - Number(before)).toBe(100)
    }).pipe(Effect.scoped)
  )

  it.effect("a message of another form is left out", () =>
    Effect.gen(function* () {
      const { make, parts } = network()
      const a = yield* make("a")
      const { seen } = yield* Effect.provide(receiving, a)
      const from = { name: "b", incarnation: "1" }
      const right = ["pointers", "e:1", 0, "p", '{"user":"ann","x":1}']
      for (const content of [null, 1, {}, [1, null, [], ["pointers", 1]], [["pointers"], right]]) {
        parts.get("a")!.receive(content, from)
      }
      yield* settle
      expect(seen).toEqual(["ann1"])
    }).pipe(Effect.scoped)
  )
})
