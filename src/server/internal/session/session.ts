/**
 * One socket from its first message to its end: hello, tokens, heartbeat, and the routing of frames.
 *
 * The session's one fiber is `blockedSocket`, which sleeps until the socket is full. Objects are made
 * when needed, because most sessions need few. Frames are handled synchronously as far as possible.
 * Calls go one way: the socket and the door call the session, it calls `Requests` and the `Port`, and
 * neither calls it back.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import {
  type ClientFrame,
  decodeClientFrame,
  encode,
  FrameFault,
  type FrameOf
} from "../../../Frame.ts"
import { tooDeep } from "../../../internal/frameText.ts"
import {
  closeCodes,
  type CloseName,
  errorCodes,
  type SourceState,
  version
} from "../../../Protocol.ts"
import type { Credentials, Rate } from "../../ServerOptions.ts"
import { Bucket } from "../limits/tokenBucket.ts"
import * as Heartbeat from "./heartbeat.ts"
import { Line } from "../hub/outgoing.ts"
import { type Patient, wait } from "./blockedSocket.ts"
import type { Peer } from "./peer.ts"
import { Port } from "./port.ts"
import { anonymous, closeFor, prove, revoked } from "../auth/authenticate.ts"
import { type ChannelRequest, Requests } from "./requests.ts"
import type { Principal } from "../auth/callbacks.ts"
import { overLimit, type Refusal, refusal } from "../limits/refusalText.ts"
import type { SessionContext } from "./sessionContext.ts"
import { weightOf } from "./frameCost.ts"

/** One ping for all sockets, so that its bytes are made once. */
const pingFrame = new Line(encode({ type: "ping" }))

/** The functions of the door that its sessions call. */
export interface Gate {
  /** Counts the session for its identity. Returns `false` at the limit `maxSessionsPerIdentity`. */
  readonly admit: (session: Session) => boolean
  /** Forgets the session: its socket is closed. */
  readonly leave: (session: Session) => void
}

export class Session implements Patient {
  readonly port: Port<Received>
  readonly #gate: Gate
  readonly #credentials: Omit<Credentials, "token">
  #asked: Requests | undefined
  readonly #frames: Bucket
  #authentications: Bucket | undefined
  #fiber: Fiber.Fiber<void> | undefined
  #phase: Heartbeat.SessionNow["phase"] = "new"

  constructor(
    id: string,
    peer: Peer,
    credentials: Omit<Credentials, "token">,
    context: SessionContext,
    gate: Gate
  ) {
    const now = context.clock()
    this.port = new Port(id, peer, context, now)
    this.#credentials = credentials
    this.#gate = gate
    this.#frames = new Bucket(context.limits.frameRate, now)
  }

  start(): void {
    this.#fiber = this.#context.start(wait(this))
  }

  get #context(): SessionContext {
    return this.port.context
  }

  // --- called by the door --------------------------------------------------------------------------

  get id(): string {
    return this.port.session
  }

  get address(): string {
    return this.#credentials.address
  }

  /** The key of the session's identity; empty for an anonymous session. */
  get key(): string {
    return this.port.principal.key
  }

  get principal(): Principal {
    return this.port.principal
  }

  /** Sends `bye` to a client that is past its hello. `reconnectAfter`: milliseconds. */
  sayBye(reconnectAfter: number): void {
    if (this.#phase === "open") this.port.send({ type: "bye", reconnectAfter })
  }

  /** Sends the state of the source to a client that is past its hello. */
  sendStatus(source: SourceState): void {
    if (this.#phase === "open") this.port.send({ type: "status", source })
  }

  /** Closes the socket with a name from the table of close codes; the first close wins. */
  close(name: CloseName): void {
    this.port.close(name)
  }

  terminate(): void {
    this.port.peer.terminate()
  }

  /** The number of subscriptions. */
  get subscriptions(): number {
    return this.#asked?.subscriptions ?? 0
  }

  /** Asks `authorize` about every subscription again, and ends those that it rejects. */
  get reauthorize(): Effect.Effect<void> {
    return this.#asked?.reauthorize ?? Effect.void
  }

  /** Called about once per second: pings, closes or cuts the socket when it is due. */
  tick(now: number): void {
    const { paused, peer, principal, times } = this.port
    const seen = {
      phase: this.#phase,
      closing: peer.closing(),
      paused,
      // Read here, so that a write itself costs nothing more.
      written: peer.written(),
      expiresAt: principal.expiresAt
    }
    const beat = Heartbeat.beat(times, seen, this.#context.limits, now)
    this.port.times = beat.times
    switch (beat.action) {
      case "nothing":
        return
      case "ping":
        return this.port.mailbox.control(pingFrame)
      case "cut":
        return peer.terminate()
      case "noHello":
        return this.port.close("noHello", "helloTimeout")
      case "tokenExpired":
        return this.port.close("tokenExpired")
      case "nothingHeard":
        return this.port.closeSilent()
    }
  }

  /** Lets channels that are behind catch up: the socket takes bytes again. */
  readOn(): void {
    this.#asked?.readOn()
  }

  // --- called by the socket ----------------------------------------------------------------------

  /** `bytes`: the size of the message. */
  receive(text: string, bytes = text.length): void {
    this.#context.tally.bytesIn += bytes
    if (!this.#hears()) return
    const { maxFrameDepth } = this.#context.limits
    this.#take(decodeClientFrame(text, { maxDepth: maxFrameDepth }), weightOf(text))
  }

  receiveBinary(bytes = 0): void {
    this.#context.tally.bytesIn += bytes
    if (!this.#hears()) return
    const reason = "a frame is a text message"
    this.#take(Result.fail(new FrameFault({ code: "frame/malformed", id: undefined, reason })), 0)
  }

  /** A ping or pong of the WebSocket counts as a frame in `frameRate`. */
  receiveControl(): void {
    this.#hears()
  }

  /** The peer broke the protocol or sent too large a message. `ws` has sent the close frame. */
  broken(code: number): void {
    this.port.closeWith(
      code,
      "",
      code === closeCodes.messageTooLarge.code ? "maxFrameBytes" : undefined
    )
  }

  /** Releases everything: the socket is closed. */
  closed(): void {
    this.#gate.leave(this)
    this.port.end()
    this.#fiber?.interruptUnsafe()
    if (this.#asked !== undefined) this.#context.run(this.#asked.end)
    this.port.interrupt()
  }

  #hears(): boolean {
    const now = this.#context.clock()
    this.port.times.received = now
    if (this.port.isClosing) return false
    if (this.#frames.take(this.#context.limits.frameRate, now) > 0) {
      this.port.close("flooding", "frameRate", "too many messages")
      return false
    }
    if (!this.port.hasExpired(now)) return true
    this.port.close("tokenExpired")
    return false
  }

  #take(frame: Decoded, size: number): void {
    if (this.#phase === "new") return this.#greet(frame)
    // Checked here, also while the token is checked, so that the client is closed at once.
    if (Result.isSuccess(frame) && frame.success.type === "hello") {
      return this.port.close("protocolViolation", undefined, "hello twice")
    }
    const received = { frame, at: this.port.times.received }
    if (!this.port.unanswered.isEarly) this.#handle(received, size)
    else if (!this.port.unanswered.keepEarly(received, size)) return this.#tooMany()
    return this.port.readOrPause()
  }

  #tooMany(): void {
    this.port.close("flooding", "maxUnanswered", "too many unanswered requests")
  }

  #handle({ at, frame: decoded }: Received, size: number): void {
    if (Result.isFailure(decoded)) {
      const { code, id, reason } = decoded.failure
      const message =
        code === "frame/unknown" ? errorCodes[code].sentence : `The frame is not valid: ${reason}.`
      // Only that request answers with an id that it uses.
      return this.port.sendError(
        id === undefined || this.port.unanswered.has(id) ? undefined : id,
        reason === tooDeep(this.#context.limits.maxFrameDepth)
          ? overLimit("maxFrameDepth", code, message)
          : refusal(code, message)
      )
    }
    const frame = decoded.success
    if (frame.type === "pong" || frame.type === "hello") return
    if (frame.type === "ping") return this.port.send({ type: "pong" })
    const begun = this.port.unanswered.begin(frame.id, size)
    if (begun === "tooMany") return this.#tooMany()
    if (begun === "idTaken") {
      return this.port.sendError(
        undefined,
        refusal("frame/malformed", "The id belongs to a request that is not answered yet.")
      )
    }
    if (frame.type === "authenticate") this.#authenticate(frame)
    else this.#requests.push(frame satisfies ChannelRequest, at)
  }

  // --- the client's identity -----------------------------------------------------------------------

  #greet(decoded: Decoded): void {
    if (Result.isFailure(decoded) || decoded.success.type !== "hello") {
      return this.port.close("protocolViolation", undefined, "the first frame is not hello")
    }
    const { token, version: spoken } = decoded.success
    if (spoken !== version) {
      return this.port.close("versionNotSupported", undefined, `version ${version}`)
    }
    if (this.#context.isBlind()) {
      this.port.sendError(undefined, blind)
      return this.port.close("flooding", undefined, "revocations are unknown")
    }
    this.#phase = "greeting"
    if (this.#context.authenticate === undefined) return this.#welcome(anonymous)
    this.port.unanswered.holdEarly()
    return this.port.fork(
      this.#prove(
        token,
        (principal) => {
          if (principal === revoked) this.port.close("revoked")
          else this.#welcome(principal)
        },
        (refused) => {
          this.port.sendError(undefined, refused)
          const [name, detail] = closeFor(refused)
          this.port.close(name, undefined, detail)
        }
      )
    )
  }

  #welcome(principal: Principal): void {
    if (this.port.ended || this.port.isClosing) return
    this.port.principal = principal
    if (!this.#gate.admit(this)) {
      return this.port.close("tooManySessions", "maxSessionsPerIdentity")
    }
    this.#phase = "open"
    const {
      maxFrameBytes,
      maxSubscriptions,
      pingInterval,
      pingTimeout,
      publishRate,
      volatileRate
    } = this.#context.limits
    // A whole number on the wire. A client learns a rate below 1 from `retryAfter`.
    const whole = ({ perSecond }: Rate) => Math.max(1, Math.floor(perSecond))
    this.port.send({
      type: "welcome",
      version,
      session: this.id,
      ping: pingInterval,
      slack: pingTimeout,
      ...this.#expires(),
      limits: {
        subscriptions: maxSubscriptions,
        frameBytes: maxFrameBytes,
        publishPerSecond: whole(publishRate),
        volatilePerSecond: whole(volatileRate)
      }
    })
    if (!this.#context.sourceIsUp()) this.port.send({ type: "status", source: "down" })
    for (const { frame, size } of this.port.unanswered.takeEarly()) this.#handle(frame, size)
    this.port.readOrPause()
  }

  /** Replaces the token on the same socket. Later requests are decided with the new identity. */
  #authenticate({ id, token }: FrameOf<ClientFrame, "authenticate">): void {
    const { limits } = this.#context
    const now = this.#context.clock()
    this.#authentications ??= new Bucket(limits.authenticateRate, now)
    const wait = this.#authentications.take(limits.authenticateRate, now)
    if (wait > 0) {
      const reason = "The client authenticates too often: slow down."
      return this.port.refuse(id, overLimit("authenticateRate", "rate/limited", reason, wait))
    }
    const accept = (principal: Principal | typeof revoked): void => {
      if (principal === revoked) return this.port.close("revoked")
      if (principal.key !== this.port.principal.key) {
        return this.port.close("forbidden", undefined, "another identity")
      }
      this.port.principal = principal
      this.port.answer(id, { type: "authenticated", id, ...this.#expires() })
      return this.port.fork(this.#requests.reauthorize)
    }
    return this.#requests.enqueue(
      id,
      this.#prove(token, accept, (refused) => this.port.refuse(id, refused))
    )
  }

  #prove(
    token: string | undefined,
    accept: (principal: Principal | typeof revoked) => void,
    reject: (refused: Refusal) => void
  ): Effect.Effect<void> {
    const proved = prove(this.#context, { ...this.#credentials, token }, accept)
    return Effect.matchEffect(proved, {
      onFailure: (refused) => Effect.sync(() => reject(refused)),
      onSuccess: () => Effect.void
    })
  }

  #expires(): { readonly expires?: number } {
    const { expiresAt } = this.port.principal
    return expiresAt === Infinity
      ? {}
      : { expires: Math.max(0, Math.ceil(expiresAt - this.#context.clock())) }
  }

  get #requests(): Requests {
    return (this.#asked ??= new Requests(this.port))
  }
}

/** The refusal of a node that cannot read what was revoked. */
const blind: Refusal = {
  ...refusal("server/overloaded", "The server cannot check revocations now: try again later."),
  retryAfter: 2000
}

type Decoded = Result.Result<ClientFrame, FrameFault>

/** A frame of the client, and when the session received it. */
interface Received {
  readonly frame: Decoded
  readonly at: number
}
