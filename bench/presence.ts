/**
 * What presence costs between nodes: 3 nodes with 10,000 members together and 1,000 changes a second, in one
 * process, over a bus in memory that batches 50 ms, delays up to 20 ms, and loses.
 *
 *     npx node bench/presence.ts [--quick]
 *
 * A line for each case: bytes and messages a second that the nodes send, whole lists, the CPU of all three
 * nodes, and how long after the last change all lists were equal. Two sockets of each node follow every channel.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Fiber } from "effect"
import { inTurn } from "./lib/inTurn.ts"
import { Presence } from "../src/server/internal/presence/presence.ts"
import type { Node, Part } from "../src/server/NodeBus.ts"

const quick = process.argv.includes("--quick")
const [members, changes, seconds] = quick ? [900, 200, 3] : [10_000, 1000, 10]
const rooms = 20
const now = () => performance.now()

interface BenchNode {
  readonly self: Node
  readonly presence: Presence
  readonly part: Part
  /** Texts of the batch under way. */
  batch: Array<string>
  wholes: number
  frames: number
}

const run = async (loss: number, cutSeconds: number) => {
  const nodes: Array<BenchNode> = []
  let bytes = 0
  let messages = 0
  let cut: BenchNode | undefined
  const carry = (from: BenchNode, kind: "receive" | "heard", texts: ReadonlyArray<string>) => {
    if (texts.length === 0) return
    messages++
    for (const text of texts) bytes += text.length
    for (const to of nodes) {
      if (to === from || from === cut || to === cut || Math.random() < loss) continue
      setTimeout(() => {
        for (const text of texts) to.part[kind]?.(JSON.parse(text), from.self)
      }, Math.random() * 20)
    }
  }
  for (const name of ["one", "two", "three"]) {
    const self = { name, incarnation: name }
    let node: BenchNode | undefined
    const presence = new Presence(
      { grace: 10_000, named: 1000, rate: 5 },
      now,
      { message: () => undefined, whole: () => void node!.wholes++ },
      self
    )
    const part = presence.connect((content) => void node!.batch.push(JSON.stringify(content)))
    node = { self, presence, part, batch: [], wholes: 0, frames: 0 }
    nodes.push(node)
  }
  const flushing = setInterval(() => {
    for (const node of nodes) {
      const { batch } = node
      node.batch = []
      carry(node, "receive", batch)
    }
  }, 50)
  const beating = setInterval(() => {
    for (const node of nodes) carry(node, "heard", [JSON.stringify(node.part.beat!())])
  }, 1000)
  const fibers = nodes.map(({ presence }) => Effect.runFork(presence.run))
  for (const node of nodes) {
    for (const other of nodes) {
      if (other !== node) node.part.changed?.({ change: "appeared", node: other.self })
    }
    for (let room = 0; room < rooms; room++) {
      for (let socket = 0; socket < 2; socket++) {
        const watcher = { member: undefined, offer: () => void node.frames++ }
        node.presence.room(`room_${room}`).watch(watcher)
      }
    }
  }
  await sleep(1500)
  const state = (value: number) =>
    JSON.stringify({ name: "a member", x: value, y: 100, busy: false })
  const seats = Array.from({ length: members }, (_, index) => {
    const holder = { session: `s${index}`, identity: `u${index}`, counts: "persons" as const }
    return {
      presence: nodes[index % 3]!.presence,
      seat: nodes[index % 3]!.presence.sit(`room_${index % rooms}`, holder, state(index))
    }
  })
  await sleep(3000)
  const before = { bytes, messages, cpu: process.cpuUsage() }
  for (const node of nodes) node.wholes = node.frames = 0
  const begun = now()
  let made = 0
  while (now() - begun < seconds * 1000) {
    const at = now() - begun
    cut = at > 1000 && at < 1000 + cutSeconds * 1000 ? nodes[0] : undefined
    for (; made < (at / 1000) * changes; made++) {
      const { presence, seat } = seats[Math.floor(Math.random() * members)]!
      presence.show(seat, state(made))
    }
    // oxlint-disable-next-line no-await-in-loop -- the pace of the changes
    await sleep(5)
  }
  cut = undefined
  const ended = now()
  const used = process.cpuUsage(before.cpu)
  const took = (ended - begun) / 1000
  const sent = { bytes: bytes - before.bytes, messages: messages - before.messages }
  // Also a state that waits for its turn counts as a change until it is sent.
  const equal = () => {
    const shown = nodes.map(({ presence }) =>
      seats.map(({ seat: { channel, seat } }) => presence.room(channel).shown(seat.member)?.state)
    )
    return seats.every(({ seat }, index) => shown.every((one) => one[index] === seat.state))
  }
  // oxlint-disable-next-line no-await-in-loop -- waits until all lists are equal
  while (!equal()) await sleep(10)
  const exact = (now() - ended) / 1000
  clearInterval(flushing)
  clearInterval(beating)
  await Promise.all(fibers.map((fiber) => Effect.runPromise(Fiber.interrupt(fiber))))
  const sum = (pick: (node: BenchNode) => number) => nodes.reduce((all, one) => all + pick(one), 0)
  return [
    `${(loss * 100).toFixed(0)} %${cutSeconds > 0 ? `, a node cut off for ${cutSeconds} s` : ""}`,
    (sent.messages / took).toFixed(0),
    (sent.bytes / took / 1000).toFixed(0),
    String(sum(({ wholes }) => wholes)),
    (sum(({ frames }) => frames) / took / nodes.length / rooms / 2).toFixed(1),
    ((used.user + used.system) / 1000 / took).toFixed(0),
    exact.toFixed(2)
  ]
}

const table = [
  [
    "lost",
    "messages/s",
    "kB/s",
    "whole lists",
    "frames/s of a socket",
    "CPU ms/s of 3 nodes",
    "equal after, s"
  ]
]
const cases: ReadonlyArray<readonly [number, number]> = quick
  ? [[0.1, 0]]
  : [
      [0, 0],
      [0.1, 0],
      [0.1, 5]
    ]
table.push(...(await inTurn(cases, ([loss, cutSeconds]) => run(loss, cutSeconds))))
process.stdout.write(`${table.map((row) => `| ${row.join(" | ")} |`).join("\n")}\n`)
