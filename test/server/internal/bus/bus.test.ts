/** The bus with the default times, under the clock of a test: what is noticed when, and what is dropped. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Exit, Logger, Metric, Scope, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as Bus from "../../../../src/server/internal/bus/bus.ts"
import { resolvedBus } from "../../../../src/server/internal/bus/busOptions.ts"
import * as Envelope from "../../../../src/server/internal/bus/envelope.ts"
import {
  carrierOf,
  networkKeys,
  makeNetwork
} from "../../../../src/server/internal/bus/memoryCarrier.ts"
import { busDropped } from "../../../../src/server/internal/metrics.ts"
import { apart, scrape } from "../../support/series.ts"
import { node, shifted, type TestNode, type World } from "../../support/busNodes.ts"

const network = () => {
  const made = makeNetwork()
  return {
    carrier: (name: string) => carrierOf(made, name),
    keys: networkKeys(made)
  } satisfies World
}

const two = (world: World): Effect.Effect<[TestNode, TestNode], unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const nodes = [yield* node(world, "one"), yield* node(world, "two")] as [TestNode, TestNode]
    yield* TestClock.adjust(1000)
    expect(nodes.map(({ changes }) => changes)).toEqual([["appeared two"], ["appeared one"]])
    return nodes
  })

const drops = (reason: string) =>
  Effect.map(Metric.value(Metric.withAttributes(busDropped, { reason })), ({ count }) =>
    Number(count)
  )

const drop = (): void => undefined

/** How many milliseconds pass until something holds, in steps of 50. */
const passing = (condition: Effect.Effect<boolean>) =>
  Effect.gen(function* () {
    const start = yield* Clock.currentTimeMillis
    while (!(yield* condition)) yield* TestClock.adjust(50)
    return (yield* Clock.currentTimeMillis) - start
  })

describe("a bus", () => {
  it.effect("lets a guest hear and ask, and is no node for the others", () =>
    Effect.gen(function* () {
      const world = network()
      const [one, other] = yield* two(world)
      const before = other.texts.length
      yield* Effect.scoped(
        Effect.gen(function* () {
          const guest = yield* Bus.make(yield* world.carrier("guest"), world.keys, {
            ...resolvedBus({ name: "guest" }),
            isGuest: true
          })
          const got: Array<unknown> = []
          const send = yield* guest.join("test", { receive: (content) => void got.push(content) })
          send("asked")
          yield* TestClock.adjust(1000)
          expect(yield* SubscriptionRef.get(guest.state)).toBe("up")
          expect((yield* guest.nodes).map(({ name }) => name).toSorted()).toEqual(["one", "two"])
          expect(one.got).toEqual(["asked"])
          one.send("answered", guest.self)
          yield* TestClock.adjust(100)
          expect(got).toEqual(["answered"])
          // What a stranger sends again is taken once.
          for (const text of other.texts.slice(before)) other.hear(text)
          expect(other.got).toEqual(["asked"])
        })
      )
      yield* TestClock.adjust(100)
      expect((yield* one.bus.nodes).map(({ name }) => name)).toEqual(["two"])
      expect(one.changes).toEqual(["appeared two"])
    })
  )

  it.effect("sends what its parts post within 50 ms as one envelope", () =>
    Effect.gen(function* () {
      const [one, other] = yield* two(network())
      yield* TestClock.adjust(100)
      const before = other.texts.length
      one.send(1)
      yield* TestClock.adjust(40)
      one.send(2)
      expect(other.got).toEqual([])
      yield* TestClock.adjust(10)
      expect(other.got).toEqual([1, 2])
      expect(other.texts.length).toBe(before + 1)
    })
  )

  it.effect("counts a node as silent after 3 s, and forgets it after a minute", () =>
    Effect.gen(function* () {
      const [one, other] = yield* two(network())
      other.outgoing = drop
      const silent = yield* passing(Effect.sync(() => one.changes.includes("silent two")))
      expect(silent).toBeGreaterThan(2000)
      expect(silent).toBeLessThanOrEqual(3250)
      expect(yield* one.bus.nodes).toMatchObject([{ name: "two", state: "silent" }])
      const gone = yield* passing(Effect.sync(() => one.changes.includes("gone two")))
      expect(silent + gone).toBeGreaterThan(59_000)
      expect(silent + gone).toBeLessThanOrEqual(60_250)
    })
  )

  it.effect(
    "is deaf within three heartbeats that it does not hear itself, and renews the carrier again after 30 s",
    () =>
      Effect.gen(function* () {
        const [one] = yield* two(network())
        const state = SubscriptionRef.get(one.bus.state)
        expect(yield* state).toBe("up")
        one.incoming = drop
        const deaf = yield* passing(Effect.map(state, (now) => now === "deaf"))
        expect(deaf).toBeLessThanOrEqual(3250)
        expect(one.renewed).toBe(1)
        yield* TestClock.adjust("29 seconds")
        expect(one.renewed).toBe(1)
        yield* TestClock.adjust("2 seconds")
        expect(one.renewed).toBe(2)
        one.incoming = (_, deliver) => deliver()
        expect(yield* passing(Effect.map(state, (now) => now === "up"))).toBeLessThanOrEqual(1000)
      })
  )

  it.effect("is down and not deaf while its heartbeats do not leave, and logs why", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push([message].flat().join(" ")))
    return Effect.gen(function* () {
      const world = network()
      let stuck = true
      const send = () => (stuck ? Effect.never : Effect.void)
      const carrier = (name: string) =>
        Effect.map(world.carrier(name), (carrier) => ({ ...carrier, send }))
      const one = yield* node({ ...world, carrier }, "one")
      const before = yield* drops("unsent")
      yield* TestClock.adjust("10 seconds")
      expect(yield* SubscriptionRef.get(one.bus.state)).toBe("down")
      expect(one.renewed).toBe(0)
      expect(yield* drops("unsent")).toBeGreaterThan(before)
      const start = "The bus does not deliver: this node cannot send its heartbeats: "
      expect(lines[0]).toBe(`${start}the last one has not left yet`)
      stuck = false
    }).pipe(Effect.provide(Logger.layer([logger])))
  })

  it.effect("drops and counts what is more than 30 s off, and takes what is less", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 10, 29))
      const world = network()
      let off = 29_000
      const clock = yield* Clock.Clock
      const one = yield* node(world, "one")
      const ahead = yield* Effect.provideService(
        node(world, "two"),
        Clock.Clock,
        shifted(clock, () => off)
      )
      yield* TestClock.adjust(1000)
      expect(one.changes).toEqual(["appeared two"])
      const before = yield* drops("late")
      off = 31_000
      ahead.send("late")
      yield* TestClock.adjust("5 seconds")
      expect(one.got).toEqual([])
      expect(one.changes).toEqual(["appeared two", "silent two"])
      expect(yield* drops("late")).toBeGreaterThan(before)
      off = -29_000
      ahead.send("behind")
      yield* TestClock.adjust("1 seconds")
      expect(one.got).toEqual(["behind"])
    })
  )

  it.effect("goes on over midnight, when two clocks are on two days", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 10, 29, 23, 59, 55))
      const world = network()
      const clock = yield* Clock.Clock
      const one = yield* node(world, "one")
      const ahead = yield* Effect.provideService(
        node(world, "two"),
        Clock.Clock,
        shifted(clock, () => 10_000)
      )
      for (let second = 0; second < 20; second++) {
        one.send(second)
        ahead.send(second)
        yield* TestClock.adjust(1000)
      }
      expect([one.got.length, ahead.got.length]).toEqual([20, 20])
      expect([...one.changes, ...ahead.changes]).toEqual(["appeared two", "appeared one"])
    })
  )

  it.effect(
    "hears nothing of what was sent before, also when a node sends it again after a restart",
    () =>
      Effect.gen(function* () {
        const world = network()
        const [one, other] = yield* two(world)
        other.send("old")
        yield* TestClock.adjust(1000)
        const kept = [...one.texts]
        // It was forgotten, and so is the counter.
        other.outgoing = drop
        yield* TestClock.adjust("2 minutes")
        expect(one.changes.at(-1)).toBe("gone two")
        one.got.length = 0
        for (const text of kept) one.hear(text)
        expect([one.got, one.changes.at(-1)]).toEqual([[], "gone two"])
      })
  )

  it.effect("after a pause of its process hears what waited before it misses a node", () =>
    Effect.gen(function* () {
      const world = network()
      const clock = yield* Clock.Clock
      let paused = 0n
      const jumping: Clock.Clock = {
        ...clock,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + paused
      }
      const one = yield* Effect.provideService(node(world, "one"), Clock.Clock, jumping)
      const other = yield* node(world, "two")
      yield* TestClock.adjust(1000)
      paused = 10_000_000_000n
      other.send("waited")
      yield* TestClock.adjust(1000)
      expect([one.got, one.changes]).toEqual([["waited"], ["appeared two"]])
    })
  )

  it.effect("drops a message of more than 1 MiB, and forgets pieces that stay incomplete", () =>
    Effect.gen(function* () {
      const [one, other] = yield* two(network())
      const before = [yield* drops("too-large"), yield* drops("incomplete")] as const
      one.send("x".repeat(1_048_577))
      let texts = 0
      other.incoming = (_, deliver) => (++texts === 3 ? undefined : deliver())
      one.send("y".repeat(20_000))
      yield* TestClock.adjust("40 seconds")
      expect(other.got).toEqual([])
      expect(yield* drops("too-large")).toBe(before[0] + 1)
      expect(yield* drops("incomplete")).toBe(before[1] + 1)
    })
  )

  it.effect("counts each reason for which it drops an envelope or a message", () =>
    apart(
      Effect.gen(function* () {
        const world = network()
        const one = yield* node(world, "one")
        const scope = yield* Scope.make()
        const other = yield* Scope.provide(node(world, "two"), scope)
        yield* TestClock.adjust(1000)
        const all = Effect.map(scrape, (series) =>
          Object.entries(series).flatMap(([name, value]) => {
            const reason = /^bus_dropped_total\{reason="(.*)"\}$/.exec(name)?.[1]
            return reason === undefined || value === 0 ? [] : [[reason, value]]
          })
        )
        expect(yield* all).toEqual([])
        other.send("taken")
        yield* TestClock.adjust(100)
        expect(one.got).toEqual(["taken"])
        const envelope = (draft: Partial<Envelope.EnvelopeDraft>) =>
          Effect.map(Clock.currentTimeMillis, (time) =>
            Envelope.seal(world.keys.current()!, {
              node: other.self,
              counter: 50,
              time,
              sort: "batch",
              ...draft
            })
          )
        // The sender's number is used.
        one.hear(one.texts.at(-1)!)
        const piece = { id: 0, index: 0, count: 1, bytes: Buffer.from("nonsense") }
        one.hear(yield* envelope({ sort: "piece", piece }))
        one.hear(yield* envelope({ counter: 51, time: 31_001 + 1100 }))
        one.hear("1.0.forged")
        one.send("x".repeat(1_048_577))
        for (let n = 0; n < 10; n++) one.send("y".repeat(1_000_000))
        one.outgoing = drop
        yield* TestClock.adjust(100)
        yield* Scope.close(scope, Exit.void)
        one.hear(yield* envelope({ counter: 52 }))
        one.hear(yield* envelope({ counter: 53 }))
        expect(Object.fromEntries(yield* all)).toEqual({
          forged: 1,
          late: 1,
          replayed: 1,
          over: 2,
          malformed: 1,
          "too-large": 1,
          full: 2
        })
      }).pipe(Effect.scoped)
    )
  )

  it.effect(
    "gives each part its own topic, the nodes that are here, and survives its defects",
    () =>
      Effect.gen(function* () {
        const [one, other] = yield* two(network())
        const changes: Array<string> = []
        yield* one.bus.join("broken", {
          receive: () => {
            throw new Error("a defect of the part")
          },
          changed: ({ change, node }) => changes.push(`${change} ${node.name}`)
        })
        const send = yield* other.bus.join("broken", { receive: drop })
        expect(changes).toEqual(["appeared two"])
        send("breaks")
        other.send("arrives")
        yield* TestClock.adjust(50)
        expect(one.got).toEqual(["arrives"])
      })
  )
})

describe("an envelope", () => {
  const secrets = { identity: "database", secrets: ["new", "old"] }
  const draft: Envelope.EnvelopeDraft = {
    node: { name: "one", incarnation: "1" },
    counter: 7,
    time: 1000,
    sort: "batch",
    entries: [Envelope.entryText({ kind: "message", topic: "t", content: { a: 1 }, to: undefined })]
  }

  it("is read with each secret that holds, and only in its database and on its day", () => {
    const text = Envelope.seal({ ...secrets, secrets: ["old"] }, draft)
    expect(Envelope.unseal(secrets, text, 1000)).toMatchObject({
      node: draft.node,
      counter: 7,
      entries: [{ kind: "message", topic: "t", content: { a: 1 } }]
    })
    expect(Envelope.unseal({ ...secrets, secrets: ["new"] }, text, 1000)).toBeUndefined()
    expect(Envelope.unseal({ ...secrets, identity: "other" }, text, 1000)).toBeUndefined()
    expect(Envelope.unseal(secrets, text, 1000 + 2 * 86_400_000)).toBeUndefined()
    expect(Envelope.unseal(secrets, text.replace("1.0.", "1.1."), 1000)).toBeUndefined()
  })

  it("has the room that it says, also with a long name", () => {
    const self = { name: "ü".repeat(100), incarnation: "i".repeat(36) }
    const room = Envelope.roomIn(7999, self)
    const piece = { id: 1, index: 2, count: 3, bytes: Buffer.alloc(room, 65) }
    const time = Date.UTC(2200, 0)
    const text = Envelope.seal(secrets, {
      node: self,
      counter: 2 ** 40,
      time,
      sort: "piece",
      piece
    })
    expect(text.length).toBeLessThanOrEqual(7999)
    expect(Envelope.unseal(secrets, text, time)?.piece?.bytes.length).toBe(room)
  })
})
