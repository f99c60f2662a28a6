/**
 * Holds one socket to a volatile channel. It has no replay and never falls behind: it sends every batch
 * from the step in which the client is answered.
 */
import * as Effect from "effect/Effect"
import type { Batch } from "../hub/batch.ts"
import type { Sink, View, ViewJoin } from "../hub/view.ts"
import type { Mailbox } from "./mailbox.ts"

export class VolatileSubscriber<E = never> implements Sink {
  readonly #view: View<E>
  readonly #mailbox: Mailbox
  #begun = false

  constructor(view: View<E>, mailbox: Mailbox) {
    this.#view = view
    this.#mailbox = mailbox
  }

  join(): Effect.Effect<ViewJoin, E> {
    return this.#view.join(undefined)
  }

  go(): Effect.Effect<void> {
    if (!this.#begun) this.#view.subscribe(this)
    this.#begun = true
    return Effect.void
  }

  offer(batch: Batch): void {
    this.#mailbox.offer(batch)
  }

  leave(): void {
    this.#view.unsubscribe(this)
    this.#mailbox.forget(this.#view.key)
  }

  hold(): void {}

  fallBehind(): void {}

  catchUp(): Effect.Effect<void> {
    return Effect.void
  }
}
