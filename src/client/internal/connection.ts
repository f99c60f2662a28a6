/**
 * One reconnecting socket on the platform's own WebSocket. It knows frames, not channels.
 *
 * In: whether something above needs it. Out: a visible state, and for each session `open`, its
 * frames in order, `down`. It says hello, answers pings, notices a dead link by absolute times and
 * comes back as the close code says.
 *
 * It is a machine over the states of `states.ts`: each has a function with its name, whose variables are
 * its data. `enter` is the one way from state to state and ends what the left one owns. `look` does what
 * the present state has to do by its times, whenever something may have changed. What arrives is handed
 * up at once, without a timer in between, because browsers hold back the timers of a hidden page.
 *
 * @since 0.1.0
 */
import { clientLinger } from "../../internal/defaults.ts"
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
import type { Options, State as Shown } from "../Connection.ts"
import type { Readable } from "../Readable.ts"
import * as Cell from "./cell.ts"
import { onPageSignal, resolveUrl, type WebSocketLike } from "./platform.ts"
import type { Ask, State, Times, Written } from "./states.ts"
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

/** The part of `error` and `ended` that says why, and what to do about it. */
export type RefusalFields = Omit<FrameOf<ServerFrame, "error">, "type" | "id">

export interface Connection {
  readonly state: Readable<Shown>
  readonly source: Readable<Protocol.SourceState>
  /** Looks soon at what is needed and what is due. */
  readonly look: () => void
  /** Asks while open, otherwise nothing happens. No answer comes any more after `down`. */
  readonly request: Ask
  /**
   * The error of a refusal that asking again would not help. Renews the identity on this socket
   * with a fresh token where that would.
   */
  readonly refused: (channel: string, refusal: RefusalFields) => Refused | undefined
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
export const idle: Shown = { status: "idle", reason: "not needed" }

/** Between two states: the left one is over, and the next one not known yet. */
const nowhere: State = { times: () => [] }

export const make = (
  options: Options,
  clock: Time,
  above: () => ReadonlyArray<Above>
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { after, fork, now, runSync } = clock
    const policy = options.backoff ?? Backoff.client
    const resetAfter = millis(policy.resetAfter)
    const jitter = (failures: number) => runSync(Backoff.jittered(policy, failures))
    // Never within one turn of the event loop: a listener that comes back at once must find it.
    const linger = Math.max(1, millis(options.linger ?? clientLinger))
    const visible = Cell.make<Shown>(idle)
    const source = Cell.make<Protocol.SourceState>("up")

    let state = nowhere

    // What outlives a state.
    /** Why the last attempt ended. */
    let reason = wanted
    /** No attempt is made before. */
    let notBefore = 0
    let failures = 0
    /** Closes with 4100-4199 in a row. */
    let refusals = 0
    let token: string | undefined
    /** From then on a fresh token is asked for before the next attempt. */
    let tokenUntil = 0
    /** Nothing needs the connection, and it is kept until then. */
    let idleAt = Infinity

    // What a state may own beside its socket. `enter` ends it; the timer ends with the look that follows.
    let cancelTimer = () => {}
    let cancelFetch = () => {}
    let stopSignals: (() => void) | undefined

    let looking = false
    let isClosed = false
    /** Looks at the end of this turn, and again when the time for it has come. */
    const look = () => {
      if (looking) return
      looking = true
      queueMicrotask(() => {
        looking = false
        cancelTimer()
        const time = now()
        idleAt = needed() ? Infinity : Math.min(idleAt, time + linger)
        let next = Infinity
        for (const [at, act] of state.times()) {
          if (time >= at) {
            act()
            return look()
          }
          next = Math.min(next, at)
        }
        if (next < Infinity) cancelTimer = after(Math.min(slice, next - time), look)
      })
    }

    const needed = () => above().some((wing) => wing.needed())

    /** The one way from state to state: nothing that the left one owns goes on. */
    const enter = (next: State, shown?: Shown) => {
      const left = state
      state = next
      cancelFetch()
      left.down?.()
      // Between two states the page's signals are still heard.
      if (next.check) stopSignals ??= (options.signals ?? onPageSignal)(check)
      else if (next !== nowhere) {
        stopSignals?.()
        stopSignals = undefined
      }
      if (shown) visible.set(shown)
      look()
    }

    const Idle = () => enter({ times: () => [[idleAt < Infinity ? Infinity : 0, Waiting]] }, idle)

    const Waiting = () => {
      const until = clock.shown(notBefore)
      const shown = { status: "waiting", reason, attempt: failures, until } as const
      enter(
        {
          times: () => [
            [idleAt < Infinity ? 0 : Infinity, Idle],
            [notBefore, attempt]
          ],
          check: () => {
            notBefore = 0
          }
        },
        // A wait that is over at once is none.
        now() < notBefore ? shown : undefined
      )
    }

    const attempt = () => {
      const shown = { status: "connecting", reason, attempt: failures + 1 } as const
      if (options.token === undefined || now() < tokenUntil) Dialing(shown)
      else FetchingToken(shown)
    }

    const FetchingToken = (shown: Shown) => {
      const lateAt = now() + patience
      let delay: number | undefined
      const failed = () => ended(lost, "the token callback failed", delay)
      enter(
        {
          times: () => [
            [idleAt, Idle],
            [lateAt, failed]
          ],
          check: () => {
            delay = 0
          }
        },
        shown
      )
      fetchToken((fresh) => {
        if (fresh === undefined) failed()
        else if (needed()) Dialing(shown)
        else Idle()
      })
    }

    /** Also `Open`, which follows over the same socket. Both share the liveness of that link. */
    const Dialing = (shown: Shown) => {
      let socket: WebSocketLike
      try {
        const url = resolveUrl(typeof options.url === "function" ? options.url() : options.url)
        socket = new (options.webSocket ?? WebSocket)(url, [Protocol.subprotocol])
      } catch (error) {
        // An address that does not parse, or that this page may not open: trying again cannot help.
        return ended(unusable, `${options.url}: ${error}`)
      }
      /** Nothing heard until then means dead. */
      let deadAt = now() + patience
      /** The page has signalled, and nothing was heard since. */
      let probing = false
      /** What the server said before it closed. */
      let complaint = ""
      /** The server's own delay before the next attempt, in milliseconds. */
      let reconnectAfter: number | undefined
      let heard = () => {}
      let receive = (frame: ServerFrame) => {
        if (frame.type === "error") complaint = `${frame.code}: ${frame.message}`
        if (frame.type === "welcome") Open(frame)
      }

      const send = (frame: Written<ClientFrame>) => socket.send(JSON.stringify(frame))
      const over = ({ code, reason }: { readonly code: number; readonly reason: string }) =>
        ended(
          code,
          reason || complaint || `closed with ${code}`,
          reconnectAfter ?? (probing ? 0 : undefined)
        )
      const dead = () => {
        // The peer will not answer `close`, and until then the system would keep the connection.
        socket.terminate?.()
        over({ code: lost, reason: "nothing heard" })
      }
      const times = (): Times => [
        [idleAt, Idle],
        [deadAt, dead]
      ]
      const check = () => {
        if (probing) return
        probing = true
        // Also an attempt: it may have begun on a network that is gone.
        deadAt = Math.min(deadAt, now() + probePatience)
        // The reserved name can have no subscription; any answer shows that the link lives.
        if (state.request) send({ type: "unsubscribe", id: 0, channel: "realtime" })
      }
      const down = () => {
        if (state.request) return
        // It may never fire `close`: let go of it, ask it to close, and do not wait.
        socket.onopen = socket.onmessage = socket.onclose = null
        socket.close(closed)
      }

      const Open = (welcome: Welcome) => {
        source.set("up")
        // A listener may have closed the client.
        if (!socket.onmessage) return
        let lastId = 0
        const unanswered = new Map<number, (frame: ServerFrame) => void>()
        const request: Ask = (frame, onAnswer) => {
          unanswered.set(++lastId, onAnswer)
          send({ type: frame.type, id: lastId, ...(frame as object) } as ClientFrame)
        }

        let renewAt = Infinity
        let renewals = 0
        let asking = false
        const renewIn = (delay: number) => {
          renewAt = now() + delay
          look()
        }
        const tokenLives = (expires = Infinity) => {
          if (options.token === undefined) return
          renewals = 0
          tokenUntil = now() + expires
          renewIn(expires * 0.8)
        }
        /** The old one lives on, and this socket with it, for as long as the server lets them. */
        const renewLater = (retryAfter = jitter(++renewals)) => renewIn(retryAfter)
        const renew = () => {
          if (asking) return renewed(undefined)
          asking = true
          renewIn(patience)
          fetchToken(renewed)
        }
        const renewed = (fresh: string | undefined) => {
          cancelFetch()
          asking = false
          if (fresh === undefined) return renewLater()
          renewAt = Infinity
          request({ type: "authenticate", token: fresh }, (answer) => {
            if (answer.type !== "error") {
              return tokenLives((answer as FrameOf<ServerFrame, "authenticated">).expires)
            }
            tokenUntil = 0
            renewLater(answer.retryAfter)
          })
        }

        receive = (frame) => {
          if (frame.type === "ping") send({ type: "pong" })
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
        heard = () => {
          probing = false
          deadAt = now() + welcome.ping + welcome.slack
        }
        heard()
        const openedAt = now()
        reason = wanted
        tokenLives(welcome.expires)
        const mine: State = {
          check,
          request,
          renew: () => {
            if (!asking) renewIn(0)
          },
          times: () => [...times(), [renewAt, renew]],
          down: () => {
            down()
            // A healthy session is forgiven what was before it.
            if (now() - openedAt >= resetAfter) failures = refusals = 0
            for (const wing of above()) wing.down()
          }
        }
        enter(mine, { status: "open", reason: "welcome", session: welcome.session })
        for (const wing of above()) if (state === mine) wing.open(welcome)
      }

      // What matters comes as `onclose`. The class of `ws` throws an error that nobody listens to.
      socket.onerror = () => {}
      socket.onclose = over
      socket.onopen = () => {
        deadAt = now() + patience
        send({
          type: "hello",
          version: Protocol.version,
          token: (options.token && token) || undefined
        })
      }
      socket.onmessage = ({ data }: { readonly data: unknown }) => {
        heard()
        if (typeof data !== "string") return
        for (const frame of decodeServerMessage(data)) if (socket.onmessage) receive(frame)
      }
      enter({ times, check, down }, shown)
    }

    /** Asks for a fresh token, which is `undefined` when that fails. No answer comes in another state. */
    const fetchToken = (then: (fresh: string | undefined) => void) => {
      cancelFetch = fork(
        Effect.suspend(() => {
          const given = options.token!()
          return Effect.isEffect(given) ? given : Effect.promise(async () => given)
        }).pipe(
          Effect.catchCause(() => Effect.undefined),
          Effect.map((fresh) => {
            if (fresh !== undefined) {
              token = fresh
              tokenUntil = Infinity
            }
            then(fresh)
          })
        )
      )
    }

    /** The attempt or the session is over. The next one comes after `delay`, by default as the backoff says. */
    const ended = (code: number, why: string, delay?: number) => {
      enter(nowhere)
      reason = why
      const next = Protocol.closePolicy(code)
      if (next === "refresh") {
        tokenUntil = 0
        // A fresh token is worth one try at once.
        if (++refusals === 1) delay ??= 0
      } else refusals = 0
      if (next === "stop" || refusals >= (options.token === undefined ? 1 : maxRefusals)) {
        Stopped(code)
      } else {
        failures++
        notBefore = now() + Math.ceil(delay ?? jitter(failures))
        Waiting()
      }
    }

    const Stopped = (code: number) => {
      const stopped = new ConnectionStopped({ code, reason })
      enter({ ...nowhere, stopped }, { status: "stopped", reason, code })
      for (const wing of above()) wing.end(stopped)
    }

    const check = () => {
      state.check?.()
      look()
    }

    Idle()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isClosed = true
        if (state.stopped === undefined) {
          reason = "closed"
          Stopped(closed)
        }
      })
    )

    return {
      state: visible,
      source,
      look,
      request: (frame, onAnswer) => state.request?.(frame, onAnswer),
      refused: (channel, { code, message, retry }) => {
        if (retry === "refresh" && options.token !== undefined) state.renew?.()
        else if (retry !== "later") return new Refused({ code, channel, message, retry })
        return undefined
      },
      reconnect: () => {
        if (isClosed) return
        if (state.stopped !== undefined) {
          failures = refusals = tokenUntil = notBefore = 0
          reason = "reconnect"
          Idle()
        }
        check()
      },
      stopped: () => state.stopped,
      linger,
      jitter,
      resetAfter
    }
  })
