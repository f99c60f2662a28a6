/**
 * What a session's client waits for: requests without an answer, and frames that came while its token
 * was checked. Counted here in number and bytes, and nowhere else.
 */
import type { ResolvedLimits } from "../limits/limits.ts"

/** A frame that came early, and about how many bytes it costs. */
export interface Early<Frame> {
  readonly frame: Frame
  readonly size: number
}

/** The client may ask: its id is free and its requests are few; or why it may not. */
export type Begun = "begun" | "idTaken" | "tooMany"

export class Unanswered<Frame> {
  readonly #limits: Pick<ResolvedLimits, "maxUnanswered" | "maxUnansweredBytes">
  /** Ids of requests that are not answered yet, with about how many bytes they cost. */
  #requests: Map<number, number> | undefined
  #early: Array<Early<Frame>> | undefined
  #bytes = 0

  constructor(limits: Pick<ResolvedLimits, "maxUnanswered" | "maxUnansweredBytes">) {
    this.#limits = limits
  }

  /** Whether the session has to read nothing more until some of it is answered. */
  get isFull(): boolean {
    return this.#bytes > this.#limits.maxUnansweredBytes
  }

  /** Whether the client waits for an answer with this id. */
  has(id: number): boolean {
    return this.#requests?.has(id) === true
  }

  /** Counts a request of about so many bytes. */
  begin(id: number, size: number): Begun {
    const requests = (this.#requests ??= new Map())
    if (requests.has(id)) return "idTaken"
    requests.set(id, size)
    this.#bytes += size
    return requests.size > this.#limits.maxUnanswered ? "tooMany" : "begun"
  }

  /** The request has its answer; `false` when it had one before, or was never counted. */
  end(id: number): boolean {
    const size = this.#requests?.get(id)
    if (size === undefined) return false
    this.#requests!.delete(id)
    this.#bytes -= size
    return true
  }

  /** Whether frames are early. */
  get isEarly(): boolean {
    return this.#early !== undefined
  }

  /** From now on frames are early. */
  holdEarly(): void {
    this.#early = []
  }

  /** Keeps a frame that came early; `false` when there are too many. */
  keepEarly(frame: Frame, size: number): boolean {
    this.#bytes += size
    return this.#early!.push({ frame, size }) <= this.#limits.maxUnanswered
  }

  /** Frames are early no more: gives those that were, in order. */
  takeEarly(): ReadonlyArray<Early<Frame>> {
    const early = this.#early ?? []
    this.#early = undefined
    for (const { size } of early) this.#bytes -= size
    return early
  }
}
