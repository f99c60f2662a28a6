/** A node that has live channels from a bridge, message by message. */
import { describe, expect, it } from "@effect/vitest"
import { bridgeName } from "../../../src/nats/internal/liveFrames.ts"
import { LiveNode } from "../../../src/nats/internal/liveNode.ts"
import { type Heard, lost } from "../../../src/server/NotificationSource.ts"

const [a, b] = [bridgeName(1n, "a"), bridgeName(2n, "b")]

describe("A node of a bridge", () => {
  it("takes no late answer to what it asked before it left the bridge and returned", () => {
    let time = 0
    const heard: Array<Heard> = []
    const asked: Array<number> = []
    const node = new LiveNode({
      now: () => time,
      ask: (_, k) => asked.push(k),
      hear: (_, one) => heard.push(one),
      confirmed: () => undefined
    })
    const frame = (number: number) =>
      node.frame("c", { b: a, listen: 1, number, payload: String(number) })
    const answer = (k: number, number: number) => node.answer({ b: a, k, s: { c: [1, number] } })

    node.add("c")
    node.beat({ b: a, s: {}, u: true })
    const first = asked.at(-1)!
    answer(first, 0)
    frame(1)
    frame(2)
    // It listens by itself for a while, where 3 arrives.
    node.remove("c")
    time += 500
    node.add("c")
    // Copies on a slow way of what it had.
    answer(first, 0)
    frame(2)
    frame(3)
    answer(asked.at(-1)!, 3)
    frame(3)
    frame(4)
    expect(heard).toEqual(["1", "2", "4"])
  })

  it("takes no late answer of a bridge that it has again after another one", () => {
    let time = 0
    const heard: Array<Heard> = []
    const asked: Array<readonly [bridge: string, k: number]> = []
    const node = new LiveNode({
      now: () => time,
      ask: (bridge, k) => asked.push([bridge, k]),
      hear: (_, one) => heard.push(one),
      confirmed: () => undefined
    })
    const frame = (number: number) =>
      node.frame("c", { b: a, listen: 1, number, payload: String(number) })
    const answer = (k: number, number: number) => node.answer({ b: a, k, s: { c: [1, number] } })
    const beat = (of: string) => node.beat({ b: of, s: {}, u: true })

    node.add("c")
    beat(a)
    answer(asked.at(-1)![1], 0)
    frame(1)
    frame(2)
    // It hears the one for a while, then the other, then the first again.
    time += 2000
    beat(b)
    time += 2000
    beat(a)
    const [[, first], [, last]] = [asked[0]!, asked.at(-1)!]
    expect(first < last).toBe(true)
    // Copies of what it had, on a slow way.
    answer(first, 0)
    frame(2)
    answer(last, 3)
    frame(3)
    frame(4)
    expect(heard).toEqual(["1", "2", lost, "4"])
  })
})
