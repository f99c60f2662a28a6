/**
 * The WebSocket door: decides at the upgrade, shakes hands, and keeps the sessions.
 *
 * It does not own an HTTP server. `route` (an Effect app) and `attach` (any `node:http` server) bring
 * it upgrade requests; from the handshake on, a session runs on a fiber of its own, apart from the
 * request that opened it. Handshake and framing of what comes in are `ws`'s.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import { type IncomingMessage, STATUS_CODES } from "node:http"
import type { Socket } from "node:net"
import { WebSocketServer, type WebSocket } from "ws"
import { CloseCode, subprotocol } from "../../Protocol.ts"
import { Realtime } from "../Realtime.ts"
import { type Options, resolveLimits } from "../ServerOptions.ts"
import * as metrics from "./metrics.ts"
import * as Registry from "./registry.ts"
import { Session, type SessionContext } from "./session.ts"

/** Why an upgrade is refused. */
export interface Refusal {
  readonly status: 400 | 403 | 404 | 426 | 503
  readonly reason: string
  readonly retryAfterSeconds?: number
}

export interface Door {
  readonly path: string
  /** Whether the request is for this door. A query string is ignored. */
  readonly owns: (request: IncomingMessage) => boolean
  /** Why this upgrade request may not enter; `undefined` when it may. */
  readonly refusal: (request: IncomingMessage) => Refusal | undefined
  /** Shakes hands and starts the session; synchronous. */
  readonly open: (request: IncomingMessage, socket: Socket, head: Buffer) => void
  /** Sessions open now. */
  readonly size: () => number
  /** Refuses newcomers, says bye, closes everybody, and cuts who does not leave in time. */
  readonly drain: Effect.Effect<void>
}

const ignore = (): void => undefined

/** How often sessions are greeted, pinged and removed by the clock. */
const tickMillis = 1000

export const make = <R>(
  options: Options<R>
): Effect.Effect<Door, Registry.ChannelConflict, Realtime | R | Scope.Scope> =>
  Effect.gen(function* () {
    const realtime = yield* Realtime
    const context = yield* Effect.context<R>()
    const registry = yield* Registry.make(options.channels)
    const limits = resolveLimits(options.limits)
    const path = options.path ?? "/realtime"
    const allowedOrigin = originCheck(options.origins)
    const sessions = new Set<Session>()
    const left = yield* Queue.sliding<void>(1)
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const clock = yield* Clock.Clock
    let now = clock.currentTimeMillisUnsafe()
    let sourceIsUp = true
    let draining = false

    const run = (effect: Effect.Effect<void>): Fiber.Fiber<void> =>
      runFork(
        // A fiber that is run from a callback fails in silence, unless somebody says so.
        Effect.catchCause(effect, (cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.interrupt : Effect.logError("session", cause)
        )
      )

    const sessionContext: SessionContext = {
      realtime,
      registry,
      limits,
      authorize: (request) => Effect.provideContext(options.authorize(request), context),
      run,
      clock: () => clock.currentTimeMillisUnsafe(),
      coarseClock: () => now,
      sourceIsUp: () => sourceIsUp
    }

    const wss = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: limits.frameBytes,
      handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false)
    })

    // Apart from `open`, so that no listener's scope keeps the request alive.
    const start = (ws: WebSocket, socket: Socket): void => {
      const session = new Session(randomUUID(), ws, socket, sessionContext)
      sessions.add(session)
      // `ws` has answered with 1002, 1007 or 1009 by itself; "close" follows.
      ws.on("error", ignore)
      ws.on("message", (data: Buffer, isBinary: boolean) => {
        if (isBinary) session.receiveBinary()
        else session.receive(data.toString("utf8"))
      })
      const fiber = run(session.run)
      ws.once("close", () => {
        sessions.delete(session)
        Queue.offerUnsafe(left, undefined)
        fiber.interruptUnsafe()
      })
    }

    yield* Effect.gen(function* () {
      while (true) {
        yield* Effect.sleep(tickMillis)
        now = clock.currentTimeMillisUnsafe()
        for (const session of sessions) session.tick(now)
        yield* Metric.update(metrics.sessions, sessions.size)
      }
    }).pipe(Effect.forkScoped)

    yield* realtime.source.pipe(
      Stream.runForEach((state) =>
        Effect.sync(() => {
          const changed = sourceIsUp !== (state === "up")
          sourceIsUp = state === "up"
          if (changed) for (const session of sessions) session.sendStatus(state)
        })
      ),
      Effect.forkScoped({ startImmediately: true })
    )

    const drainOnce = Effect.gen(function* () {
      draining = true
      for (const session of sessions) {
        // Spread by chance, so that the clients of one server do not return together.
        session.send({ type: "bye", reconnectAfter: Math.floor(Math.random() * limits.drain) })
        session.close(CloseCode.draining, "the server is closing")
      }
      while (sessions.size > 0) yield* Queue.take(left)
    }).pipe(
      Effect.timeoutOrElse({
        duration: limits.drain,
        orElse: () => Effect.sync(() => sessions.forEach((session) => session.terminate()))
      })
    )
    // The HTTP server's close and this scope both ask for it; they wait for the same one.
    const drain = yield* Effect.cached(drainOnce)
    yield* Effect.addFinalizer(() => drain)

    const refusal = (request: IncomingMessage): Refusal | undefined => {
      const { headers } = request
      if (draining || sessions.size >= limits.sessions) {
        return { status: 503, reason: "The server is full or closing.", retryAfterSeconds: 1 }
      }
      if (!allowedOrigin(headers.origin, headers.host)) {
        return { status: 403, reason: "This origin may not connect." }
      }
      const offered = headers["sec-websocket-protocol"]?.split(",").map((name) => name.trim())
      if (offered !== undefined && !offered.includes(subprotocol)) {
        return { status: 400, reason: `Supported subprotocol: ${subprotocol}` }
      }
      return undefined
    }

    return {
      path,
      owns: (request) => pathOf(request.url) === path,
      refusal,
      open: (request, socket, head) =>
        wss.handleUpgrade(request, socket, head, (ws) => start(ws, socket)),
      size: () => sessions.size,
      drain
    }
  })

/** Answers an upgrade request with an HTTP status and hangs up. */
export const refuse = (socket: Socket, { reason, retryAfterSeconds, status }: Refusal): void => {
  // A peer that never closes its side would keep the descriptor.
  socket.once("finish", () => socket.destroy())
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n` +
      (retryAfterSeconds === undefined ? "" : `Retry-After: ${retryAfterSeconds}\r\n`) +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(reason)}\r\n\r\n${reason}`
  )
}

/** Answers a whole upgrade request: enters, or is refused. */
export const enter = (door: Door, request: IncomingMessage, socket: Socket, head: Buffer): void => {
  // Node took its own listener away at "upgrade": without one, a reset ends the process.
  socket.on("error", ignore)
  const refused = door.refusal(request)
  if (refused === undefined) door.open(request, socket, head)
  else refuse(socket, refused)
}

export const wantsWebSocket = (request: IncomingMessage): boolean =>
  request.headers.upgrade?.toLowerCase() === "websocket"

const pathOf = (url: string | undefined): string => (url ?? "").split(/[?#]/, 1)[0]!

/**
 * Same origin by host and port; a list by whole origins. No `Origin` is no browser page, and passes.
 */
const originCheck =
  (origins: Options["origins"]) =>
  (origin: string | undefined, host: string | undefined): boolean => {
    if (origin === undefined || origins === "any") return true
    if (origins !== undefined) return origins.includes(origin)
    // `null`, and what is no URL, has no host to compare.
    return URL.canParse(origin) && new URL(origin).host === hostOf(origin, host)
  }

/** The host of the request as a URL would write it: without the default port of the origin's scheme. */
const hostOf = (origin: string, host: string | undefined): string | undefined => {
  const url = `${origin.split("://", 1)[0]}://${host ?? ""}`
  return URL.canParse(url) ? new URL(url).host : undefined
}
