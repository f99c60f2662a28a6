/**
 * One reconnecting socket on the platform's own WebSocket. It knows frames, not channels.
 *
 * In: whether somebody needs it (`hold`). Out: a visible state, and for each session `onOpen`, its
 * frames in order, `onDown`. It says hello, answers pings, notices a dead link by absolute times and
 * comes back as the close code says. One fiber decides; what arrives is handed up at once, without
 * a timer in between, because browsers hold back the timers of a hidden page.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Backoff from "../../Backoff.ts"
import {
  type ClientFrame,
  decodeServerMessage,
  type FrameOf,
  type ServerFrame
} from "../../Frame.ts"
import * as Protocol from "../../Protocol.ts"
import { ConnectionStopped } from "../ClientError.ts"
import type { ConnectionOptions, ConnectionState } from "../Connection.ts"
import * as Cell from "./cell.ts"
import { onPageSignal, resolveUrl, type WebSocketLike } from "./platform.ts"
import { millis, type Time } from "./time.ts"

export type Welcome = FrameOf<ServerFrame, "welcome">

/** The floor above. Called synchronously; must not throw. */
export interface Above {
  readonly onOpen: (welcome: Welcome) => void
  readonly onFrame: (frame: ServerFrame) => void
  readonly onDown: () => void
  readonly onStop: (error: ConnectionStopped) => void
}

export interface Connection {
  readonly state: Cell.Readable<ConnectionState>
  /** The connection is needed until the result is called. */
  readonly hold: () => () => void
  /** An id that no earlier request of this client had. */
  readonly nextId: () => number
  /** Sends while open; otherwise nothing happens and `onDown` tells. */
  readonly send: (text: string) => void
  /** Renews the identity on this socket with a fresh token; `false` when nobody gives tokens. */
  readonly renew: () => boolean
  /** Looks at the link now, cuts a wait short, and leaves `stopped`. */
  readonly reconnect: () => void
  /** How long what is not needed any more is kept, in milliseconds. */
  readonly linger: number
}

/** From the constructor to `open`, from `open` to `welcome`, and for the token: each, in milliseconds. */
const patience = 10_000

/** After a signal the link has this long to answer a probe, in milliseconds. */
const probePatience = 5000

/** No timer is longer, so that waking from sleep is noticed this soon without any signal. */
const slice = 5000

/** This many closes with 4100-4199 in a row mean that fresh tokens do not help. */
const maxRefusals = 3

/** The close code of a link that was lost without one. */
const lost = 1006

/** The close code of an address that cannot be used. */
const unusable = 4202

interface End {
  readonly code: number
  readonly reason: string
}

interface Session {
  readonly socket: WebSocketLike
  /** When the server said welcome. */
  openedAt: number | undefined
  /** Nothing heard until then means dead. Each frame moves it by `silence`. */
  deadAt: number
  silence: number
  /** A probe is unanswered. */
  probing: boolean
  renewAt: number
  reconnectAfter: number | undefined
  /** What the server said before it closed. */
  complaint: string
  end: End | undefined
}

const unused: End = { code: 1000, reason: "nobody needs it" }
const needed = "somebody needs it"
const idle: ConnectionState = { status: "idle", reason: unused.reason }

/** The text of a frame whose fields stand in the order of the protocol's document. */
export const textOf: (frame: ClientFrame) => string = JSON.stringify

/** The error of whoever uses a connection that has stopped. */
export const stoppedError = ({ state }: Connection): ConnectionStopped | undefined => {
  const shown = state.getSnapshot()
  return shown.status === "stopped" ? new ConnectionStopped(shown) : undefined
}

export const make = (
  options: ConnectionOptions,
  { now }: Time,
  above: Above
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function* () {
    const policy = options.backoff ?? Backoff.client
    const backoff = yield* Backoff.make(policy)
    // Never within one turn of the event loop: who comes back at once must find it.
    const linger = Math.max(1, millis(options.linger, 1000))
    const state = Cell.make<ConnectionState>(idle)

    let users = 0
    let idleAt = 0
    let session: Session | undefined
    let lastId = 0
    /** No attempt is made before. */
    let notBefore = 0
    let attempt = 0
    /** Closes with 4100-4199 in a row. */
    let refusals = 0
    let token: string | undefined
    let tokenUntil = Infinity
    let reason = needed
    let stopSignals: (() => void) | undefined

    // A nudge that comes while the fiber is busy is remembered: it costs one more look, never a wait.
    let nudged = false
    let waiting: (() => void) | undefined
    const nudge = () => {
      nudged = true
      waiting?.()
    }
    const nudges = Effect.callback<void>((resume) => {
      waiting = () => {
        waiting = undefined
        nudged = false
        resume(Effect.void)
      }
      if (nudged) waiting()
      return Effect.sync(() => {
        waiting = undefined
      })
    })
    const pause = (until: number): Effect.Effect<unknown> =>
      until === Infinity
        ? nudges
        : Effect.timeoutOption(nudges, Math.max(1, Math.min(slice, until - now())))

    const open = (): Session | End => {
      let url = String(options.url)
      try {
        url = resolveUrl(typeof options.url === "function" ? options.url() : options.url)
        const socket = new (options.webSocket ?? WebSocket)(url, [Protocol.subprotocol])
        const current: Session = {
          socket,
          openedAt: undefined,
          deadAt: now() + patience,
          silence: patience,
          probing: false,
          renewAt: Infinity,
          reconnectAfter: undefined,
          complaint: "",
          end: undefined
        }
        socket.onopen = () => {
          current.deadAt = now() + patience
          socket.send(textOf({ type: "hello", version: Protocol.version, ...(token && { token }) }))
        }
        socket.onmessage = ({ data }: { readonly data: unknown }) => {
          if (current.openedAt !== undefined) heard(current)
          if (typeof data !== "string") return
          for (const frame of decodeServerMessage(data)) {
            if (current.end === undefined) receive(current, frame)
          }
        }
        socket.onclose = ({ code, reason }: { readonly code: number; readonly reason: string }) => {
          current.end ??= { code, reason: reason || current.complaint || `closed with ${code}` }
          nudge()
        }
        return current
      } catch (error) {
        // An address that does not parse, or that this page may not open: trying again cannot help.
        return { code: unusable, reason: `${url}: ${String(error)}` }
      }
    }

    const heard = (current: Session) => {
      current.probing = false
      current.deadAt = now() + current.silence
    }

    const receive = (current: Session, frame: ServerFrame) => {
      if (frame.type === "welcome") {
        if (current.openedAt !== undefined) return
        current.openedAt = now()
        current.silence = frame.ping + frame.slack
        heard(current)
        tokenLives(current, frame.expires)
        state.set({ status: "open", reason: "welcome", session: frame.session })
        above.onOpen(frame)
      } else if (current.openedAt === undefined) {
        if (frame.type === "error") current.complaint = `${frame.code}: ${frame.message}`
      } else if (frame.type === "ping") current.socket.send(textOf({ type: "pong" }))
      else if (frame.type === "bye") current.reconnectAfter = frame.reconnectAfter
      else if (frame.type === "authenticated") tokenLives(current, frame.expires)
      else above.onFrame(frame)
    }

    const tokenLives = (current: Session, expires = Infinity) => {
      tokenUntil = now() + expires
      current.renewAt = now() + expires * 0.8
      nudge()
    }

    const fetchToken = Effect.suspend(() => {
      const given = options.token!()
      return Effect.isEffect(given) ? given : Effect.tryPromise(() => Promise.resolve(given))
    }).pipe(
      Effect.timeout(patience),
      Effect.exit,
      Effect.map((exit) => {
        token = Exit.isSuccess(exit) ? exit.value : undefined
        tokenUntil = Infinity
      })
    )

    /** Watches one session until it ends. */
    const watch = Effect.fnUntraced(function* (current: Session) {
      while (current.end === undefined) {
        const idleBy = users === 0 ? idleAt : Infinity
        const time = now()
        if (time >= idleBy) current.end = unused
        else if (time >= current.deadAt) {
          current.end = {
            code: lost,
            reason: current.openedAt === undefined ? "no answer" : "nothing heard"
          }
          // Somebody is looking at the page: no jitter.
          if (current.probing) current.reconnectAfter = 0
        } else if (time >= current.renewAt && options.token !== undefined) {
          current.renewAt = Infinity
          yield* fetchToken
          if (token !== undefined) send(textOf({ type: "authenticate", id: ++lastId, token }))
        } else yield* pause(Math.min(idleBy, current.deadAt, current.renewAt))
      }
      dispose(current)
      return current.end
    })

    /** A socket may never fire `close`: let go of it, ask it to close, and do not wait. */
    const dispose = ({ openedAt, socket }: Session) => {
      socket.onopen = socket.onmessage = socket.onclose = null
      // Some implementations throw what nobody listens to.
      socket.onerror = () => {}
      if (socket.readyState < 2) socket.close(1000)
      session = undefined
      if (openedAt !== undefined) above.onDown()
    }

    const stop = ({ code, reason }: End) => {
      state.set({ status: "stopped", reason, code })
      above.onStop(new ConnectionStopped({ code, reason }))
    }

    const connect = Effect.gen(function* () {
      state.set({ status: "connecting", reason, attempt: attempt + 1 })
      if (options.token !== undefined && (token === undefined || now() >= tokenUntil)) {
        yield* fetchToken
        if (users === 0) return
      }
      let end: End
      let healthy = 0
      let delay: number | undefined
      const opened =
        options.token !== undefined && token === undefined
          ? { code: lost, reason: "the token callback failed" }
          : open()
      if ("socket" in opened) {
        session = opened
        end = yield* watch(opened)
        if (opened.openedAt !== undefined) healthy = now() - opened.openedAt
        delay = opened.reconnectAfter
      } else end = opened
      reason = end.reason
      if (healthy >= millis(policy.resetAfter, 0)) attempt = refusals = 0
      if (end === unused) {
        reason = needed
        return
      }
      const next = Protocol.closePolicy(end.code)
      if (next === "refresh") {
        token = undefined
        refusals++
        // A fresh token is worth one try at once.
        if (refusals === 1) delay ??= 0
      } else refusals = 0
      if (next === "stop" || refusals >= (options.token === undefined ? 1 : maxRefusals)) {
        return stop(end)
      }
      attempt++
      notBefore = now() + Math.ceil(delay ?? (yield* backoff.delay(healthy)))
    })

    const run = Effect.gen(function* () {
      while (true) {
        const shown = state.getSnapshot()
        if (users === 0 || shown.status === "stopped") {
          stopSignals?.()
          stopSignals = undefined
          if (shown.status !== "stopped") state.set(idle)
          yield* pause(Infinity)
          continue
        }
        stopSignals ??= (options.signals ?? onPageSignal)(check)
        if (now() < notBefore) {
          if (shown.status !== "waiting") {
            state.set({ status: "waiting", reason, attempt, until: notBefore })
          }
          yield* pause(notBefore)
        } else yield* connect
      }
    })

    const check = () => {
      notBefore = 0
      if (
        session?.openedAt !== undefined &&
        !session.probing &&
        session.deadAt < now() + session.silence
      ) {
        session.probing = true
        session.deadAt =
          session.socket.readyState > 1 ? 0 : Math.min(session.deadAt, now() + probePatience)
        // The reserved name can have no subscription; any answer shows that the link lives.
        send(textOf({ type: "unsubscribe", id: 0, channel: "realtime" }))
      }
      nudge()
    }

    const send = (text: string) => {
      if (session?.openedAt !== undefined && session.socket.readyState === 1) {
        session.socket.send(text)
      }
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        stopSignals?.()
        if (session !== undefined) dispose(session)
        if (stoppedError(connection) === undefined) {
          stop({ code: 1000, reason: "the client was closed" })
        }
      })
    )
    yield* Effect.forkScoped(run)

    const connection: Connection = {
      state,
      hold: () => {
        users++
        nudge()
        let held = true
        return () => {
          if (!held) return
          held = false
          if (--users > 0) return
          idleAt = now() + linger
          nudge()
        }
      },
      nextId: () => ++lastId,
      send,
      renew: () => {
        if (session !== undefined) session.renewAt = 0
        nudge()
        return options.token !== undefined
      },
      reconnect: () => {
        if (stoppedError(connection) !== undefined) {
          attempt = refusals = 0
          token = undefined
          reason = "asked to"
          state.set(idle)
        }
        check()
      },
      linger
    }
    return connection
  })
