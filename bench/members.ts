/**
 * What a member of a presence channel takes on the node that owns it, and on each other node.
 *
 *     npx node --expose-gc bench/members.ts
 *
 * 50,000 members in channels of 100, on one node. The heap of the process
 * is measured without others and with two that hear of them, and no socket follows the channels.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Fiber } from "effect"
import { inTurn } from "./lib/inTurn.ts"
import { Presence } from "../src/server/internal/presence/presence.ts"

const members = 50_000
const perChannel = 100
const now = () => performance.now()

const nodeOf = (name: string) => {
  const self = { name, incarnation: name }
  const told = { message: () => undefined, whole: () => undefined, seats: () => undefined }
  const presence = new Presence({ grace: 10_000, named: 1000, rate: 5 }, now, told, self)
  const sent: Array<string> = []
  const part = presence.connect((content) => void sent.push(JSON.stringify(content)))
  return { self, presence, part, sent }
}

const heap = () => {
  globalThis.gc!()
  return process.memoryUsage().heapUsed
}

/** Bytes of heap of a member on the node that owns it and on `others` more. */
const run = async (others: number) => {
  const owner = nodeOf("owner")
  const nodes = Array.from({ length: others }, (_, index) => nodeOf(`node ${index}`))
  const fibers = [owner, ...nodes].map(({ presence }) => Effect.runFork(presence.run))
  for (const { part } of nodes) part.changed?.({ change: "appeared", node: owner.self })
  const carry = () => {
    for (const text of owner.sent.splice(0)) {
      for (const { part } of nodes) part.receive?.(JSON.parse(text), owner.self)
    }
  }
  const before = heap()
  const seats = []
  for (let index = 0; index < members; index++) {
    const holder = { session: `s${index}`, identity: `u${index}`, counts: "persons" as const }
    const state = JSON.stringify({ name: "a member", x: index, y: 100, busy: false })
    seats.push(owner.presence.sit(`room_${Math.floor(index / perChannel)}`, holder, state))
    // oxlint-disable-next-line no-await-in-loop -- in the batches of a bus
    if (index % 500 === 0) await sleep(5)
    carry()
  }
  await sleep(1000)
  carry()
  const last = seats.at(-1)!.seat
  for (const { presence } of nodes) {
    const shown = presence.room(`room_${members / perChannel - 1}`).shown(last.member)
    if (shown?.state !== last.state) throw new Error("a node has not heard of the last member")
  }
  const bytes = (heap() - before) / seats.length
  await Promise.all(fibers.map((fiber) => Effect.runPromise(Fiber.interrupt(fiber))))
  return bytes
}

const [own, two] = await inTurn([0, 2], run)
process.stdout.write(`| a member | bytes of heap |
|---|---:|
| on its node | ${own!.toFixed(0)} |
| on each other node | ${((two! - own!) / 2).toFixed(0)} |
`)
