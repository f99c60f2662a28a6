/**
 * The part of a session that its requests share: the client's identity, the mailbox, unanswered
 * requests, fibers, and the close.
 *
 * Requests, rights, subscribers and replays call it, and it calls none of them. Only the socket and the
 * door call the session itself.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import { encode, type ServerFrame } from "../../../Frame.ts"
import { closeCodes, type CloseName, closeReason } from "../../../Protocol.ts"
import * as Heartbeat from "./heartbeat.ts"
import { Line, type Outgoing } from "../hub/outgoing.ts"
import { Mailbox } from "./mailbox.ts"
import * as metrics from "../metrics.ts"
import type { Peer } from "./peer.ts"
import { anonymous } from "../auth/authenticate.ts"
import type { Principal } from "../auth/callbacks.ts"
import { errorFrame, type LimitName, type Refusal } from "../limits/refusalText.ts"
import type { SessionContext } from "./sessionContext.ts"
import * as turns from "../eventLoopTurns.ts"
import { Unanswered } from "./unanswered.ts"

/** Close codes after which a client may not be seen any more. */
const putsOut: ReadonlySet<number> = new Set(
  [closeCodes.revoked, closeCodes.forbidden, closeCodes.removed].map(({ code }) => code)
)

/** A member of a presence channel that the session shows. */
export interface SeatedMember {
  /** It leaves at once: the client lost its rights, and its socket is about to be closed. */
  readonly absent: () => void
  /** It leaves after the grace: silence has closed the socket. */
  readonly away: () => void
}

export class Port<Frame = unknown> {
  readonly context: SessionContext
  /** The id of the session. */
  readonly session: string
  readonly peer: Peer
  readonly mailbox: Mailbox
  principal: Principal = anonymous
  times: Heartbeat.Times
  #unanswered: Unanswered<Frame> | undefined
  /** Whether reading from the socket is paused. */
  #paused = false
  /** Fibers that are running. */
  #fibers: Set<Fiber.Fiber<void>> | undefined
  #life: "on" | "stopped" | "ended" = "on"
  /** The members of the session; `undefined` without one. */
  #members: Set<SeatedMember> | undefined

  constructor(session: string, peer: Peer, context: SessionContext, now: number) {
    this.session = session
    this.context = context
    this.peer = peer
    const { maxMailboxBytes, maxVolatileKeys } = context.limits
    this.mailbox = new Mailbox(peer, maxMailboxBytes, maxVolatileKeys, context.tally)
    this.times = Heartbeat.begin(now)
  }

  /** Unanswered requests; made at the first one, because most clients have none most of the time. */
  get unanswered(): Unanswered<Frame> {
    return (this.#unanswered ??= new Unanswered(this.context.limits))
  }

  // --- out ---------------------------------------------------------------------------------------

  /** Sends a control frame, which is never dropped. */
  send(frame: ServerFrame): void {
    this.mailbox.control(new Line(encode(frame)))
    // Events are dropped at this limit. A client that sends requests without reading answers is closed.
    if (this.mailbox.answers > this.context.limits.maxMailboxBytes) {
      this.close("slowConsumer", "maxMailboxBytes")
    }
  }

  sendError(id: number | undefined, refused: Refusal): void {
    this.context.refused(refused.limit ?? refused.code, refused.most, refused.why)
    this.send(errorFrame(refused, id))
  }

  /** Answers a request, unless it is answered already. */
  answer(id: number, frame: ServerFrame): void {
    if (!this.unanswered.end(id)) return
    this.send(frame)
    this.readOrPause()
  }

  /** Writes a message that answers a request. The socket must take bytes. */
  answerWith(id: number, message: Outgoing): void {
    this.unanswered.end(id)
    this.mailbox.control(message)
    this.readOrPause()
  }

  refuse(id: number, refused: Refusal): void {
    if (this.stopped || !this.unanswered.end(id)) return
    this.sendError(id, refused)
    this.readOrPause()
  }

  // --- reading the socket --------------------------------------------------------------------------

  /** Pauses reading while unanswered requests take too many bytes, and resumes after. */
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

  /** Counts that events were dropped or a channel fell behind, because the socket is too slow. */
  dropped(): void {
    this.fork(Metric.update(metrics.backlogsDropped, 1))
    if (this.context.slowConsumer === "gap") return this.context.refused("maxMailboxBytes")
    return this.close("slowConsumer", "maxMailboxBytes")
  }

  /** Logs that the missed events of a channel could not be read, even after retries. */
  unread(channel: string, cause: Cause.Cause<unknown>): Effect.Effect<void> {
    this.context.refused("replay")
    return this.context.failed(`a replay of "${channel}" failed`, cause)
  }

  // --- close ---------------------------------------------------------------------------------------

  /** Whether the token has expired. The caller closes with `tokenExpired`. */
  hasExpired(now = this.context.clock()): boolean {
    return now >= this.principal.expiresAt
  }

  /** Whether a close frame was sent or received. */
  get isClosing(): boolean {
    return this.times.closing !== undefined
  }

  /** Whether no request may begin, because its answer could not arrive; false while it drains. */
  get stopped(): boolean {
    return this.#life !== "on"
  }

  /** Whether the socket is closed. */
  get ended(): boolean {
    return this.#life === "ended"
  }

  /** Tells a member of a presence channel what becomes of the session, until `stand`. */
  seat(member: SeatedMember): void {
    this.#members ??= new Set()
    this.#members.add(member)
  }

  stand(member: SeatedMember): void {
    this.#members?.delete(member)
  }

  /** Closes a socket on which nothing is heard. Such a client does not answer, so it ends later. */
  closeSilent(): void {
    this.close("nothingHeard", "pingTimeout")
    for (const member of this.#members ?? []) member.away()
  }

  /** Closes the socket with the code's sentence and `detail`. The first close wins. */
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
    if (putsOut.has(code)) for (const member of this.#members ?? []) member.absent()
    this.peer.close(code, reason)
    // Resumes reading for the answer to the close frame.
    if (this.#paused) this.peer.resume()
    // A full socket never takes the close frame, so the client must not wait for it. A slow one may
    // still take it within the grace.
    if (this.mailbox.blocked && code !== closeCodes.slowConsumer.code) this.peer.terminate()
  }

  /** Marks the session as ended: no work begins any more. */
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

  /** Interrupts the running fibers, in later steps of the loop. */
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
