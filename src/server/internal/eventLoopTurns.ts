/**
 * Work that is done for a few must not hold up everybody: in one step of the event loop a process
 * handles so much of replays, and opens so many channels, and the rest in the next ones, in the order in
 * which it was asked for.
 *
 * Between two steps the loop serves its sockets and timers. No timer and no clock: the next step comes as
 * soon as everybody else had theirs.
 */
import * as Effect from "effect/Effect"

/** How much is handled: `bytes` of payload. */
export interface Size {
  readonly events: number
  readonly bytes: number
}

/** The most that one step handles, unless it is a single event. */
export const most: Size = { events: 256, bytes: 64 * 1024 }

/** Somebody whose step has not come. */
interface WaitingStep {
  readonly size: Size
  readonly go: () => void
}

export class Turns {
  readonly #most: Size
  /** What this step has handled. */
  #events = 0
  #bytes = 0
  /** The next step is on its way. */
  #stepping = false
  readonly #waiting = new Set<WaitingStep>()

  constructor(limit: Size = most) {
    this.#most = limit
  }

  /** Nobody waits. */
  get idle(): boolean {
    return this.#waiting.size === 0
  }

  /** Completes in the step that handles so much: do it before anything else is awaited. */
  take(size: Size): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#waiting.size === 0 && this.#fits(size)) {
        this.#spend(size)
        return Effect.void
      }
      return Effect.callback<void>((resume) => {
        const one: WaitingStep = { size, go: () => resume(Effect.void) }
        this.#waiting.add(one)
        this.#later()
        return Effect.sync(() => this.#waiting.delete(one))
      })
    })
  }

  /** What is larger than a step has one of its own. */
  #fits({ bytes, events }: Size): boolean {
    return (
      (this.#events === 0 && this.#bytes === 0) ||
      (this.#events + events <= this.#most.events && this.#bytes + bytes <= this.#most.bytes)
    )
  }

  #spend({ bytes, events }: Size): void {
    this.#events += events
    this.#bytes += bytes
    this.#later()
  }

  #later(): void {
    if (this.#stepping) return
    this.#stepping = true
    setImmediate(() => this.#step())
  }

  #step(): void {
    this.#stepping = false
    this.#events = this.#bytes = 0
    for (const one of this.#waiting) {
      if (!this.#fits(one.size)) break
      this.#waiting.delete(one)
      this.#spend(one.size)
      one.go()
    }
    if (this.#waiting.size > 0) this.#later()
  }
}

/** Of the process: all its nodes and doors share one event loop. */
export const turns = new Turns()

/** Subscriptions that are asked for, of the process too: one that opens a channel is as much as four. */
export const asking = new Turns({ events: 16, bytes: 0 })

/** So many of them a step; what opens a channel counts as much among those that ask. */
export const few: Size = { events: 4, bytes: 0 }

/**
 * Channels: so many a step begin to open, and so many are confirmed. Each by itself, so that who is nearly
 * there need not wait for those who come.
 */
export const opening = new Turns(few)
export const confirming = new Turns(few)

/** What sessions give back that have ended: subscriptions, and requests under way. */
export const ending = new Turns({ events: 32, bytes: 0 })

/** One of what is counted like that. */
export const one: Size = { events: 1, bytes: 0 }
