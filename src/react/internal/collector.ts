/**
 * Reduces the events of a channel into a value that React can read.
 *
 * In: events, gaps and cursors from a listener. Out: one immutable snapshot, told at once for the
 * first change and then at most every 16 ms, however many events come. It listens only while
 * somebody is subscribed; who comes back goes on from the last position or is told that the value is
 * stale.
 *
 * @since 0.1.0
 */
import type { ListenOptions } from "../../client/ChannelStore.ts"
import { ConnectionStopped } from "../../client/ClientError.ts"
import { report } from "../../client/internal/platform.ts"
import { type DurableCursor, readDurable, seenEvent } from "../../Cursor.ts"
import type { Event, Gap, Snapshot } from "../../RealtimeEvent.ts"

/**
 * A value made of events.
 *
 * @category models
 * @since 0.1.0
 */
export interface Collected<S> {
  readonly value: S
  /** Events may be missing in `value`: it must be read again. */
  readonly stale: boolean
  /** Why nothing follows, or what a reducer threw last. */
  readonly error: unknown
  /**
   * Replaces the value with what `load` gives and the events that came meanwhile, and ends `stale`,
   * unless another gap came meanwhile. The promise rejects when `load` does; ignoring it is fine.
   */
  readonly reload: (load: Load<S>) => Promise<void>
}

/**
 * Reads the state. A `Snapshot` (the server's `Realtime.snapshot`) also says which events are in it
 * already: those are left out, so that none is missed and none is counted twice. Without one, an event
 * that came while it was read may be in the state and be reduced onto it once more.
 *
 * @category models
 * @since 0.1.0
 */
export type Load<S> = () => S | Snapshot<S> | Promise<S | Snapshot<S>>

/** What the collector asks of the component's latest render. */
export interface Wishes<S> {
  readonly onGap?: ((gap: Gap) => void) | undefined
  readonly onError?: ((error: unknown) => void) | undefined
  readonly load?: Load<S> | undefined
}

/** Adds one event to the value. */
export interface Step<S> {
  readonly event: Event<unknown>
  readonly reduce: (value: S) => S
}

export interface Collector<S> {
  readonly getSnapshot: () => Collected<S>
  readonly subscribe: (onChange: () => void) => () => void
}

/** At most one change is told in this time, in milliseconds: a frame at 60 Hz. */
const calm = 16

const isSnapshot = <S>(loaded: S | Snapshot<S>): loaded is Snapshot<S> =>
  (loaded as Snapshot<S> | null | undefined)?._tag === "Snapshot"

export const makeCollector = <S>(options: {
  readonly initial: S
  readonly wishes: () => Wishes<S>
  /** Whether any event makes the value current again. */
  readonly heals: boolean
  readonly listen: (onStep: (step: Step<S>) => void, options: ListenOptions) => () => void
}): Collector<S> => {
  const { heals, listen, wishes } = options
  let value = options.initial
  let stale = false
  let error: unknown
  let cursor: string | undefined
  /** Where the loaded state stands: it has events that may come later. */
  let loaded: DurableCursor | undefined
  let gaps = 0
  /** The reload under way, with the events since it began. */
  let loading: Array<Step<S>> | undefined
  let dirty = false
  let busy = false
  const listeners = new Set<() => void>()

  const reduce = ({ event, reduce }: Step<S>) => {
    if (loaded === undefined || !seenEvent(loaded, event)) value = reduce(value)
  }

  const reload: Collected<S>["reload"] = (load) => {
    const steps: Array<Step<S>> = []
    const gapsBefore = gaps
    loading = steps
    const done = (async () => {
      try {
        const state = await load()
        const read = isSnapshot<S>(state) ? state : { value: state, cursor: "" }
        // A later reload has taken over.
        if (loading !== steps) return
        loaded = readDurable(read.cursor)
        value = read.value
        steps.forEach(reduce)
        stale = gaps !== gapsBefore
      } finally {
        if (loading === steps) loading = undefined
        changed()
      }
    })()
    done.catch(() => {})
    return done
  }

  let snapshot: Collected<S> = { value, stale, error, reload }

  const flush = () => {
    busy = dirty
    if (!dirty) return
    dirty = false
    setTimeout(flush, calm)
    snapshot = { value, stale, error, reload }
    for (const listener of Array.from(listeners)) listener()
  }

  const changed = () => {
    dirty = true
    if (busy) return
    busy = true
    queueMicrotask(flush)
  }

  const fail = (cause: unknown) => {
    error = cause
    changed()
    const { onError = report } = wishes()
    onError(cause)
  }

  const load = () => {
    const { load } = wishes()
    if (load !== undefined) reload(load).catch(fail)
  }

  const start = () => {
    let opened = cursor !== undefined
    return listen(
      (step) => {
        cursor = step.event.cursor ?? cursor
        reduce(step)
        loading?.push(step)
        if (heals) stale = false
        changed()
      },
      {
        from: cursor,
        onCursor: (position) => {
          cursor = position
          if (error instanceof ConnectionStopped) {
            error = undefined
            changed()
          }
          if (!opened) load()
          opened = true
        },
        onGap: (gap) => {
          cursor = gap.cursor
          gaps++
          stale = true
          changed()
          wishes().onGap?.(gap)
          load()
        },
        onError: fail
      }
    )
  }

  let stop: (() => void) | undefined
  return {
    getSnapshot: () => snapshot,
    subscribe: (onChange) => {
      if (listeners.size === 0) stop = start()
      listeners.add(onChange)
      return () => {
        listeners.delete(onChange)
        if (listeners.size === 0) stop?.()
      }
    }
  }
}
