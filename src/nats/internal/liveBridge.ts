/**
 * The node that listens to live channels for all others.
 *
 * In: requests of nodes, notifications of its own link, and the time. Out: LISTEN and UNLISTEN, and to all
 * nodes each notification under a number. Where the link may have lost some, it skips a number, and so each
 * node finds a loss where it is. It keeps a channel until no node asked for it for 5 s.
 */
import { type Heard, lost } from "../../server/NotificationSource.ts"
import type { Ask, Standing, Standings } from "./liveFrames.ts"

interface BridgedChannel {
  readonly listen: number
  number: number
  /** Whether LISTEN was confirmed. */
  listens: boolean
  /** Whether the link has handed out everything from before that. */
  ready: boolean
  until: number
  /** Nodes that asked before LISTEN was confirmed, with the number of their request. */
  readonly waiting: Map<string, number>
  /** Beats that name it still. */
  fresh: number
  close: () => void
}

export interface LiveBridgePort {
  /** `term.incarnation`: of this node as a bridge. */
  readonly b: string
  readonly now: () => number
  /** Begins to listen, and calls `ready` when LISTEN works. Returns what ends it. */
  readonly listen: (channel: string, hear: (heard: Heard) => void, ready: () => void) => () => void
  readonly send: (channel: string, listen: number, number: number, payload: string) => void
  readonly answer: (node: string, standings: Standings) => void
  /** Calls back once everything that was committed before was handed out here. */
  readonly caughtUp: (then: () => void) => void
}

/** Milliseconds for which the bridge keeps a channel after the last request. */
const keepFor = 5000
/** Beats that name a change: one may be lost, and the next answer names all. */
const beatsOfChange = 3
/** Channels at once. Nodes listen by themselves to more. */
const maxChannels = 10_000

export class LiveBridge {
  readonly #port: LiveBridgePort
  readonly #channels = new Map<string, BridgedChannel>()
  #listens = 0

  constructor(port: LiveBridgePort) {
    this.#port = port
  }

  get size(): number {
    return this.#channels.size
  }

  ask({ b, ch, k, n, w }: Ask): void {
    if (b !== this.#port.b) return
    const ready: Array<string> = []
    let isBehind = w === true
    for (const name of ch) {
      const channel = this.#channels.get(name) ?? this.#open(name)
      if (channel === undefined) continue
      channel.until = this.#port.now() + keepFor
      if (!channel.listens) {
        channel.waiting.set(n, k)
        continue
      }
      ready.push(name)
      if (!channel.ready) isBehind = true
    }
    if (ready.length === 0) return
    // From after this request on: what the node heard before it may be on its way here.
    if (isBehind) this.#port.caughtUp(() => this.#answer(n, k, ready))
    else this.#answer(n, k, ready)
  }

  #answer(node: string, k: number, names: ReadonlyArray<string>): void {
    // A channel may have the name `__proto__`.
    const answer = new Map<string, Standing>()
    for (const name of names) {
      const channel = this.#channels.get(name)
      if (channel?.ready === true) answer.set(name, [channel.listen, channel.number])
    }
    if (answer.size > 0) {
      this.#port.answer(node, { b: this.#port.b, k, s: Object.fromEntries(answer) })
    }
  }

  /** What changed lately. */
  beat(linked: boolean): Standings {
    const changed = new Map<string, Standing>()
    for (const [name, channel] of this.#channels) {
      if (channel.fresh === 0 || !channel.ready) continue
      channel.fresh--
      changed.set(name, [channel.listen, channel.number])
    }
    return { b: this.#port.b, s: Object.fromEntries(changed), u: linked }
  }

  sweep(): void {
    const now = this.#port.now()
    for (const [name, channel] of this.#channels) {
      if (now < channel.until) continue
      this.#channels.delete(name)
      channel.close()
    }
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close()
    this.#channels.clear()
  }

  #open(name: string): BridgedChannel | undefined {
    if (this.#channels.size >= maxChannels) return undefined
    const listen = ++this.#listens
    const hear = (heard: Heard): void => {
      channel.number++
      channel.fresh = beatsOfChange
      // A loss is a number that no notification has.
      if (heard !== lost) this.#port.send(name, listen, channel.number, heard)
    }
    // The link may have listened to it before, for this node itself.
    const ready = (): void => {
      channel.listens = true
      this.#port.caughtUp(() => {
        channel.ready = true
        for (const [node, k] of channel.waiting) this.#answer(node, k, [name])
        channel.waiting.clear()
      })
    }
    const channel: BridgedChannel = {
      listen,
      number: 0,
      listens: false,
      ready: false,
      until: 0,
      waiting: new Map(),
      fresh: 0,
      close: () => undefined
    }
    this.#channels.set(name, channel)
    channel.close = this.#port.listen(name, hear, ready)
    return channel
  }
}
