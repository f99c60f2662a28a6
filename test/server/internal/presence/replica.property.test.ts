/** Replicas on a bus that loses, doubles, delays and reorders, with partitions and nodes that die. */
import { describe, expect, it } from "@effect/vitest"
import type { Json } from "effect/Schema"
import type { LogLimits } from "../../../../src/server/internal/presence/owned.ts"
import { Replica } from "../../../../src/server/internal/presence/replica.ts"
import { long, type Random, random, seed } from "../../support/random.ts"
import {
  beatEvery,
  type Ends,
  type Make,
  type Member,
  type Replicated,
  type Shown,
  World
} from "../../support/replicas.ts"

/** Short logs, so that whole lists are needed, and small messages, so that they have many parts. */
const short = { logged: 8, more: 8, bytes: 200 }

const makeOf =
  (limits?: LogLimits): Make =>
  ({ changed, counted, send }) =>
    new Replica<Shown>(
      {
        send,
        counted,
        changed,
        read: ({ incarnation }, key, json) => ({
          owner: incarnation,
          key,
          text: JSON.stringify(json)
        }),
        greeting: () => null,
        greeted: () => undefined
      },
      limits
    )

/** Sends what changes and applies what arrives, and nothing else. */
const naive: Make = ({ changed, send }: Ends): Replicated => {
  const known = new Map<string, Shown>()
  let changes: Array<readonly [string, Json | null]> = []
  return {
    set: (key, json) => void changes.push([key, json]),
    delete: (key) => void changes.push([key, null]),
    get due() {
      return changes.length > 0 ? -Infinity : Infinity
    },
    tick: () => {
      send(changes as unknown as Json)
      changes = []
    },
    beat: () => null,
    heard: () => undefined,
    receive: (content, { incarnation }) => {
      for (const [key, json] of content as ReadonlyArray<readonly [string, Json | null]>) {
        const name = `${incarnation} ${key}`
        const before = known.get(name)
        const after =
          json === null ? undefined : { owner: incarnation, key, text: JSON.stringify(json) }
        if (before === undefined && after === undefined) continue
        if (after === undefined) known.delete(name)
        else known.set(name, after)
        changed(before, after)
      }
    },
    changed: ({ change, node }) => {
      if (change === "appeared") return
      for (const [name, entry] of known) {
        if (entry.owner !== node.incarnation) continue
        known.delete(name)
        changed(entry, undefined)
      }
    }
  }
}

const churn = (dice: Random, member: Member): void => {
  const key = `room_${dice.int(3)} ${dice.int(20)}`
  if (dice.chance(0.3)) member.delete(key)
  else member.set(key, ["m", dice.int(1000), { name: "x".repeat(dice.int(60)) }])
}

/** A heartbeat of silence, and then the question and its answer. */
const settles = beatEvery + 100 + 30 + 200

const names = ["a", "b", "c", "d"]

/** Runs a world through faults. Returns the difference that is left after them, and after `settles`. */
const story = (seed: number, make: Make, bend?: World["bend"]): string | undefined => {
  const dice = random(seed)
  const world = new World(make, dice)
  if (bend !== undefined) world.bend = bend
  for (const name of names) world.start(name)
  const rounds = 4
  for (let round = 0; round < rounds; round++) {
    world.faults = {
      loss: dice.pick([0, 0.1, 0.3]),
      doubled: dice.pick([0, 0.2]),
      delay: dice.pick([20, 200, 600])
    }
    // Some rounds have a partition, which heals at the end, after a short or a long time.
    if (dice.chance(0.5)) for (const name of names) world.side.set(name, dice.int(2))
    const end = world.now + dice.pick([1000, 3000, 8000])
    while (world.now < end) {
      for (const member of world.nodes) if (dice.chance(0.5)) churn(dice, member)
      const { length } = world.nodes
      if (length > 2 && dice.chance(0.04)) {
        if (dice.chance(0.5)) world.kill(dice.pick(world.nodes))
        else world.stop(dice.pick(world.nodes))
      } else if (dice.chance(0.1)) {
        const down = names.find((name) => world.nodes.every(({ node }) => node.name !== name))
        if (down !== undefined) world.start(down)
      }
      world.pass(20 + dice.int(100))
    }
    world.side.clear()
    world.faults = { loss: 0, doubled: 0, delay: 50 }
    // What was sent before may still be on its way, and the dead are noticed after 3 s of silence.
    world.pass(600)
    world.pass(settles)
    const dead = world.nodes.some(({ known }) =>
      [...known.values()].some(({ node }) =>
        world.nodes.every((one) => one.node.incarnation !== node.incarnation)
      )
    )
    if (dead) world.pass(3000)
    const { difference } = world
    if (difference !== undefined) return `seed ${seed}, round ${round}: ${difference}`
  }
  return undefined
}

const stories = long ? 2000 : 20

describe("Replicas", () => {
  it("are all equal a heartbeat after the last fault", () => {
    for (let index = 0; index < stories; index++) {
      const limits = index % 2 === 0 ? undefined : short
      expect(story(seed + index, makeOf(limits))).toBe(undefined)
    }
  })

  const mutants: Readonly<Record<string, World["bend"] | "naive">> = {
    "that apply what arrives": "naive",
    "that never ask": (content) =>
      typeof content === "object" && content !== null && "t" in content && content.t === "q"
        ? { t: "none" }
        : content,
    "that take a part of a list for all of it": (content) =>
      typeof content === "object" && content !== null && "t" in content && content.t === "f"
        ? { ...content, m: 1, k: 0 }
        : content,
    "that send no versions in heartbeats": (content) => (Array.isArray(content) ? null : content)
  }
  for (const [name, mutant] of Object.entries(mutants)) {
    it(`${name} are found`, () => {
      const found = Array.from({ length: 8 }, (_, index) =>
        mutant === "naive" ? story(seed + index, naive) : story(seed + index, makeOf(short), mutant)
      )
      expect(found.some((one) => one !== undefined)).toBe(true)
    })
  }

  it("are equal after more changes in one turn than the log keeps", () => {
    const world = new World(makeOf(short), random(1))
    const one = world.start("one")
    world.start("two")
    world.pass(100)
    for (let n = 0; n < 100; n++) one.set(`room ${n % 40}`, n)
    world.pass(beatEvery)
    expect(world.difference).toBeUndefined()
  })
})
