/**
 * A node that has live channels from the bridge, the node that listens for all.
 *
 * In: what the bridge sends, and the time. Out: notifications in order, each at most once, and `lost`
 * wherever one may be missing: where a number is skipped, where the bridge or its LISTEN is another one, and
 * where a beat or an answer knows of more than arrived. A frame that arrives before the answer to the request
 * waits for it.
 */
import { type Heard, lost } from "../../server/NotificationSource.ts"
import { type Numbered, type Standing, type Standings, termOf } from "./liveFrames.ts"

interface FedChannel {
  /** Where it stands; `undefined` until the bridge answered. */
  at: { readonly b: string; readonly listen: number; number: number } | undefined
  /** Whether it had an answer before, so that `lost` goes before what follows. */
  known: boolean
  /** What arrived before the answer. */
  held: Array<Numbered>
  askedAt: number
  /** The number of the first request since it has no answer; `undefined` before that. */
  since: number | undefined
}

/** What a node does with what it finds. */
export interface LiveNodePort {
  /** Milliseconds of the monotonic clock. */
  readonly now: () => number
  /** `w`: whether these have no answer yet. */
  readonly ask: (bridge: string, k: number, channels: ReadonlyArray<string>, w: boolean) => void
  readonly hear: (channel: string, heard: Heard) => void
  /** The bridge listens to it: what commits from now on arrives, or `lost`. */
  readonly confirmed: (channel: string) => void
}

/** Milliseconds until a request without an answer is sent again. */
const askAgainAfter = 400
/** Milliseconds between two requests for a channel that the bridge keeps. */
const renewEvery = 1500
/** Milliseconds without a beat after which there is no bridge. */
const silentAfter = 1000
/** Frames that wait for an answer, for each channel. */
const maxHeld = 1000

export class LiveNode {
  readonly #port: LiveNodePort
  readonly #channels = new Map<string, FedChannel>()
  #bridge: string | undefined
  /** Counts its requests. */
  #asks = 0
  #heardAt = -Infinity
  #linked = false

  constructor(port: LiveNodePort) {
    this.#port = port
  }

  /** The bridge that sent a beat lately. */
  bridge(): string | undefined {
    return this.#port.now() - this.#heardAt < silentAfter ? this.#bridge : undefined
  }

  /** Whether the bridge says that its link is up. */
  get linked(): boolean {
    return this.#linked
  }

  /** Whether notifications of a channel arrive, or `lost` in their place. */
  isFed(name: string): boolean {
    const at = this.#channels.get(name)?.at
    return at !== undefined && at.b === this.bridge()
  }

  /** The node subscribed to the subject of this channel, and NATS confirmed it. */
  add(name: string): void {
    if (this.#channels.has(name)) return
    this.#channels.set(name, {
      at: undefined,
      known: false,
      held: [],
      askedAt: -Infinity,
      since: undefined
    })
    this.tick()
  }

  remove(name: string): void {
    this.#channels.delete(name)
  }

  /** A frame may overtake the beat of its bridge, and is then held for the answer. */
  frame(name: string, frame: Numbered): void {
    const channel = this.#channels.get(name)
    if (channel === undefined || !this.#isPresent(frame.b)) return
    const { at } = channel
    if (at === undefined) {
      if (channel.held.length < maxHeld) channel.held.push(frame)
      return
    }
    if (at.listen !== frame.listen) {
      // A frame of an earlier LISTEN is late.
      if (frame.listen < at.listen) return
      this.#forget(channel)
      channel.held.push(frame)
      return this.tick()
    }
    this.#take(name, at, frame)
  }

  /** The bridge answers a request: each channel that it names has LISTEN. */
  answer({ b, k, s }: Standings): void {
    if (b !== this.bridge()) return
    for (const [name, standing] of Object.entries(s)) {
      const channel = this.#channels.get(name)
      if (channel === undefined) continue
      if (channel.at !== undefined) this.#compare(name, channel, b, standing)
      // One to an earlier request may be older than what this node heard since, and let it hear that again.
      else if (k !== undefined && channel.since !== undefined && k >= channel.since) {
        this.#begin(name, channel, b, standing)
      }
    }
  }

  beat({ b, s, u }: Standings): void {
    if (!this.#isPresent(b)) return
    this.#heardAt = this.#port.now()
    this.#linked = u === true
    for (const [name, standing] of Object.entries(s)) {
      const channel = this.#channels.get(name)
      if (channel?.at !== undefined) this.#compare(name, channel, b, standing)
    }
    this.tick()
  }

  /** Asks for what has no answer, and for all again before the bridge forgets it. */
  tick(): void {
    const bridge = this.bridge()
    if (bridge === undefined) return
    const now = this.#port.now()
    const next = this.#asks + 1
    const fresh: Array<string> = []
    const kept: Array<string> = []
    for (const [name, channel] of this.#channels) {
      const isFresh = channel.at === undefined
      if (now - channel.askedAt < (isFresh ? askAgainAfter : renewEvery)) continue
      channel.askedAt = now
      if (isFresh) channel.since ??= next
      ;(isFresh ? fresh : kept).push(name)
    }
    if (fresh.length + kept.length > 0) this.#asks = next
    if (fresh.length > 0) this.#port.ask(bridge, next, fresh, true)
    if (kept.length > 0) this.#port.ask(bridge, next, kept, false)
  }

  /**
   * Whether a message is of the present bridge, which is the one with the highest term. After a silence it is
   * any: terms begin anew with the objects of a database.
   */
  #isPresent(b: string): boolean {
    const term = termOf(b)
    if (term === undefined) return false
    const present = this.bridge()
    if (present === b) return true
    if (present !== undefined && term <= termOf(present)!) return false
    this.#bridge = b
    this.#heardAt = this.#port.now()
    for (const channel of this.#channels.values()) {
      if (channel.at !== undefined && channel.at.b !== b) this.#forget(channel)
    }
    return true
  }

  #forget(channel: FedChannel): void {
    channel.at = undefined
    channel.held = []
    channel.askedAt = -Infinity
    channel.since = undefined
  }

  #begin(name: string, channel: FedChannel, b: string, [listen, number]: Standing): void {
    const at = { b, listen, number }
    channel.at = at
    channel.since = undefined
    channel.askedAt = this.#port.now()
    if (channel.known) this.#port.hear(name, lost)
    channel.known = true
    const { held } = channel
    channel.held = []
    this.#port.confirmed(name)
    for (const frame of held) {
      if (channel.at === at && frame.b === b && frame.listen === listen) {
        this.#take(name, at, frame)
      }
    }
  }

  /** What the bridge says of a channel that it feeds already. */
  #compare(name: string, channel: FedChannel, b: string, standing: Standing): void {
    const at = channel.at!
    const [listen, number] = standing
    // It forgot the channel meanwhile, and listens again.
    if (listen > at.listen) return this.#begin(name, channel, b, standing)
    if (listen < at.listen || number <= at.number) return
    at.number = number
    this.#port.hear(name, lost)
  }

  #take(name: string, at: NonNullable<FedChannel["at"]>, { number, payload }: Numbered): void {
    if (number <= at.number) return
    const skipped = number > at.number + 1
    at.number = number
    if (skipped) this.#port.hear(name, lost)
    this.#port.hear(name, payload)
  }
}
