/**
 * The batches of a volatile channel for one Stream. While its consumer is busy, the newest event of each
 * key waits.
 */
import * as Effect from "effect/Effect"
import { limits as Defaults } from "../../../internal/defaults.ts"
import { eventBytes } from "../ring.ts"
import type { Batch, BatchEvent } from "./batch.ts"
import { Newest } from "./newest.ts"
import type { Sink, View } from "./view.ts"
import { VolatileBatch } from "./volatileChannel.ts"

const limits = { keys: Defaults.maxVolatileKeys, bytes: Defaults.maxMailboxBytes }

interface WaitingEvent {
  readonly event: BatchEvent
  readonly bytes: number
}

export class VolatileStream implements Sink {
  readonly #view: View
  #waiting = new Newest<WaitingEvent>(limits)
  /** Resumes the consumer; `undefined` while it is busy. */
  #wake: ((batch: Batch) => void) | undefined

  constructor(view: View) {
    this.#view = view
  }

  offer(batch: Batch): void {
    if (this.#wake !== undefined) return this.#wake(batch)
    if (!(batch instanceof VolatileBatch)) return
    for (const [index, event] of batch.events.entries()) {
      const bytes = (event.json?.length ?? 0) + eventBytes
      this.#waiting.put(batch.keys[index]!, { event, bytes })
    }
  }

  /** The next batch: the events that wait, else the ones that arrive next. */
  get next(): Effect.Effect<Batch> {
    return Effect.callback<Batch>((resume) => {
      // In one step with the wait, so that no batch arrives between.
      const waiting = this.#take()
      if (waiting !== undefined) return resume(Effect.succeed(waiting))
      this.#wake = (batch) => {
        this.#wake = undefined
        resume(Effect.succeed(batch))
      }
      return Effect.sync(() => {
        this.#wake = undefined
      })
    })
  }

  /** The events that wait; `undefined` if none do. */
  #take(): Batch | undefined {
    const waiting = [...this.#waiting.entries()]
    if (waiting.length === 0) return undefined
    this.#waiting = new Newest(limits)
    return new VolatileBatch(
      this.#view,
      this.#view.tick,
      waiting.map(([, { event }]) => event),
      waiting.map(([key]) => key)
    )
  }
}
