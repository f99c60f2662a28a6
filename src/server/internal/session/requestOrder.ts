/**
 * The order in which the requests of a session are worked on: one after the other until they are decided,
 * and from then on one after the other for each channel.
 */
import * as Effect from "effect/Effect"
import type { Port } from "./port.ts"
import { refusalOf } from "../limits/refusalText.ts"

interface WaitingRequest {
  readonly id: number
  readonly work: Effect.Effect<void>
}

export class Order {
  readonly #port: Port
  /** Requests that wait; `undefined` while none is worked on. */
  #requests: Array<WaitingRequest> | undefined
  /** Work of each channel that must stay in order; present only while some of it waits. */
  readonly #chains = new Map<string, Array<Effect.Effect<void>>>()

  constructor(port: Port) {
    this.#port = port
  }

  /** Whether a request is worked on, so that the next one waits. */
  get isBusy(): boolean {
    return this.#requests !== undefined
  }

  /** Works on a request after those before it. */
  enqueue(id: number, work: Effect.Effect<void>): void {
    if (this.#port.stopped) return
    if (this.#requests !== undefined) {
      this.#requests.push({ id, work })
      return
    }
    const waiting = (this.#requests = [{ id, work }])
    this.#port.fork(
      Effect.gen({ self: this }, function* () {
        let next: WaitingRequest | undefined
        while (!this.#port.stopped && (next = waiting.shift()) !== undefined) {
          // It may have waited long for those before it.
          if (this.#port.hasExpired()) this.#port.close("tokenExpired")
          else yield* this.#safely(next.id, next.work)
        }
        // In the same step as the look: what comes later must find nobody at work.
        this.#requests = undefined
      })
    )
  }

  /** Queues work behind what the same channel still waits for. */
  chain(name: string, id: number, work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.sync(() => {
      const safe = this.#safely(id, work)
      const chain = this.#chains.get(name)
      if (chain !== undefined) {
        chain.push(safe)
        return
      }
      const started = [safe]
      this.#chains.set(name, started)
      this.#port.fork(
        Effect.gen({ self: this }, function* () {
          let next: Effect.Effect<void> | undefined
          while ((next = started.shift()) !== undefined) yield* next
          // In the same step as the look: what is queued later must find no chain.
          this.#chains.delete(name)
        })
      )
    })
  }

  /** Forgets what waits. */
  clear(): void {
    this.#requests = undefined
    this.#chains.clear()
  }

  /** Every request is answered, also one that meets a bug: here, in a schema, or in the application. */
  #safely(id: number, work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.catchCause(work, (cause) =>
      Effect.andThen(
        this.#port.context.failed("a request failed", cause),
        Effect.sync(() => this.#port.refuse(id, refusalOf(undefined)))
      )
    )
  }
}
