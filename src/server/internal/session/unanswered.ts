/**
 * What a client waits for: requests without an answer, and frames that arrived while its token was
 * checked. This is the only place that counts their number and bytes.
 */
import type { ResolvedLimits } from "../limits/limits.ts"

/** A frame that arrived while the token was checked, and roughly its bytes in memory. */
export interface Early<Frame> {
  readonly frame: Frame
  readonly size: number
}

/** Whether a request may begin, or why not: its id is in use, or too many have no answer. */
export type Begun = "begun" | "idTaken" | "tooMany"

export class Unanswered<Frame> {
  readonly #limits: Pick<ResolvedLimits, "maxUnanswered" | "maxUnansweredBytes">
  /** Ids of requests without an answer, and roughly their bytes in memory. */
  #requests: Map<number, number> | undefined
  #early: Array<Early<Frame>> | undefined
  #bytes = 0

  constructor(limits: Pick<ResolvedLimits, "maxUnanswered" | "maxUnansweredBytes">) {
    this.#limits = limits
  }

  /** Whether the session must stop reading until a request is answered. */
  get isFull(): boolean {
    return this.#bytes > this.#limits.maxUnansweredBytes
  }

  /** Whether the request with this id has no answer yet. */
  has(id: number): boolean {
    return this.#requests?.has(id) === true
  }

  /** Counts a request. `size`: roughly its bytes in memory. */
  begin(id: number, size: number): Begun {
    const requests = (this.#requests ??= new Map())
    if (requests.has(id)) return "idTaken"
    requests.set(id, size)
    this.#bytes += size
    return requests.size > this.#limits.maxUnanswered ? "tooMany" : "begun"
  }

  /** Ends a request. Returns `false` if it has ended before or never began. */
  end(id: number): boolean {
    const size = this.#requests?.get(id)
    if (size === undefined) return false
    this.#requests!.delete(id)
    this.#bytes -= size
    return true
  }

  /** Whether the token is being checked, so that frames are kept. */
  get isEarly(): boolean {
    return this.#early !== undefined
  }

  /** Keeps frames from now on, until `takeEarly`. */
  holdEarly(): void {
    this.#early = []
  }

  /** Keeps a frame. Returns `false` at the limit `maxUnanswered`. */
  keepEarly(frame: Frame, size: number): boolean {
    this.#bytes += size
    return this.#early!.push({ frame, size }) <= this.#limits.maxUnanswered
  }

  /** Stops keeping frames. Returns the kept ones in order. */
  takeEarly(): ReadonlyArray<Early<Frame>> {
    const early = this.#early ?? []
    this.#early = undefined
    for (const { size } of early) this.#bytes -= size
    return early
  }
}
