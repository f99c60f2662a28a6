/**
 * The other nodes of the bus: which are here, silent, and gone.
 *
 * In: envelopes that were decrypted, and the monotonic time. Out: whether to take an envelope, and the
 * changes. A name has one incarnation at a time: the one that sent last, by the clock of its machine. One
 * that was replaced, or said goodbye, never returns.
 */
import type { Neighbour, Node, NodeChange } from "../../NodeBus.ts"
import { CounterWindow } from "./counterWindow.ts"
import type { Envelope } from "./envelope.ts"

interface Sender {
  readonly node: Node
  readonly window: CounterWindow
  /** When it was last heard, by the monotonic clock. */
  heard: number
  silent: boolean
}

interface Name {
  /** `undefined` after a goodbye. */
  current: Sender | undefined
  /** The latest time in the envelopes of all its incarnations. */
  time: number
  /** By incarnation: when each that is over was last heard. */
  readonly over: Map<string, number>
}

/** Milliseconds. */
export interface MemberTimes {
  readonly silentAfter: number
  readonly forgetAfter: number
}

/** Why an envelope is not taken. */
export type Untaken = "replayed" | "over"

export class Members {
  readonly #names = new Map<string, Name>()
  readonly #times: MemberTimes
  readonly #changed: (change: NodeChange) => void

  constructor(times: MemberTimes, changed: (change: NodeChange) => void) {
    this.#times = times
    this.#changed = changed
  }

  /** The reason why an envelope must be dropped; `undefined` for one to take. */
  hear({ counter, node, sort, time }: Envelope, now: number): Untaken | undefined {
    let name = this.#names.get(node.name)
    if (name === undefined) {
      name = { current: undefined, time: -Infinity, over: new Map() }
      this.#names.set(node.name, name)
    }
    if (name.over.has(node.incarnation)) {
      name.over.set(node.incarnation, now)
      return "over"
    }
    if (name.current?.node.incarnation !== node.incarnation) {
      // An old envelope of an incarnation from before.
      if (time <= name.time) return "over"
      this.#end(name)
      name.time = time
      if (sort === "goodbye") {
        name.over.set(node.incarnation, now)
        return undefined
      }
      name.current = { node, window: new CounterWindow(), heard: now, silent: false }
      this.#changed({ change: "appeared", node })
    }
    const sender = name.current!
    if (!sender.window.accept(counter)) return "replayed"
    name.time = Math.max(name.time, time)
    sender.heard = now
    if (sort === "goodbye") this.#end(name)
    else if (sender.silent) {
      sender.silent = false
      this.#changed({ change: "appeared", node: sender.node })
    }
    return undefined
  }

  /** Notices which nodes are silent or gone. */
  sweep(now: number): void {
    for (const [text, name] of this.#names) {
      const { current } = name
      if (current !== undefined && now - current.heard >= this.#times.forgetAfter) this.#end(name)
      else if (current?.silent === false && now - current.heard >= this.#times.silentAfter) {
        current.silent = true
        this.#changed({ change: "silent", node: current.node })
      }
      for (const [incarnation, heard] of name.over) {
        if (now - heard >= this.#times.forgetAfter) name.over.delete(incarnation)
      }
      if (name.current === undefined && name.over.size === 0) this.#names.delete(text)
    }
  }

  list(now: number): ReadonlyArray<Neighbour> {
    return [...this.#names.values()].flatMap(({ current }) =>
      current === undefined
        ? []
        : {
            name: current.node.name,
            incarnation: current.node.incarnation,
            state: current.silent ? ("silent" as const) : ("here" as const),
            heard: Math.max(0, now - current.heard)
          }
    )
  }

  #end(name: Name): void {
    const { current } = name
    if (current === undefined) return
    name.current = undefined
    name.over.set(current.node.incarnation, current.heard)
    this.#changed({ change: "gone", node: current.node })
  }
}
