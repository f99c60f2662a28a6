/**
 * One reconnecting socket on the platform's own WebSocket. It knows frames, not channels.
 *
 * In: whether something above needs it. Out: a visible state, and for each session `open`, its
 * frames in order, `down`. It says hello, answers pings, notices a dead link by absolute times and
 * reconnects as the close code says.
 *
 * It is a machine over the states of `connectionStates.ts`: each has a function with its name, whose variables are
 * its data. `enter` is the one way from state to state and ends what the left one owns. `look` does what
 * the present state has to do by its times, whenever something may have changed. What arrives is handed
 * up at once, without a timer in between, because browsers hold back the timers of a hidden page.
 *
 * The client sends `ping` over a link when the page has signalled, and when a request waits and nothing is
 * heard. While the platform knows that there is no network, the client makes an attempt now and then only,
 * in case the platform is wrong.
 *
 * @since 0.1.0
 */
import * as Callbacks from "../../internal/callbacks.ts"
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
import type { UrlFailed } from "../ClientError.ts"
import type { Options, State as Shown } from "../Connection.ts"
import * as Addresses from "./addresses.ts"
import type { Asked } from "./asked.ts"
import * as Cell from "./cell.ts"
import * as Platform from "./platform.ts"
import * as Reasons from "./reasons.ts"
import * as Requests from "./requests.ts"
import type { Ask, State, Times, Written } from "./connectionStates.ts"
import type { Above, Connection, Welcome } from "./connectionUse.ts"
import { millis, type Time } from "./time.ts"
import * as Token from "./token.ts"

export type { Above, Connection } from "./connectionUse.ts"

/** To `open`, from there to `welcome`, for the token, and for the address: each, in milliseconds. */
const patience = 10_000

/** After a signal the link has this long to answer a probe, in milliseconds. */
const probePatience = 5000

/** The same where there is no network, or where a request is overdue. */
const shortPatience = 2000

/** From one attempt to the next without a network, in milliseconds. */
const offlineDelay = 30_000

/** No timer is longer, so that waking from sleep is noticed this soon without any signal. */
const slice = 5000

/** This many closes with 4100-4199 in a row mean that fresh tokens do not help. */
const maxRefusals = 3

/** This many failures in a row, and the next address follows. */
const maxStrikes = 2

/** The close code of an address that cannot be used. */
const unusable = 4202

/** The close code of a client that was closed. */
const closed = 1000

export const idle: Shown = { status: "idle", ...Reasons.unused }

/** The cause of a token, or of an address, that was late. */
const late = `nothing within ${patience} ms`

/** Between two states: the left one is over, and the next one not known yet. */
const nowhere: State = { times: () => [] }

export const make = (
  options: Options,
  clock: Time,
  above: () => ReadonlyArray<Above>,
  byDefault: NonNullable<Options["onError"]> = () => {}
): Effect.Effect<Connection, UrlFailed, Scope.Scope> =>
  Effect.gen(function* () {
    yield* Addresses.check(options.url)
    const { after, now, runSync } = clock
    const policy = options.backoff ?? Backoff.client
    const resetAfter = millis(policy.resetAfter)
    const jitter = (failures: number) => runSync(Backoff.jittered(policy, failures))
    // Never within one turn of the event loop: a listener that joins again at once must find it.
    const linger = Math.max(1, millis(options.linger ?? clientLinger))
    const visible = Cell.make<Shown>(idle)
    const source = Cell.make<Protocol.SourceState>("up")

    const tell: typeof byDefault = (error) =>
      Callbacks.attempt(() => (options.onError ?? byDefault)(error), Callbacks.report)
    const token = Token.make(options, clock, tell)
    const addresses = Addresses.make(options, clock, tell)

    let state = nowhere

    // What outlives a state.
    /** Why the last attempt ended. */
    let because = Reasons.needed
    /** When the last attempt was made, or the last session ended. */
    let triedAt = -Infinity
    /** No attempt is made before. */
    let notBefore = 0
    let failures = 0
    /** Closes with 4100-4199 in a row. */
    let refusals = 0
    /** Failures in a row at this address. */
    let strikes = 0
    /** Nothing needs the connection, and it is kept until then. */
    let idleAt = Infinity

    // What a state may own beside its socket. `enter` ends it; the timer ends with the look that follows.
    let cancelTimer = () => {}
    let cancelFetch = () => {}
    let stopSignals: (() => void) | undefined

    let looking = false
    let isClosed = false
    let wasOpen = false
    const { onMetric } = options
    const measure: Connection["measure"] =
      onMetric &&
      ((name, value) => Callbacks.attempt(() => onMetric(name, value), Callbacks.report))
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
      if (next.check) stopSignals ??= (options.signals ?? Platform.onPageSignal)(() => check())
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
      const shown = { status: "waiting", ...because, attempt: failures, until } as const
      enter(
        {
          times: () => [
            [idleAt < Infinity ? 0 : Infinity, Idle],
            [notBefore, attempt]
          ],
          check: (asked) => {
            const next =
              Platform.isOffline() && !asked ? Math.max(notBefore, triedAt + offlineDelay) : 0
            const isLater = next > notBefore
            notBefore = next
            if (isLater) Waiting()
          }
        },
        // A wait that is over at once is none.
        now() < notBefore ? shown : undefined
      )
    }

    const attempt = () => {
      triedAt = now()
      const shown = { status: "connecting", ...because, attempt: failures + 1 } as const
      const dial = () => Dialing(shown)
      const locate = () =>
        typeof options.url === "function" ? Asking(shown, addresses, dial) : dial()
      if (token.isGood()) locate()
      else Asking(shown, token, locate)
    }

    const Asking = (shown: Shown, { failed, fetch }: Asked, then: () => void) => {
      const lateAt = now() + patience
      let delay: number | undefined
      const without = (cause: unknown) => ended(Reasons.lost, failed(cause), delay)
      enter(
        {
          times: () => [
            [idleAt, Idle],
            [lateAt, () => without(late)]
          ],
          check: () => {
            delay = 0
          }
        },
        shown
      )
      cancelFetch = fetch(() => {
        if (needed()) then()
        else Idle()
      }, without)
    }

    /** Also `Open`, which follows over the same socket. Both share the liveness of that link. */
    const Dialing = (shown: Shown) => {
      let socket: Platform.WebSocketLike
      const url = addresses.current()
      try {
        socket = new (options.webSocket ?? WebSocket)(Platform.resolveUrl(url), [
          Protocol.subprotocol
        ])
      } catch (error) {
        // One without a page, or that this page may not open: trying again cannot help.
        return ended(unusable, { reason: "address", message: `${url}: ${error}` })
      }
      /** Nothing heard until then means dead. */
      let deadAt = now() + patience
      /** A sign of life was asked for, and nothing was heard since. */
      let probing = false
      /** The page has signalled since then: it is looking, so the next attempt need not wait. */
      let watched = false
      /** What the server said before it closed. */
      let complaint = ""
      /** The server's own delay before the next attempt, in milliseconds. */
      let reconnectAfter: number | undefined
      /** The server closes, or has answered 503. */
      let noRoom = false
      let heard = () => {}
      let receive = (frame: ServerFrame) => {
        if (frame.type === "error") {
          complaint = `${frame.code}: ${frame.message}`
          token.rejected(frame)
        }
        if (frame.type === "welcome") Open(frame)
      }

      const send = (frame: Written<ClientFrame>) => socket.send(JSON.stringify(frame))
      const over = (code: number, why: Reasons.Because) =>
        ended(code, why, reconnectAfter ?? (watched ? 0 : undefined), noRoom)
      const giveUp = (why: Reasons.Because) => {
        // The peer will not answer `close`, and until then the system would keep the connection.
        socket.terminate?.()
        over(Reasons.lost, why)
      }
      const times = (): Times => [
        [idleAt, Idle],
        [deadAt, () => giveUp(Reasons.silent)]
      ]
      const probe = (patience: number) => {
        const asked = probing || state.request === undefined
        probing = true
        deadAt = Math.min(deadAt, now() + patience)
        if (!asked) send({ type: "ping" })
      }
      const check = () => {
        watched = true
        // Also an attempt: it may have begun on a network that is gone.
        probe(Platform.isOffline() ? shortPatience : probePatience)
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
        if (wasOpen) measure?.("reconnect", 1)
        wasOpen = true
        let heardAt = 0
        const requests = Requests.make((text) => socket.send(text), now)
        const request: Ask = (frame, onAnswer) => {
          const askedAt = measure ? now() : 0
          requests.ask(
            frame,
            measure
              ? (answer) => {
                  measure("roundTrip", now() - askedAt)
                  onAnswer(answer)
                }
              : onAnswer
          )
          look()
        }

        let renewAt = Infinity
        let renewals = 0
        let asking = false
        const renewIn = (delay: number) => {
          renewAt = now() + delay
          look()
        }
        const tokenLives = (expires = Infinity) => {
          token.accepted()
          if (options.token === undefined) return
          renewals = 0
          token.goodUntil(now() + expires)
          renewIn(expires * 0.8)
        }
        /** The old one lives on, and this socket with it, for as long as the server lets them. */
        const renewLater = (retryAfter = jitter(++renewals)) => renewIn(retryAfter)
        const renew = () => {
          if (asking) return notRenewed(late)
          asking = true
          renewIn(patience)
          cancelFetch = token.fetch(renewed, notRenewed)
        }
        const notRenewed = (cause: unknown) => {
          cancelFetch()
          asking = false
          token.failed(cause)
          renewLater()
        }
        const renewed = () => {
          asking = false
          renewAt = Infinity
          request({ type: "authenticate", token: token.latest()! }, (answer) => {
            if (answer.type !== "error") {
              return tokenLives((answer as FrameOf<ServerFrame, "authenticated">).expires)
            }
            token.rejected(answer)
            token.goodUntil(0)
            renewLater(answer.retryAfter)
          })
        }

        receive = (frame) => {
          if (frame.type === "ping") send({ type: "pong" })
          else if (frame.type === "bye") {
            noRoom = true
            reconnectAfter = frame.reconnectAfter
          } else if (frame.type === "status") source.set(frame.source)
          else {
            if (frame.type === "gap" || ("state" in frame && frame.state === "reset")) {
              measure?.("gap", 1)
            }
            if ("id" in frame) requests.answered(frame.id!, frame)
            if (Requests.isOfChannel(frame)) for (const wing of above()) wing.receive?.(frame)
          }
        }
        heard = () => {
          probing = watched = false
          heardAt = now()
          deadAt = heardAt + welcome.ping + welcome.slack
        }
        heard()
        const openedAt = now()
        because = Reasons.needed
        tokenLives(welcome.expires)
        const mine: State = {
          check,
          request,
          renew: () => {
            if (!asking) renewIn(0)
          },
          giveUp: (message) => giveUp({ reason: "unanswered", message }),
          times: () => [
            ...times(),
            [renewAt, renew],
            [probing ? Infinity : requests.overdueAt(heardAt), () => probe(shortPatience)]
          ],
          down: () => {
            down()
            triedAt = now()
            // A healthy session is forgiven what was before it.
            if (now() - openedAt >= resetAfter) failures = refusals = strikes = 0
            for (const wing of above().toReversed()) wing.down()
          }
        }
        enter(mine, { status: "open", ...Reasons.welcomed, session: welcome.session })
        for (const wing of above()) if (state === mine) wing.open(welcome)
      }

      // What else matters arrives as `onclose`. The class of `ws` throws an error that has no listener.
      socket.onerror = ({ message }: { readonly message?: unknown }) => {
        noRoom ||= `${message}`.endsWith(" 503")
      }
      socket.onclose = ({ code, reason }: { readonly code: number; readonly reason: string }) => {
        over(code, Reasons.ofClose(code, reason || complaint, state.request !== undefined))
      }
      socket.onopen = () => {
        deadAt = now() + patience
        send({ type: "hello", version: Protocol.version, token: token.latest() })
      }
      socket.onmessage = ({ data }: { readonly data: unknown }) => {
        heard()
        if (typeof data !== "string") return
        for (const frame of decodeServerMessage(data)) if (socket.onmessage) receive(frame)
      }
      enter({ times, check, down }, shown)
    }

    /** The attempt or the session is over. The next one follows after `delay`, by default as the backoff says. */
    const ended = (code: number, why: Reasons.Because, delay?: number, noRoom = false) => {
      enter(nowhere)
      // A listener may have closed the client.
      if (state !== nowhere) return
      because = why
      if (noRoom || ++strikes === maxStrikes) {
        strikes = 0
        // At once only from a healthy session, so that nodes that all close are not hammered.
        if (addresses.leave() && delay && failures === 0) delay = 0
      }
      const next = Protocol.closePolicy(code)
      if (next === "refresh") {
        token.goodUntil(0)
        // A fresh token is worth one try at once.
        if (++refusals === 1) delay ??= 0
      } else refusals = 0
      if (next === "stop" || refusals >= (options.token === undefined ? 1 : maxRefusals)) {
        Stopped(code)
      } else {
        failures++
        const offline = Platform.isOffline()
        notBefore = now() + Math.ceil(delay ?? (offline ? 0 : jitter(failures)))
        if (offline) notBefore = Math.max(notBefore, triedAt + offlineDelay)
        Waiting()
      }
    }

    const Stopped = (code: number) => {
      const stopped = Reasons.stopped(code, because)
      enter({ ...nowhere, stopped }, { status: "stopped", ...because, code })
      // A listener may have left this state: then nothing has stopped.
      for (const wing of above()) if (state.stopped) wing.end(stopped)
      if (!isClosed) tell(stopped)
    }

    const check = (asked = false) => {
      state.check?.(asked)
      look()
    }

    Idle()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isClosed = true
        if (state.stopped === undefined) {
          because = Reasons.closed
          Stopped(closed)
        }
      })
    )

    return {
      state: visible,
      source,
      look,
      request: (frame, onAnswer) => state.request?.(frame, onAnswer),
      refused: (channel, refusal) => {
        const { retry } = refusal
        if (retry === "refresh" && options.token !== undefined) state.renew?.()
        else if (retry !== "later") return Requests.refusedOf(channel, refusal)
        return undefined
      },
      reconnect: () => {
        if (isClosed) return
        if (state.stopped !== undefined) {
          failures = refusals = notBefore = 0
          token.goodUntil(0)
          because = Reasons.asked
          Idle()
        }
        check(true)
      },
      measure,
      giveUp: (message) => state.giveUp?.(message),
      stopped: () => state.stopped,
      linger,
      jitter,
      resetAfter
    }
  })
