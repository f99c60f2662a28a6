/**
 * Joins a state and the events behind it into one value, and says how far the value can be believed.
 *
 * In: what a listener is told, and reads of the state. Out: a value, a status, an error. A state with a
 * cursor is exact, however old it is and whatever the channel does meanwhile: the stream goes on from that
 * cursor. It knows no framework, no frames of a page and no promises; `Collector` and
 * `RealtimeClient.state` stand on it.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Channel } from "../../Channel.ts"
import { covers, readDurable, seenEvent } from "../../internal/cursor.ts"
import type { Event, Gap, Snapshot } from "../../RealtimeEvent.ts"
import type { Listener, SubscribeError, Subscriptions } from "./subscriptions.ts"
import type { Time } from "./time.ts"

/**
 * How far a value made of events can be believed.
 *
 * - `loading`: not joined to the events yet, or the first read of the state is not done.
 * - `live`: the events flow, and none is missing.
 * - `stale`: the value may be behind. The link is away, the server refused the channel for now (`error`
 *   says why, and after how long the client asks again), a gap was not read again, a later read failed,
 *   or the reducer threw.
 * - `error`: nothing follows (`error` is `Refused` or `ConnectionStopped`), or the first read failed, which
 *   is tried again.
 *
 * @category models
 * @since 0.1.0
 */
export type Status = "loading" | "live" | "stale" | "error"

/** The value, and what is known of it. */
export interface Shown<out S> {
  readonly value: S
  readonly status: Status
  readonly error: unknown
}

/** Reads the state; calls one of the two later, not before it returns. Gives back the way to give it up. */
export type Read<out S> = (
  done: (state: S | Snapshot<S>) => void,
  failed: (cause: unknown) => void
) => (() => void) | void

export interface Options<in out S, in out A> {
  readonly channel: Channel<A>
  readonly initial: S | Snapshot<S>
  /** May throw. */
  readonly reduce: (value: S, payload: A) => S
  /** The way to read the state, asked before each read. */
  readonly load: () => Read<S> | undefined
  /** Whether any event makes the value current again. */
  readonly heals?: boolean | undefined
  readonly onChange: () => void
  readonly onGap?: (gap: Gap) => void
  /** The channel was refused for now, a read by `load` failed, or the reducer threw. */
  readonly onError?: (error: unknown) => void
  readonly onEnd: (error: SubscribeError) => void
}

export interface Collecting<in out S> {
  readonly shown: () => Shown<S>
  readonly start: () => void
  /** It goes on from its position when it starts again. */
  readonly stop: () => void
  /** Reads the state now, by default as `load` says. */
  readonly read: (read?: Read<S>) => void
}

export type Collect = <S, A>(options: Options<S, A>) => Collecting<S>

/** At most so many reads by `load` begin in a minute, of which the first few wait for nothing. */
const maxReads = 9
const quickReads = 4
const minute = 60_000

export const isSnapshot = <S>(state: S | Snapshot<S>): state is Snapshot<S> =>
  (state as Snapshot<S> | null | undefined)?._tag === "Snapshot"

export const valueOf = <S>(state: S | Snapshot<S>): S => (isSnapshot(state) ? state.value : state)

/** Runs an effect for each read. */
export const readOf =
  <S, E>(load: Effect.Effect<S | Snapshot<S>, E>, { fork }: Time): Read<S> =>
  (done, failed) =>
    fork(
      Effect.andThen(Effect.yieldNow, Effect.exit(load)).pipe(
        Effect.map((exit) =>
          Exit.isSuccess(exit) ? done(exit.value) : failed(Cause.squash(exit.cause))
        )
      )
    )

export const make =
  (
    { listen }: Subscriptions,
    { after, now }: Time,
    /** How long to wait after so many failures in a row, in milliseconds. */
    jitter: (failures: number) => number
  ): Collect =>
  <S, A>(options: Options<S, A>): Collecting<S> => {
    const { channel, initial } = options
    let value = valueOf(initial)
    /** `value` has everything that was told up to here. */
    let cursor = isSnapshot(initial) ? initial.cursor : undefined
    let leave: (() => void) | undefined
    /** The subscription has been active, and is. */
    let joined = false
    let active = false
    /** The first read is done, or there is none. */
    let isRead = cursor !== undefined || options.load() === undefined
    /** Something is missing in `value`: what a gap told, until it is read again. */
    let behind = false
    let gap: Gap | undefined
    let ended: SubscribeError | undefined
    let refusal: unknown
    /** What a read or the reducer threw last, until a read succeeds. */
    let failed: unknown
    /** A state that takes the place of `value` as soon as the stream is there. */
    let next: Snapshot<S> | undefined

    /** The state is to be read when the subscription is active. */
    let due = !isRead
    /** The read under way: where it began, and the events since then. */
    let reading: { from: string | undefined; events: Array<Event<A>>; hasGap: boolean } | undefined
    let giveUp: (() => void) | void
    /** A read that waits; calling it prevents it. */
    let waiting: (() => void) | undefined
    let failures = 0
    /** When reads by `load` began, in the last minute. */
    let begun: ReadonlyArray<number> = []

    const status = (): Status =>
      ended !== undefined || (!isRead && failed !== undefined)
        ? "error"
        : refusal !== undefined
          ? "stale"
          : !joined || !isRead
            ? "loading"
            : active && !behind
              ? "live"
              : "stale"

    const replace = (state: S) => {
      value = state
      isRead = true
      behind = false
      gap = undefined
    }

    const fail = (cause: unknown) => {
      behind = true
      failed = cause
      options.onError?.(cause)
    }

    const apply = (event: Event<A>) => {
      try {
        value = options.reduce(value, event.payload)
        if (options.heals) behind = false
      } catch (cause) {
        fail(cause)
      }
    }

    const cancelWait = () => {
      waiting?.()
      waiting = undefined
    }

    const read = (by: Read<S>, isMine: boolean) => {
      cancelWait()
      giveUp?.()
      const mine = (reading = { from: cursor, events: [] as Array<Event<A>>, hasGap: false })
      giveUp = by(
        (state) => {
          if (reading !== mine) return
          reading = undefined
          failed = undefined
          failures = 0
          if (!isSnapshot(state) || readDurable(state.cursor) === undefined) {
            replace(valueOf(state))
            mine.events.forEach(apply)
            behind ||= mine.hasGap
          } else if (
            mine.from !== undefined &&
            covers(state.cursor, mine.from) &&
            covers(cursor!, state.cursor)
          ) {
            // The stream has passed it, and was heard from before it on.
            const isIncluded = seenEvent(readDurable(state.cursor))
            replace(state.value)
            for (const event of mine.events) if (!isIncluded(event)) apply(event)
          } else {
            next = state
            if (leave === undefined) rest()
            else join(state.cursor)
          }
          options.onChange()
        },
        (cause) => {
          if (reading !== mine) return
          reading = undefined
          failures++
          behind = true
          failed = cause
          options.onChange()
          if (isMine) options.onError?.(cause)
          load()
        }
      )
    }

    /** Reads as `load` says: at once, or later where it failed or was asked for too often. */
    const load = () => {
      due = false
      if (waiting !== undefined || options.load() === undefined) return
      const time = now()
      begun = begun.filter((at) => time - at < minute)
      const inRow = failures + Math.max(0, begun.length - quickReads)
      const free = begun.length < maxReads ? 0 : begun.at(-maxReads)! + minute - time
      const delay = Math.max(free, inRow > 0 ? jitter(inRow) : 0)
      const begin = () => {
        waiting = undefined
        const by = options.load()
        if (!active) due = true
        else if (by !== undefined) {
          begun = [...begun, now()]
          read(by, true)
        }
      }
      if (delay === 0) return begin()
      // Why it is behind, until it is read.
      failed ??= gap
      waiting = after(delay, begin)
    }

    const join = (from: string | undefined) => {
      leave?.()
      active = false
      leave = listen(channel, listener, from)
    }

    /** Nothing more comes for `next`. */
    const rest = () => {
      if (next === undefined) return
      replace(next.value)
      cursor = next.cursor
      next = undefined
    }

    /** The subscription is active. */
    const arrive = (isGap: boolean) => {
      // A state that the stream cannot go back to is better than none, and worse than any other.
      if (next !== undefined && !(isGap && isRead)) replace(next.value)
      next = undefined
      // What failed while the link was away may work again.
      if (!active && waiting !== undefined) {
        cancelWait()
        failures = 0
        due = true
      }
      joined = active = true
      refusal = ended = undefined
    }

    const arrived = (at: string) => {
      cursor = at
      if (due) load()
      options.onChange()
    }

    const listener: Listener<A> = {
      onEvents: (batch) => {
        arrive(batch[0]!._tag === "Gap")
        for (const event of batch) {
          if (event._tag === "Event") {
            apply(event)
            reading?.events.push(event)
          } else {
            behind = due = true
            gap = event
            if (reading !== undefined) {
              reading.from = event.cursor
              reading.events = []
              reading.hasGap = true
            }
            options.onGap?.(event)
          }
        }
        arrived(batch.at(-1)!.cursor!)
      },
      onCursor: (at) => {
        arrive(false)
        arrived(at)
      },
      onInactive: (error) => {
        active = false
        refusal = error
        options.onChange()
        if (error !== undefined) options.onError?.(error)
      },
      onEnd: (error) => {
        active = false
        ended = error
        options.onChange()
        options.onEnd(error)
      }
    }

    return {
      shown: () => ({ value, status: status(), error: ended ?? refusal ?? failed }),
      start: () => {
        if (leave === undefined) join(cursor)
      },
      stop: () => {
        leave?.()
        leave = undefined
        active = false
        rest()
        due ||= reading !== undefined || waiting !== undefined
        cancelWait()
        giveUp?.()
        reading = undefined
      },
      read: (by = options.load()) => {
        if (by !== undefined) read(by, false)
      }
    }
  }
