/**
 * The states of one view of a subscription: reads one after each gap and for each request, and has it sent.
 *
 * Events go on while a state is read. Once it is there, the subscription follows anew from its cursor: what
 * lies behind that is sent after the state, also what the client had received before it.
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { covers } from "../../../internal/cursorText.ts"
import type { ViewState } from "../hub/delivery.ts"
import type { View } from "../hub/view.ts"
import { Lease } from "../outbox/sharedReads.ts"
import type { StateError } from "../outbox/state.ts"
import type { Port } from "./port.ts"
import { StateSender } from "./stateSender.ts"

export interface StateOptions {
  /** Whether the client asked for the state after each gap. */
  readonly again: boolean
  /** Reads the state of the view, which contains the cursor of the gap `after` and is not `unlike`. */
  readonly read: (
    after: string | undefined,
    lease: Lease,
    unlike?: ViewState
  ) => Effect.Effect<ViewState, StateError>
  /** Lets the subscription follow from a cursor, after the state that waits. */
  readonly follow: (cursor: string) => void
  /** Handles a state after a gap that could not be read. */
  readonly lost: (cause: Cause.Cause<StateError>) => Effect.Effect<void>
  /** Rejects a request for a state that could not be read. */
  readonly refuse: (id: number, cause: Cause.Cause<StateError>) => Effect.Effect<void>
}

export class SubscriptionStates {
  readonly #options: StateOptions
  readonly #port: Port
  readonly #sender: StateSender
  readonly #leaving = Deferred.makeUnsafe<void>()
  /** The newest gap after which the client has no state. */
  #gap: string | undefined
  /** The client needs a state, however old: its rights have changed. */
  #fresh = false
  /** Requests that wait for a state. */
  #ids: Array<number> = []
  #reading = false
  /** The lease of the read that is under way. */
  #lease: Lease | undefined
  #left = false
  /** The last state that was sent. Its frames may be gone from memory. */
  #last: WeakRef<ViewState> | undefined

  constructor(view: Pick<View, "name" | "label">, port: Port, options: StateOptions) {
    this.#options = options
    this.#port = port
    this.#sender = new StateSender(view, port)
  }

  /** The state of which frames wait; `undefined` if none do. */
  get waiting(): ViewState | undefined {
    return this.#sender.state
  }

  /** Sends the state that waits as far as the socket takes it. Completes with whether that is all of it. */
  send(state: ViewState): Effect.Effect<boolean> {
    return Effect.map(this.#sender.send(state), (sent) => {
      if (sent) this.#read()
      return sent
    })
  }

  /** Reads the state with which the subscription begins. It waits until `send`. */
  get first(): Effect.Effect<ViewState, StateError> {
    return Effect.suspend(() => {
      const lease = this.#newLease()
      return Effect.tap(this.#options.read(undefined, lease), (state) =>
        Effect.sync(() => {
          this.#send(state, lease)
        })
      )
    })
  }

  #send(state: ViewState, lease: Lease, ids?: ReadonlyArray<number>): void {
    this.#sender.begin(state, lease, ids)
    this.#lease = undefined
    this.#last = new WeakRef(state)
  }

  /** The lease of a read; that of a read before it ends. */
  #newLease(): Lease {
    this.#lease?.end()
    return (this.#lease = new Lease())
  }

  /** The client receives a gap with this cursor. */
  gap(cursor: string): void {
    if (!this.#options.again) return
    this.#gap = cursor
    this.#read()
  }

  /** The client receives a gap because it may see other rows: as at the start, any state has them. */
  begin(): void {
    if (!this.#options.again) return
    this.#fresh = true
    this.#read()
  }

  /** The client asks for the state. Requests that come before it is read share one. */
  ask(id: number): void {
    this.#ids.push(id)
    this.#read()
  }

  /** Stops everything. Returns the requests that are not answered. */
  leave(): ReadonlyArray<number> {
    this.#left = true
    this.#gap = undefined
    this.#fresh = false
    this.#lease?.end()
    Deferred.doneUnsafe(this.#leaving, Effect.void)
    return [...this.#sender.drop(), ...this.#ids.splice(0)]
  }

  /** Whether a state is needed now: a request waits until the state before it is sent. */
  get #isDue(): boolean {
    if (this.#left) return false
    if (this.#fresh || this.#gap !== undefined) return true
    return this.#ids.length > 0 && this.waiting === undefined
  }

  #read(): void {
    if (this.#reading || !this.#isDue) return
    this.#reading = true
    this.#port.fork(
      // In a later step: the subscriber sends a gap in the middle of its work.
      Effect.raceFirst(Effect.andThen(Effect.yieldNow, this.#next()), Deferred.await(this.#leaving))
    )
  }

  #next(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.#isDue) {
        // In the same step as the check, so that a later need starts a read.
        this.#reading = false
        return Effect.void
      }
      const after = this.#gap
      const lease = this.#newLease()
      return Effect.matchCauseEffect(this.#options.read(after, lease, this.#last?.deref()), {
        onFailure: (cause) => {
          // For a gap that has another one behind it now: the state is read for that one.
          if (this.#gap !== after) return this.#next()
          if (after !== undefined || this.#fresh) return this.#options.lost(cause)
          // Each one is answered here, also when the client leaves meanwhile.
          const refused = Effect.forEach(this.#ids.splice(0), (id) =>
            this.#options.refuse(id, cause)
          )
          return Effect.andThen(Effect.uninterruptible(refused), this.#next())
        },
        onSuccess: (state) => {
          this.#take(state, lease, after)
          return this.#next()
        }
      })
    })
  }

  /** Has a state sent, unless the client received another gap that it does not contain. */
  #take(state: ViewState, lease: Lease, after: string | undefined): void {
    if (this.#left) return
    const gap = this.#gap
    if (gap !== undefined && gap !== after && covers(state.cursor, gap) !== true) return
    this.#gap = undefined
    this.#fresh = false
    this.#send(state, lease, this.#ids.splice(0))
    this.#options.follow(state.cursor)
  }
}
