/**
 * Asks the server for pages of what a channel had before.
 *
 * In: requests of the application. Out: few unanswered frames at once, and each page to its request. What
 * waits when the link goes is asked again over the next one, and what the server rejects for now is asked
 * again later.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Any, Channel } from "../../Channel.ts"
import type { FrameOf, ServerFrame } from "../../Frame.ts"
import { historyLimit } from "../../internal/defaults.ts"
import type { HistoryOptions, HistoryPage } from "../../RealtimeEvent.ts"
import type { Above, Connection } from "./connectionMachine.ts"
import { decode } from "./decoding.ts"
import type { SubscribeError } from "./listener.ts"
import type { Time } from "./time.ts"

/** Unanswered at once; with all other requests fewer than the protocol's 100. */
const maxUnanswered = 2

interface WaitingPage {
  /** It was sent over this link, or rests until it is asked again. */
  asked: boolean
  readonly send: () => void
  readonly end: (exit: Effect.Effect<HistoryPage<unknown>, SubscribeError>) => void
}

export interface Pages extends Above {
  readonly history: <A>(
    channel: Channel<A>,
    options?: HistoryOptions
  ) => Effect.Effect<HistoryPage<A>, SubscribeError>
}

export const make = (connection: Connection, { after }: Time): Pages => {
  const waiting = new Set<WaitingPage>()
  /** How many more may be sent now; 0 while the link is away. */
  let room = 0

  const pump = () => {
    connection.look()
    for (const one of waiting) {
      if (room === 0 || one.asked) continue
      room--
      one.asked = true
      one.send()
    }
  }

  const history = (channel: Any, { before, limit = historyLimit }: HistoryOptions = {}) =>
    Effect.callback<HistoryPage<unknown>, SubscribeError>((resume) => {
      const { fault, name } = channel
      const failed = fault ?? connection.stopped()
      if (failed !== undefined) return resume(Effect.fail(failed))
      let failures = 0
      const answered = (answer: ServerFrame) => {
        room++
        if (answer.type === "error") {
          const error = connection.refused(name, answer)
          if (error !== undefined) one.end(Effect.fail(error))
          else {
            after(answer.retryAfter ?? connection.jitter(++failures), () => {
              one.asked = false
              pump()
            })
          }
        } else {
          const { events, more } = answer as FrameOf<ServerFrame, "history">
          const decoded = decode(channel, events, "", "")
          one.end(
            Effect.succeed({
              events: decoded.filter(({ _tag }) => _tag === "Event") as never,
              more
            })
          )
        }
        pump()
      }
      const one: WaitingPage = {
        asked: false,
        send: () => connection.request({ type: "history", channel: name, before, limit }, answered),
        end: (exit) => {
          waiting.delete(one)
          resume(exit)
        }
      }
      waiting.add(one)
      pump()
      return Effect.sync(() => {
        waiting.delete(one)
        pump()
      })
    })

  return {
    history: history as Pages["history"],
    needed: () => waiting.size > 0,
    open: () => {
      room = maxUnanswered
      pump()
    },
    down: () => {
      room = 0
      for (const one of waiting) one.asked = false
    },
    end: (error) => [...waiting].forEach(({ end }) => end(Effect.fail(error)))
  }
}
