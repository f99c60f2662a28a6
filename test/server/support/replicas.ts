/**
 * Nodes with replicas on a bus in memory that loses, doubles, delays and reorders, driven by hand: time passes
 * only in `pass`. The bus finds silent and dead nodes as the real one does.
 */
import type { Json } from "effect/Schema"
import type { Node, NodeChange, Send } from "../../../src/server/NodeBus.ts"
import type { Random } from "./random.ts"

/** What every implementation under test has. */
export interface Replicated {
  readonly set: (key: string, json: Json) => void
  readonly delete: (key: string) => void
  readonly due: number
  readonly tick: (now: number) => void
  readonly beat: () => Json
  readonly heard: (content: unknown, from: Node, now: number) => void
  readonly receive: (content: unknown, from: Node, now: number) => void
  readonly changed: (change: NodeChange, now: number) => void
}

/** An entry as a node shows it. */
export interface Shown {
  readonly owner: string
  readonly key: string
  readonly text: string
}

export interface Ends {
  readonly send: Send
  readonly changed: (before: Shown | undefined, after: Shown | undefined) => void
  readonly counted: (what: "message" | "whole") => void
}

export type Make = (ends: Ends) => Replicated

export interface Faults {
  readonly loss: number
  readonly doubled: number
  /** The longest delay of a message, in milliseconds. */
  readonly delay: number
}

interface Known {
  readonly node: Node
  heard: number
  silent: boolean
}

interface Flight {
  readonly at: number
  readonly to: World["nodes"][number]
  readonly from: Node
  readonly kind: "message" | "beat" | "goodbye"
  readonly content: unknown
}

export const beatEvery = 1000

/** The number of an incarnation. */
const started = ({ incarnation }: Node) => Number(incarnation.slice(incarnation.indexOf("-") + 1))

export class Member {
  readonly node: Node
  readonly replica: Replicated
  /** Its own entries. */
  readonly own = new Map<string, string>()
  /** The entries of the others, as the replica reports them. */
  readonly shown = new Map<string, string>()
  /** Reported changes that contradict what was shown before. */
  readonly faults: Array<string> = []
  readonly known = new Map<string, Known>()
  readonly over = new Set<string>()
  changes = 0
  beatAt: number
  messages = 0
  wholes = 0
  bytes = 0

  constructor(node: Node, beatAt: number, make: Make, send: (content: Json, to?: Node) => void) {
    this.node = node
    this.beatAt = beatAt
    this.replica = make({
      send: (content, to) => {
        this.bytes += JSON.stringify(content).length
        send(content, to)
      },
      counted: (what) => {
        if (what === "message") this.messages++
        else this.wholes++
      },
      changed: (before, after) => {
        this.changes++
        const { key, owner } = (before ?? after)!
        const name = `${owner} ${key}`
        if (this.shown.get(name) !== before?.text) this.faults.push(`${name}: ${before?.text}`)
        if (after === undefined) this.shown.delete(name)
        else this.shown.set(name, after.text)
      }
    })
  }

  set(key: string, json: Json): void {
    this.own.set(key, JSON.stringify(json))
    this.replica.set(key, json)
  }

  delete(key: string): void {
    this.own.delete(key)
    this.replica.delete(key)
  }

  hear(flight: Flight, now: number): void {
    const { content, from, kind } = flight
    if (this.over.has(from.incarnation)) return
    let known = this.known.get(from.name)
    // A late message of an incarnation from before.
    if (known !== undefined && started(from) < started(known.node)) return
    if (known !== undefined && known.node.incarnation !== from.incarnation) {
      this.#end(known, now)
      known = undefined
    }
    if (known === undefined) {
      known = { node: from, heard: now, silent: false }
      this.known.set(from.name, known)
      this.replica.changed({ change: "appeared", node: from }, now)
    }
    known.heard = now
    if (known.silent) {
      known.silent = false
      this.replica.changed({ change: "appeared", node: from }, now)
    }
    if (kind === "goodbye") this.#end(known, now)
    else if (kind === "beat") this.replica.heard(content, from, now)
    else this.replica.receive(content, from, now)
  }

  sweep(now: number): void {
    for (const known of this.known.values()) {
      if (now - known.heard >= 60_000) this.#end(known, now)
      else if (!known.silent && now - known.heard >= 3000) {
        known.silent = true
        this.replica.changed({ change: "silent", node: known.node }, now)
      }
    }
  }

  #end(known: Known, now: number): void {
    this.known.delete(known.node.name)
    this.over.add(known.node.incarnation)
    this.replica.changed({ change: "gone", node: known.node }, now)
  }
}

export class World {
  now = 0
  nodes: Array<Member> = []
  faults: Faults = { loss: 0, doubled: 0, delay: 20 }
  /** Nodes that hear only nodes of the same side. */
  readonly side = new Map<string, number>()
  readonly #make: Make
  readonly #random: Random
  #flights: Array<Flight> = []
  #incarnations = 0
  /** Bytes of all messages and heartbeats so far. */
  bytes = 0
  /** Changes messages on their way; for mutants. */
  bend: (content: unknown) => unknown = (content) => content

  constructor(make: Make, random: Random) {
    this.#make = make
    this.#random = random
  }

  start(name: string): Member {
    const node = { name, incarnation: `${name}-${++this.#incarnations}` }
    const beatAt = this.now + this.#random.int(200)
    const member: Member = new Member(node, beatAt, this.#make, (content, to) =>
      this.#post(member, "message", content, to)
    )
    this.nodes.push(member)
    return member
  }

  /** Ends a node without a word. */
  kill(member: Member): void {
    this.nodes = this.nodes.filter((one) => one !== member)
  }

  stop(member: Member): void {
    this.#post(member, "goodbye", undefined)
    this.kill(member)
  }

  pass(millis: number, step = 10): void {
    for (const end = this.now + millis; this.now < end;) {
      this.now += step
      const flights = this.#flights
      this.#flights = []
      for (const flight of flights) {
        if (flight.at > this.now) this.#flights.push(flight)
        else if (this.nodes.includes(flight.to)) flight.to.hear(flight, this.now)
      }
      for (const member of this.nodes) {
        if (member.replica.due <= this.now) member.replica.tick(this.now)
        member.sweep(this.now)
        if (member.beatAt > this.now) continue
        member.beatAt = this.now + beatEvery
        this.#post(member, "beat", member.replica.beat())
      }
    }
  }

  /** What each node must show: the entries of all others. */
  expected(member: Member): ReadonlyMap<string, string> {
    return new Map(
      this.nodes
        .filter((one) => one !== member)
        .flatMap(({ node, own }) =>
          [...own].map(([key, text]) => [`${node.incarnation} ${key}`, text] as const)
        )
    )
  }

  /** The first difference between what a node shows and what it must show. */
  get difference(): string | undefined {
    for (const member of this.nodes) {
      const expected = this.expected(member)
      if (member.faults.length > 0) return `${member.node.name} reported ${member.faults[0]}`
      for (const [name, text] of expected) {
        const shown = member.shown.get(name)
        if (shown !== text) return `${member.node.name} shows ${name} as ${shown}, not ${text}`
      }
      for (const name of member.shown.keys()) {
        if (!expected.has(name)) return `${member.node.name} shows ${name}, which is gone`
      }
    }
    return undefined
  }

  #post(from: Member, kind: Flight["kind"], content: unknown, to?: Node): void {
    const side = this.side.get(from.node.name)
    // Over the wire, so that no two nodes share an object.
    const text = content === undefined ? undefined : JSON.stringify(this.bend(content))
    this.bytes += text?.length ?? 0
    for (const one of this.nodes) {
      if (one === from || (to !== undefined && one.node.incarnation !== to.incarnation)) continue
      if (this.side.get(one.node.name) !== side) continue
      const { delay, doubled, loss } = this.faults
      for (let copies = this.#random.chance(doubled) ? 2 : 1; copies > 0; copies--) {
        if (this.#random.chance(loss)) continue
        const at = this.now + this.#random.int(delay)
        const parsed: unknown = text === undefined ? undefined : JSON.parse(text)
        this.#flights.push({ at, to: one, from: from.node, kind, content: parsed })
      }
    }
  }
}
