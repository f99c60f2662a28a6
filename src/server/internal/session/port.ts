/**
 * A session as all that works for it sees it: who the client is, its mailbox, what it waits for, its
 * fibers, and its end.
 *
 * Requests, rights, subscribers and replays stand above it and call it; it calls none of them, and nothing
 * calls the session but its socket and the door.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import { encode, type ServerFrame } from "../../../Frame.ts"
import { closeCodes, type CloseName, closeReason } from "../../../Protocol.ts"
import * as Heartbeat from "./heartbeat.ts"
import { Line } from "../hub/outgoing.ts"
import { Mailbox } from "./mailbox.ts"
import * as metrics from "../metrics.ts"
import type { Peer } from "./peer.ts"
import { anonymous } from "../auth/authenticate.ts"
import type { Principal } from "../auth/callbacks.ts"
import { errorFrame, type LimitName, type Refusal } from "../limits/refusalText.ts"
import type { SessionContext } from "./sessionContext.ts"
import * as turns from "../eventLoopTurns.ts"
import { Unanswered } from "./unanswered.ts"

export class Port<Frame = unknown> {
  readonly context: SessionContext
  readonly peer: Peer
  readonly mailbox: Mailbox
  principal: Principal = anonymous
  times: Heartbeat.Times
  #unanswered: Unanswered<Frame> | undefined
  /** The socket is not read. */
  #paused = false
  /** Work under way. */
  #fibers: Set<Fiber.Fiber<void>> | undefined
  #life: "on" | "stopped" | "ended" = "on"

  constructor(peer: Peer, context: SessionContext, now: number) {
    this.context = context
    this.peer = peer
    this.mailbox = new Mailbox(peer, context.limits.maxMailboxBytes)
    this.times = Heartbeat.begin(now)
  }

  /** What the client waits for. Most clients wait for nothing most of the time. */
  get unanswered(): Unanswered<Frame> {
    return (this.#unanswered ??= new Unanswered(this.context.limits))
  }

  // --- out ---------------------------------------------------------------------------------------

  /** Sends a frame of the session itself; never dropped. */
  send(frame: ServerFrame): void {
    this.mailbox.control(new Line(encode(frame)))
    // Events are dropped at the same bound, but a client that asks on without reading must go.
    if (this.mailbox.answers > this.context.limits.maxMailboxBytes) {
      this.close("slowConsumer", "maxMailboxBytes")
    }
  }

  sendError(id: number | undefined, refused: Refusal): void {
    this.context.refused(refused.limit ?? refused.code, refused.most)
    this.send(errorFrame(refused, id))
  }

  /** Answers a request, for good or for bad; one that was answered already is left alone. */
  answer(id: number, frame: ServerFrame): void {
    if (!this.unanswered.end(id)) return
    this.send(frame)
    this.readOrPause()
  }

  refuse(id: number, refused: Refusal): void {
    if (this.stopped || !this.unanswered.end(id)) return
    this.sendError(id, refused)
    this.readOrPause()
  }

  // --- the reading of the socket -------------------------------------------------------------------

  /** Reads on only while what waits for its answer is little. */
  readOrPause(): void {
    const full = this.#unanswered?.isFull === true
    if (full === this.#paused || this.isClosing) return
    this.#paused = full
    if (!full) return this.peer.resume()
    this.context.refused("maxUnansweredBytes")
    this.peer.pause()
  }

  get paused(): boolean {
    return this.#paused
  }

  // --- the events ----------------------------------------------------------------------------------

  /** Events were dropped, or a channel fell behind, because the socket is too slow. */
  dropped(): void {
    this.fork(Metric.update(metrics.backlogsDropped, 1))
    if (this.context.slowConsumer === "gap") return this.context.refused("maxMailboxBytes")
    return this.close("slowConsumer", "maxMailboxBytes")
  }

  /** What was missed of a channel could not be read, not even after a while. */
  unread(channel: string, cause: Cause.Cause<unknown>): Effect.Effect<void> {
    this.context.refused("replay")
    return this.context.failed(`a replay of "${channel}" failed`, cause)
  }

  // --- its end -------------------------------------------------------------------------------------

  /** Whether nothing may be asked as this client any more. The caller closes with `tokenExpired`. */
  hasExpired(now = this.context.clock()): boolean {
    return now >= this.principal.expiresAt
  }

  /** A close frame was sent or received. */
  get isClosing(): boolean {
    return this.times.closing !== undefined
  }

  /** Whether nothing new may begin, because nobody would hear of it. A session that drains goes on. */
  get stopped(): boolean {
    return this.#life !== "on"
  }

  /** The socket is closed. */
  get ended(): boolean {
    return this.#life === "ended"
  }

  /** Says why, once: the sentence of the code, with what is special about this close. */
  close(name: CloseName, limit?: LimitName, detail?: string): void {
    this.closeWith(closeCodes[name].code, closeReason(name, detail), limit)
  }

  closeWith(code: number, reason: string, limit?: LimitName): void {
    if (this.isClosing) return
    this.times.closing = this.context.clock()
    if (code !== closeCodes.draining.code) {
      this.context.refused(limit ?? String(code))
      this.#life = "stopped"
    }
    this.peer.close(code, reason)
    // The answer to a close frame must be read.
    if (this.#paused) this.peer.resume()
    // A full pipe never takes the close frame: do not make its owner wait for it. A slow one may
    // still take it, within the grace.
    if (this.mailbox.blocked && code !== closeCodes.slowConsumer.code) this.peer.terminate()
  }

  /** The socket is closed: nothing begins any more. */
  end(): void {
    this.#life = "ended"
  }

  // --- fibers ------------------------------------------------------------------------------------

  /** Runs on a fiber that ends with the session. */
  fork(effect: Effect.Effect<void>): void {
    if (this.ended) return
    const fiber = this.context.run(effect)
    if (fiber.pollUnsafe() !== undefined) return
    const fibers = (this.#fibers ??= new Set())
    fibers.add(fiber)
    fiber.addObserver(() => fibers.delete(fiber))
  }

  /** Interrupts what runs, in the steps of the loop. */
  interrupt(): void {
    if (this.#fibers === undefined) return
    this.context.run(
      Effect.forEach(
        this.#fibers,
        (fiber) => Effect.map(turns.ending.take(turns.one), () => fiber.interruptUnsafe()),
        { discard: true }
      )
    )
  }
}
