/**
 * A client that keeps the rows of subscriptions with state, from the frames alone, as `PROTOCOL.md` has
 * them. It shows which positions its rows are of.
 */
import type { ServerFrame, Where } from "../../../src/Frame.ts"
import * as Cursor from "../../../src/internal/cursorText.ts"
import { outboxCursor } from "../../../src/server/internal/hub/viewCursor.ts"
import type { Visitor } from "../../support/sessions.ts"

interface Change {
  readonly operation: "INSERT" | "UPDATE" | "DELETE"
  readonly data?: unknown
  readonly key: object
}

/** The rows of one channel and one filter, over any number of sockets. */
export class Followed {
  readonly channel: string
  readonly where: Where | undefined
  /** `away`: no subscription. `asked`: one without an answer. `waiting`: the state is missing. */
  status: "away" | "asked" | "waiting" | "live" = "away"
  rows = new Map<string, unknown>()
  /** The rows of a client that does not remove what leaves its filter. */
  readonly careless = new Map<string, unknown>()
  /** The rows of a client that reads no state after a gap. */
  readonly deaf = new Map<string, unknown>()
  cursor: string | undefined
  view: string | undefined
  id = 0
  #state: Array<unknown> = []

  constructor(channel: string, where: Where | undefined) {
    this.channel = channel
    this.where = where
  }

  /** The message that the position is behind; `undefined` in the middle of a tick. */
  get behind(): bigint | undefined {
    const found = Cursor.parseDurable(outboxCursor(this.cursor!))!
    return found.position.next === undefined ? found.witness.id : undefined
  }

  ask(visitor: Visitor, id: number): void {
    // Rows after a gap are those of no position: only a state makes them right.
    const cursor = this.whole ? this.cursor : undefined
    this.id = id
    this.status = "asked"
    const { channel, where } = this
    visitor.send({ type: "subscribe", id, channel, cursor, state: true, where })
  }

  /** Whether the rows are those of the cursor, also while the client is away. */
  whole = false

  /** The socket is gone. */
  leave(): void {
    this.status = "away"
    this.view = undefined
    this.#state = []
  }

  /** Takes a frame of this subscription. Returns whether the rows are now those of the cursor. */
  take(frame: ServerFrame): boolean {
    switch (frame.type) {
      case "subscribed":
        this.view = frame.view
        this.cursor = frame.cursor
        if (frame.state === "recovered") this.status = "live"
        else this.#lack()
        return this.whole
      case "state":
        this.#state.push(...frame.rows)
        if (frame.more) return false
        this.rows = new Map(this.#state.map((row) => [keyOf(row as object), row]))
        for (const one of [this.careless, this.deaf]) {
          if (one === this.deaf && one.size > 0) continue
          one.clear()
          for (const [key, row] of this.rows) one.set(key, row)
        }
        this.#state = []
        this.cursor = frame.cursor
        this.status = "live"
        this.whole = true
        return true
      case "events":
        for (const { data } of frame.events) this.#change(data as Change)
        this.cursor = frame.cursor
        return this.whole
      case "cursor":
        this.cursor = frame.cursor
        return this.whole
      case "gap":
        if (frame.reason === "rights") this.view = frame.now
        this.cursor = frame.cursor
        if (frame.change === undefined) this.#lack()
        else this.#leaveOut(frame.change.key)
        return this.whole
      case "ended":
      case "error":
        this.leave()
        this.whole = false
        return false
      default:
        return false
    }
  }

  #lack(): void {
    this.status = "waiting"
    this.whole = false
    this.#state = []
  }

  /** A row does not match the schema, or is gone; all others stay right. */
  #leaveOut(key: object): void {
    for (const rows of [this.rows, this.careless, this.deaf]) rows.delete(keyOf(key))
  }

  #change({ data, key, operation }: Change): void {
    const name = keyOf(key)
    const all = [this.rows, this.careless, this.deaf]
    for (const rows of all) {
      if (operation !== "DELETE") rows.set(name, data)
      else if (rows !== this.careless || data !== undefined) rows.delete(name)
    }
  }
}

const keyOf = (row: object): string => JSON.stringify((row as { readonly id: unknown }).id)

/** One client: its socket, and what it follows over one socket after another. */
export class RowsClient {
  readonly followed: ReadonlyArray<Followed>
  visitor: Visitor | undefined
  #seen = 0
  #nextId = 1

  constructor(followed: ReadonlyArray<Followed>) {
    this.followed = followed
  }

  connected(visitor: Visitor): void {
    this.visitor = visitor
    this.#seen = 0
  }

  /** Subscribes to whatever has no subscription. */
  ask(): void {
    for (const one of this.followed) {
      if (one.status === "away") one.ask(this.visitor!, this.#nextId++)
    }
  }

  leave(): void {
    this.visitor?.leave()
    this.visitor = undefined
    for (const one of this.followed) one.leave()
  }

  /** Takes the frames since the last call, and calls `right` after each that leaves rows of a position. */
  take(right: (followed: Followed) => void): void {
    const frames = this.visitor?.frames ?? []
    for (; this.#seen < frames.length; this.#seen++) {
      const frame = frames[this.#seen]!
      const one = this.#of(frame)
      if (one?.take(frame) === true) right(one)
    }
  }

  #of(frame: ServerFrame): Followed | undefined {
    if (frame.type === "subscribed" || frame.type === "error") {
      return this.followed.find(({ id, status }) => status === "asked" && id === frame.id)
    }
    if (!("channel" in frame)) return undefined
    return this.followed.find(
      ({ channel, status, view }) =>
        (status === "live" || status === "waiting") &&
        channel === frame.channel &&
        view === ("view" in frame ? frame.view : undefined)
    )
  }
}
