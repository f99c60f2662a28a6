/**
 * One WebSocket and everything it holds: who it is, its requests, its mailbox, its clock.
 *
 * The session's one fiber is `patience`: it sleeps until the socket takes no more bytes. Nothing is
 * made before it is needed, because most sessions need little. What the socket says is handled at once
 * and synchronously as far as it goes. Knows frames; what they ask for is `Requests`', the handshake
 * and the other sessions are the door's.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import {
  type ClientFrame,
  decodeClientFrame,
  encode,
  type FrameOf,
  type ServerFrame
} from "../../../Frame.ts"
import { closeCodes, type CloseName, closeReason, errorCodes, version } from "../../../Protocol.ts"
import type { Credentials } from "../../ServerOptions.ts"
import { Bucket } from "./bucket.ts"
import * as Heartbeat from "./heartbeat.ts"
import { Line } from "../hub/outgoing.ts"
import { Mailbox, type MailboxOwner } from "./mailbox.ts"
import * as metrics from "../metrics.ts"
import { type Patient, wait } from "./patience.ts"
import type { Peer } from "./peer.ts"
import { anonymous, closeFor, prove, revoked } from "./proof.ts"
import { type ChannelFrame, type Owner, Requests } from "./requests.ts"
import {
  errorFrame,
  type LimitName,
  overLimit,
  type Principal,
  type Refusal,
  refusal,
  type SessionContext
} from "./sessionContext.ts"
import * as turns from "../turns.ts"
import { Unanswered } from "./unanswered.ts"
import { weightOf } from "./weight.ts"

/** One for all sockets: its bytes are made once. */
const pingFrame = new Line(encode({ type: "ping" }))

/** The door as its sessions see it. */
export interface Gate {
  /** Counts the session in for its identity; `false` when there are too many. */
  readonly admit: (session: Session) => boolean
  /** The socket is closed. */
  readonly leave: (session: Session) => void
}

export class Session implements MailboxOwner, Owner, Patient {
  readonly id: string
  readonly peer: Peer
  readonly mailbox: Mailbox
  readonly patience: number
  readonly #context: SessionContext
  readonly #gate: Gate
  readonly #credentials: Omit<Credentials, "token">
  #asked: Requests | undefined
  readonly #frames: Bucket
  #authentications: Bucket | undefined
  #fiber: Fiber.Fiber<void> | undefined
  /** Work under way. */
  #fibers: Set<Fiber.Fiber<void>> | undefined
  readonly unanswered: Unanswered<Decoded>
  #paused = false
  #phase: "new" | "greeting" | "open" = "new"
  #principal = anonymous
  #ended = false
  #times: Heartbeat.Times
  /** Wakes the session's fiber when the socket is full. */
  #wake: (() => void) | undefined

  constructor(
    id: string,
    peer: Peer,
    credentials: Omit<Credentials, "token">,
    context: SessionContext,
    gate: Gate
  ) {
    const { limits } = context
    const now = context.clock()
    this.id = id
    this.peer = peer
    this.#credentials = credentials
    this.#context = context
    this.#gate = gate
    this.patience = limits.blocked
    this.#times = Heartbeat.begin(now)
    this.unanswered = new Unanswered(limits)
    this.#frames = new Bucket(limits.frames, now)
    this.mailbox = new Mailbox(this, limits.mailboxBytes)
  }

  /** Begins the session's fiber. */
  start(): void {
    this.#fiber = this.#context.start(wait(this))
  }

  get address(): string {
    return this.#credentials.address
  }

  get principal(): Principal {
    return this.#principal
  }

  /** Who the session is, as text; empty without a name. */
  get key(): string {
    return this.#principal.key
  }

  /** Sends a frame of the session itself; never dropped. */
  send(frame: ServerFrame): void {
    this.mailbox.control(new Line(encode(frame)))
    // Events are dropped at the same bound, but a client that asks on without reading must go.
    if (this.mailbox.answers > this.#context.limits.mailboxBytes) {
      this.close("slowConsumer", "mailboxBytes")
    }
  }

  /** Tells a client that is past its hello when to come back. */
  sayBye(reconnectAfter: number): void {
    if (this.#phase === "open") this.send({ type: "bye", reconnectAfter })
  }

  /** Tells a client that is past its hello how the source is. */
  sendStatus(source: "up" | "down"): void {
    if (this.#phase === "open") this.send({ type: "status", source })
  }

  /** Says why, once: the sentence of the code, with what is special about this close. */
  close(name: CloseName, limit?: LimitName, detail?: string): void {
    this.#close(closeCodes[name].code, closeReason(name, detail), limit)
  }

  #close(code: number, reason: string, limit?: LimitName): void {
    if (this.#isClosing) return
    this.#times.closing = this.#context.clock()
    if (code !== closeCodes.draining.code) {
      this.#context.refused(limit ?? String(code))
      // What was asked before and is not begun is not done: nobody would hear of it.
      this.#asked?.stop()
    }
    this.peer.close(code, reason)
    // The answer to a close frame must be read.
    if (this.#paused) this.peer.resume()
    // A full pipe never takes the close frame: do not make its owner wait for it. A slow one may
    // still take it, within the grace.
    if (this.mailbox.blocked && code !== closeCodes.slowConsumer.code) this.peer.terminate()
  }

  terminate(): void {
    this.peer.terminate()
  }

  /** Asks `authorize` about every subscription again; those it refuses now are ended. */
  get reauthorize(): Effect.Effect<void> {
    return this.#asked?.reauthorize ?? Effect.void
  }

  // --- the session's fiber -----------------------------------------------------------------------

  isBlocked(): boolean {
    return this.mailbox.blocked
  }

  onBlocked(wake: (() => void) | undefined): void {
    this.#wake = wake
  }

  drained(): void {
    this.mailbox.drained()
  }

  stuck(): void {
    this.close("slowConsumer", "blocked")
    this.peer.terminate()
  }

  // --- what the mailbox says -----------------------------------------------------------------------

  blocked(): void {
    this.#wake?.()
  }

  dropped(): void {
    this.fork(Metric.update(metrics.backlogsDropped, 1))
    if (this.#context.slowConsumer === "gap") return this.#context.refused("mailboxBytes")
    return this.close("slowConsumer", "mailboxBytes")
  }

  resumes(channel: string): boolean {
    return this.#asked?.resumes(channel) === true
  }

  behind(): void {
    this.#asked?.catchUp()
  }

  // --- time ----------------------------------------------------------------------------------------

  /** Called about once per second: greets, pings and removes by absolute times, without own timers. */
  tick(now: number): void {
    const seen = {
      phase: this.#phase,
      closing: this.peer.closing(),
      paused: this.#paused,
      // Looked up here, so that a write costs nothing but the write.
      written: this.peer.written(),
      expiresAt: this.#principal.expiresAt
    }
    const { action, times } = Heartbeat.beat(this.#times, seen, this.#context.limits, now)
    this.#times = times
    switch (action) {
      case "nothing":
        return
      case "ping":
        return this.mailbox.control(pingFrame)
      case "cut":
        return this.peer.terminate()
      case "noHello":
        return this.close("noHello", "hello")
      case "tokenExpired":
        return this.close("tokenExpired")
      case "nothingHeard":
        return this.close("nothingHeard", "slack")
    }
  }

  get #isClosing(): boolean {
    return this.#times.closing !== undefined
  }

  // --- what the socket says ----------------------------------------------------------------------

  receive(text: string): void {
    if (!this.#hears()) return
    const { frameDepth } = this.#context.limits
    this.#take(decodeClientFrame(text, { maxDepth: frameDepth }), weightOf(text))
  }

  receiveBinary(): void {
    if (!this.#hears()) return
    const fault = { code: "frame/malformed", id: undefined, reason: "a frame is a text message" }
    this.#take(Result.fail(fault as Refused), 0)
  }

  /** A ping or a pong of the WebSocket itself costs as much as a frame. */
  receiveControl(): void {
    this.#hears()
  }

  /** What came is no WebSocket, or too large: the close frame that says so is on its way. */
  broken(code: number): void {
    this.#close(code, "", code === closeCodes.messageTooLarge.code ? "frameBytes" : undefined)
  }

  /** The socket is closed: gives everything back. */
  closed(): void {
    this.#gate.leave(this)
    this.#ended = true
    this.#fiber?.interruptUnsafe()
    if (this.#asked !== undefined) this.#context.run(this.#asked.end)
    if (this.#fibers === undefined) return
    this.#context.run(
      Effect.forEach(
        this.#fibers,
        (fiber) => Effect.map(turns.ending.take(turns.one), () => fiber.interruptUnsafe()),
        { discard: true }
      )
    )
  }

  #hears(): boolean {
    const now = this.#context.clock()
    this.#times.received = now
    if (this.#isClosing) return false
    if (this.#frames.take(this.#context.limits.frames, now) > 0) {
      this.close("flooding", "frames", "too many messages")
      return false
    }
    return !this.hasExpired(now)
  }

  /**
   * Looked at by the clock, at each message and where a request begins: nothing is asked as somebody
   * whose proof has ended.
   */
  hasExpired(now = this.#context.clock()): boolean {
    if (now < this.#principal.expiresAt) return false
    this.close("tokenExpired")
    return true
  }

  #take(frame: Decoded, size: number): void {
    if (this.#phase === "new") return this.#greet(frame)
    // Told apart here, not when the token was looked at: the client hears of it at once.
    if (Result.isSuccess(frame) && frame.success.type === "hello") {
      return this.close("protocolViolation", undefined, "hello twice")
    }
    if (!this.unanswered.isEarly) this.#handle(frame, size)
    else if (!this.unanswered.keepEarly(frame, size)) return this.#tooMany()
    return this.answered()
  }

  /** Reads on only while what waits for its answer is little. */
  answered(): void {
    const full = this.unanswered.isFull
    if (full === this.#paused || this.#isClosing) return
    this.#paused = full
    if (!full) return this.peer.resume()
    this.#context.refused("unansweredBytes")
    this.peer.pause()
  }

  #tooMany(): void {
    this.close("flooding", "unanswered", "too many unanswered requests")
  }

  #handle(decoded: Decoded, size: number): void {
    if (Result.isFailure(decoded)) {
      const { code, id, reason } = decoded.failure
      const message =
        code === "frame/unknown" ? errorCodes[code].sentence : `The frame is not valid: ${reason}.`
      // An id that another request waits for must be answered by that one only.
      return this.#sendError(
        id === undefined || this.unanswered.has(id) ? undefined : id,
        reason.startsWith("nested")
          ? overLimit("frameDepth", code, message)
          : refusal(code, message)
      )
    }
    const frame = decoded.success
    if (frame.type === "pong" || frame.type === "hello") return
    const begun = this.unanswered.begin(frame.id, size)
    if (begun === "tooMany") return this.#tooMany()
    if (begun === "idTaken") {
      return this.#sendError(
        undefined,
        refusal("frame/malformed", "The id belongs to a request that is not answered yet.")
      )
    }
    if (frame.type === "authenticate") this.#authenticate(frame)
    else this.#requests.push(frame satisfies ChannelFrame)
  }

  // --- who it is ---------------------------------------------------------------------------------

  #greet(decoded: Decoded): void {
    if (Result.isFailure(decoded) || decoded.success.type !== "hello") {
      return this.close("protocolViolation", undefined, "the first frame is not hello")
    }
    const { token, version: spoken } = decoded.success
    if (spoken !== version) {
      return this.close("versionNotSupported", undefined, `version ${version}`)
    }
    this.#phase = "greeting"
    if (this.#context.authenticate === undefined) return this.#welcome(anonymous)
    this.unanswered.holdEarly()
    return this.fork(
      Effect.match(this.#prove(token), {
        onFailure: (refused) => {
          this.#sendError(undefined, refused)
          const [name, detail] = closeFor(refused)
          this.close(name, undefined, detail)
        },
        onSuccess: (principal) => {
          if (principal === revoked) this.close("revoked")
          else this.#welcome(principal)
        }
      })
    )
  }

  #welcome(principal: Principal): void {
    if (this.#ended || this.#isClosing) return
    this.#principal = principal
    if (!this.#gate.admit(this)) {
      return this.close("tooManySessions", "sessionsPerIdentity")
    }
    this.#phase = "open"
    const { frameBytes, ping, publishes, slack, subscriptions } = this.#context.limits
    this.send({
      type: "welcome",
      version,
      session: this.id,
      ping,
      slack,
      ...this.#expires(),
      limits: {
        subscriptions,
        frameBytes,
        // A whole number on the wire; a slower rate than 1 is learnt from `retryAfter`.
        publishPerSecond: Math.max(1, Math.floor(publishes.perSecond))
      }
    })
    if (!this.#context.sourceIsUp()) this.send({ type: "status", source: "down" })
    for (const { frame, size } of this.unanswered.takeEarly()) this.#handle(frame, size)
    this.answered()
  }

  /** A fresh token on the same socket. What is asked after it is decided with it. */
  #authenticate({ id, token }: FrameOf<ClientFrame, "authenticate">): void {
    const { limits } = this.#context
    const now = this.#context.clock()
    this.#authentications ??= new Bucket(limits.authentications, now)
    const wait = this.#authentications.take(limits.authentications, now)
    if (wait > 0) {
      const reason = "The client authenticates too often: slow down."
      return this.#requests.refuse(id, overLimit("authentications", "rate/limited", reason, wait))
    }
    const accept = (principal: Principal | typeof revoked): void => {
      if (principal === revoked) return this.close("revoked")
      if (principal.key !== this.#principal.key) {
        return this.close("forbidden", undefined, "another identity")
      }
      this.#principal = principal
      this.#requests.answer(id, { type: "authenticated", id, ...this.#expires() })
      return this.fork(this.#requests.reauthorize)
    }
    return this.#requests.enqueue(
      id,
      Effect.match(this.#prove(token), {
        onFailure: (refused) => this.#requests.refuse(id, refused),
        onSuccess: accept
      })
    )
  }

  #prove(token: string | undefined) {
    return prove(this.#context, { ...this.#credentials, token })
  }

  #expires(): { readonly expires?: number } {
    const { expiresAt } = this.#principal
    return expiresAt === Infinity
      ? {}
      : { expires: Math.max(0, Math.ceil(expiresAt - this.#context.clock())) }
  }

  // --- out ---------------------------------------------------------------------------------------

  #sendError(id: number | undefined, refused: Refusal): void {
    this.#context.refused(refused.limit ?? refused.code)
    this.send(errorFrame(refused, id))
  }

  /** Runs on a fiber that ends with the session. */
  fork(effect: Effect.Effect<void>): void {
    if (this.#ended) return
    const fiber = this.#context.run(effect)
    if (fiber.pollUnsafe() !== undefined) return
    const fibers = (this.#fibers ??= new Set())
    fibers.add(fiber)
    fiber.addObserver(() => fibers.delete(fiber))
  }

  get #requests(): Requests {
    return (this.#asked ??= new Requests(this, this.#context))
  }
}

/** A frame that cannot be used: `FrameFault`, or a message that is no text. */
interface Refused {
  readonly code: "frame/malformed" | "frame/unknown"
  readonly id: number | undefined
  readonly reason: string
}

type Decoded = Result.Result<ClientFrame, Refused>
