/**
 * The WebSocket door: accepts handshakes, and keeps the sessions.
 *
 * It has no HTTP server of its own. `RealtimeServer` (an Effect app) and `attach` (any `node:http`
 * server) bring it upgrade requests. After the handshake a session runs on its own fiber, apart from
 * the request. `ws` does the handshake and reads the frames of clients.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
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
import { applicationOf, type Principal } from "../auth/callbacks.ts"
import { Identities } from "../auth/identities.ts"
import { checked, type InvalidOption } from "../options.ts"
import { checkOptions, resolveLimits } from "../limits/limits.ts"
import * as metrics from "../metrics.ts"
import { tallyOf } from "../tally.ts"
import type { Peer } from "../session/peer.ts"
import { WebSocketPeer } from "./webSocketPeer.ts"
import { PublishKeys } from "../session/publishKeys.ts"
import * as Bucket from "../limits/tokenBucket.ts"
import * as Registry from "../session/registry.ts"
import { pathOf, withoutSlash } from "./claimedPaths.ts"
import { LogWords } from "../limits/boundedLog.ts"
import { Defects } from "../notices.ts"
import { refusalReasons, Voice } from "../limits/refusalLog.ts"
import { Revocations } from "../auth/revocations.ts"
import { type Gate, Session } from "../session/session.ts"
import type { Refusal } from "../limits/refusalText.ts"
import type { SessionContext } from "../session/sessionContext.ts"

/** The methods that the listeners of a socket call. */
type Ears = Pick<Session, "receive" | "receiveBinary" | "receiveControl" | "broken" | "closed">

/** A WebSocket with its session, so that all sockets share their listeners. */
class SessionSocket extends WebSocket {
  ears: Ears | undefined
}

/** The session of a socket. The server makes every socket as a `SessionSocket`. */
const earsOf = (ws: WebSocket): Ears | undefined => (ws as SessionSocket).ears

const listeners = {
  // `ws` has closed with 1002, 1007, 1008 or 1009 by itself.
  error(this: WebSocket, error: Error) {
    earsOf(this)?.broken(closeCodeOf(error))
  },
  // `ws` also answers pings, and bounds the waiting answers.
  control(this: WebSocket) {
    earsOf(this)?.receiveControl()
  },
  message(this: WebSocket, data: Buffer, isBinary: boolean) {
    if (isBinary) earsOf(this)?.receiveBinary(data.length)
    else earsOf(this)?.receive(data.toString("utf8"), data.length)
  },
  close(this: WebSocket) {
    earsOf(this)?.closed()
  }
}

export interface Door {
  readonly path: string
  /** Whether the request is for this door. Ignores a query string and a slash at the end. */
  readonly owns: (request: IncomingMessage) => boolean
  /** The refusal of an upgrade request; `undefined` if it may enter. Counts against its limits. */
  readonly refusal: (request: IncomingMessage) => UpgradeRefusal | undefined
  /** Completes the handshake and starts the session, synchronously. */
  readonly open: (request: IncomingMessage, socket: Socket, head: Buffer) => void
  /** Starts a session on an open socket. */
  readonly accept: (peer: Peer, credentials: Omit<Credentials, "token">) => Ears
  /** The number of open sessions. */
  readonly size: () => number
  /** Whether the door accepts new sessions and the events of all its channels arrive. */
  readonly isReady: () => boolean
  /** Waits until `isReady`. Fails if the database refuses for good before it was up once. */
  readonly ready: Effect.Effect<void, ReadyError>
  /** Closes every session of an identity with 4101. `key`: the result of `identityKey`. */
  readonly revoke: (key: string) => void
  /** Closes the sessions that match: of one identity when `key` is given, else of all. */
  readonly end: (
    name: "revoked" | "removed",
    matches: (session: Pick<Session, "id" | "principal">) => boolean,
    key?: string
  ) => void
  /** Asks `authorize` again about every subscription of an identity. */
  readonly reauthorize: (key: string) => Effect.Effect<void>
  /** Rejects new sessions, sends `bye`, closes all sessions, and cuts them after `drainTimeout`. */
  readonly drain: Effect.Effect<void>
}

/** Milliseconds between two ticks of all sessions. */
const tickMillis = 1000

/**
 * The longest pause between two closes of a drain, in milliseconds. Closes are spread over the window,
 * but few clients must not make a shutdown take all of it.
 */
const closeEveryMillis = 50

/** Each client of a drained node adds so many milliseconds to the time over which they reconnect. */
const returnSpreadMillis = 5

/** The least time over which clients reconnect, in milliseconds, within the limit `drainTimeout`. */
const minReturnMillis = 500

/** The share of a drain's window that is left for closing handshakes. */
const handshakeShare = 0.2

/** Milliseconds that `ws` waits for the answer to a close frame of its own. */
const closeTimeoutMillis = 5000

/**
 * The least bytes that a piece of a message (a fragment, or one read of the socket) has on average. A
 * message in smaller pieces takes more memory than its limit in bytes.
 */
const leastPiece = 64

/** What a door asks of the control over all nodes. */
export interface DoorControl {
  /** Whether the client may open no session. */
  readonly refuses: (principal: Principal) => boolean
  /** Whether this node does not know what was revoked. */
  readonly blind: () => boolean
}

export const make = <I, R>(
  options: Options<I, R>,
  control?: DoorControl
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
    const tally = tallyOf(services)
    const revocations = new Revocations(limits.authorizeTimeout + 2 * tickMillis)
    let sourceIsUp = true
    let draining = false
    const isReady = () => sourceIsUp && !draining
    /** Open while `isReady` is true. */
    const flowing = Latch.makeUnsafe(false)

    const run = (effect: Effect.Effect<void>): Fiber.Fiber<void> =>
      runFork(
        // Logs the failure of a fiber that a callback started: no other fiber would see it.
        Effect.catchCause(effect, (cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.interrupt
            : voice.failed("a session failed", cause, now())
        )
      )

    const voice = new Voice(limits, yield* LogWords)
    const reasons = new Set(refusalReasons)
    const count = yield* metrics.countBy(metrics.refused, "reason", refusalReasons)
    const countRefused = (reason: string, most?: number, why?: string): void => {
      count(reasons.has(reason) ? reason : "other")
      // While the source is down, every wait for it times out, and the source itself logs its loss.
      if (reason === "sourceTimeout" && !sourceIsUp) return
      const line = voice.refused(reason, now(), most, why)
      if (line !== undefined) runFork(line)
    }

    const context: SessionContext = {
      registry,
      limits,
      tally,
      slowConsumer: options.slowConsumer ?? "gap",
      publishKeys,
      ...(yield* applicationOf(options, limits.maxTokenAge)),
      opens: new Bucket.SharedBucket(limits.channelOpenRate, now),
      // With `allowAll` no callback runs, so it has no limit.
      looks: new Bucket.SharedBucket(
        options.authorize === allowAll ? undefined : limits.authorizeRate,
        now
      ),
      run,
      start: runFork,
      clock: now,
      sourceIsUp: () => sourceIsUp,
      isBlind: control?.blind ?? (() => false),
      refuses: control?.refuses ?? (() => false),
      refused: countRefused,
      notice: (key, text) => voice.notice(key, text, now()),
      advice: (key, rule) => voice.advice(key, rule, now()),
      failed: (what, cause) => voice.failed(what, cause, now()),
      revocations
    }

    // Without `authenticate` sessions have no identity to count by.
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
      // A short flat string, because sessions are many.
      const id = randomBytes(15).toString("base64url")
      const session = new Session(id, peer, credentials, context, gate)
      sessions.add(session)
      admission.enter(credentials.address)
      session.start()
      return session
    }

    // The types of `ws` lack `closeTimeout`.
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
      ws.ears = accept(new WebSocketPeer(ws, socket, tally), credentials)
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
      return Effect.void
    })
    const sumOf = (of: (session: Session) => number) => () => {
      let sum = 0
      for (const session of sessions) sum += of(session)
      return sum
    }
    yield* tally.show("sessions", () => sessions.size)
    yield* tally.show(
      "subscriptions",
      sumOf(({ subscriptions }) => subscriptions)
    )
    yield* tally.show(
      "mailboxBytes",
      sumOf(({ port }) => port.mailbox.bytes)
    )
    const defects = new Defects()
    yield* Effect.sleep(tickMillis).pipe(
      // A defect in one tick does not stop later ticks.
      Effect.andThen(
        Effect.catchDefect(tick, (defect) => defects.logged("The tick of a door", defect))
      ),
      Effect.forever,
      Effect.forkScoped
    )

    const { deliveryOf, refused, source } = hubOf(realtime)
    for (const definition of options.channels) {
      yield* deliveryOf(definition).checkTable(definition)
    }
    const states = source(new Set(options.channels.map(deliveryOf)))
    // Known before the first question of a balancer.
    sourceIsUp = Option.contains(yield* Stream.runHead(states), "up")
    yield* states.pipe(
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
        // Timers have a resolution of 1 ms: many short sleeps would add up.
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
      const { size } = sessions
      let cut = 0
      // On a fiber of the door: the close of an HTTP server drains without its logger.
      const tell = (text: string) => {
        if (size > 0) runFork(Effect.logInfo(text))
      }
      tell(
        `The server drains: it rejects new clients, and closes ${size} session(s) within ${limits.drainTimeout} ms`
      )
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
                cut++
                session.terminate()
              }
            })
        }),
        Effect.tap(() =>
          Effect.sync(() => tell(`The server has drained: ${cut} of ${size} session(s) were cut`))
        )
      )
    })
    // The HTTP server's close and this scope both drain, and wait for the same drain.
    const drain = yield* Effect.cached(drainOnce)
    yield* Effect.addFinalizer(() => drain)

    return {
      path,
      owns: (request) => withoutSlash((request.url ?? "").split(/[?#]/, 1)[0]!) === owned,
      refusal: (request) => {
        const address = admission.addressOf(request)
        const refused = admission.refusal(request, address, sessions.size, draining, now())
        if (refused?.status === 403) {
          const line = voice.origin(String(request.headers.origin), now(), (words) =>
            admission.originFault(request, words)
          )
          if (line !== undefined) runFork(line)
        }
        if (refused !== undefined) countRefused(refused.limit ?? String(refused.status))
        return refused
      },
      open: (request, socket, head) => {
        const credentials = {
          // The session keeps the headers, so only where `authenticate` may read them.
          headers: options.authenticate === undefined ? {} : headersOf(request),
          address: admission.addressOf(request)
        }
        wss.handleUpgrade(request, socket, head, (ws) => start(ws, socket, credentials))
      },
      accept,
      size: () => sessions.size,
      isReady,
      // In this order: a source that was refused at the start and is up now is ready.
      ready: Effect.raceFirst(flowing.await, refused),
      revoke: (key) => {
        revocations.add(key, now())
        for (const session of identities.of(key)) {
          session.close("revoked")
        }
      },
      end: (name, matches, key) => {
        for (const session of key === undefined ? [...sessions] : identities.of(key)) {
          if (matches(session)) session.close(name)
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

/** The close code that `ws` sent for an error of the peer, or 1006 for an error of the network. */
const closeCodeOf = (error: Error): number => {
  const code = "code" in error ? String(error.code) : ""
  if (/^WS_ERR_UNSUPPORTED_(MESSAGE|DATA_PAYLOAD)_LENGTH$/.test(code)) {
    return closeCodes.messageTooLarge.code
  }
  if (code === "WS_ERR_INVALID_UTF8") return closeCodes.invalidText.code
  if (code === "WS_ERR_TOO_MANY_BUFFERED_PARTS") return closeCodes.tooManyPieces.code
  return code.startsWith("WS_ERR_") ? closeCodes.invalidMessage.code : 1006
}

/** The headers without those of the handshake, because the session keeps them. */
const headersOf = ({ headers }: IncomingMessage): IncomingHttpHeaders =>
  Object.fromEntries(
    Object.entries(headers).filter(
      ([name]) => name !== "connection" && name !== "upgrade" && !name.startsWith("sec-websocket-")
    )
  )
