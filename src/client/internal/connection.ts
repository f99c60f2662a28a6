/**
 * One reconnecting socket on the platform's own WebSocket. It knows frames, not channels.
 *
 * In: whether somebody above needs it. Out: a visible state, and for each session `open`, its
 * frames in order, `down`. It says hello, answers pings, notices a dead link by absolute times and
 * comes back as the close code says. One function, `decide`, decides; it runs whenever something may
 * have changed. What arrives is handed up at once, without a timer in between, because browsers hold
 * back the timers of a hidden page.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Backoff from "../../Backoff.ts"
import {
  type ClientFrame,
  decodeServerMessage,
  type FrameOf,
  type ServerFrame
} from "../../Frame.ts"
import * as Protocol from "../../Protocol.ts"
import { ConnectionStopped, Refused } from "../ClientError.ts"
import type { ConnectionOptions, ConnectionState } from "../Connection.ts"
import * as Cell from "./cell.ts"
import { onPageSignal, resolveUrl, type WebSocketLike } from "./platform.ts"
import { millis, type Time } from "./time.ts"

type Welcome = FrameOf<ServerFrame, "welcome">

/** What belongs to one channel and answers nothing. */
export type ChannelFrame = FrameOf<ServerFrame, "events" | "cursor" | "gap" | "ended">

/** One of those above. Called synchronously; must not throw. */
export interface Above {
  /** Whether it needs the connection. It calls `look` when that changes. */
  readonly needed: () => boolean
  readonly open: (welcome: Welcome) => void
  readonly receive?: (frame: ChannelFrame) => void
  readonly down: () => void
  /** The connection has stopped. */
  readonly end: (error: ConnectionStopped) => void
}

/** A frame to be written: JSON leaves out what is `undefined`. */
type Written<Frame> = {
  readonly [Key in keyof Frame]: Frame[Key] | (undefined extends Frame[Key] ? undefined : never)
}

/** A request whose id is still to be given. */
type Request<Frame = ClientFrame> = Frame extends { readonly id: number }
  ? Written<Omit<Frame, "id">>
  : never

/** The part of `error` and `ended` that says why, and what to do about it. */
export type Refusal = Omit<FrameOf<ServerFrame, "error">, "type" | "id">

export interface Connection {
  readonly state: Cell.Readable<ConnectionState>
  readonly source: Cell.Readable<"up" | "down">
  /** Looks soon at what is needed and what is due. */
  readonly look: () => void
  /** Asks while open, otherwise nothing happens. No answer comes any more after `down`. */
  readonly request: (frame: Request, onAnswer: (frame: ServerFrame) => void) => void
  /**
   * The error of a refusal that asking again would not help. Renews the identity on this socket
   * with a fresh token where that would.
   */
  readonly refused: (channel: string, refusal: Refusal) => Refused | undefined
  /** Looks at the link now, cuts a wait short, and leaves `stopped`. */
  readonly reconnect: () => void
  /** The error of whoever uses it, once it has stopped. */
  readonly stopped: () => ConnectionStopped | undefined
  /** How long what is not needed any more is kept, in milliseconds. */
  readonly linger: number
  /** How long to wait after so many failures in a row, in milliseconds. */
  readonly jitter: (failures: number) => number
  /** What went well for this long is forgiven its failures, in milliseconds. */
  readonly resetAfter: number
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

/** The close code of a client that was closed. */
const closed = 1000

const wanted = "needed"
export const idle: ConnectionState = { status: "idle", reason: "not needed" }

/** The text of a frame whose fields stand in the order of the protocol's document. */
const textOf: (frame: Written<ClientFrame>) => string = JSON.stringify

export const make = (
  options: ConnectionOptions,
  { after, fork, now, runSync, shown }: Time,
  above: () => ReadonlyArray<Above>
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function* () {
    const policy = options.backoff ?? Backoff.client
    const resetAfter = millis(policy.resetAfter, 0)
    // Never within one turn of the event loop: who comes back at once must find it.
    const linger = Math.max(1, millis(options.linger, 1000))
    const state = Cell.make<ConnectionState>(idle)
    const source = Cell.make<"up" | "down">("up")
    const unanswered = new Map<number, (frame: ServerFrame) => void>()

    /** Nobody needs it, and it is kept until then. */
    let idleAt = Infinity
    let lastId = 0
    let stopSignals: (() => void) | undefined
    let stopped: ConnectionStopped | undefined

    // The attempts.
    let reason = wanted
    let failures = 0
    /** Closes with 4100-4199 in a row. */
    let refusals = 0
    /** No attempt is made before. */
    let notBefore = 0

    // The token.
    let token: string | undefined
    /** From then on a fresh one is asked for before the next attempt. */
    let tokenUntil = 0
    let fetching = false
    /** Renewals in a row that failed. */
    let renewals = 0

    // The socket, and what holds for it.
    let socket: WebSocketLike | undefined
    /** When the server said welcome. */
    let openedAt = Infinity
    /** Nothing heard until then means dead. Each frame moves it by `silence`. */
    let deadAt = 0
    let silence = 0
    /** The page has signalled, and nothing was heard since. */
    let probing = false
    let renewAt = Infinity
    let reconnectAfter: number | undefined
    /** What the server said before it closed. */
    let complaint = ""

    let nudged = false
    let cancel = () => {}
    /** Looks at the end of this turn, and again when the time for it has come. */
    const nudge = () => {
      if (nudged) return
      nudged = true
      queueMicrotask(() => {
        nudged = false
        cancel()
        const next = decide()
        if (next < Infinity) cancel = after(Math.min(slice, next - now()), nudge)
      })
    }

    /** Does what is due now, and says when something will be. */
    const decide = (): number => {
      const time = now()
      const needed = above().some((wing) => wing.needed())
      idleAt = needed ? Infinity : Math.min(idleAt, time + linger)
      if (socket !== undefined) {
        if (time >= idleAt) {
          letGo()
          reason = wanted
          nudge()
        } else if (time >= deadAt) {
          // The peer will not answer `close`, and until then the system would keep the connection.
          socket.terminate?.()
          ended(lost, "nothing heard")
        } else if (time >= renewAt) {
          renewAt = Infinity
          fetchToken((fresh) => {
            if (fresh === undefined) return renewLater()
            request({ type: "authenticate", token: fresh }, (answer) => {
              if (answer.type !== "error") {
                return tokenLives((answer as FrameOf<ServerFrame, "authenticated">).expires)
              }
              tokenUntil = 0
              renewLater(answer.retryAfter)
            })
          })
        }
        return Math.min(idleAt, deadAt, renewAt)
      }
      if (!needed || stopped !== undefined) {
        stopSignals?.()
        stopSignals = undefined
        if (stopped === undefined) state.set(idle)
        return Infinity
      }
      stopSignals ??= (options.signals ?? onPageSignal)(check)
      const current = state.getSnapshot()
      if (time < notBefore) {
        if (current.status !== "waiting") {
          state.set({ status: "waiting", reason, attempt: failures, until: shown(notBefore) })
        }
        return notBefore
      }
      if (current.status !== "connecting" || current.attempt === failures) {
        state.set({ status: "connecting", reason, attempt: failures + 1 })
      }
      if (fetching) return Infinity
      if (options.token !== undefined && time >= tokenUntil) {
        fetchToken((fresh) => {
          if (fresh === undefined) ended(lost, "the token callback failed")
        })
        return Infinity
      }
      connect()
      return deadAt
    }

    const connect = () => {
      deadAt = now() + patience
      renewAt = Infinity
      probing = false
      reconnectAfter = undefined
      complaint = ""
      try {
        const url = resolveUrl(typeof options.url === "function" ? options.url() : options.url)
        const opened = new (options.webSocket ?? WebSocket)(url, [Protocol.subprotocol])
        socket = opened
        // What matters comes as `onclose`. The class of `ws` throws an error that nobody listens to.
        opened.onerror = () => {}
        opened.onopen = () => {
          deadAt = now() + patience
          opened.send(
            textOf({
              type: "hello",
              version: Protocol.version,
              token: (options.token && token) || undefined
            })
          )
        }
        opened.onmessage = ({ data }: { readonly data: unknown }) => {
          if (openedAt < Infinity) heard()
          if (typeof data !== "string") return
          for (const frame of decodeServerMessage(data)) if (socket === opened) receive(frame)
        }
        opened.onclose = ({ code, reason }: { readonly code: number; readonly reason: string }) =>
          ended(code, reason || complaint || `closed with ${code}`)
      } catch (error) {
        // An address that does not parse, or that this page may not open: trying again cannot help.
        ended(unusable, `${options.url}: ${error}`)
      }
    }

    const heard = () => {
      probing = false
      deadAt = now() + silence
    }

    const receive = (frame: ServerFrame) => {
      if (openedAt === Infinity) {
        if (frame.type === "error") complaint = `${frame.code}: ${frame.message}`
        if (frame.type !== "welcome") return
        openedAt = now()
        silence = frame.ping + frame.slack
        heard()
        tokenLives(frame.expires)
        source.set("up")
        state.set({ status: "open", reason: "welcome", session: frame.session })
        for (const wing of above()) wing.open(frame)
      } else if (frame.type === "ping") send(textOf({ type: "pong" }))
      else if (frame.type === "bye") reconnectAfter = frame.reconnectAfter
      else if (frame.type === "status") source.set(frame.source)
      else if ("id" in frame) {
        const answered = unanswered.get(frame.id!)
        unanswered.delete(frame.id!)
        answered?.(frame)
      } else if ("channel" in frame) {
        for (const wing of above()) wing.receive?.(frame)
      }
    }

    const request: Connection["request"] = (frame, onAnswer) => {
      unanswered.set(++lastId, onAnswer)
      send(textOf({ type: frame.type, id: lastId, ...(frame as object) } as ClientFrame))
    }

    const tokenLives = (expires = Infinity) => {
      renewals = 0
      if (options.token !== undefined) {
        tokenUntil = now() + expires
        renewAt = now() + expires * 0.8
      }
      nudge()
    }

    /** The old one lives on, and this socket with it, for as long as the server lets them. */
    const renewLater = (retryAfter = jitter(++renewals)) => {
      renewAt = now() + retryAfter
      nudge()
    }

    /** Asks for a fresh token, which is `undefined` when that fails, unless it is asked for already. */
    const fetchToken = (then: (fresh: string | undefined) => void) => {
      if (fetching) return
      fetching = true
      fork(
        Effect.suspend(() => {
          const given = options.token!()
          return Effect.isEffect(given) ? given : Effect.promise(async () => given)
        }).pipe(
          Effect.timeout(patience),
          Effect.catchCause(() => Effect.undefined),
          Effect.map((fresh) => {
            if (fresh !== undefined) {
              token = fresh
              tokenUntil = Infinity
            }
            fetching = false
            then(fresh)
            nudge()
          })
        )
      )
    }

    /** A socket may never fire `close`: let go of it, ask it to close, and do not wait. */
    const letGo = () => {
      if (socket === undefined) return
      socket.onopen = socket.onmessage = socket.onclose = null
      socket.close(closed)
      socket = undefined
      unanswered.clear()
      if (openedAt === Infinity) return
      if (now() - openedAt >= resetAfter) failures = refusals = 0
      openedAt = Infinity
      for (const wing of above()) wing.down()
    }

    /** The attempt or the session is over. */
    const ended = (code: number, why: string) => {
      letGo()
      reason = why
      const next = Protocol.closePolicy(code)
      if (next === "refresh") {
        tokenUntil = 0
        // A fresh token is worth one try at once.
        if (++refusals === 1) reconnectAfter ??= 0
      } else refusals = 0
      if (next === "stop" || refusals >= (options.token === undefined ? 1 : maxRefusals)) {
        stop(code)
      } else {
        failures++
        // Somebody is looking at the page: no jitter.
        notBefore = now() + Math.ceil(reconnectAfter ?? (probing ? 0 : jitter(failures)))
      }
      reconnectAfter = undefined
      probing = false
      nudge()
    }

    const jitter = (failures: number) => runSync(Backoff.jittered(policy, failures))

    const stop = (code: number) => {
      const error = new ConnectionStopped({ code, reason })
      stopped = error
      state.set({ status: "stopped", reason, code })
      for (const wing of above()) wing.end(error)
    }

    const check = () => {
      notBefore = 0
      if (!probing) {
        probing = true
        // Also an attempt: it may have begun on a network that is gone.
        deadAt = Math.min(deadAt, now() + probePatience)
        // The reserved name can have no subscription; any answer shows that the link lives.
        send(textOf({ type: "unsubscribe", id: 0, channel: "realtime" }))
      }
      nudge()
    }

    const send = (text: string) => {
      if (openedAt < Infinity) socket!.send(text)
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        letGo()
        reason = "closed"
        if (stopped === undefined) stop(closed)
        nudge()
      })
    )

    return {
      state,
      source,
      look: nudge,
      request,
      refused: (channel, { code, message, retry }) => {
        if (retry === "refresh" && options.token !== undefined) {
          renewAt = 0
          nudge()
        } else if (retry !== "later") return new Refused({ code, channel, message, retry })
        return undefined
      },
      reconnect: () => {
        if (stopped?.code === closed) return
        if (stopped !== undefined) {
          stopped = undefined
          failures = refusals = tokenUntil = 0
          reason = "reconnect"
          state.set(idle)
        }
        check()
      },
      stopped: () => stopped,
      linger,
      jitter,
      resetAfter
    }
  })
