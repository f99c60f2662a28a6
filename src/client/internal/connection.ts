/**
 * One reconnecting socket on the platform's own WebSocket. It knows frames, not channels.
 *
 * In: whether something above needs it. Out: a visible state, and for each session `open`, its
 * frames in order, `down`. It says hello, answers pings, notices a dead link by absolute times and
 * comes back as the close code says.
 *
 * It is a machine over the states of `states.ts`. `enter` is the only way from one to the next: it
 * releases the timer, the token callback and the socket of the state that is left. `due` does what the
 * present state has to do by its times, and runs whenever something may have changed. What arrives is
 * handed up at once, without a timer in between, because browsers hold back the timers of a hidden page.
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
import * as Retries from "./retries.ts"
import type { Ask, State, Written } from "./states.ts"
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
export type Refusal = Omit<FrameOf<ServerFrame, "error">, "type" | "id">

export interface Connection {
  readonly state: Cell.Readable<ConnectionState>
  readonly source: Cell.Readable<"up" | "down">
  /** Looks soon at what is needed and what is due. */
  readonly look: () => void
  /** Asks while open, otherwise nothing happens. No answer comes any more after `down`. */
  readonly request: Ask
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
  /** A count of failures for something that is tried again by the client's backoff. */
  readonly retries: () => Retries.Retries
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

export const make = (
  options: ConnectionOptions,
  clock: Time,
  above: () => ReadonlyArray<Above>
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { after, fork, now } = clock
    // Never within one turn of the event loop: a listener that comes back at once must find it.
    const linger = Math.max(1, millis(options.linger, 1000))
    const retries = Retries.make(options.backoff ?? Backoff.client, clock)
    const visible = Cell.make<ConnectionState>(idle)
    const source = Cell.make<"up" | "down">("up")

    // What outlives a state.
    let attempts = retries()
    /** Closes with 4100-4199 in a row. */
    let refusals = 0
    let token: string | undefined
    /** From then on a fresh token is asked for before the next attempt. */
    let tokenUntil = 0
    /** Nothing needs the connection, and it is kept until then. */
    let idleAt = Infinity
    let isClosed = false

    let stopSignals: (() => void) | undefined
    let cancelTimer = () => {}
    let looking = false
    /** Looks at the end of this turn, and again when the time for it has come. */
    const look = () => {
      if (looking) return
      looking = true
      queueMicrotask(() => {
        looking = false
        cancelTimer()
        const time = now()
        idleAt = needed() ? Infinity : Math.min(idleAt, time + linger)
        const mine = state
        const unusedAt = mine.leave === undefined ? Infinity : idleAt
        if (time >= unusedAt) return rest()
        const next = Math.min(unusedAt, mine.due?.(time) ?? Infinity)
        if (state === mine && next < Infinity)
          cancelTimer = after(Math.min(slice, next - time), look)
      })
    }

    const needed = () => above().some((wing) => wing.needed())

    /** The one way from state to state: nothing that the left one owns goes on. */
    const enter = (next: State, shown?: ConnectionState) => {
      const left = state
      state = next
      cancelTimer()
      left.leave?.()
      stopSignals?.()
      stopSignals = next.check && (options.signals ?? onPageSignal)(check)
      if (shown !== undefined) visible.set(shown)
      look()
    }

    /** No attempt is made before `until`; `reason` is why the last one ended. */
    const idling = (reason: string, until: number): State => ({
      tag: "Idle",
      due: () => {
        if (idleAt === Infinity) wait(reason, until)
        return Infinity
      }
    })

    const rest = (reason = wanted, until = 0) => enter(idling(reason, until), idle)

    const wait = (reason: string, until: number) => {
      const attempt = attempts.failures()
      const shown = { status: "waiting", reason, attempt, until: clock.shown(until) } as const
      enter({
        tag: "Waiting",
        due: (time) => {
          if (idleAt < Infinity) rest(reason, until)
          else if (time < until) visible.set(shown)
          else {
            const shown = { status: "connecting", reason, attempt: attempt + 1 } as const
            if (options.token === undefined || time < tokenUntil) dial(shown)
            else fetch(shown)
          }
          return until
        },
        check: () => {
          until = 0
        }
      })
    }

    const fetch = (shown: ConnectionState) => {
      let delay: number | undefined
      let interrupt = () => {}
      enter(
        {
          tag: "FetchingToken",
          check: () => {
            delay = 0
          },
          leave: () => interrupt()
        },
        shown
      )
      interrupt = fetchToken((fresh) => {
        if (fresh === undefined) ended(lost, "the token callback failed", delay)
        else if (needed()) dial(shown)
        else rest()
      })
    }

    /** `Dialing`, and `Open` after it over the same socket. */
    const dial = (shown: ConnectionState) => {
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
      /** Once it is open, each message moves `deadAt` by this. */
      let silence = 0
      /** The page has signalled, and nothing was heard since. */
      let probing = false
      /** What the server said before it closed. */
      let complaint = ""
      /** The server's own delay before the next attempt, in milliseconds. */
      let reconnectAfter: number | undefined

      const send = (frame: Written<ClientFrame>) => socket.send(JSON.stringify(frame))
      const over = (code: number, why: string) =>
        ended(code, why, reconnectAfter ?? (probing ? 0 : undefined))

      const link = {
        due: (time: number) => {
          if (time >= deadAt) {
            // The peer will not answer `close`, and until then the system would keep the connection.
            socket.terminate?.()
            over(lost, "nothing heard")
          }
          return deadAt
        },
        check: () => {
          if (probing) return
          probing = true
          // Also an attempt: it may have begun on a network that is gone.
          deadAt = Math.min(deadAt, now() + probePatience)
          // The reserved name can have no subscription; any answer shows that the link lives.
          if (silence > 0) send({ type: "unsubscribe", id: 0, channel: "realtime" })
        },
        leave: () => {
          if (state.ask) return
          // It may never fire `close`: let go of it, ask it to close, and do not wait.
          socket.onopen = socket.onmessage = socket.onclose = null
          socket.close(closed)
        }
      }

      const open = (welcome: Welcome) => {
        let lastId = 0
        const unanswered = new Map<number, (frame: ServerFrame) => void>()
        const ask: Ask = (frame, onAnswer) => {
          unanswered.set(++lastId, onAnswer)
          send({ type: frame.type, id: lastId, ...(frame as object) } as ClientFrame)
        }

        let renewAt = Infinity
        let renewals = retries()
        let asking = false
        let interrupt = () => {}
        const renewIn = (delay: number) => {
          renewAt = now() + delay
          look()
        }
        const tokenLives = (expires = Infinity) => {
          if (options.token === undefined) return
          renewals = retries()
          tokenUntil = now() + expires
          renewIn(expires * 0.8)
        }
        /** The old one lives on, and this socket with it, for as long as the server lets them. */
        const renewLater = (retryAfter?: number) => renewIn(renewals.failed(retryAfter))
        const renew = () => {
          renewAt = Infinity
          if (asking) return
          asking = true
          interrupt = fetchToken((fresh) => {
            asking = false
            if (fresh === undefined) return renewLater()
            ask({ type: "authenticate", token: fresh }, (answer) => {
              if (answer.type !== "error") {
                return tokenLives((answer as FrameOf<ServerFrame, "authenticated">).expires)
              }
              tokenUntil = 0
              renewLater(answer.retryAfter)
            })
          })
        }

        const mine: State = {
          ...link,
          tag: "Open",
          ask,
          renew: () => renewIn(0),
          due: (time) => {
            const next = link.due(time)
            if (state === mine && time >= renewAt) renew()
            return Math.min(next, renewAt)
          },
          receive: (frame) => {
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
          },
          leave: () => {
            interrupt()
            link.leave()
            for (const wing of above()) wing.down()
          }
        }
        silence = welcome.ping + welcome.slack
        heard()
        attempts.succeeded()
        tokenLives(welcome.expires)
        source.set("up")
        enter(mine, { status: "open", reason: "welcome", session: welcome.session })
        for (const wing of above()) if (state === mine) wing.open(welcome)
      }

      const heard = () => {
        probing = false
        deadAt = now() + silence
      }

      // What matters comes as `onclose`. The class of `ws` throws an error that nobody listens to.
      socket.onerror = () => {}
      socket.onopen = () => {
        deadAt = now() + patience
        send({
          type: "hello",
          version: Protocol.version,
          token: (options.token && token) || undefined
        })
      }
      socket.onmessage = ({ data }: { readonly data: unknown }) => {
        if (silence > 0) heard()
        if (typeof data !== "string") return
        for (const frame of decodeServerMessage(data)) state.receive?.(frame)
      }
      socket.onclose = ({ code, reason }: { readonly code: number; readonly reason: string }) =>
        over(code, reason || complaint || `closed with ${code}`)

      enter(
        {
          ...link,
          tag: "Dialing",
          receive: (frame) => {
            if (frame.type === "error") complaint = `${frame.code}: ${frame.message}`
            if (frame.type === "welcome") open(frame)
          }
        },
        shown
      )
    }

    /** Asks for a fresh token, which is `undefined` when that fails. The result interrupts it. */
    const fetchToken = (then: (fresh: string | undefined) => void) =>
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
            then(fresh)
          })
        )
      )

    /** The attempt or the session is over. The next attempt comes after `delay`, by default after the backoff. */
    const ended = (code: number, why: string, delay?: number) => {
      const policy = Protocol.closePolicy(code)
      if (policy === "refresh") {
        tokenUntil = 0
        // What was forgiven its failures is forgiven its refusals. A fresh token is worth one try at once.
        if (attempts.failures() === 0) refusals = 0
        if (++refusals === 1) delay ??= 0
      } else refusals = 0
      if (policy === "stop" || refusals >= (options.token === undefined ? 1 : maxRefusals)) {
        stop(code, why)
      } else wait(why, now() + Math.ceil(attempts.failed(delay)))
    }

    const stop = (code: number, reason: string) => {
      const error = new ConnectionStopped({ code, reason })
      enter({ tag: "Stopped", error }, { status: "stopped", reason, code })
      for (const wing of above()) wing.end(error)
    }

    const check = () => {
      state.check?.()
      look()
    }

    let state: State = idling(wanted, 0)

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isClosed = true
        if (state.error === undefined) stop(closed, "closed")
      })
    )

    return {
      state: visible,
      source,
      look,
      request: (frame, onAnswer) => state.ask?.(frame, onAnswer),
      refused: (channel, { code, message, retry }) => {
        if (retry === "refresh" && options.token !== undefined) state.renew?.()
        else if (retry !== "later") return new Refused({ code, channel, message, retry })
        return undefined
      },
      reconnect: () => {
        if (isClosed) return
        if (state.error !== undefined) {
          attempts = retries()
          refusals = tokenUntil = 0
          rest("reconnect", 0)
        }
        check()
      },
      stopped: () => state.error,
      linger,
      retries
    }
  })
