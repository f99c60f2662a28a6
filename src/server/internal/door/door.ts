/**
 * The WebSocket door: shakes hands, and keeps the sessions.
 *
 * It does not own an HTTP server. `RealtimeServer` (an Effect app) and `attach` (any `node:http`
 * server) bring it upgrade requests; from the handshake on, a session runs on a fiber of its own,
 * apart from the request that opened it. Handshake and framing of what comes in are `ws`'s.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import type { IncomingHttpHeaders, IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import { type ServerOptions, WebSocket, WebSocketServer } from "ws"
import { closeCodes, subprotocol } from "../../../Protocol.ts"
import type { ReadyError } from "../hub/delivery.ts"
import { hubOf } from "../hub/ofRealtime.ts"
import { Realtime } from "../../Realtime.ts"
import { allowAll, type Credentials, type Options } from "../../ServerOptions.ts"
import { Admission, type UpgradeRefusal } from "./admission.ts"
import { applicationOf } from "../auth/callbacks.ts"
import { Identities } from "../auth/identities.ts"
import { checked, type InvalidOption } from "../options.ts"
import { checkOptions, resolveLimits } from "../limits/limits.ts"
import * as metrics from "../metrics.ts"
import type { Peer } from "../session/peer.ts"
import { WebSocketPeer } from "./webSocketPeer.ts"
import { PublishKeys } from "../session/publishKeys.ts"
import * as Bucket from "../limits/tokenBucket.ts"
import * as Registry from "../session/registry.ts"
import { pathOf, withoutSlash } from "./claimedPaths.ts"
import { Voice } from "../limits/refusalLog.ts"
import { Revocations } from "../auth/revocations.ts"
import { type Gate, Session } from "../session/session.ts"
import type { Refusal } from "../limits/refusalText.ts"
import type { SessionContext } from "../session/sessionContext.ts"

/** What a session hears of its socket. */
type Ears = Pick<Session, "receive" | "receiveBinary" | "receiveControl" | "broken" | "closed">

/** A WebSocket that knows its session, so that all of them share their listeners. */
class SessionSocket extends WebSocket {
  ears: Ears | undefined
}

/** Every socket here is one of ours. */
const earsOf = (ws: WebSocket): Ears | undefined => (ws as SessionSocket).ears

const listeners = {
  // `ws` has answered with 1002, 1007, 1008 or 1009 by itself.
  error(this: WebSocket, error: Error) {
    earsOf(this)?.broken(closeCodeOf(error))
  },
  // It answers pings too, and bounds what waits of that.
  control(this: WebSocket) {
    earsOf(this)?.receiveControl()
  },
  message(this: WebSocket, data: Buffer, isBinary: boolean) {
    if (isBinary) earsOf(this)?.receiveBinary()
    else earsOf(this)?.receive(data.toString("utf8"))
  },
  close(this: WebSocket) {
    earsOf(this)?.closed()
  }
}

export interface Door {
  readonly path: string
  /** Whether the request is for this door. A query string and a slash at the end are ignored. */
  readonly owns: (request: IncomingMessage) => boolean
  /** Why this upgrade request may not enter; `undefined` when it may. Counts against its limits. */
  readonly refusal: (request: IncomingMessage) => UpgradeRefusal | undefined
  /** Shakes hands and starts the session; synchronous. */
  readonly open: (request: IncomingMessage, socket: Socket, head: Buffer) => void
  /** Starts a session on a socket that is open already. */
  readonly accept: (peer: Peer, credentials: Omit<Credentials, "token">) => Ears
  /** Sessions open now. */
  readonly size: () => number
  /** Whether newcomers are welcome and the events of every channel here flow. */
  readonly isReady: () => boolean
  /** Waits until `isReady`; fails when the database refuses for good before it was up once. */
  readonly ready: Effect.Effect<void, ReadyError>
  /** Closes every session of an identity with 4101; `key` is what `identityKey` gives for it. */
  readonly revoke: (key: string) => void
  /** Asks `authorize` about every subscription of an identity again. */
  readonly reauthorize: (key: string) => Effect.Effect<void>
  /** Refuses newcomers, says bye, closes everybody, and cuts who does not leave in time. */
  readonly drain: Effect.Effect<void>
}

/** How often sessions are greeted, pinged and removed by the clock. */
const tickMillis = 1000

/**
 * Closes are spread over the window of a drain, but one session follows the other this soon at the
 * latest: a handful of clients must not hold up a shutdown for all of it.
 */
const closeEveryMillis = 50

/** Each client of a drained node adds this much to the time in which they come back. */
const returnSpreadMillis = 5

/** Few clients still come back within this time, whatever the limit `drainTimeout`. */
const minReturnMillis = 500

/** What a drain leaves for closing handshakes, as a share of its window. */
const handshakeShare = 0.2

/** How long `ws` waits for the answer to a close frame that it sent by itself. */
const closeTimeoutMillis = 5000

/**
 * On average a piece of a message (a fragment, or what one read of the socket brought) has at least so
 * many bytes; one that comes in smaller pieces costs more memory than it is allowed bytes.
 */
const leastPiece = 64

export const make = <I, R>(
  options: Options<I, R>
): Effect.Effect<Door, InvalidOption | Registry.ChannelConflict, Realtime | R | Scope.Scope> =>
  Effect.gen(function* () {
    const realtime = yield* Realtime
    const limits = yield* checked(() => {
      checkOptions(options)
      return resolveLimits(options.limits)
    })
    const registry = yield* Registry.make(options.channels, hubOf(realtime))
    const path = pathOf(options)
    const owned = withoutSlash(path)
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    const admission = new Admission(options, limits, now())
    const publishKeys = new PublishKeys<Deferred.Deferred<Refusal | undefined>>(limits)
    const sessions = new Set<Session>()
    const identities = new Identities<Session>()
    const left = yield* Queue.sliding<void>(1)
    const services = yield* Effect.context<never>()
    const runFork = Effect.runForkWith(services)
    const revocations = new Revocations(limits.authorizeTimeout + 2 * tickMillis)
    let sourceIsUp = true
    let draining = false
    const isReady = () => sourceIsUp && !draining
    /** Open while `isReady`. */
    const flowing = Latch.makeUnsafe(false)

    const run = (effect: Effect.Effect<void>): Fiber.Fiber<void> =>
      runFork(
        // A fiber that is run from a callback fails in silence, unless somebody says so.
        Effect.catchCause(effect, (cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.interrupt : Effect.logError("session", cause)
        )
      )

    const voice = new Voice(limits)
    const byReason = new Map<string, typeof metrics.refused>()
    /** The reasons are words of ours, so there are few of them. */
    const countRefused = (reason: string, most?: number): void => {
      let counter = byReason.get(reason)
      if (counter === undefined) {
        counter = Metric.withAttributes(metrics.refused, { reason })
        byReason.set(reason, counter)
      }
      counter.updateUnsafe(1, services)
      // While the source is down it is waited for in vain, whatever the limit; who lost it says so.
      if (reason === "sourceTimeout" && !sourceIsUp) return
      const line = voice.refused(reason, now(), most)
      if (line !== undefined) runFork(line)
    }

    const context: SessionContext = {
      registry,
      limits,
      slowConsumer: options.slowConsumer ?? "gap",
      publishKeys,
      ...(yield* applicationOf(options, limits.maxTokenAge)),
      opens: new Bucket.SharedBucket(limits.channelOpenRate, now),
      // Where everybody may everything nobody is asked.
      looks: new Bucket.SharedBucket(
        options.authorize === allowAll ? undefined : limits.authorizeRate,
        now
      ),
      run,
      start: runFork,
      clock: now,
      sourceIsUp: () => sourceIsUp,
      refused: countRefused,
      notice: (key, text) => voice.notice(key, text, now()),
      failed: (what, cause) => voice.failed(what, cause, now()),
      revocations
    }

    // Without a name there is nobody to count.
    const admit = (session: Session): boolean =>
      options.authenticate === undefined ||
      identities.add(session.key, session, limits.maxSessionsPerIdentity)

    const leave = (session: Session): void => {
      admission.leave(session.address)
      sessions.delete(session)
      identities.remove(session.key, session)
      Queue.offerUnsafe(left, undefined)
    }

    const gate: Gate = { admit, leave }
    const accept: Door["accept"] = (peer, credentials) => {
      // Short and flat: there are many.
      const id = randomBytes(15).toString("base64url")
      const session = new Session(id, peer, credentials, context, gate)
      sessions.add(session)
      admission.enter(credentials.address)
      session.start()
      return session
    }

    // `closeTimeout` is not in the types of `ws` yet.
    const bounds: ServerOptions<typeof SessionSocket> & { readonly closeTimeout: number } = {
      noServer: true,
      WebSocket: SessionSocket,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: limits.maxFrameBytes,
      maxFragments: Math.max(1024, Math.ceil(limits.maxFrameBytes / leastPiece)),
      maxBufferedChunks: Math.max(1024, Math.ceil(limits.maxFrameBytes / leastPiece)),
      closeTimeout: closeTimeoutMillis,
      handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false)
    }
    const wss = new WebSocketServer(bounds)

    const start = (
      ws: SessionSocket,
      socket: Socket,
      credentials: Omit<Credentials, "token">
    ): void => {
      ws.ears = accept(new WebSocketPeer(ws, socket), credentials)
      ws.on("error", listeners.error)
      ws.on("ping", listeners.control)
      ws.on("pong", listeners.control)
      ws.on("message", listeners.message)
      ws.on("close", listeners.close)
    }

    const tick = Effect.suspend(() => {
      const time = now()
      for (const session of sessions) session.tick(time)
      publishKeys.sweep(time)
      revocations.sweep(time)
      return Metric.update(metrics.sessions, sessions.size)
    })
    yield* Effect.sleep(tickMillis).pipe(
      // Whatever happens to one session, the clock of all others goes on.
      Effect.andThen(Effect.catchDefect(tick, (defect) => Effect.logError("tick", defect))),
      Effect.forever,
      Effect.forkScoped
    )

    const { deliveryOf, refused, source } = hubOf(realtime)
    for (const definition of options.channels) {
      if (definition._tag === "Channel") yield* deliveryOf(definition).checkTable(definition.name)
    }
    yield* source(new Set(options.channels.map(deliveryOf))).pipe(
      Stream.runForEach((state) =>
        Effect.sync(() => {
          const changed = sourceIsUp !== (state === "up")
          sourceIsUp = state === "up"
          if (isReady()) flowing.openUnsafe()
          else flowing.closeUnsafe()
          if (changed) for (const session of sessions) session.sendStatus(state)
        })
      ),
      Effect.forkScoped({ startImmediately: true })
    )

    const sayBye = Effect.gen(function* () {
      const returning = Math.min(
        limits.drainTimeout,
        Math.max(minReturnMillis, sessions.size * returnSpreadMillis)
      )
      const closing = limits.drainTimeout * (1 - handshakeShare)
      const every = Math.min(closeEveryMillis, closing / Math.max(1, sessions.size))
      let pause = 0
      for (const session of sessions) {
        // Sleeps are counted in whole ticks of the event loop: many small ones would add up.
        if (pause >= 10) {
          yield* Effect.sleep(pause)
          pause = 0
        }
        const reconnectAfter = Math.floor((yield* Random.next) * returning)
        session.sayBye(reconnectAfter)
        session.close("draining")
        pause += every
      }
    })

    const drainOnce = Effect.suspend(() => {
      draining = true
      flowing.closeUnsafe()
      const empty = Effect.gen(function* () {
        while (sessions.size > 0) yield* Queue.take(left)
      })
      return Effect.andThen(sayBye, empty).pipe(
        Effect.timeoutOrElse({
          duration: limits.drainTimeout,
          orElse: () =>
            Effect.sync(() => {
              for (const session of sessions) {
                countRefused("drainTimeout")
                session.terminate()
              }
            })
        })
      )
    })
    // The HTTP server's close and this scope both ask for it; they wait for the same one.
    const drain = yield* Effect.cached(drainOnce)
    yield* Effect.addFinalizer(() => drain)

    return {
      path,
      owns: (request) => withoutSlash((request.url ?? "").split(/[?#]/, 1)[0]!) === owned,
      refusal: (request) => {
        const address = admission.addressOf(request)
        const refused = admission.refusal(request, address, sessions.size, draining, now())
        if (refused?.status === 403) {
          const line = voice.origin(String(request.headers.origin), now(), () =>
            admission.originFault(request)
          )
          if (line !== undefined) runFork(line)
        }
        if (refused !== undefined) countRefused(refused.limit ?? String(refused.status))
        return refused
      },
      open: (request, socket, head) => {
        const credentials = {
          // Kept for as long as the session, so only where somebody looks at them.
          headers: options.authenticate === undefined ? {} : headersOf(request),
          address: admission.addressOf(request)
        }
        wss.handleUpgrade(request, socket, head, (ws) => start(ws, socket, credentials))
      },
      accept,
      size: () => sessions.size,
      isReady,
      // In this order: what was refused at the start and came up after all is ready.
      ready: Effect.raceFirst(flowing.await, refused),
      revoke: (key) => {
        revocations.add(key, now())
        for (const session of identities.of(key)) {
          session.close("revoked")
        }
      },
      reauthorize: (key) =>
        Effect.suspend(() =>
          Effect.forEach(identities.of(key), (session) => session.reauthorize, {
            concurrency: "unbounded",
            discard: true
          })
        ),
      drain
    }
  })

/** The close code that `ws` answered an error of the peer with, or 1006 for one of the network. */
const closeCodeOf = (error: Error): number => {
  const code = "code" in error ? String(error.code) : ""
  if (/^WS_ERR_UNSUPPORTED_(MESSAGE|DATA_PAYLOAD)_LENGTH$/.test(code)) {
    return closeCodes.messageTooLarge.code
  }
  if (code === "WS_ERR_INVALID_UTF8") return closeCodes.invalidText.code
  if (code === "WS_ERR_TOO_MANY_BUFFERED_PARTS") return closeCodes.tooManyPieces.code
  return code.startsWith("WS_ERR_") ? closeCodes.invalidMessage.code : 1006
}

/** Without what belongs to the handshake itself: they are kept as long as the session. */
const headersOf = ({ headers }: IncomingMessage): IncomingHttpHeaders =>
  Object.fromEntries(
    Object.entries(headers).filter(
      ([name]) => name !== "connection" && name !== "upgrade" && !name.startsWith("sec-websocket-")
    )
  )
