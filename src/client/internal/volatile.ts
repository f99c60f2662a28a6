/**
 * Sends what is published on volatile channels: at once or not at all.
 *
 * In: payloads of pointers and typing, as fast as the page makes them. Out: at most as many as the server
 * announced, the newest of each key; what a newer one replaces is dropped. Nothing is kept for a link that
 * is away, and nothing is sent twice.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Channel } from "../../Channel.ts"
import type { Refused } from "../ClientError.ts"
import type { Above, Connection } from "./connectionMachine.ts"
import type { Time } from "./time.ts"

/**
 * What became of a volatile publish. `dropped`: the link was away, a newer one took its place, or the server
 * had too many; a lost link may have sent it.
 *
 * @category models
 * @since 0.1.0
 */
export type VolatileOutcome = "published" | "dropped"

/** Unanswered at once; with those of subscriptions and the queue fewer than the protocol's 100. */
const maxUnanswered = 24

/** Keys that wait for their turn at most; the oldest is dropped. */
const maxKeys = 1000

/** A page that only publishes here keeps its socket so long after the last time, in milliseconds. */
const keepMillis = 30_000

interface VolatileWaiting {
  readonly channel: string
  readonly data: unknown
  readonly done: (outcome: Effect.Effect<VolatileOutcome, Refused>) => void
}

export interface Volatile extends Above {
  /** `json`: the payload, checked by its channel. */
  readonly publish: (
    channel: Pick<Channel<never>, "latestBy" | "name">,
    json: string
  ) => Effect.Effect<VolatileOutcome, Refused>
}

const dropped = /* @__PURE__ */ Effect.succeed<VolatileOutcome>("dropped")
const published = /* @__PURE__ */ Effect.succeed<VolatileOutcome>("published")

export const make = (connection: Connection, { after }: Time): Volatile => {
  const newest = new Map<string, VolatileWaiting>()
  const unanswered = new Set<VolatileWaiting>()
  /** 0 while there is no connection. */
  let perSecond = 0
  /** One was sent just now, and the next one waits for its time. */
  let isResting = false
  let release: (() => void) | undefined

  const pump = () => {
    const [first] = newest
    if (first === undefined || isResting || unanswered.size >= maxUnanswered) return
    const [key, waiting] = first
    const { channel, data, done } = waiting
    newest.delete(key)
    unanswered.add(waiting)
    isResting = true
    after(Math.ceil(1000 / perSecond), () => {
      isResting = false
      pump()
    })
    connection.request({ type: "publish", channel, data }, (answer) => {
      unanswered.delete(waiting)
      if (answer.type !== "error") done(published)
      else {
        const error = connection.refused(channel, answer)
        done(error === undefined ? dropped : Effect.fail(error))
      }
      pump()
    })
  }

  const down = () => {
    perSecond = 0
    for (const { done } of [...newest.values(), ...unanswered]) done(dropped)
    newest.clear()
    unanswered.clear()
  }

  return {
    publish: ({ latestBy, name }, json) =>
      Effect.callback((resume) => {
        release?.()
        release = after(keepMillis, () => {
          release = undefined
          connection.look()
        })
        connection.look()
        if (perSecond === 0) return resume(dropped)
        const data = JSON.parse(json)
        const key = `${name} ${latestBy && JSON.stringify(Object(data)[latestBy])}`
        const waiting = { channel: name, data, done: resume }
        const replaced = newest.get(key)
        // In its place, so that no key waits for longer because it changes.
        newest.set(key, waiting)
        // Last, because the publisher that hears of it may publish at once.
        replaced?.done(dropped)
        for (const [oldest, { done }] of newest) {
          if (newest.size <= maxKeys) break
          newest.delete(oldest)
          done(dropped)
        }
        pump()
        return Effect.sync(() => {
          if (newest.get(key) === waiting) newest.delete(key)
        })
      }),
    needed: () => release !== undefined,
    open: ({ limits }) => {
      perSecond = Math.max(1, limits.volatilePerSecond)
    },
    down,
    end: down
  }
}
