/**
 * Bounds the work of one step of the event loop, so that a large replay does not delay other sessions. A
 * process handles a bounded amount of replays, and opens a bounded number of channels, in one step; the
 * rest waits for later steps, in the order of the calls.
 *
 * Between two steps the loop serves its sockets and timers. There is no timer and no clock: the next step
 * follows by `setImmediate`.
 */
import * as Effect from "effect/Effect"

/** An amount of work; `bytes` of payload. */
export interface Size {
  readonly events: number
  readonly bytes: number
}

/** The most that one step handles, unless it is a single event. */
export const most: Size = { events: 256, bytes: 64 * 1024 }

/** A call that waits for its step. */
interface WaitingStep {
  readonly size: Size
  readonly go: () => void
}

export class Turns {
  readonly #most: Size
  /** What this step has handled so far. */
  #events = 0
  #bytes = 0
  /** Whether the next step is scheduled. */
  #stepping = false
  readonly #waiting = new Set<WaitingStep>()

  constructor(limit: Size = most) {
    this.#most = limit
  }

  /** Whether no call waits. */
  get idle(): boolean {
    return this.#waiting.size === 0
  }

  /** Completes in the step that has room for the work. Do the work before the next `await`. */
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

  /** Work that is larger than a step gets a step of its own. */
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

/** Replays, for the whole process: all its nodes and doors share one event loop. */
export const turns = new Turns()

/** Subscribe requests, for the whole process. One that opens a channel counts as four. */
export const asking = new Turns({ events: 16, bytes: 0 })

/** The channels that one step handles; also the size of one channel among the subscribe requests. */
export const few: Size = { events: 4, bytes: 0 }

/**
 * Channels that begin to open in a step, and channels that are confirmed in a step. They have separate
 * turns, so that a channel that is nearly open does not wait for new ones.
 */
export const opening = new Turns(few)
export const confirming = new Turns(few)

/** What ended sessions release: subscriptions, and requests under way. */
export const ending = new Turns({ events: 32, bytes: 0 })

/** One unit of such work. */
export const one: Size = { events: 1, bytes: 0 }
