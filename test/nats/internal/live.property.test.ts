/**
 * The law of live channels through a bridge, over a network that loses, doubles and delays, and bridges that
 * die: a node that was confirmed receives each notification once and in order, or `lost` in its place.
 */
import { describe, expect, it } from "@effect/vitest"
import { LiveBridge } from "../../../src/nats/internal/liveBridge.ts"
import { bridgeName, type Standings } from "../../../src/nats/internal/liveFrames.ts"
import { LiveNode } from "../../../src/nats/internal/liveNode.ts"
import { type Heard, lost } from "../../../src/server/NotificationSource.ts"
import * as Random from "../../server/support/random.ts"

const names = ["a", "b.", "__proto__"]

interface Observed {
  readonly node: LiveNode
  /** By channel, what it heard. */
  readonly heard: Map<string, Array<Heard>>
  /** By channel, the last notification of the database before it was confirmed. */
  readonly confirmedAt: Map<string, number>
}

/** A database, bridges and nodes in steps of 10 ms. */
const world = (seed: number) => {
  const random = Random.random(seed)
  let time = 0
  let lossy = true
  let due: Array<{ readonly at: number; readonly run: () => void }> = []
  const later = (millis: number, run: () => void) => void due.push({ at: time + millis, run })
  /** On its way to one node. */
  const carry = (run: () => void): void => {
    if (!lossy) return later(5, run)
    if (random.chance(0.1)) return
    const delay = random.chance(0.2) ? random.int(120) : 5
    later(delay, run)
    if (random.chance(0.05)) later(delay + random.int(50), run)
  }

  const sent = new Map(names.map((name) => [name, 0]))
  /** What each link brings, in order: one is behind the other. */
  const listening = new Set<{
    readonly name: string
    readonly hear: (heard: Heard) => void
    readonly link: (run: () => void) => void
  }>()
  const newLink = () => {
    const lag = random.int(100)
    let last = 0
    return (run: () => void): void => {
      last = Math.max(last, time + random.int(lag + 1))
      later(last - time, run)
    }
  }
  const nodes: Array<Observed> = []
  let bridge: LiveBridge | undefined
  let term = 0n
  const toAll = (run: (node: LiveNode) => void) => {
    for (const { node } of nodes) carry(() => run(node))
  }

  const start = (): void => {
    const b = bridgeName(++term, `bridge-${term}`)
    const link = newLink()
    const made: LiveBridge = new LiveBridge({
      b,
      now: () => time,
      listen: (name, hear, ready) => {
        const one = { name, hear, link }
        later(random.int(30), () => {
          if (bridge !== made) return
          listening.add(one)
          ready()
        })
        return () => void listening.delete(one)
      },
      send: (name, listen, number, payload) =>
        toAll((node) => node.frame(name, { b, listen, number, payload })),
      caughtUp: (then) => link(then),
      answer: (to, standings) => carry(() => nodes[Number(to)]!.node.answer(standings))
    })
    bridge = made
  }
  const kill = (): void => {
    bridge = undefined
    listening.clear()
  }

  for (let index = 0; index < 3; index++) {
    const heard = new Map<string, Array<Heard>>(names.map((name) => [name, []]))
    const confirmedAt = new Map<string, number>()
    const node = new LiveNode({
      now: () => time,
      ask: (b, k, ch, w) => carry(() => bridge?.ask({ n: String(index), b, k, ch, w })),
      hear: (name, one) => heard.get(name)!.push(one),
      confirmed: (name) => {
        if (!confirmedAt.has(name)) confirmedAt.set(name, sent.get(name)!)
      }
    })
    nodes.push({ node, heard, confirmedAt })
    for (const name of names) node.add(name)
  }

  const step = (): void => {
    time += 10
    const now = due.filter(({ at }) => at <= time)
    due = due.filter(({ at }) => at > time)
    for (const { run } of now.toSorted((left, right) => left.at - right.at)) run()
    if (time % 100 === 0) for (const { node } of nodes) node.tick()
    if (bridge !== undefined && time % 250 === 0) {
      const beat: Standings = bridge.beat(true)
      bridge.sweep()
      toAll((node) => node.beat(beat))
    }
  }
  const notify = (name: string): void => {
    const number = sent.get(name)! + 1
    sent.set(name, number)
    for (const { hear, link, ...one } of listening) {
      if (one.name === name) link(() => hear(String(number)))
    }
  }
  /** The link of the bridge lost what was sent meanwhile. */
  const loseLink = (): void => {
    const name = random.pick(names)
    sent.set(name, sent.get(name)! + 1)
    for (const { hear, link, ...one } of listening) if (one.name === name) link(() => hear(lost))
  }
  return {
    random,
    nodes,
    sent,
    start,
    kill,
    step,
    notify,
    loseLink,
    heal: () => {
      lossy = false
    }
  }
}

/** What one node may not have heard: a number that is missing without `lost`, or twice. */
const faultsOf = (heard: ReadonlyArray<Heard>, from: number, to: number): ReadonlyArray<string> => {
  const faults: Array<string> = []
  // What is on its way when the node is confirmed arrives too.
  const first = heard.find((one) => one !== lost)
  let last = Math.min(from, first === undefined ? from : Number(first) - 1)
  let gap = false
  for (const one of heard) {
    if (one === lost) {
      gap = true
      continue
    }
    const number = Number(one)
    if (number <= last) faults.push(`${number} after ${last}`)
    if (number > last + 1 && !gap) faults.push(`${last + 1} is missing before ${number}`)
    last = Math.max(last, number)
    gap = false
  }
  if (last < to && !gap) faults.push(`${last + 1} to ${to} are missing at the end`)
  return faults
}

describe("live channels through a bridge", () => {
  it.each([Random.seed, 1_609_490_700])(
    "lose nothing without a loss, and double nothing, seed %i",
    (seed) => {
      let arrived = 0
      for (let run = 0; run < 12; run++) {
        const { heal, kill, loseLink, nodes, notify, random, sent, start, step } = world(seed + run)
        start()
        for (let count = 0; count < 1500; count++) {
          step()
          if (random.chance(0.2)) notify(random.pick(names))
          if (random.chance(0.003)) loseLink()
          // At times two are there: the one before still sends.
          if (random.chance(0.002)) {
            if (random.chance(0.5)) kill()
            start()
          }
        }
        heal()
        for (let count = 0; count < 600; count++) step()
        for (const { confirmedAt, heard, node } of nodes) {
          for (const name of names) {
            expect(node.isFed(name)).toBe(true)
            const from = confirmedAt.get(name)!
            expect(faultsOf(heard.get(name)!, from, sent.get(name)!)).toEqual([])
            arrived += heard.get(name)!.length
          }
        }
      }
      expect(arrived).toBeGreaterThan(0)
    }
  )
})
