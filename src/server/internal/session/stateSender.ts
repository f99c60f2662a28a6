/**
 * Sends the states of one subscription, a frame at a time and only while the socket takes bytes.
 *
 * A state may be much larger than a mailbox, and many sockets share its frames. So its frames wait here
 * and never in the mailbox: between two of them the other subscriptions of the socket have their turn.
 */
import * as Effect from "effect/Effect"
import { encode } from "../../../Frame.ts"
import { answering } from "../../../internal/frameText.ts"
import { turns } from "../eventLoopTurns.ts"
import type { StateFrame, ViewState } from "../hub/delivery.ts"
import { Line } from "../hub/outgoing.ts"
import type { View } from "../hub/view.ts"
import type { Lease } from "../outbox/sharedReads.ts"
import type { Port } from "./port.ts"

export class StateSender {
  readonly #view: Pick<View, "name" | "label">
  readonly #port: Pick<Port, "mailbox" | "answerWith">
  #state: ViewState | undefined
  /** Keeps the state in the node's memory. */
  #lease: Lease | undefined
  /** The index of the next frame. */
  #next = 0
  /** The requests that the next frame answers. */
  #ids: ReadonlyArray<number> = []

  constructor(view: Pick<View, "name" | "label">, port: Pick<Port, "mailbox" | "answerWith">) {
    this.#view = view
    this.#port = port
  }

  /** The state of which frames wait; `undefined` if none do. */
  get state(): ViewState | undefined {
    return this.#state
  }

  /** Takes a state, in the place of one that is not sent whole. Its first frame answers these requests. */
  begin(state: ViewState, lease: Lease, ids: ReadonlyArray<number> = []): void {
    this.#end()
    this.#state = state
    this.#lease = lease
    this.#next = 0
    this.#ids = [...this.#ids, ...ids]
  }

  /** Drops what waits. Returns the requests that are not answered. */
  drop(): ReadonlyArray<number> {
    const ids = this.#ids
    this.#ids = []
    this.#end()
    return ids
  }

  #end(): void {
    this.#state = undefined
    this.#lease?.end()
    this.#lease = undefined
  }

  /** Sends this state. Completes with `false` when the socket is full, or another state took its place. */
  send(state: ViewState): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      if (this.#state !== state || this.#port.mailbox.blocked) return Effect.succeed(false)
      const frame = state.frames[this.#next]
      if (frame === undefined) {
        this.#end()
        return Effect.succeed(true)
      }
      const size = { events: frame.rows, bytes: frame.bytes }
      return Effect.flatMap(turns.take(size), () => {
        // The socket may be full since.
        if (this.#state !== state || this.#port.mailbox.blocked) return Effect.succeed(false)
        this.#next++
        this.#write(frame, state.cursor)
        return this.send(state)
      })
    })
  }

  #write({ message }: StateFrame, cursor: string): void {
    const { label, name: channel } = this.#view
    const ids = this.#ids
    this.#ids = []
    const last = ids.at(-1)
    if (last === undefined) return this.#port.mailbox.control(message)
    // A frame has one id. Each other request is answered by a frame without rows.
    const view = label === undefined ? {} : { view: label }
    for (const id of ids.slice(0, -1)) {
      const empty = encode({ type: "state", id, channel, ...view, cursor, rows: [], more: true })
      this.#port.answerWith(id, new Line(empty))
    }
    this.#port.answerWith(last, new Line(answering(message.text, last)))
  }
}
