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
import { onPageSignal, resolveUrl } from "./platform.ts"
import * as Retries from "./retries.ts"
import type { Dialing, FetchingToken, Open, State } from "./states.ts"
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

/** The text of a frame whose fields stand in the order of the protocol's document. */
const textOf: (frame: Written<ClientFrame>) => string = JSON.stringify

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

    let state: State = { tag: "Idle", shown: idle, reason: wanted, until: 0 }

    // What outlives a state.
    const attempts = retries()
    /** Closes with 4100-4199 in a row. */
    let refusals = 0
    let token: string | undefined
    /** From then on a fresh token is asked for before the next attempt. */
    let tokenUntil = 0
    /** Nothing needs the connection, and it is kept until then. */
    let idleAt = Infinity

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
        const mine = state
        const next = due(mine)
        if (state === mine && next < Infinity) {
          cancelTimer = after(Math.min(slice, next - now()), look)
        }
      })
    }

    /** The one way from state to state: nothing that the left one owns goes on. */
    const enter = (next: State) => {
      const left = state
      state = next
      cancelTimer()
      if ("asking" in left && left.asking) left.interrupt()
      if ("socket" in left && next.tag !== "Open") {
        const { socket } = left
        // It may never fire `close`: let go of it, ask it to close, and do not wait.
        socket.onopen = socket.onmessage = socket.onclose = null
        socket.close(closed)
      }
      if (next.tag === "Idle" || next.tag === "Stopped") {
        stopSignals?.()
        stopSignals = undefined
      } else stopSignals ??= (options.signals ?? onPageSignal)(check)
      if (left.tag === "Open") for (const wing of above()) wing.down()
      // A wait may be over at once, and is not shown then.
      if (next.tag !== "Waiting") visible.set(next.shown)
      look()
    }

    const needed = () => above().some((wing) => wing.needed())

    /** Does what is due in a state, and says when something will be. */
    const due = (mine: State): number => {
      const time = now()
      idleAt = needed() ? Infinity : Math.min(idleAt, time + linger)
      switch (mine.tag) {
        case "Idle":
          if (idleAt === Infinity) wait(mine.reason, mine.until)
          return Infinity
        case "Waiting":
          if (idleAt < Infinity) rest(mine.reason, mine.until)
          else if (time >= mine.until) attempt(mine.reason)
          else visible.set(mine.shown)
          return mine.until
        case "Stopped":
          return Infinity
      }
      if (time >= idleAt) rest(wanted, 0)
      else if (mine.tag !== "FetchingToken") {
        if (time >= mine.deadAt) {
          // The peer will not answer `close`, and until then the system would keep the connection.
          mine.socket.terminate?.()
          ended(lost, "nothing heard")
        } else if (mine.tag === "Open") {
          if (time >= mine.renewAt) renew(mine)
          return Math.min(idleAt, mine.deadAt, mine.renewAt)
        }
        return Math.min(idleAt, mine.deadAt)
      }
      return idleAt
    }

    const rest = (reason: string, until: number) =>
      enter({ tag: "Idle", shown: idle, reason, until })

    const wait = (reason: string, until: number) => {
      const attempt = attempts.failures()
      const shown = { status: "waiting", reason, attempt, until: clock.shown(until) } as const
      enter({ tag: "Waiting", shown, reason, until })
    }

    const attempt = (reason: string) => {
      const shown = { status: "connecting", reason, attempt: attempts.failures() + 1 } as const
      if (options.token === undefined || now() < tokenUntil) return dial(shown)
      const mine: FetchingToken = {
        tag: "FetchingToken",
        shown,
        probing: false,
        asking: true,
        interrupt: () => {}
      }
      enter(mine)
      fetchToken(mine, (fresh) => {
        if (fresh === undefined) ended(lost, "the token callback failed")
        else if (needed()) dial(shown)
        else rest(wanted, 0)
      })
    }

    const dial = (shown: Dialing["shown"]) => {
      try {
        const url = resolveUrl(typeof options.url === "function" ? options.url() : options.url)
        const socket = new (options.webSocket ?? WebSocket)(url, [Protocol.subprotocol])
        const mine: Dialing = {
          tag: "Dialing",
          shown,
          probing: false,
          socket,
          deadAt: now() + patience,
          complaint: ""
        }
        // What matters comes as `onclose`. The class of `ws` throws an error that nobody listens to.
        socket.onerror = () => {}
        socket.onopen = () => {
          mine.deadAt = now() + patience
          socket.send(
            textOf({
              type: "hello",
              version: Protocol.version,
              token: (options.token && token) || undefined
            })
          )
        }
        socket.onmessage = ({ data }: { readonly data: unknown }) => {
          if (state.tag === "Open") heard(state)
          if (typeof data !== "string") return
          for (const frame of decodeServerMessage(data)) {
            if ("socket" in state && state.socket === socket) receive(state, frame)
          }
        }
        socket.onclose = ({ code, reason }: { readonly code: number; readonly reason: string }) =>
          ended(code, reason || mine.complaint || `closed with ${code}`)
        enter(mine)
      } catch (error) {
        // An address that does not parse, or that this page may not open: trying again cannot help.
        ended(unusable, `${options.url}: ${error}`)
      }
    }

    const heard = (mine: Open) => {
      mine.probing = false
      mine.deadAt = now() + mine.silence
    }

    const receive = (mine: Dialing | Open, frame: ServerFrame) => {
      if (mine.tag === "Dialing") {
        if (frame.type === "error") mine.complaint = `${frame.code}: ${frame.message}`
        if (frame.type === "welcome") welcomed(mine, frame)
      } else if (frame.type === "ping") send(textOf({ type: "pong" }))
      else if (frame.type === "bye") mine.reconnectAfter = frame.reconnectAfter
      else if (frame.type === "status") source.set(frame.source)
      else if ("id" in frame) {
        const answered = mine.unanswered.get(frame.id!)
        mine.unanswered.delete(frame.id!)
        answered?.(frame)
      } else if ("channel" in frame) {
        for (const wing of above()) wing.receive?.(frame)
      }
    }

    const welcomed = ({ socket }: Dialing, welcome: Welcome) => {
      const { expires, ping, session, slack } = welcome
      const mine: Open = {
        tag: "Open",
        shown: { status: "open", reason: "welcome", session },
        probing: false,
        asking: false,
        interrupt: () => {},
        socket,
        silence: ping + slack,
        deadAt: now() + ping + slack,
        renewAt: Infinity,
        renewals: retries(),
        reconnectAfter: undefined,
        lastId: 0,
        unanswered: new Map()
      }
      attempts.succeeded()
      tokenLives(mine, expires)
      enter(mine)
      source.set("up")
      for (const wing of above()) if (state === mine) wing.open(welcome)
    }

    const request: Connection["request"] = (frame, onAnswer) => {
      if (state.tag !== "Open") return
      state.unanswered.set(++state.lastId, onAnswer)
      send(textOf({ type: frame.type, id: state.lastId, ...(frame as object) } as ClientFrame))
    }

    const tokenLives = (mine: Open, expires = Infinity) => {
      mine.renewals.forgive()
      if (options.token === undefined) return
      tokenUntil = now() + expires
      mine.renewAt = now() + expires * 0.8
      look()
    }

    /** The old one lives on, and this socket with it, for as long as the server lets them. */
    const renewLater = (mine: Open, retryAfter?: number) => {
      mine.renewAt = now() + mine.renewals.failed(retryAfter)
      look()
    }

    const renew = (mine: Open) => {
      mine.renewAt = Infinity
      if (mine.asking) return
      fetchToken(mine, (fresh) => {
        if (fresh === undefined) return renewLater(mine)
        request({ type: "authenticate", token: fresh }, (answer) => {
          if (answer.type !== "error") {
            return tokenLives(mine, (answer as FrameOf<ServerFrame, "authenticated">).expires)
          }
          tokenUntil = 0
          renewLater(mine, answer.retryAfter)
        })
      })
    }

    /** Asks for a fresh token, which is `undefined` when that fails. Nothing follows once `mine` is left. */
    const fetchToken = (mine: FetchingToken | Open, then: (fresh: string | undefined) => void) => {
      mine.asking = true
      mine.interrupt = fork(
        Effect.suspend(() => {
          const given = options.token!()
          return Effect.isEffect(given) ? given : Effect.promise(async () => given)
        }).pipe(
          Effect.timeout(patience),
          Effect.catchCause(() => Effect.undefined),
          Effect.map((fresh) => {
            if (state !== mine) return
            mine.asking = false
            if (fresh !== undefined) {
              token = fresh
              tokenUntil = Infinity
            }
            then(fresh)
          })
        )
      )
    }

    /** The attempt or the session is over. */
    const ended = (code: number, reason: string) => {
      const policy = Protocol.closePolicy(code)
      if (policy !== "refresh") refusals = 0
      else {
        // What was forgiven its failures is forgiven its refusals.
        refusals = attempts.failures() === 0 ? 1 : refusals + 1
        tokenUntil = 0
      }
      if (policy === "stop" || refusals >= (options.token === undefined ? 1 : maxRefusals)) {
        return stop(code, reason)
      }
      const told = state.tag === "Open" ? state.reconnectAfter : undefined
      // A fresh token is worth one try at once; and after a signal somebody is looking at the page.
      const atOnce = refusals === 1 || ("probing" in state && state.probing)
      wait(reason, now() + Math.ceil(attempts.failed(told ?? (atOnce ? 0 : undefined))))
    }

    const stop = (code: number, reason: string) => {
      const error = new ConnectionStopped({ code, reason })
      enter({
        tag: "Stopped",
        shown: { status: "stopped", reason, code },
        error,
        final: code === closed
      })
      for (const wing of above()) wing.end(error)
    }

    const check = () => {
      if ("until" in state) state.until = 0
      else if ("probing" in state && !state.probing) {
        state.probing = true
        // Also an attempt: it may have begun on a network that is gone.
        if ("deadAt" in state) state.deadAt = Math.min(state.deadAt, now() + probePatience)
        // The reserved name can have no subscription; any answer shows that the link lives.
        send(textOf({ type: "unsubscribe", id: 0, channel: "realtime" }))
      }
      look()
    }

    const send = (text: string) => {
      if (state.tag === "Open") state.socket.send(text)
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (state.tag === "Stopped") state = { ...state, final: true }
        else stop(closed, "closed")
      })
    )

    return {
      state: visible,
      source,
      look,
      request,
      refused: (channel, { code, message, retry }) => {
        if (retry === "refresh" && options.token !== undefined) {
          if (state.tag === "Open") state.renewAt = 0
          look()
        } else if (retry !== "later") return new Refused({ code, channel, message, retry })
        return undefined
      },
      reconnect: () => {
        if (state.tag === "Stopped") {
          if (state.final) return
          attempts.forgive()
          refusals = tokenUntil = 0
          rest("reconnect", 0)
        }
        check()
      },
      stopped: () => (state.tag === "Stopped" ? state.error : undefined),
      linger,
      retries
    }
  })
