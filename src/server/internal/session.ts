/**
 * One WebSocket and everything it holds: who it is, its requests, its mailbox, its clock.
 *
 * The session's one fiber sleeps until the socket takes no more bytes, then is patient for so long.
 * What the socket says is handled at once and synchronously as far as it goes. Knows frames; what
 * they ask for is `Requests`', the handshake and the other sessions are the door's.
 */
import * as Cause from "effect/Cause"
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
} from "../../Frame.ts"
import { CloseCode, errorRetry, version } from "../../Protocol.ts"
import type { AuthRefused, Credentials } from "../ServerOptions.ts"
import { Bucket } from "./bucket.ts"
import { textFrame } from "./frames.ts"
import { Mailbox } from "./mailbox.ts"
import * as metrics from "./metrics.ts"
import type { Peer } from "./peer.ts"
import { type ChannelFrame, Requests } from "./requests.ts"
import { type Principal, type Refusal, refusal, type SessionContext } from "./sessionContext.ts"

/** Time between a close frame and cutting the socket, when the peer does not answer. */
const closeGraceMillis = 2000

const pingFrame = textFrame(encode({ type: "ping" }))

const anonymous: Principal = { identity: undefined, key: "", expiresAt: Infinity }

/** The session as the door sees it when it says who it is. */
export interface Gate {
  /** Counts the session in for its identity; `false` when there are too many. */
  readonly admit: (session: Session, key: string) => boolean
}

export class Session {
  readonly id: string
  readonly #context: SessionContext
  readonly #gate: Gate
  readonly #peer: Peer
  readonly #credentials: Omit<Credentials, "token">
  readonly #mailbox: Mailbox
  readonly #requests: Requests
  readonly #frames: Bucket
  readonly #authentications: Bucket
  readonly #fibers = new Set<Fiber.Fiber<void>>()
  /** Frames that came while the client's token was looked at. */
  #early: Array<Result.Result<ClientFrame, Refused>> | undefined
  #phase: "new" | "greeting" | "open" = "new"
  #principal = anonymous
  #ended = false
  #openedAt: number
  #receivedAt: number
  #sentAt: number
  #pingedAt = 0
  #closingAt: number | undefined
  /** Wakes the session's fiber when the socket is full. */
  #onBlocked: (() => void) | undefined

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
    this.#peer = peer
    this.#credentials = credentials
    this.#context = context
    this.#gate = gate
    this.#openedAt = this.#receivedAt = this.#sentAt = now
    this.#frames = new Bucket(limits.frames, now)
    this.#authentications = new Bucket(limits.authentications, now)
    this.#mailbox = new Mailbox({
      write: (frame) => this.#write(frame),
      limit: limits.mailboxBytes,
      onBlocked: () => this.#onBlocked?.(),
      onDropped: () => this.#dropped()
    })
    this.#requests = new Requests(
      {
        mailbox: this.#mailbox,
        principal: () => this.#principal,
        send: (frame) => this.send(frame),
        fork: (effect) => this.#fork(effect)
      },
      context
    )
  }

  /** Who the session is, as text; empty without a name. */
  get key(): string {
    return this.#principal.key
  }

  /** Sends a frame of the session itself; never dropped. */
  send(frame: ServerFrame): void {
    this.#mailbox.control(textFrame(encode(frame)))
  }

  /** Tells a client that is past its hello how the source is. */
  sendStatus(source: "up" | "down"): void {
    if (this.#phase === "open") this.send({ type: "status", source })
  }

  close(code: number, reason: string): void {
    if (this.#closingAt !== undefined) return
    this.#closingAt = this.#context.clock()
    this.#peer.close(code, reason)
    // A full pipe never takes the close frame: do not make its owner wait for it.
    if (this.#mailbox.blocked) this.#peer.terminate()
  }

  terminate(): void {
    this.#peer.terminate()
  }

  /** Asks `authorize` about every subscription again; those it refuses now are ended. */
  get reauthorize(): Effect.Effect<void> {
    return this.#requests.reauthorize
  }

  // --- the session's fiber -----------------------------------------------------------------------

  get run(): Effect.Effect<void> {
    const drained = Effect.timeoutOrElse(this.#drain(), {
      duration: this.#context.limits.blocked,
      orElse: () =>
        Effect.sync(() => {
          this.close(CloseCode.slowConsumer, "slow consumer")
          this.#peer.terminate()
        })
    })
    return Effect.andThen(this.#full(), drained).pipe(
      Effect.forever,
      Effect.ensuring(Effect.suspend(() => this.#end()))
    )
  }

  /** Completes when the socket takes no more bytes. */
  #full(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.#mailbox.blocked) return resume(Effect.void)
      this.#onBlocked = () => resume(Effect.void)
      return Effect.sync(() => {
        this.#onBlocked = undefined
      })
    })
  }

  /** Completes when the socket took the backlog, or part of it. */
  #drain(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const back = this.#peer.onDrain(() => {
        this.#onBlocked = undefined
        this.#mailbox.drained()
        resume(Effect.void)
      })
      return Effect.sync(back)
    })
  }

  #end(): Effect.Effect<void> {
    this.#ended = true
    for (const fiber of this.#fibers) fiber.interruptUnsafe()
    return this.#requests.end
  }

  #dropped(): void {
    this.#fork(Metric.update(metrics.backlogsDropped, 1))
    if (this.#context.slowConsumer === "gap") return
    this.close(CloseCode.slowConsumer, "slow consumer")
  }

  /** Called about once per second: greets, pings and removes by absolute times, without own timers. */
  tick(now: number): void {
    const { hello, ping, slack } = this.#context.limits
    if (this.#closingAt !== undefined) {
      if (now - this.#closingAt >= closeGraceMillis) this.#peer.terminate()
      return
    }
    if (this.#phase === "new") {
      if (now - this.#openedAt >= hello) this.close(CloseCode.noHello, "no hello in time")
      return
    }
    if (now >= this.#principal.expiresAt) {
      return this.close(CloseCode.tokenExpired, "the token has expired")
    }
    // Never without a ping before: a process that slept has not listened either.
    const asked = this.#pingedAt > this.#receivedAt && now - this.#pingedAt >= slack
    if (asked && now - this.#receivedAt >= ping + slack) {
      return this.close(CloseCode.nothingHeard, "nothing heard")
    }
    const quiet = now - Math.max(this.#receivedAt, this.#pingedAt) >= ping
    if (quiet || now - this.#sentAt >= ping) {
      this.#pingedAt = now
      this.#mailbox.control(pingFrame)
    }
  }

  // --- what the socket says ----------------------------------------------------------------------

  receive(text: string): void {
    if (!this.#hears()) return
    const { frameDepth } = this.#context.limits
    this.#take(decodeClientFrame(text, { maxDepth: frameDepth }))
  }

  receiveBinary(): void {
    if (!this.#hears()) return
    this.#take(
      Result.fail({ code: "frame/malformed", id: undefined, reason: "a frame is a text message" })
    )
  }

  #hears(): boolean {
    const now = this.#context.clock()
    this.#receivedAt = now
    if (this.#closingAt !== undefined) return false
    if (this.#frames.take(this.#context.limits.frames, now) === 0) return true
    this.close(CloseCode.flooding, "too many messages")
    return false
  }

  #take(frame: Result.Result<ClientFrame, Refused>): void {
    if (this.#phase === "new") return this.#greet(frame)
    // Told apart here, not when the token was looked at: the client hears of it at once.
    if (Result.isSuccess(frame) && frame.success.type === "hello") {
      return this.close(CloseCode.protocolViolation, "hello twice")
    }
    if (this.#early === undefined) this.#handle(frame)
    else if (this.#early.push(frame) > this.#context.limits.unanswered) {
      this.close(CloseCode.flooding, "too many unanswered requests")
    }
  }

  #handle(decoded: Result.Result<ClientFrame, Refused>): void {
    if (Result.isFailure(decoded)) {
      const { code, id, reason } = decoded.failure
      return this.#sendError(id, refusal(code, `The frame was refused: ${reason}.`))
    }
    const frame = decoded.success
    if (frame.type === "pong" || frame.type === "hello") return
    if (!this.#requests.begin(frame.id)) {
      return this.#sendError(
        undefined,
        refusal("frame/malformed", "The id belongs to a request that is not answered yet.")
      )
    }
    if (this.#requests.unanswered > this.#context.limits.unanswered) {
      return this.close(CloseCode.flooding, "too many unanswered requests")
    }
    if (frame.type === "authenticate") this.#authenticate(frame)
    else this.#requests.push(frame satisfies ChannelFrame)
  }

  // --- who it is ---------------------------------------------------------------------------------

  #greet(decoded: Result.Result<ClientFrame, Refused>): void {
    if (Result.isFailure(decoded) || decoded.success.type !== "hello") {
      return this.close(CloseCode.protocolViolation, "the first frame is not hello")
    }
    const { token, version: spoken } = decoded.success
    if (spoken !== version) {
      return this.close(CloseCode.versionNotSupported, `this server speaks version ${version}`)
    }
    this.#phase = "greeting"
    if (this.#context.authenticate === undefined) return this.#welcome(anonymous)
    this.#early = []
    this.#fork(
      this.#prove(token).pipe(
        Effect.match({
          onFailure: (refused) => {
            this.#sendError(undefined, refused)
            this.close(...closeFor(refused))
          },
          onSuccess: (principal) => this.#welcome(principal)
        })
      )
    )
    return undefined
  }

  #welcome(principal: Principal): void {
    if (this.#ended || this.#closingAt !== undefined) return
    this.#principal = principal
    if (!this.#gate.admit(this, principal.key)) {
      return this.close(CloseCode.tooManySessions, "too many sessions")
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
      limits: { subscriptions, frameBytes, publishPerSecond: publishes.perSecond }
    })
    if (!this.#context.sourceIsUp()) this.send({ type: "status", source: "down" })
    const early = this.#early ?? []
    this.#early = undefined
    for (const frame of early) this.#handle(frame)
  }

  /** A fresh token on the same socket. */
  #authenticate({ id, token }: FrameOf<ClientFrame, "authenticate">): void {
    const { limits } = this.#context
    const wait = this.#authentications.take(limits.authentications, this.#context.clock())
    if (wait > 0) {
      return this.#requests.refuse(id, refusal("rate/limited", "Authenticate less often.", wait))
    }
    const accept = (principal: Principal) => {
      if (principal.key !== this.#principal.key) {
        this.close(CloseCode.forbidden, "another identity")
        return Effect.void
      }
      this.#principal = principal
      this.#requests.answer(id, { type: "authenticated", id, ...this.#expires() })
      return this.#requests.reauthorize
    }
    this.#fork(
      Effect.matchEffect(this.#prove(token), {
        onFailure: (refused) => Effect.sync(() => this.#requests.refuse(id, refused)),
        onSuccess: accept
      })
    )
  }

  #prove(token: string | undefined): Effect.Effect<Principal, Refusal> {
    const { authenticate, limits } = this.#context
    if (authenticate === undefined) {
      return Effect.fail(refusal("auth/invalid", "This server does not take tokens."))
    }
    return Effect.suspend(() => authenticate({ ...this.#credentials, token })).pipe(
      Effect.timeoutOrElse({
        duration: limits.authorize,
        orElse: () => Effect.die(new Error("authenticate took too long"))
      }),
      Effect.mapError((refused: AuthRefused) => refusal(refused.code, refused.message)),
      Effect.filterOrFail(
        ({ expiresAt }) => expiresAt > this.#context.clock(),
        () => refusal("auth/expired", "The token has expired. Get a fresh one.")
      ),
      Effect.catchDefect((defect) =>
        Effect.andThen(
          Effect.logError("authenticate failed", Cause.die(defect)),
          Effect.fail(refusal("server/internal", "The server could not tell. Try again later."))
        )
      )
    )
  }

  #expires(): { readonly expires?: number } {
    const { expiresAt } = this.#principal
    return expiresAt === Infinity
      ? {}
      : { expires: Math.max(0, Math.ceil(expiresAt - this.#context.clock())) }
  }

  // --- out ---------------------------------------------------------------------------------------

  #sendError(id: number | undefined, { code, message }: Refusal): void {
    this.send({
      type: "error",
      ...(id === undefined ? {} : { id }),
      code,
      message,
      retry: errorRetry[code]
    })
  }

  #write(frame: Uint8Array): boolean {
    // Data after a close frame is ignored by the peer; a destroyed socket takes nothing.
    if (!this.#peer.isOpen()) return true
    this.#sentAt = this.#context.coarseClock()
    return this.#peer.write(frame)
  }

  #fork(effect: Effect.Effect<void>): void {
    if (this.#ended) return
    const fiber = this.#context.run(effect)
    if (fiber.pollUnsafe() !== undefined) return
    this.#fibers.add(fiber)
    fiber.addObserver(() => this.#fibers.delete(fiber))
  }
}

/** A frame that cannot be used: `FrameFault`, or a message that is no text. */
interface Refused {
  readonly code: "frame/malformed" | "frame/unknown"
  readonly id: number | undefined
  readonly reason: string
}

/** What follows a refused hello. */
const closeFor = ({ code }: Refusal): readonly [number, string] =>
  code === "auth/expired"
    ? [CloseCode.tokenExpired, "the token has expired"]
    : code === "server/internal"
      ? [CloseCode.flooding, "overloaded"]
      : [CloseCode.forbidden, "not let in"]
