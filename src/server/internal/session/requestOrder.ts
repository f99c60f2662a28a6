/**
 * The order of a session's requests: one after the other until each is decided, then one after the
 * other for each channel.
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
  /** Requests that wait; `undefined` while none is under way. */
  #requests: Array<WaitingRequest> | undefined
  /** Work by channel that must stay in order; absent while none waits. */
  readonly #chains = new Map<string, Array<Effect.Effect<void>>>()

  constructor(port: Port) {
    this.#port = port
  }

  /** Whether a request is under way, so that the next one waits. */
  get isBusy(): boolean {
    return this.#requests !== undefined
  }

  /** Does the work of a request after those before it. */
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
          // The token may have expired while the request waited.
          if (this.#port.hasExpired()) this.#port.close("tokenExpired")
          else yield* this.#safely(next.id, next.work)
        }
        // In the same step as the last check, so that a later request starts a fiber.
        this.#requests = undefined
      })
    )
  }

  /** Queues work behind earlier work of the same channel. */
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
          // In the same step as the last check, so that later work starts a chain.
          this.#chains.delete(name)
        })
      )
    })
  }

  /** Drops the requests that wait. */
  clear(): void {
    this.#requests = undefined
    this.#chains.clear()
  }

  /** Answers a request also when it meets a defect: here, in a schema, or in the application. */
  #safely(id: number, work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.catchCause(work, (cause) =>
      Effect.andThen(
        this.#port.context.failed("a request failed", cause),
        Effect.sync(() => this.#port.refuse(id, refusalOf(undefined)))
      )
    )
  }
}
