/**
 * What a client has of one subscription: the rows of its table, folded from the frames of a socket as
 * `PROTOCOL.md` says, and what is wrong with these frames.
 */
import type { ServerFrame } from "../../src/Frame.ts"

interface Change {
  readonly operation: "INSERT" | "UPDATE" | "DELETE"
  readonly data?: { readonly id: number }
  readonly old?: object
  readonly key?: { readonly id: number }
}

export class Replica {
  readonly rows = new Map<number, object>()
  /** Whether a state is missing: none yet, or events may be missing. */
  stale = true
  cursor: string | undefined
  /** Types of the frames that it took, with the reasons of gaps, in order. */
  readonly told: Array<string> = []
  view: string | undefined
  readonly #channel: string
  /** The rows of a state of which frames are missing. */
  #next: Map<number, object> | undefined
  #taken = 0

  constructor(channel: string, view?: string) {
    this.#channel = channel
    this.view = view
  }

  /** Takes the frames since the last call. */
  take(frames: ReadonlyArray<ServerFrame>): this {
    for (const frame of frames.slice(this.#taken)) this.#fold(frame)
    this.#taken = frames.length
    return this
  }

  get list(): ReadonlyArray<object> {
    return [...this.rows].toSorted(([one], [other]) => one - other).map(([, row]) => row)
  }

  #fold(frame: ServerFrame): void {
    if (!("channel" in frame) || frame.channel !== this.#channel) return
    if (frame.type === "unsubscribed" || frame.type === "history" || frame.type === "members")
      return
    if (frame.view !== this.view) return
    this.told.push(frame.type === "gap" ? `gap ${frame.reason}` : frame.type)
    if ("cursor" in frame) this.cursor = frame.cursor ?? this.cursor
    if (frame.type === "gap" && frame.change !== undefined) {
      const { id } = frame.change.key as { readonly id: number }
      ;(this.#next ?? this.rows).delete(id)
    } else if (frame.type === "gap") {
      this.stale = true
      this.#next = undefined
      if (frame.reason === "rights") this.view = frame.now
    } else if (frame.type === "state") {
      const next = (this.#next ??= new Map<number, object>())
      for (const row of frame.rows as ReadonlyArray<{ readonly id: number }>) next.set(row.id, row)
      if (frame.more) return
      this.rows.clear()
      for (const [id, row] of next) this.rows.set(id, row)
      this.#next = undefined
      this.stale = false
    } else if (frame.type === "events") {
      for (const { data } of frame.events) this.#apply(data as Change)
    }
  }

  #apply({ data, key, operation }: Change): void {
    const { id } = (key ?? data)!
    if (operation === "DELETE") this.rows.delete(id)
    else this.rows.set(id, data!)
  }
}
