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
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Backoff from "../../Backoff.ts"
import {
  type ClientFrame,
  decodeServerMessage,
  encode,
  type FrameOf,
  type ServerFrame
} from "../../Frame.ts"
import * as Protocol from "../../Protocol.ts"
import { ConnectionStopped } from "../ClientError.ts"
import * as Cell from "./cell.ts"
import {
  onPageSignal,
  resolveUrl,
  type WebSocketConstructor,
  type WebSocketLike
} from "./platform.ts"

/**
 * What the socket of a client is doing, with the reason in words.
 *
 * - `idle`: nobody needs it, so there is none.
 * - `connecting`: a socket is being opened; `attempt` counts from 1 since the last healthy session.
 * - `open`: the server said welcome.
 * - `waiting`: the next attempt comes at `until` (milliseconds since 1970), or sooner when the page
 *   is shown, comes back online or is restored.
 * - `stopped`: no attempt will follow; `code` is the close code.
 *
 * @category models
 * @since 0.1.0
 */
export type ConnectionState =
  | { readonly status: "idle"; readonly reason: string }
  | { readonly status: "connecting"; readonly reason: string; readonly attempt: number }
  | { readonly status: "open"; readonly reason: string; readonly session: string }
  | {
      readonly status: "waiting"
      readonly reason: string
      readonly attempt: number
      readonly until: number
    }
  | { readonly status: "stopped"; readonly reason: string; readonly code: number }

/**
 * How a client finds its server and keeps the connection.
 *
 * @category options
 * @since 0.1.0
 */
export interface ConnectionOptions {
  /**
   * Where the server is. `http` and `https` become `ws` and `wss`; a relative address such as
   * `/realtime` is resolved against the page. A function is asked before each attempt.
   */
  readonly url: string | (() => string)
  /**
   * Gives the token for `hello`. Asked before the first attempt, again when the token is 80 % into
   * its life (it is then renewed on the same socket), and after a close with 4100-4199. Default:
   * none. It has 10 s; when it fails or is late, the attempt counts as failed.
   */
  readonly token?: (() => string | Promise<string> | Effect.Effect<string, unknown>) | undefined
  /** The WebSocket class, default the platform's (browsers, Node 22 and newer). */
  readonly webSocket?: WebSocketConstructor | undefined
  /**
   * When to try again, default `Backoff.client`: full jitter, first retry within 2 s, then 250 ms
   * doubling to 30 s, forgiven after 10 s open, for ever.
   */
  readonly backoff?: Backoff.Policy | undefined
  /**
   * How long an unused subscription, and then the unused socket, is kept for somebody who comes
   * back, default 1 s.
   */
  readonly linger?: Duration.Input | undefined
  /**
   * Calls back when the link may have changed, so that it is looked at at once. Default: `online`,
   * `pageshow` and becoming visible, where the platform has them.
   */
  readonly signals?: ((check: () => void) => () => void) | undefined
}

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
  readonly lingerMillis: number
}

/** From the constructor to `open`, from `open` to `welcome`, and for the token: each, in milliseconds. */
const patience = 10_000

/** After a signal the link has this long to answer a probe, in milliseconds. */
const probePatience = 5000

/** No timer is longer, so that waking from sleep is noticed this soon without any signal. */
const slice = 5000

/** This many closes with 4100-4199 in a row mean that fresh tokens do not help. */
const maxRefusals = 3

interface End {
  readonly code: number
  readonly reason: string
}

interface Session {
  readonly socket: WebSocketLike
  /** When the server must have said welcome; afterwards infinite. */
  welcomeBy: number
  openedAt: number | undefined
  heardAt: number
  /** Nothing heard for this long means dead, in milliseconds. */
  silence: number
  /** When an unanswered probe means dead. */
  probeBy: number
  renewAt: number
  reconnectAfter: number | undefined
  /** What the server said before it closed. */
  complaint: string | undefined
  end: End | undefined
}

/** The error of whoever uses a connection that has stopped. */
export const stoppedError = ({ state }: Connection): ConnectionStopped | undefined => {
  const shown = state.getSnapshot()
  return shown.status === "stopped" ? new ConnectionStopped(shown) : undefined
}

const unused: End = { code: 1000, reason: "nobody needs it" }
const idle: ConnectionState = { status: "idle", reason: unused.reason }
const lost = 1006

export const make = (
  options: ConnectionOptions,
  above: Above
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    const policy = options.backoff ?? Backoff.client
    const backoff = yield* Backoff.make(policy)
    const forgiveAfter = Duration.toMillis(Duration.fromInputUnsafe(policy.resetAfter))
    const lingerMillis = Duration.toMillis(Duration.fromInputUnsafe(options.linger ?? 1000))
    const state = Cell.make<ConnectionState>(idle)

    let users = 0
    let idleAt = 0
    let notBefore = 0
    let attempt = 0
    let refusals = 0
    let token: string | undefined
    let tokenUntil = Infinity
    let session: Session | undefined
    let lastId = 0
    let reason = "first use"
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

    const finish = (session: Session, code: number, reason: string) => {
      session.end ??= { code, reason: reason || session.complaint || `closed with ${code}` }
      nudge()
    }

    const receive = (current: Session, frame: ServerFrame) => {
      switch (frame.type) {
        case "welcome": {
          if (current.openedAt !== undefined) return
          current.openedAt = current.heardAt
          current.welcomeBy = Infinity
          current.silence = frame.ping + frame.slack
          tokenLives(current, frame.expires)
          state.set({ status: "open", reason: "welcome", session: frame.session })
          above.onOpen(frame)
          // The fiber now has other times to watch.
          return nudge()
        }
        case "ping":
          return current.socket.send(`{"type":"pong"}`)
        case "bye":
          current.reconnectAfter = frame.reconnectAfter
          return
        case "authenticated":
          tokenLives(current, frame.expires)
          return nudge()
        case "error":
          if (current.openedAt === undefined) current.complaint = `${frame.code}: ${frame.message}`
      }
      if (current.openedAt !== undefined) above.onFrame(frame)
    }

    const tokenLives = (current: Session, expires: number | undefined) => {
      tokenUntil = expires === undefined ? Infinity : current.heardAt + expires
      current.renewAt =
        expires === undefined || options.token === undefined
          ? Infinity
          : current.heardAt + expires * 0.8
    }

    const open = (): Session | End => {
      let socket: WebSocketLike
      try {
        const url = resolveUrl(typeof options.url === "function" ? options.url() : options.url)
        socket = new (options.webSocket ?? globalThis.WebSocket)(url, [Protocol.subprotocol])
      } catch (error) {
        // An address that does not parse, or that this page may not open: trying again cannot help.
        return { code: Protocol.CloseCode.forbidden, reason: String(error) }
      }
      const time = now()
      const current: Session = {
        socket,
        welcomeBy: time + patience,
        openedAt: undefined,
        heardAt: time,
        silence: Infinity,
        probeBy: Infinity,
        renewAt: Infinity,
        reconnectAfter: undefined,
        complaint: undefined,
        end: undefined
      }
      socket.onopen = () => {
        current.welcomeBy = now() + patience
        sendFrame(current, {
          type: "hello",
          version: Protocol.version,
          ...(token === undefined ? {} : { token })
        })
        nudge()
      }
      socket.onmessage = ({ data }: { readonly data: unknown }) => {
        current.heardAt = now()
        current.probeBy = Infinity
        if (typeof data !== "string") return
        for (const frame of decodeServerMessage(data)) {
          if (current.end === undefined) receive(current, frame)
        }
      }
      socket.onclose = (event: { readonly code: number; readonly reason: string }) =>
        finish(current, event.code, event.reason)
      return current
    }

    const sendFrame = ({ socket }: Session, frame: ClientFrame) => socket.send(encode(frame))

    /** A socket may never fire `close`: let go of it, ask it to close, and do not wait. */
    const dispose = (current: Session) => {
      const { socket } = current
      socket.onopen = socket.onmessage = socket.onclose = null
      // Some implementations throw what nobody listens to.
      socket.onerror = () => {}
      if (socket.readyState < 2) socket.close(1000)
      session = undefined
      if (current.openedAt !== undefined) above.onDown()
    }

    const fetchToken = Effect.suspend(() => {
      const given = options.token!()
      return Effect.isEffect(given) ? given : Effect.tryPromise(() => Promise.resolve(given))
    }).pipe(Effect.timeout(patience), Effect.exit)

    /** Watches one session until it ends. */
    const watch = Effect.fnUntraced(function* (current: Session) {
      while (current.end === undefined) {
        const time = now()
        const deadAt = Math.min(
          current.welcomeBy,
          current.heardAt + current.silence,
          current.probeBy
        )
        if (users === 0 && time >= idleAt) current.end = unused
        else if (time >= deadAt) {
          finish(current, lost, current.openedAt === undefined ? "no answer" : "nothing heard")
        } else if (time >= current.renewAt && options.token !== undefined) {
          current.renewAt = Infinity
          const fresh = yield* fetchToken
          if (Exit.isSuccess(fresh) && current.end === undefined) {
            token = fresh.value
            sendFrame(current, { type: "authenticate", id: ++lastId, token })
          }
        } else yield* pause(Math.min(deadAt, current.renewAt, users === 0 ? idleAt : Infinity))
      }
      dispose(current)
      return current.end
    })

    const stop = ({ code, reason }: End) => {
      state.set({ status: "stopped", reason, code })
      above.onStop(new ConnectionStopped({ code, reason }))
    }

    const connect = Effect.gen(function* () {
      state.set({ status: "connecting", reason, attempt: attempt + 1 })
      let end: End | undefined
      let healthy = 0
      let reconnectAfter: number | undefined
      if (options.token !== undefined && (token === undefined || now() >= tokenUntil)) {
        const fresh = yield* fetchToken
        token = Exit.isSuccess(fresh) ? fresh.value : undefined
        tokenUntil = Infinity
        if (token === undefined) end = { code: lost, reason: "the token callback failed" }
      }
      if (end === undefined) {
        if (users === 0) return
        const opened = open()
        if ("socket" in opened) {
          session = opened
          end = yield* watch(opened)
          if (opened.openedAt !== undefined) healthy = now() - opened.openedAt
          reconnectAfter = opened.reconnectAfter
        } else end = opened
      }
      reason = end.reason
      if (healthy >= forgiveAfter) attempt = refusals = 0
      if (end === unused) return
      const next = Protocol.closePolicy(end.code)
      refusals = next === "refresh" ? refusals + 1 : 0
      if (next === "refresh") token = undefined
      if (
        next === "stop" ||
        (next === "refresh" && (options.token === undefined || refusals >= maxRefusals))
      ) {
        return stop(end)
      }
      attempt++
      // A fresh token is worth one try at once.
      notBefore = now() + (reconnectAfter ?? (refusals === 1 ? 0 : yield* backoff.delay(healthy)))
    })

    const run = Effect.gen(function* () {
      while (true) {
        const stopped = state.getSnapshot().status === "stopped"
        if (stopped || users === 0) {
          stopSignals?.()
          stopSignals = undefined
          if (!stopped) state.set(idle)
          yield* pause(Infinity)
          continue
        }
        stopSignals ??= (options.signals ?? onPageSignal)(check)
        if (now() < notBefore) {
          const shown = state.getSnapshot()
          if (shown.status !== "waiting" || shown.until !== notBefore) {
            state.set({ status: "waiting", reason, attempt, until: notBefore })
          }
          yield* pause(notBefore)
        } else yield* connect
      }
    })

    const check = () => {
      notBefore = 0
      if (session?.openedAt !== undefined && session.end === undefined) {
        if (session.socket.readyState > 1) finish(session, lost, "closed while away")
        else if (session.probeBy === Infinity && now() > session.heardAt) {
          // The reserved name can have no subscription; any answer shows that the link lives.
          session.probeBy = now() + probePatience
          sendFrame(session, { type: "unsubscribe", id: 0, channel: "realtime" })
        }
      }
      nudge()
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        stopSignals?.()
        if (session !== undefined) dispose(session)
        if (state.getSnapshot().status !== "stopped") {
          stop({ code: 1000, reason: "the client was closed" })
        }
      })
    )
    yield* Effect.forkScoped(run)

    return {
      state,
      hold: () => {
        users++
        nudge()
        let held = true
        return () => {
          if (!held) return
          held = false
          if (--users > 0) return
          idleAt = now() + lingerMillis
          nudge()
        }
      },
      nextId: () => ++lastId,
      send: (text) => {
        if (session?.openedAt !== undefined && session.socket.readyState === 1) {
          session.socket.send(text)
        }
      },
      renew: () => {
        if (session !== undefined) session.renewAt = 0
        nudge()
        return options.token !== undefined
      },
      reconnect: () => {
        if (state.getSnapshot().status === "stopped") {
          attempt = refusals = 0
          token = undefined
          reason = "asked to"
          state.set(idle)
        }
        check()
      },
      lingerMillis
    }
  })
