/**
 * What every node knows of the entries of every other node, over a bus that loses, doubles and delays.
 *
 * Each node owns its entries and alone speaks for them. It sends differences, each with the version before and
 * after it, and in each heartbeat its version and a digest. A node that missed a difference asks for it, and
 * the owner answers from its log of recent changes, or with all its entries where the log is too short or
 * where two nodes at the same version have different digests. So a list is never wrong for longer than a
 * heartbeat and an answer.
 *
 * In: messages, heartbeats and changes of other nodes, with the monotonic time in milliseconds. Out: messages,
 * and the entries of other nodes that appear, change and disappear. It uses neither a clock nor fibers: `due`
 * says when `tick` has something to do.
 */
import type * as Schema from "effect/Schema"
import type { Node, NodeChange } from "../../NodeBus.ts"
import {
  type Change,
  hashOf,
  type LogLimits,
  type ReplicaMessage,
  Owned,
  type Speaker
} from "./owned.ts"

/** Milliseconds until a node asks for what it misses: most of it is only late. */
const askAfter = 100
/** Milliseconds until it asks again, and until it asks for the parts of a list that did not arrive. */
const askAgainAfter = 400
/** Differences that wait for an earlier one. */
const mostHeld = 400

/** What a node adds to its heartbeats: version, digest, number of entries, and the greeting of its user. */
type Beat = readonly [version: number, digest: number, size: number, greeting: Schema.Json]

/** The user of a replica. */
export interface ReplicaUser<A> extends Speaker {
  /** Reads an entry of another node; `undefined` for one that this version does not know. */
  readonly read: (owner: Node, key: string, json: Schema.Json) => A | undefined
  /** An entry of another node appears, changes or disappears. `gone`: its node is gone. */
  readonly changed: (before: A | undefined, after: A | undefined, gone: boolean) => void
  /** Takes the greeting of another node. */
  readonly greeted: (greeting: Schema.Json) => void
}

interface OtherEntry<A> {
  readonly hash: number
  readonly value: A | undefined
}

interface HeldDifference {
  readonly base: number
  readonly version: number
  readonly changes: ReadonlyArray<Change>
}

/** A list of which parts are missing. */
interface PartialList {
  readonly version: number
  readonly count: number
  readonly parts: Map<number, ReadonlyArray<Change>>
}

/** Another node, as this one knows it. */
class OtherNode<A> {
  readonly node: Node
  entries = new Map<string, OtherEntry<A>>()
  digest = 0
  /** -1 where only a whole list helps. */
  version = 0
  /** The newest version that the owner spoke of. */
  known = 0
  /** Whether its entries are shown: not while it is silent, nor after that until they are exact again. */
  shown = true
  /** Whether this node had all that the owner last spoke of. */
  exact = false
  held: Array<HeldDifference> = []
  list: PartialList | undefined
  askAt = Infinity

  constructor(node: Node) {
    this.node = node
  }
}

export class Replica<A> {
  readonly #user: ReplicaUser<A>
  readonly #own: Owned
  /** By name: a name has one incarnation at a time. */
  readonly #peers = new Map<string, OtherNode<A>>()

  constructor(user: ReplicaUser<A>, limits?: LogLimits) {
    this.#user = user
    this.#own = new Owned(user, limits)
  }

  /** Whether this node has all that the others last spoke of. */
  get exact(): boolean {
    for (const peer of this.#peers.values()) if (peer.shown && !peer.exact) return false
    return true
  }

  /** Asks all nodes for everything. For the start, when this node knows none of them. */
  greet(): void {
    this.#post({ t: "q", since: 0 })
  }

  set(key: string, json: Schema.Json): void {
    this.#own.set(key, json)
  }

  delete(key: string): void {
    this.#own.delete(key)
  }

  /** When `tick` has something to do, in milliseconds. */
  get due(): number {
    let due = this.#own.due
    for (const { askAt } of this.#peers.values()) due = Math.min(due, askAt)
    return due
  }

  /** Sends what changed here, answers, and asks. */
  tick(now: number): void {
    this.#own.tick(now)
    for (const peer of this.#peers.values()) {
      if (peer.askAt > now) continue
      peer.askAt = now + askAgainAfter
      this.#ask(peer)
    }
  }

  /** What this node adds to its next heartbeat. */
  beat(): Schema.Json {
    // A heartbeat speaks of what was sent, so that it never causes a question by itself.
    this.#own.flush()
    const { digest, size, version } = this.#own
    return [version, digest, size, this.#user.greeting()] satisfies Beat
  }

  heard(content: unknown, from: Node, now: number): void {
    const peer = this.#peer(from)
    if (peer === undefined || !Array.isArray(content)) return
    const [version, digest, size, greeting] = content as unknown as Beat
    if (typeof version !== "number") return
    this.#user.greeted(greeting)
    peer.known = Math.max(peer.known, version)
    if (peer.version > version) return
    if (peer.version < version) return this.#askSoon(peer, now + askAfter)
    if (peer.digest === digest && peer.entries.size === size) return this.#arrived(peer)
    // Nothing but all its entries can mend that.
    peer.version = -1
    peer.exact = false
    peer.held = []
    peer.list = undefined
    this.#askSoon(peer, now)
  }

  receive(content: unknown, from: Node, now: number): void {
    const peer = this.#peer(from)
    if (peer === undefined || typeof content !== "object" || content === null) return
    // Only nodes of this database can encrypt a message, so it has the form of some version of this file.
    const message = content as ReplicaMessage
    switch (message.t) {
      case "q":
        return this.#own.asked(from, message, now)
      case "d":
        if (message.x !== undefined) this.#user.greeted(message.x)
        return this.#takeDifference(peer, message.base, message.v, message.d, now)
      case "f":
        if (message.x !== undefined) this.#user.greeted(message.x)
        return this.#takePart(peer, message, now)
    }
  }

  changed({ change, node }: NodeChange, now: number): void {
    const peer = this.#peers.get(node.name)
    const same = peer?.node.incarnation === node.incarnation
    switch (change) {
      case "appeared": {
        if (peer !== undefined && same) return this.#askSoon(peer, now + askAfter)
        if (peer !== undefined) this.#forget(peer)
        const added = new OtherNode<A>(node)
        this.#peers.set(node.name, added)
        return this.#askSoon(added, now)
      }
      case "silent":
        if (peer !== undefined && same) this.#hide(peer)
        return
      case "gone":
        if (peer !== undefined && same) this.#forget(peer)
    }
  }

  /** The peer of a node that is here; `undefined` for an incarnation that is over or not known yet. */
  #peer({ incarnation, name }: Node): OtherNode<A> | undefined {
    const peer = this.#peers.get(name)
    return peer?.node.incarnation === incarnation ? peer : undefined
  }

  #takeDifference(
    peer: OtherNode<A>,
    base: number,
    version: number,
    changes: ReadonlyArray<Change>,
    now: number
  ): void {
    if (version - base !== changes.length) return
    peer.known = Math.max(peer.known, version)
    if (version <= peer.version) return this.#arrivedIfCurrent(peer, version)
    if (peer.version >= base) {
      this.#apply(peer, base, version, changes)
      return this.#takeHeld(peer)
    }
    peer.held.push({ base, version, changes })
    if (peer.held.length > mostHeld) peer.held.shift()
    this.#askSoon(peer, now + askAfter)
  }

  /** Takes the rest of a difference, of which the first changes may be known. */
  #apply(peer: OtherNode<A>, base: number, version: number, changes: ReadonlyArray<Change>): void {
    for (const [key, json] of changes.slice(peer.version - base)) this.#put(peer, key, json)
    peer.version = version
    // Parts of an older list are of no use.
    if (peer.list !== undefined && peer.list.version <= version) peer.list = undefined
  }

  /** Takes the held differences that now follow. */
  #takeHeld(peer: OtherNode<A>): void {
    const held = peer.held.toSorted((one, other) => one.base - other.base)
    peer.held = []
    for (const one of held) {
      if (one.version <= peer.version) continue
      if (one.base <= peer.version) this.#apply(peer, one.base, one.version, one.changes)
      else peer.held.push(one)
    }
    this.#arrivedIfCurrent(peer, peer.version)
  }

  #takePart(
    peer: OtherNode<A>,
    { d, k, m, v }: Extract<ReplicaMessage, { readonly t: "f" }>,
    now: number
  ): void {
    peer.known = Math.max(peer.known, v)
    if (v <= peer.version) return this.#arrivedIfCurrent(peer, v)
    if (peer.list === undefined || peer.list.version < v) {
      peer.list = { version: v, count: m, parts: new Map() }
    }
    const { count, parts, version } = peer.list
    if (version !== v) return
    parts.set(k, d)
    if (parts.size < count) return this.#askSoon(peer, now + askAgainAfter, true)
    peer.list = undefined
    const whole = new Map(
      [...parts.values()].flat() as ReadonlyArray<readonly [string, Schema.Json]>
    )
    for (const key of peer.entries.keys()) if (!whole.has(key)) this.#put(peer, key, undefined)
    for (const [key, json] of whole) this.#put(peer, key, json)
    peer.version = v
    this.#takeHeld(peer)
  }

  #put(peer: OtherNode<A>, key: string, json: Schema.Json | undefined): void {
    const before = peer.entries.get(key)
    const hash = json === undefined ? 0 : hashOf(key, JSON.stringify(json))
    // A list that changes nothing must not look like a change.
    if ((before?.hash ?? 0) === hash) return
    peer.digest = (peer.digest ^ (before?.hash ?? 0) ^ hash) >>> 0
    const value = json === undefined ? undefined : this.#user.read(peer.node, key, json)
    if (json === undefined) peer.entries.delete(key)
    else peer.entries.set(key, { hash, value })
    if (!peer.shown || (before?.value === undefined && value === undefined)) return
    this.#user.changed(before?.value, value, false)
  }

  /** A message spoke of the version that this node has. */
  #arrivedIfCurrent(peer: OtherNode<A>, version: number): void {
    if (peer.version === version && peer.version >= peer.known) this.#arrived(peer)
  }

  #arrived(peer: OtherNode<A>): void {
    peer.askAt = Infinity
    peer.exact = true
    if (peer.shown) return
    peer.shown = true
    for (const { value } of peer.entries.values()) {
      if (value !== undefined) this.#user.changed(undefined, value, false)
    }
  }

  #hide(peer: OtherNode<A>): void {
    peer.exact = false
    peer.askAt = Infinity
    if (!peer.shown) return
    peer.shown = false
    for (const { value } of peer.entries.values()) {
      if (value !== undefined) this.#user.changed(value, undefined, false)
    }
  }

  #forget(peer: OtherNode<A>): void {
    this.#peers.delete(peer.node.name)
    if (!peer.shown) return
    for (const { value } of peer.entries.values()) {
      if (value !== undefined) this.#user.changed(value, undefined, true)
    }
  }

  #askSoon(peer: OtherNode<A>, at: number, later = false): void {
    peer.exact = false
    peer.askAt = later ? at : Math.min(peer.askAt, at)
  }

  #ask({ list, node, version }: OtherNode<A>): void {
    const missing =
      list === undefined
        ? undefined
        : Array.from({ length: list.count }, (_, part) => part).filter(
            (part) => !list.parts.has(part)
          )
    this.#post(
      missing === undefined
        ? { t: "q", since: version }
        : { t: "q", since: version, w: list!.version, p: missing },
      node
    )
  }

  #post(message: ReplicaMessage, to?: Node): void {
    this.#user.counted("message")
    this.#user.send(message as unknown as Schema.Json, to)
  }
}
