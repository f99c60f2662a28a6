/**
 * Reduces the events of a channel into a value that React can read.
 *
 * In: the events, gaps and cursors of a channel. Out: one immutable snapshot, which changes once in a
 * frame, however many events come. It listens only while somebody is subscribed; who comes back goes
 * on from the last position or is told that the value is stale.
 *
 * @since 0.1.0
 */
import type { Channel } from "../../Channel.ts"
import type { ChannelStore } from "../../client/ChannelStore.ts"
import { ConnectionStopped } from "../../client/ClientError.ts"
import * as Cell from "../../client/internal/cell.ts"
import { inNextFrame, report } from "../../client/internal/platform.ts"
import { type Position, readDurable, seenEvent } from "../../Cursor.ts"
import type { Event, Gap, Snapshot } from "../../RealtimeEvent.ts"

/**
 * A value made of events.
 *
 * @category models
 * @since 0.1.0
 */
export interface Collected<S> {
  readonly value: S
  /** Events may be missing in `value`, or the last read of it failed: it must be read again. */
  readonly stale: boolean
  /** Why nothing follows, or what a reducer or `load` threw last. */
  readonly error: unknown
  /**
   * Replaces the value with what `load` gives and the events that came meanwhile, and ends `stale`,
   * unless another gap came meanwhile. When `load` rejects, the promise does, which may be ignored, and
   * the value stays or becomes `stale`.
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
export interface Wishes<S, in A> {
  readonly reduce: (value: S, payload: A) => S
  readonly onGap?: ((gap: Gap) => void) | undefined
  readonly onError?: ((error: unknown) => void) | undefined
  readonly load?: Load<S> | undefined
}

const isSnapshot = <S>(loaded: S | Snapshot<S>): loaded is Snapshot<S> =>
  (loaded as Snapshot<S> | null | undefined)?._tag === "Snapshot"

export const makeCollector = <S, A>(
  store: Pick<ChannelStore, "listen">,
  channel: Channel<A> | string,
  initial: S,
  wishes: { readonly current: Wishes<S, A> },
  /** Whether any event makes the value current again. */
  heals: boolean
): Cell.Readable<Collected<S>> => {
  let value = initial
  let stale = false
  let error: unknown
  /** What the wished `load` failed with last: no error any more once a read succeeds. */
  let failed: unknown
  let cursor: string | undefined
  /** Where the loaded state stands: it has events that may come later. */
  let loaded: { readonly position: Position } | undefined
  let gaps = 0
  /** The wished `load` is called at the next position. */
  let due = true
  /** The reload under way: the events since it began. */
  let loading: Array<Event<A>> | undefined
  let dirty = false

  const reduce = (event: Event<A>) => {
    if (loaded === undefined || !seenEvent(loaded, event)) {
      value = wishes.current.reduce(value, event.payload)
    }
  }

  const reload: Collected<S>["reload"] = (load) => {
    const events: Array<Event<A>> = []
    const gapsBefore = gaps
    loading = events
    const done = (async () => {
      try {
        const state = await load()
        const read = isSnapshot<S>(state) ? state : { value: state, cursor: "" }
        // A later reload has taken over.
        if (loading !== events) return
        loaded = readDurable(read.cursor)
        value = read.value
        events.forEach(reduce)
        stale = gaps !== gapsBefore
        if (error === failed) error = undefined
      } catch (cause) {
        if (loading === events) stale = due = true
        throw cause
      } finally {
        if (loading === events) loading = undefined
        changed()
      }
    })()
    done.catch(() => {})
    return done
  }

  const collected = (): Collected<S> => ({ value, stale, error, reload })
  const cell = Cell.make(collected())

  const changed = () => {
    if (dirty) return
    dirty = true
    inNextFrame(() => {
      dirty = false
      cell.set(collected())
    })
  }

  const fail = (cause: unknown) => {
    error = cause
    changed()
    const { onError = report } = wishes.current
    onError(cause)
  }

  const load = () => {
    const { load } = wishes.current
    due = false
    if (load !== undefined) reload(load).catch((cause) => fail((failed = cause)))
  }

  const start = () =>
    store.listen<A>(
      channel as Channel<A>,
      (_, event) => {
        cursor = event.cursor ?? cursor
        reduce(event)
        loading?.push(event)
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
          if (due) load()
        },
        onGap: (gap) => {
          cursor = gap.cursor
          gaps++
          stale = true
          changed()
          wishes.current.onGap?.(gap)
          load()
        },
        onError: fail
      }
    )

  let readers = 0
  let stop: (() => void) | undefined
  return {
    getSnapshot: cell.getSnapshot,
    subscribe: (onChange) => {
      const leave = cell.subscribe(onChange)
      readers++
      stop ??= start()
      return () => {
        leave()
        readers--
        // After the batch, because there is no position within it to go on from.
        queueMicrotask(() => {
          if (readers > 0) return
          stop?.()
          stop = undefined
        })
      }
    }
  }
}
