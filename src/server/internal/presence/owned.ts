/**
 * The entries that a node owns: their versions, the log of recent changes, and the answers to the others.
 *
 * In: changes, and questions of other nodes. Out: differences, and where the log is too short all entries, in
 * parts that a bus carries. Equal questions of several nodes are answered once.
 */
import type * as Schema from "effect/Schema"
import type { Node, Send } from "../../NodeBus.ts"

/** A key with its new value, or without one where it was deleted. */
export type Change = readonly [key: string, json: Schema.Json] | readonly [key: string]

/**
 * - `d`: the changes from version `base` to `v`.
 * - `f`: part `k` of `m` of all entries at version `v`.
 * - `q`: asks for the changes since a version, or for parts `p` of the list of version `w`.
 */
export type ReplicaMessage =
  | {
      readonly t: "d"
      readonly base: number
      readonly v: number
      readonly d: ReadonlyArray<Change>
      readonly x?: Schema.Json
    }
  | {
      readonly t: "f"
      readonly v: number
      readonly k: number
      readonly m: number
      readonly d: ReadonlyArray<Change>
      readonly x?: Schema.Json
    }
  | {
      readonly t: "q"
      readonly since: number
      readonly w?: number
      readonly p?: ReadonlyArray<number>
    }

/** Milliseconds in which questions are collected. */
const answerAfter = 30

export interface LogLimits {
  /** Changes that are remembered. */
  readonly logged: number
  /** How many changes more than entries an answer may have: a list of all entries is smaller then. */
  readonly more: number
  /** Bytes of entries in a message, unless one entry is larger. */
  readonly bytes: number
}

const defaults: LogLimits = { logged: 4096, more: 256, bytes: 4096 }

/** A hash of 32 bits of an entry. The digest of a node is the exclusive or of them. */
export const hashOf = (key: string, text: string): number => {
  let hash = 0x811c9dc5
  for (let index = 0; index < key.length; index++) {
    hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193)
  }
  hash = Math.imul(hash ^ 0x1f, 0x01000193)
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  // Similar entries must not cancel each other.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

interface OwnEntry {
  readonly json: Schema.Json
  readonly hash: number
  readonly bytes: number
}

interface LoggedChange {
  readonly change: Change
  readonly bytes: number
}

/** All entries at one version, in parts. */
interface WholeList {
  readonly version: number
  readonly parts: ReadonlyArray<ReadonlyArray<Change>>
}

interface Question {
  readonly node: Node
  readonly since: number
  readonly list: number | undefined
  readonly parts: ReadonlyArray<number>
}

/** What sends for a node. */
export interface Speaker {
  readonly send: Send
  /** What travels beside versions and lists. */
  readonly greeting: () => Schema.Json
  /** Counts a message, or a list of all entries, that this node sends. */
  readonly counted: (what: "message" | "whole") => void
}

export class Owned {
  readonly #user: Speaker
  readonly #limits: LogLimits
  readonly #entries = new Map<string, OwnEntry>()
  readonly #log: Array<LoggedChange> = []
  #version = 0
  #digest = 0
  /** The version up to which all changes were sent. */
  #sent = 0
  /** By incarnation. */
  readonly #questions = new Map<string, Question>()
  #answerAt = Infinity
  #list: WholeList | undefined

  constructor(user: Speaker, limits = defaults) {
    this.#user = user
    this.#limits = limits
  }

  get version(): number {
    return this.#version
  }

  get digest(): number {
    return this.#digest
  }

  get size(): number {
    return this.#entries.size
  }

  get due(): number {
    return this.#sent < this.#version ? -Infinity : this.#answerAt
  }

  set(key: string, json: Schema.Json): void {
    const text = JSON.stringify(json)
    const hash = hashOf(key, text)
    const bytes = key.length + text.length + 8
    this.#digest = (this.#digest ^ (this.#entries.get(key)?.hash ?? 0) ^ hash) >>> 0
    this.#entries.set(key, { json, hash, bytes })
    this.#note([key, json], bytes)
  }

  delete(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#digest = (this.#digest ^ entry.hash) >>> 0
    this.#entries.delete(key)
    this.#note([key], key.length + 8)
  }

  asked(
    from: Node,
    { p = [], since, w }: Extract<ReplicaMessage, { readonly t: "q" }>,
    now: number
  ) {
    this.#questions.set(from.incarnation, { node: from, since, list: w, parts: p })
    this.#answerAt = Math.min(this.#answerAt, now + answerAfter)
  }

  tick(now: number): void {
    this.flush()
    if (now < this.#answerAt) return
    this.#answerAt = Infinity
    const questions = [...this.#questions.values()]
    this.#questions.clear()
    const ofParts = questions.filter(({ list }) => list !== undefined && this.#has(list))
    for (const { node, parts } of ofParts) this.#sendList(parts, node)
    const others = questions.filter((one) => !ofParts.includes(one))
    if (others.length === 0) return
    // Whatever one misses, the others may miss too.
    const to = others.length === 1 ? others[0]!.node : undefined
    const since = Math.min(...others.map((one) => one.since))
    const tooMany = this.#version - since > this.#entries.size + this.#limits.more
    if (since >= this.#version - this.#log.length && since >= 0 && !tooMany) {
      return this.#sendLog(since, to, true)
    }
    if (this.#list === undefined || !this.#has(this.#list.version)) {
      this.#list = { version: this.#version, parts: this.#parts() }
      this.#user.counted("whole")
    }
    this.#sendList(undefined, to)
  }

  /** Sends the changes that were not sent yet. */
  flush(): void {
    if (this.#sent === this.#version) return
    this.#sendLog(this.#sent, undefined, false)
    this.#sent = this.#version
  }

  #note(change: Change, bytes: number): void {
    this.#version++
    this.#log.push({ change, bytes })
    // Rarely, because it moves the rest. A change that was not sent stays.
    const { logged } = this.#limits
    if (this.#log.length > 2 * logged) {
      const sent = this.#log.length - (this.#version - this.#sent)
      this.#log.splice(0, Math.min(logged, sent))
    }
  }

  /** Whether the last list has this version, and the log leads on from it. */
  #has(version: number): boolean {
    return this.#list?.version === version && this.#version - version < this.#limits.more
  }

  #parts(): ReadonlyArray<ReadonlyArray<Change>> {
    const parts: Array<Array<Change>> = [[]]
    let bytes = 0
    for (const [key, entry] of this.#entries) {
      if (bytes > 0 && bytes + entry.bytes > this.#limits.bytes) {
        parts.push([])
        bytes = 0
      }
      bytes += entry.bytes
      parts.at(-1)!.push([key, entry.json])
    }
    return parts
  }

  /** Sends parts of the last list, and what has changed since. */
  #sendList(some: ReadonlyArray<number> | undefined, to: Node | undefined): void {
    const { parts, version } = this.#list!
    for (const k of some ?? parts.keys()) {
      const d = parts[k]
      if (d === undefined) continue
      const first = k === 0 ? { x: this.#user.greeting() } : {}
      this.#post({ t: "f", v: version, k, m: parts.length, d, ...first }, to)
    }
    if (version < this.#version) this.#sendLog(version, to, false)
  }

  #sendLog(since: number, to: Node | undefined, greets: boolean): void {
    let at = this.#log.length - (this.#version - since)
    let base = since
    let greeting = greets ? { x: this.#user.greeting() } : {}
    do {
      const d: Array<Change> = []
      let bytes = 0
      for (; at < this.#log.length; at++) {
        const { bytes: more, change } = this.#log[at]!
        if (bytes > 0 && bytes + more > this.#limits.bytes) break
        bytes += more
        d.push(change)
      }
      this.#post({ t: "d", base, v: base + d.length, d, ...greeting }, to)
      base += d.length
      greeting = {}
    } while (base < this.#version)
  }

  #post(message: ReplicaMessage, to: Node | undefined): void {
    this.#user.counted("message")
    this.#user.send(message as unknown as Schema.Json, to)
  }
}
