/**
 * One WebSocket and everything it holds: its subscriptions, its requests, its mailbox, its clock.
 *
 * What the socket says is handled at once and synchronously as far as it goes; a request that must
 * wait (for `authorize`, for the source, for the database) waits on a fiber of its own, in order per
 * channel. The session's one fiber sleeps until the socket takes no more bytes. Knows frames and
 * channels; the handshake and the other sessions are the door's.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { type WebSocket } from "ws"
import type { Socket } from "node:net"
import type * as Channel from "../../Channel.ts"
import { type ClientFrame, decodeClientFrame, encode, type ServerFrame } from "../../Frame.ts"
import { channelNameFault, CloseCode, type ErrorCode, errorRetry, version } from "../../Protocol.ts"
import type { Realtime } from "../Realtime.ts"
import { hubKey } from "../Realtime.ts"
import type { Request, ResolvedLimits } from "../ServerOptions.ts"
import { textFrame } from "./frames.ts"
import { Mailbox } from "./mailbox.ts"
import * as metrics from "./metrics.ts"
import type { View } from "./openChannel.ts"
import type { Match, Registry } from "./registry.ts"

/** What all sessions of a door share. */
export interface SessionContext {
  readonly realtime: Realtime["Service"]
  readonly registry: Registry
  readonly limits: ResolvedLimits
  readonly authorize: (request: Request) => Effect.Effect<boolean>
  /** Runs an effect with the door's services; its failures are logged, never thrown. */
  readonly run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Milliseconds since 1970. */
  readonly clock: () => number
  /** The same, as of the door's last tick: free, so it may be asked on every write. */
  readonly coarseClock: () => number
  readonly sourceIsUp: () => boolean
}

type RequestFrame = Exclude<ClientFrame, { readonly type: "hello" | "pong" }>
type ChannelFrame = Exclude<RequestFrame, { readonly type: "authenticate" }>

/** A request that was refused: the code, and a sentence that is safe to show to anybody. */
interface Refusal {
  readonly code: ErrorCode
  readonly message: string
}

const refusal = (code: ErrorCode, message: string): Refusal => ({ code, message })

/** Time between a close frame and cutting the socket, when the peer does not answer. */
const closeGraceMillis = 2000

const pingFrame = textFrame(encode({ type: "ping" }))

export class Session {
  readonly id: string
  readonly #context: SessionContext
  readonly #ws: WebSocket
  readonly #socket: Socket
  readonly #mailbox: Mailbox
  readonly #subscriptions = new Map<string, Subscription>()
  /** Work of each channel that must stay in order; present only while some of it waits. */
  readonly #chains = new Map<string, Array<Effect.Effect<void>>>()
  readonly #fibers = new Set<Fiber.Fiber<void>>()
  /** Ids of requests that are not answered yet. */
  readonly #unanswered = new Set<number>()
  #inbox: Array<ChannelFrame> = []
  #working = false
  #greeted = false
  #closed = false
  #openedAt: number
  #receivedAt: number
  #sentAt: number
  #pingedAt = 0
  #closingAt: number | undefined
  /** Wakes the session's fiber when the socket is full. */
  #onBlocked: (() => void) | undefined

  constructor(id: string, ws: WebSocket, socket: Socket, context: SessionContext) {
    this.id = id
    this.#ws = ws
    this.#socket = socket
    this.#context = context
    this.#openedAt = this.#receivedAt = this.#sentAt = context.clock()
    this.#mailbox = new Mailbox({
      write: (frame) => this.#write(frame),
      limit: context.limits.mailboxBytes,
      onBlocked: () => this.#onBlocked?.(),
      onDropped: () => this.#fork(Metric.update(metrics.backlogsDropped, 1))
    })
  }

  /** Sends a frame of the session itself; never dropped. */
  send(frame: ServerFrame): void {
    this.#mailbox.control(textFrame(encode(frame)))
  }

  /** Tells a client that is past its hello how the source is. */
  sendStatus(source: "up" | "down"): void {
    if (this.#greeted) this.send({ type: "status", source })
  }

  close(code: number, reason: string): void {
    if (this.#closingAt !== undefined) return
    this.#closingAt = this.#context.clock()
    this.#ws.close(code, reason)
    // A full pipe never takes the close frame: do not make its owner wait for it.
    if (this.#mailbox.blocked) this.#ws.terminate()
  }

  terminate(): void {
    this.#ws.terminate()
  }

  /** The session's fiber: sleeps until the socket is full, then is patient for so long. */
  get run(): Effect.Effect<void> {
    return this.#live.pipe(Effect.ensuring(this.#end))
  }

  readonly #live: Effect.Effect<void> = Effect.suspend(() =>
    this.#blocked.pipe(
      Effect.andThen(
        this.#drain.pipe(
          Effect.timeoutOrElse({
            duration: this.#context.limits.blocked,
            orElse: () =>
              Effect.sync(() => {
                this.close(CloseCode.slowConsumer, "slow consumer")
                this.#ws.terminate()
              })
          })
        )
      ),
      Effect.forever
    )
  )

  readonly #blocked = Effect.callback<void>((resume) => {
    if (this.#mailbox.blocked) return resume(Effect.void)
    this.#onBlocked = () => resume(Effect.void)
    return Effect.sync(() => {
      this.#onBlocked = undefined
    })
  })

  readonly #drain = Effect.callback<void>((resume) => {
    const drained = () => {
      this.#onBlocked = undefined
      this.#mailbox.drained()
      resume(Effect.void)
    }
    if (!this.#socket.writableNeedDrain) return drained()
    this.#socket.once("drain", drained)
    return Effect.sync(() => this.#socket.off("drain", drained))
  })

  readonly #end: Effect.Effect<void> = Effect.suspend(() => {
    this.#closed = true
    this.#inbox = []
    this.#chains.clear()
    for (const fiber of this.#fibers) fiber.interruptUnsafe()
    const scopes = [...this.#subscriptions.values()].map(({ scope }) => scope)
    for (const { view } of this.#subscriptions.values()) view.sinks.delete(this.#mailbox)
    this.#subscriptions.clear()
    return Effect.forEach(scopes, (scope) => Scope.close(scope, Exit.void), { discard: true })
  })

  /** Called about once per second: greets, pings and removes by absolute times, without own timers. */
  tick(now: number): void {
    const { hello, ping, slack } = this.#context.limits
    if (this.#closingAt !== undefined) {
      if (now - this.#closingAt >= closeGraceMillis) this.#ws.terminate()
      return
    }
    if (!this.#greeted) {
      if (now - this.#openedAt >= hello) this.close(CloseCode.noHello, "no hello in time")
      return
    }
    if (now - this.#receivedAt >= ping + slack) {
      return this.close(CloseCode.nothingHeard, "nothing heard")
    }
    const quiet = now - Math.max(this.#receivedAt, this.#pingedAt) >= ping
    if (quiet || now - this.#sentAt >= ping) {
      this.#pingedAt = now
      this.#mailbox.control(pingFrame)
    }
  }

  receive(text: string): void {
    this.#receivedAt = this.#context.clock()
    if (this.#closingAt !== undefined) return
    const decoded = decodeClientFrame(text)
    if (!this.#greeted) return this.#greet(decoded)
    if (Result.isFailure(decoded)) {
      const { code, id, reason } = decoded.failure
      return this.#refuse(id, refusal(code, `The frame was refused: ${reason}.`))
    }
    const frame = decoded.success
    if (frame.type === "pong") return
    if (frame.type === "hello") {
      return this.close(CloseCode.protocolViolation, "hello twice")
    }
    if (this.#unanswered.has(frame.id)) {
      return this.#refuse(
        undefined,
        refusal("frame/malformed", "The id belongs to a request that is not answered yet.")
      )
    }
    this.#unanswered.add(frame.id)
    if (this.#unanswered.size > this.#context.limits.unanswered) {
      return this.close(CloseCode.flooding, "too many unanswered requests")
    }
    if (frame.type === "authenticate") {
      return this.#answerError(
        frame.id,
        refusal("auth/invalid", "This server does not take tokens.")
      )
    }
    this.#inbox.push(frame)
    this.#work()
  }

  receiveBinary(): void {
    this.#receivedAt = this.#context.clock()
    if (!this.#greeted)
      return this.close(CloseCode.protocolViolation, "the first frame is not hello")
    this.#refuse(undefined, refusal("frame/malformed", "A frame is a text message."))
  }

  #greet(decoded: ReturnType<typeof decodeClientFrame>): void {
    if (Result.isFailure(decoded) || decoded.success.type !== "hello") {
      return this.close(CloseCode.protocolViolation, "the first frame is not hello")
    }
    if (decoded.success.version !== version) {
      return this.close(CloseCode.versionNotSupported, `this server speaks version ${version}`)
    }
    this.#greeted = true
    const { frameBytes, ping, slack, subscriptions } = this.#context.limits
    this.send({
      type: "welcome",
      version,
      session: this.id,
      ping,
      slack,
      limits: { subscriptions, frameBytes, publishPerSecond: 20 }
    })
    if (!this.#context.sourceIsUp()) this.send({ type: "status", source: "down" })
  }

  // --- requests --------------------------------------------------------------------------------

  /** Handles requests in the order they came; `authorize` may make it wait. */
  #work(): void {
    if (this.#working) return
    this.#working = true
    this.#fork(
      Effect.gen({ self: this }, function* () {
        let frame: ChannelFrame | undefined
        while ((frame = this.#inbox.shift()) !== undefined) yield* this.#handle(frame)
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            this.#working = false
          })
        )
      )
    )
  }

  #handle(frame: ChannelFrame): Effect.Effect<void> {
    const { channel: name, id } = frame
    const reason = channelNameFault(name)
    if (reason !== undefined) {
      return this.#answer(id, refusal("channel/invalid-name", `The channel name ${reason}.`))
    }
    const match = this.#context.registry.match(name)
    if (match === undefined) {
      return this.#answer(id, refusal("channel/unknown", "There is no such channel."))
    }
    switch (frame.type) {
      case "unsubscribe":
        return this.#inOrder(name, this.#unsubscribe(id, name))
      case "subscribe":
        return this.#authorized(frame, match, "channel/forbidden", () =>
          this.#inOrder(name, this.#subscribe(frame, match.channel))
        )
      case "publish":
        if (!match.channel.publish) {
          return this.#answer(
            id,
            refusal("publish/forbidden", "Clients do not publish to this channel.")
          )
        }
        return this.#authorized(frame, match, "publish/forbidden", () =>
          this.#inOrder(name, this.#publish(frame, match.channel))
        )
    }
  }

  #authorized(
    frame: ChannelFrame & { readonly type: "subscribe" | "publish" },
    { definition, param }: Match,
    code: ErrorCode,
    then: () => Effect.Effect<void>
  ): Effect.Effect<void> {
    const request: Request = {
      channel: frame.channel,
      definition,
      params: param,
      action: frame.type
    }
    const verdict = Effect.suspend(() => this.#context.authorize(request)).pipe(
      Effect.timeoutOrElse({
        duration: this.#context.limits.authorize,
        orElse: () => Effect.die(new Error("authorize took too long"))
      }),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : Effect.as(Effect.logError("authorize failed", cause), undefined)
      )
    )
    return Effect.flatMap(verdict, (allowed) => {
      if (allowed === true) return then()
      return this.#answer(
        frame.id,
        allowed === undefined
          ? refusal("server/internal", "The server could not decide. Try again later.")
          : refusal(code, `Not allowed to ${frame.type} here.`)
      )
    })
  }

  /** Queues work behind what the same channel still waits for; other channels do not wait. */
  #inOrder(name: string, work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.sync(() => {
      const chain = this.#chains.get(name)
      if (chain !== undefined) {
        chain.push(work)
        return
      }
      const started = [work]
      this.#chains.set(name, started)
      this.#fork(
        Effect.gen({ self: this }, function* () {
          let next: Effect.Effect<void> | undefined
          while ((next = started.shift()) !== undefined) yield* next
          this.#chains.delete(name)
        })
      )
    })
  }

  #subscribe(
    frame: ClientFrame & { readonly type: "subscribe" },
    channel: Channel.Any
  ): Effect.Effect<void> {
    const { cursor, id } = frame
    return Effect.gen({ self: this }, function* () {
      if (this.#subscriptions.has(channel.name)) {
        return this.#answerError(
          id,
          refusal("subscribe/duplicate", "This session is subscribed to the channel already.")
        )
      }
      const limit = this.#context.limits.subscriptions
      if (this.#subscriptions.size >= limit) {
        return this.#answerError(
          id,
          refusal(
            "subscribe/limit",
            `A session has at most ${limit} subscriptions. Leave one first.`
          )
        )
      }
      const scope = yield* Scope.make()
      yield* Effect.uninterruptibleMask((restore) =>
        restore(this.#open(channel, scope)).pipe(
          Effect.exit,
          Effect.flatMap((opened) => {
            if (Exit.isSuccess(opened) && !this.#closed) {
              this.#attach(id, opened.value, cursor, scope)
              return Effect.void
            }
            if (Exit.isFailure(opened)) this.#answerError(id, refusalOf(Cause.squash(opened.cause)))
            return Scope.close(scope, Exit.void)
          })
        )
      )
      return undefined
    })
  }

  /** The channel and the time, once the source listens. */
  #open(channel: Channel.Any, scope: Scope.Closeable) {
    return this.#context.realtime[hubKey].open(channel).pipe(
      Scope.provide(scope),
      Effect.timeoutOrElse({
        duration: this.#context.limits.sourceWait,
        orElse: () => Effect.fail({ _tag: "SourceError" } as const)
      }),
      Effect.flatMap((view) => Effect.map(Clock.currentTimeMillis, (now) => ({ view, now })))
    )
  }

  /** In one step: the next batch must find the sink in place. */
  #attach(
    id: number,
    { now, view }: { readonly now: number; readonly view: View },
    from: string | undefined,
    scope: Scope.Closeable
  ): void {
    const channel = view.channel.name
    const { cursor, replay, state } = view.position(from, now)
    this.#subscriptions.set(channel, { scope, view })
    this.#unanswered.delete(id)
    this.send({ type: "subscribed", id, channel, state, cursor })
    for (const batch of replay) this.#mailbox.offer(batch)
    view.sinks.add(this.#mailbox)
  }

  #unsubscribe(id: number, name: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const subscription = this.#subscriptions.get(name)
      this.#subscriptions.delete(name)
      subscription?.view.sinks.delete(this.#mailbox)
      this.#unanswered.delete(id)
      this.send({ type: "unsubscribed", id, channel: name })
      return subscription === undefined ? Effect.void : Scope.close(subscription.scope, Exit.void)
    })
  }

  #publish(
    frame: ClientFrame & { readonly type: "publish" },
    channel: Channel.Any
  ): Effect.Effect<void> {
    const { data, id } = frame
    const payload = channel.decode(data)
    if (Result.isFailure(payload)) {
      return this.#answer(
        id,
        refusal("publish/invalid", "The payload does not match the channel's schema.")
      )
    }
    // The registry gives the channel without its payload type; `decode` has just established it.
    const typed = channel as Channel.Channel<unknown>
    return this.#context.realtime.publish(typed, payload.success).pipe(
      Effect.matchEffect({
        onFailure: (error) => this.#answer(id, refusalOf(error)),
        onSuccess: () =>
          Effect.sync(() => {
            this.#unanswered.delete(id)
            this.send({ type: "published", id })
          })
      })
    )
  }

  // --- answers ---------------------------------------------------------------------------------

  #answer(id: number, refused: Refusal): Effect.Effect<void> {
    return Effect.sync(() => this.#answerError(id, refused))
  }

  #answerError(id: number, refused: Refusal): void {
    this.#unanswered.delete(id)
    this.#refuse(id, refused)
  }

  #refuse(id: number | undefined, { code, message }: Refusal): void {
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
    if (this.#ws.readyState !== this.#ws.OPEN) return true
    this.#sentAt = this.#context.coarseClock()
    return this.#socket.write(frame)
  }

  #fork(effect: Effect.Effect<void>): void {
    if (this.#closed) return
    const fiber = this.#context.run(effect)
    if (fiber.pollUnsafe() !== undefined) return
    this.#fibers.add(fiber)
    fiber.addObserver(() => this.#fibers.delete(fiber))
  }
}

interface Subscription {
  readonly scope: Scope.Closeable
  readonly view: View
}

/** What a client may know of an error of the hub. */
const refusalOf = (error: unknown): Refusal => {
  const tag = typeof error === "object" && error !== null && "_tag" in error ? error._tag : ""
  switch (tag) {
    case "InvalidPayload":
      return refusal("publish/invalid", "The payload does not match the channel's schema.")
    case "PayloadTooLarge":
      return refusal("publish/too-large", "The payload is larger than this channel carries.")
    case "TooManyChannels":
      return refusal("server/overloaded", "The server listens to as many channels as it may.")
    case "SourceError":
      return refusal("source/down", "The source of this channel is down. Try again later.")
    default:
      return refusal("server/internal", "The server failed. Try again later.")
  }
}
