/** What replicas send while nodes are replaced one after another, with many members. */
import { describe, expect, it } from "@effect/vitest"
import { Replica } from "../../../../src/server/internal/presence/replica.ts"
import { long, random, seed } from "../../support/random.ts"
import { beatEvery, type Make, type Member, type Shown, World } from "../../support/replicas.ts"

const make: Make = ({ changed, counted, send }) =>
  new Replica<Shown>({
    send,
    counted,
    changed,
    read: ({ incarnation }, key, json) => ({ owner: incarnation, key, text: JSON.stringify(json) }),
    greeting: () => null,
    greeted: () => undefined
  })

const names = ["a", "b", "c", "d"]
const membersOfEach = long ? 2500 : 250

describe("A rolling update of four nodes", () => {
  it("sends each list at most twice for each node that reads it, and afterwards what idle nodes send", () => {
    const world = new World(make, random(seed))
    const fill = (node: Member) => {
      for (let index = 0; index < membersOfEach; index++) {
        node.set(`room_${index % 20} ${index}`, ["m", index, { name: `guest ${index}` }])
      }
    }
    for (const name of names) fill(world.start(name))
    world.pass(5000)
    const idleFor = (millis: number) => {
      const before = world.bytes
      world.pass(millis)
      return world.bytes - before
    }
    const idle = idleFor(10 * beatEvery)

    for (const name of names) {
      const old = world.nodes.find(({ node }) => node.name === name)!
      world.stop(old)
      world.pass(1000)
      const before = world.nodes.map(({ wholes }) => wholes)
      const others = world.nodes.length
      const fresh = world.start(name)
      fill(fresh)
      world.pass(5000)
      const sent = world.nodes.slice(0, others).map(({ wholes }, index) => wholes - before[index]!)
      // Each of the others for the newcomer, and the newcomer for each of them.
      expect(Math.max(...sent)).toBeLessThanOrEqual(2)
      expect(fresh.wholes).toBeLessThanOrEqual(2 * others)
      expect(world.difference).toBe(undefined)
    }
    world.pass(3 * beatEvery)
    const after = idleFor(10 * beatEvery)
    expect(after).toBeLessThanOrEqual(1.2 * idle)
    expect(world.nodes.map(({ known }) => known.size)).toEqual([3, 3, 3, 3])
  })
})
