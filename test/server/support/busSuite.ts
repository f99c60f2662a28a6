/**
 * The contract of a carrier with the bus above it: every carrier runs these tests. Times are short, and
 * the tests wait for what must happen.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, type Scope, Scope as Scopes } from "effect"
import type { BusTimes } from "../../../src/server/internal/bus/busOptions.ts"
import { until } from "../../support/until.ts"
import { node, reaches, type TestNode, type World } from "./busNodes.ts"
import * as Random from "./random.ts"

const times: BusTimes = { heartbeat: 80, silentAfter: 400, forgetAfter: 1000, batchWindow: 10 }

/** Nodes that know each other. */
const nodes = (world: World, ...names: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const all = yield* Effect.forEach(names, (name) => node(world, name, times))
    yield* until(() => all.every(({ changes }) => changes.length === names.length - 1))
    return all as unknown as readonly [TestNode, TestNode, TestNode]
  })

const drop = (): void => undefined

export const suite = (
  name: string,
  world: Effect.Effect<World, unknown, Scope.Scope>,
  also: { readonly skip?: boolean } = {}
): void => {
  const test = (
    sentence: string,
    body: (world: World) => Effect.Effect<void, unknown, Scope.Scope>
  ) => it.live(sentence, () => Effect.scoped(Effect.flatMap(world, body)))

  describe.skipIf(also.skip === true)(`NodeBus: ${name}`, () => {
    test("a node that starts appears, one that stops is gone at once, one that dies after its silence", (world) =>
      Effect.gen(function* () {
        const [one, two] = yield* nodes(world, "one", "two")
        const scope = yield* Scopes.make()
        const third = yield* Scopes.provide(node(world, "three", times), scope)
        yield* until(() => one.changes.includes("appeared three"))
        yield* until(() => third.changes.length === 2)
        yield* Scopes.close(scope, Exit.void)
        yield* until(() => two.changes.includes("gone three"))
        expect(two.changes).not.toContain("silent three")

        two.outgoing = drop
        yield* until(() => one.changes.includes("silent two"))
        expect((yield* one.bus.nodes).map(({ state }) => state)).toEqual(["silent"])
        two.outgoing = (_, deliver) => deliver()
        yield* until(() => one.changes.at(-1) === "appeared two")
        two.outgoing = drop
        yield* until(() => one.changes.at(-1) === "gone two")
        expect(yield* one.bus.nodes).toEqual([])
      }))

    test("a message reaches the other nodes in order, or the one that is named, and what a heartbeat carries too", (world) =>
      Effect.gen(function* () {
        const [one, two, three] = yield* nodes(world, "one", "two", "three")
        for (let n = 1; n <= 5; n++) one.send({ n, text: "é\n\"'" })
        one.send("for two", two.self)
        one.send("end")
        yield* until(() => [two, three].every(({ got }) => got.includes("end")))
        const numbers = [1, 2, 3, 4, 5].map((n) => ({ n, text: "é\n\"'" }))
        expect(two.got).toEqual([...numbers, "for two", "end"])
        expect(three.got).toEqual([...numbers, "end"])
        expect(one.got).toEqual([])
        one.beat = "mine"
        yield* until(() => two.heard.includes("mine") && three.heard.includes("mine"))
        expect(one.heard).toEqual([])
      }))

    test("a message that fits into no envelope arrives whole", (world) =>
      Effect.gen(function* () {
        const [one, two] = yield* nodes(world, "one", "two")
        const large = "é".repeat(2.5 * one.maxBytes())
        one.send("before")
        one.send(large)
        one.send("after")
        yield* until(() => two.got.length === 3)
        expect(two.got).toEqual(expect.arrayContaining(["before", large, "after"]))
        expect(two.texts.every((text) => text.length <= one.maxBytes())).toBe(true)
      }))

    test(`messages that are lost, doubled, delayed and reordered arrive at most once, seed ${Random.seed}`, (world) =>
      Effect.gen(function* () {
        const [one, two] = yield* nodes(world, "one", "two")
        const random = Random.random(Random.seed)
        const late: Array<() => void> = []
        two.incoming = (_, deliver) => {
          if (random.chance(0.1)) return
          if (random.chance(0.3)) late.unshift(deliver)
          else deliver()
          if (random.chance(0.3)) deliver()
          if (random.chance(0.3)) late.shift()?.()
        }
        for (let n = 0; n < 60; n++) {
          one.send(n)
          yield* Effect.sleep(5)
        }
        one.send("last")
        yield* until(() => one.texts.length >= 20)
        two.incoming = (_, deliver) => deliver()
        for (const deliver of late) deliver()
        one.send("end")
        yield* until(() => two.got.includes("end"))
        expect(new Set(two.got).size).toBe(two.got.length)
        expect(two.got.filter((one) => typeof one !== "number" && one !== "last")).toEqual(["end"])
      }))

    test("what is forged, altered or sent again does nothing", (world) =>
      Effect.gen(function* () {
        const [one, two] = yield* nodes(world, "one", "two")
        one.send("once")
        yield* until(() => two.got.length === 1)
        const before = [...two.texts]
        const altered = before.map((text) => {
          const at = 20 + (text.length % 15)
          return `${text.slice(0, at)}${text[at] === "A" ? "B" : "A"}${text.slice(at + 1)}`
        })
        const forged = ["", "{}", "1.1.x", "1.20000.".padEnd(200, "A"), before[0]!.slice(0, -4)]
        const sent = [...before.toReversed(), ...altered, ...forged].filter((text) => text !== "")
        for (const text of sent) yield* one.inject(text)
        yield* until(() => two.texts.filter((text) => sent.includes(text)).length >= sent.length)
        one.send("twice")
        yield* until(() => two.got.includes("twice"))
        expect(two.got).toEqual(["once", "twice"])
        expect(two.changes).toEqual(["appeared one"])
      }))

    test("a node that starts again under its name replaces the one before, whose messages no longer count", (world) =>
      Effect.gen(function* () {
        const [one, two] = yield* nodes(world, "one", "two")
        const kept: Array<string> = []
        two.outgoing = (text) => kept.push(text)
        two.send("of the one before")
        yield* until(() => kept.length > 2)
        const again = yield* node(world, "two", times)
        // On a slow machine the node finds the one before silent first.
        const changes = () => one.changes.filter((change) => change !== "silent two")
        yield* until(() => changes().length === 3)
        expect(changes()).toEqual(["appeared two", "gone two", "appeared two"])
        for (const text of kept) one.hear(text)
        again.send("of the new one")
        yield* until(() => one.got.length > 0)
        expect(one.got).toEqual(["of the new one"])
        expect((yield* one.bus.nodes).map(({ incarnation }) => incarnation)).toEqual([
          again.self.incarnation
        ])
      }))

    test("a bus that has a connection and delivers nothing says so, and is up again without a restart", (world) =>
      Effect.gen(function* () {
        const [one, two] = yield* nodes(world, "one", "two")
        yield* reaches(one, "up")
        one.incoming = drop
        yield* reaches(one, "deaf")
        yield* until(() => one.renewed === 1)
        yield* until(() => one.changes.includes("silent two"))
        one.incoming = (_, deliver) => deliver()
        yield* reaches(one, "up")
        two.send("hello")
        yield* until(() => one.got.includes("hello"))
      }))
  })
}
