/**
 * Joins a state and the events behind it into one value, and says how far the value can be believed.
 *
 * In: what a listener receives, and reads of the state. Out: a value, a status, an error. A state with a
 * cursor is exact, however old it is and whatever the channel does meanwhile: the stream goes on from that
 * cursor. `Collector` adds promises and the frames of a page, `RealtimeClient.state` adds Streams.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { Any, Channel } from "../../Channel.ts"
import { covers, readDurable, seenEvent } from "../../internal/cursorText.ts"
import type { Event, Gap, Snapshot } from "../../RealtimeEvent.ts"
import { decode } from "./decoding.ts"
import type { Collection, Listener, SubscribeError } from "./listener.ts"
import type { Subscriptions } from "./subscriptions.ts"
import type { Time } from "./time.ts"

/**
 * How far to believe a value made of events.
 *
 * - `loading`: the value has not joined the events yet, or the first read of the state is not done.
 * - `live`: the events flow, and none is missing.
 * - `stale`: the value may be behind. The link is away, the server rejected the channel for now (`error`
 *   is a `Refused` with `retryAfter`: the client goes on by itself), the state was not read again since a
 *   gap, a later read failed, or the reducer threw.
 * - `error`: nothing follows (`error` is `Refused` or `ConnectionStopped`), or the first read failed and
 *   will be retried.
 *
 * @category models
 * @since 0.1.0
 */
export type Status = "loading" | "live" | "stale" | "error"

/** A value with its status. */
export interface Shown<out S> {
  readonly value: S
  readonly status: Status
  readonly error: unknown
}

/** Reads the state and calls one of the two, after it has returned. Its result cancels the read. */
export type Read<out S> = (
  loaded: (state: S | Snapshot<S>) => void,
  failed: (cause: unknown) => void
) => (() => void) | void

export interface Options<in out S, in out A> {
  readonly channel: Channel<A>
  readonly initial: S | Snapshot<S>
  /** May throw. */
  readonly reduce: (value: S, payload: A) => S
  /** Gives the way to read the state, before each read. */
  readonly load: () => Read<S> | undefined
  /** Whether the value is the payload of the last event: any event makes it current, and so does the server's state. */
  readonly isLast?: boolean | undefined
  readonly onChange: () => void
  readonly onGap?: (gap: Gap) => void
  /** The server rejected the channel for now, a read by `load` failed, or the reducer threw. */
  readonly onError?: (error: unknown) => void
  readonly onEnd: (error: SubscribeError) => void
}

export interface Collecting<in out S> {
  readonly shown: () => Shown<S>
  /** Once more, it begins a read that the options ask for by now. */
  readonly start: () => void
  /** The next `start` goes on from the position of the value. */
  readonly stop: () => void
  /** Reads the state now, by default as `load` says. */
  readonly read: (read?: Read<S>) => void
}

export type Collect = <S, A>(options: Options<S, A>) => Collecting<S>

/** The running read: the position at its beginning or after the latest jump, and the events since then. */
interface Reading<A> {
  from: string | undefined
  events: Array<Event<A>>
  hasGap: boolean
}

/** The stream jumped to a position; an event that does not decode is no jump. */
const restart = <A>(reading: Reading<A>, at: string) => {
  reading.from = at
  reading.events = []
}

/** At most so many reads by `load` begin in a minute, and so many moves of the stream end with a gap. */
const maxReads = 9
/** So many of them begin at once, the others with the delay of a failure. */
const quickReads = 4
const minute = 60_000

/** The state of a table is rows, and its channel may be known by name only. */
const isOfTable = ({ name, table }: Any) => table !== undefined || name.startsWith("table_updates_")

const isSnapshot = <S>(state: S | Snapshot<S>): state is Snapshot<S> =>
  (state as Snapshot<S> | null | undefined)?._tag === "Snapshot"

export const valueOf = <S>(state: S | Snapshot<S>): S => (isSnapshot(state) ? state.value : state)

/** Runs an effect for each read. */
export const readOf =
  <S, E>(load: Effect.Effect<S | Snapshot<S>, E>, { read }: Time): Read<S> =>
  (...then) =>
    read(load, ...then)

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
    /** `value` has everything up to here. */
    let cursor = isSnapshot(initial) ? initial.cursor : undefined
    let leave: (() => void) | undefined
    /** The subscription has been active, and is. */
    let joined = false
    let active = false
    /** `value` is a state, and not what stands in until the first read. */
    let hasState = cursor !== undefined
    /** The first read is done, or none is needed now. */
    const isRead = () => hasState || (!asks && options.load() === undefined)
    /** The server has the last event as the state of the channel. */
    let asks = options.isLast && channel.delivery !== "volatile" && !isOfTable(channel)
    /** Neither the last event nor the state is here since the beginning or the latest gap. */
    let lacking = !hasState
    /** Events are missing in `value`. */
    let behind = false
    /** The latest gap since the last read. */
    let gap: Gap | undefined
    /** The position after the batch with that gap: the gap's own may be before the batch. */
    let gapEnd: string | undefined
    /** The events so far of the batch that is applied now, which `cursor` does not have. */
    let applied: Array<Event<A>> = []
    let ended: SubscribeError | undefined
    let refusal: unknown
    /** What a read or the reducer threw last, until a read succeeds. */
    let failed: unknown
    /** A state that replaces `value` as soon as the stream stands at its cursor. */
    let next: Snapshot<S> | undefined
    /** `value` was replaced while nothing was received: the stream must begin at `cursor`, when it is active. */
    let isMoved = false

    /** A read must begin when the subscription is active and there is a `load`. */
    let due = !hasState
    let reading: Reading<A> | undefined
    let giveUp: (() => void) | void
    /** Cancels the read that waits for its time. */
    let waiting: (() => void) | undefined
    let failures = 0
    /** The times at which reads by `load` began in the last minute. */
    let begun: ReadonlyArray<number> = []
    /** The latest times at which the stream could not go back to a state. */
    let missed: ReadonlyArray<number> = []

    const status = (): Status =>
      ended !== undefined || (!isRead() && failed !== undefined)
        ? "error"
        : refusal !== undefined
          ? "stale"
          : !joined || !isRead()
            ? "loading"
            : active && !behind
              ? "live"
              : "stale"

    const replace = (state: S) => {
      value = state
      hasState = true
      behind = lacking = false
      gap = gapEnd = undefined
    }

    const apply = (event: Event<A>) => {
      try {
        value = options.reduce(value, event.payload)
        if (options.isLast) replace(value)
      } catch (cause) {
        behind = true
        failed = cause
        options.onError?.(cause)
      }
    }

    const cancelWait = () => {
      waiting?.()
      waiting = undefined
    }

    const read = (by: Read<S>, isMine: boolean) => {
      cancelWait()
      if (active) due = false
      giveUp?.()
      const mine: Reading<A> = (reading = {
        from: cursor,
        events: [...applied],
        hasGap: false
      })
      giveUp = by(
        (state) => {
          if (reading !== mine) return
          reading = undefined
          failed = undefined
          failures = 0
          // On a live channel a position of durable ones says nothing.
          if (!isSnapshot(state) || ![state.cursor, cursor ?? state.cursor].every(readDurable)) {
            replace(valueOf(state))
            mine.events.forEach(apply)
            behind ||= mine.hasGap
          } else if (
            mine.from !== undefined &&
            covers(state.cursor, mine.from) &&
            covers(cursor!, state.cursor)
          ) {
            // The stream has passed the state's cursor, and the read began before that cursor.
            const isIncluded = seenEvent(readDurable(state.cursor))
            const isMissing = gapEnd !== undefined && !covers(state.cursor, gapEnd)
            replace(state.value)
            behind = isMissing
            for (const event of mine.events) if (!isIncluded(event)) apply(event)
          } else if (active && now() - missed.at(-maxReads)! < minute) {
            // `onGap` may have read it, and would read it again after the next gap.
            if (behind) load()
          } else {
            next = state
            if (active) join(state.cursor)
            else {
              take()
              isMoved = true
            }
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

    /** Begins a read by `load`: at once, or later after failures and after many reads. */
    const load = () => {
      due = true
      if (waiting !== undefined || options.load() === undefined) return
      const time = now()
      begun = begun.filter((at) => time - at < minute)
      const inRow = failures + Math.max(0, begun.length - quickReads)
      const free = begun.length < maxReads ? 0 : begun.at(-maxReads)! + minute - time
      const delay = Math.max(free, inRow > 0 ? jitter(inRow) : 0)
      const begin = () => {
        waiting = undefined
        const by = options.load()
        if (active && by !== undefined) {
          begun = [...begun, now()]
          read(by, true)
        }
      }
      if (delay === 0) return begin()
      // The error says why the value stays behind until then.
      failed ??= gap
      waiting = after(delay, begin)
    }

    const join = (from: string | undefined) => {
      leave?.()
      active = isMoved = false
      leave = listen(channel, listener, from, undefined, asks ? collection : undefined)
    }

    /** The stream goes on from the cursor of `next`. */
    const take = () => {
      if (next === undefined) return
      replace(next.value)
      cursor = next.cursor
      // The stream leaves out what is between the old position and this one.
      if (reading !== undefined) restart(reading, cursor)
      next = undefined
    }

    /** The subscription is active. */
    const arrive = (isGap: boolean) => {
      if (isGap && next !== undefined) missed = [...missed, now()].slice(-maxReads)
      // The stream could not go back to the state: then it is better than no state, and worse than the old one.
      if (!isGap || !isRead()) take()
      next = undefined
      // A read that failed while the link was away may succeed now.
      if (!active) {
        cancelWait()
        failures = 0
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
        if (isMoved) return join(cursor)
        arrive(batch[0]!._tag === "Gap")
        const at = batch.at(-1)!.cursor!
        for (const event of batch) {
          if (event._tag === "Event") {
            applied.push(event)
            reading?.events.push(event)
            apply(event)
          } else {
            behind = due = true
            // A state has nothing else for an event that does not decode.
            if (event.reason !== "invalid") lacking = true
            gap = event
            gapEnd = at
            if (reading !== undefined) {
              if (event.reason !== "invalid") restart(reading, at)
              reading.hasGap = true
            }
            options.onGap?.(event)
          }
        }
        applied = []
        arrived(at)
      },
      onCursor: (at) => {
        if (isMoved) return join(cursor)
        arrive(false)
        // A volatile channel has no position, and no last event.
        if (at === "") asks = false
        arrived(at)
      },
      onInactive: (error) => {
        active = false
        take()
        refusal = error
        ended = undefined
        options.onChange()
        if (error !== undefined) options.onError?.(error)
      },
      onEnd: (error) => {
        active = false
        if (asks && error._tag === "Refused" && !error.code.startsWith("channel/")) {
          // Without the state, then.
          asks = false
          return join(lacking ? undefined : cursor)
        }
        ended = error
        options.onChange()
        options.onEnd(error)
      }
    }

    /** The last event, for a value that is it. */
    const collection: Collection = {
      lacks: () => (lacking && next === undefined ? 2 : 0),
      onState: ({ cursor: at, more, rows }) => {
        if (more) return
        next = undefined
        arrive(false)
        lacking = false
        hasState = true
        if (reading !== undefined) restart(reading, at)
        // A server that has forgotten the last event says nothing of the events before a gap.
        const [read] = decode(channel, [{ id: "", at: "", data: rows[0] }], at, "")
        if (rows.length === 1) {
          if (read!._tag === "Event") apply(read as Event<A>)
          else behind = true
        }
        arrived(at)
      }
    }

    return {
      shown: () => ({ value, status: status(), error: ended ?? refusal ?? failed }),
      start: () => {
        if (leave === undefined) return join(lacking && asks ? undefined : cursor)
        // The options may have a `load` now.
        if (due) load()
        options.onChange()
      },
      stop: () => {
        leave?.()
        leave = undefined
        active = false
        take()
        due ||= reading !== undefined
        cancelWait()
        giveUp?.()
        reading = undefined
      },
      read: (by = options.load()) => {
        if (by !== undefined) read(by, false)
      }
    }
  }
