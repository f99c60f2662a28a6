/**
 * Reduces the events of a channel into a value, for adapters to frameworks and for code without one.
 *
 * In: the events, gaps and cursors of a channel. Out: one immutable snapshot, which changes once in a
 * frame, however many events come. It listens only while it has subscribers; after a pause it goes on
 * from the last position or says that the value is stale. React's hooks stand on it.
 *
 * @since 0.1.0
 */
import type { Channel } from "../Channel.ts"
import * as Cursor from "../Cursor.ts"
import type { Event, Gap, Snapshot } from "../RealtimeEvent.ts"
import { ConnectionStopped } from "./ClientError.ts"
import * as Cell from "./internal/cell.ts"
import { inNextFrame, report } from "./internal/platform.ts"
import type { PlainClient } from "./PlainClient.ts"
import type { Readable } from "./Readable.ts"

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

/**
 * Options of `Collector.latest` and, with more, of `Collector.make`.
 *
 * @category options
 * @since 0.1.0
 */
export interface LatestOptions {
  /** Events may be missing before this point; the value is `stale` until it was re-read. */
  readonly onGap?: ((gap: Gap) => void) | undefined
  /** The channel was refused, the connection stopped, or `reduce` threw. Default: `reportError`. */
  readonly onError?: ((error: unknown) => void) | undefined
}

/**
 * Options of `Collector.make`.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<S, in A> extends LatestOptions {
  /** The value before the first event. Read once. */
  readonly initial: S
  /** The next value. Called once per event, as it arrives. */
  readonly reduce: (value: S, payload: A) => S
  /**
   * Reads the state. Called when the channel is active, so that nothing can fall between reading and
   * listening, and again after each gap; events that come meanwhile are reduced onto its result.
   * Exact with a `Snapshot`. When it fails the value is `stale`, `error` and `onError` say why, and it
   * is called again at the next position without events that the server tells (a reconnect, or time
   * that passed) and at the next gap; call `reload` to have it sooner. Default: none, call `reload`
   * yourself.
   */
  readonly load?: Load<S> | undefined
}

/**
 * A value made of the events of a channel, for as long as it has subscribers: `getSnapshot` gives the
 * same object until it changes, and `subscribe` calls back after each change, at most once in a frame
 * (in Node and in a hidden page: once in 100 ms).
 *
 * @category models
 * @since 0.1.0
 */
export type Collector<S> = Readable<Collected<S>>

const isSnapshot = <S>(loaded: S | Snapshot<S>): loaded is Snapshot<S> =>
  (loaded as Snapshot<S> | null | undefined)?._tag === "Snapshot"

const collect = <S, A>(
  client: Pick<PlainClient, "listen">,
  channel: Channel<A> | string,
  given: Options<S, A> | (() => Options<S, A>),
  /** Whether any event makes the value current again. */
  heals?: boolean
): Collector<S> => {
  const options = typeof given === "function" ? given : () => given
  let value = options().initial
  let stale = false
  let error: unknown
  /** What the option `load` failed with last: no error any more once a read succeeds. */
  let failed: unknown
  let cursor: string | undefined
  /** Whether the loaded state has an event: it has some that may come later. */
  let isLoaded: ReturnType<typeof Cursor.includes> | undefined
  let gaps = 0
  /** The option `load` is called at the next position. */
  let due = true
  /** The reload under way: the events since it began. */
  let loading: Array<Event<A>> | undefined
  let dirty = false

  const reduce = (event: Event<A>) => {
    if (!isLoaded?.(event)) {
      value = options().reduce(value, event.payload)
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
        isLoaded = Cursor.includes(read.cursor)
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
    const { onError = report } = options()
    onError(cause)
  }

  const load = () => {
    const { load } = options()
    due = false
    if (load !== undefined) reload(load).catch((cause) => fail((failed = cause)))
  }

  const start = () =>
    client.listen<A>(
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
          options().onGap?.(gap)
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

/**
 * Collects the events of a channel into a value. After a gap it is `stale` until it was re-read.
 *
 * Options given as a function are asked whenever they are used, so that an adapter can give those of
 * the latest render; `initial` counts once.
 *
 * **Example** (An adapter to any framework with a function that shows)
 *
 * ```ts
 * const orders = Collector.make(client, OrderUpdates, { initial: [], reduce: applyUpdate })
 * const stop = orders.subscribe(() => show(orders.getSnapshot().value))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <A, S>(
    client: Pick<PlainClient, "listen">,
    channel: Channel<A>,
    options: Options<S, A> | (() => Options<S, A>)
  ): Collector<S>
  <S>(
    client: Pick<PlainClient, "listen">,
    channel: string,
    options: Options<S, unknown> | (() => Options<S, unknown>)
  ): Collector<S>
} = collect

/**
 * The payload of the latest event, `undefined` before the first. After a gap it is `stale` until the
 * next. Options given as a function are asked whenever they are used.
 *
 * @category constructors
 * @since 0.1.0
 */
export const latest: {
  <A>(
    client: Pick<PlainClient, "listen">,
    channel: Channel<A>,
    options?: LatestOptions | (() => LatestOptions | undefined)
  ): Collector<A | undefined>
  (
    client: Pick<PlainClient, "listen">,
    channel: string,
    options?: LatestOptions | (() => LatestOptions | undefined)
  ): Collector<unknown>
} = <A>(
  client: Pick<PlainClient, "listen">,
  channel: Channel<A> | string,
  given?: LatestOptions | (() => LatestOptions | undefined)
) =>
  collect<A | undefined, A>(
    client,
    channel,
    () => ({
      ...(typeof given === "function" ? given() : given),
      initial: undefined,
      reduce: (_, payload) => payload
    }),
    true
  )
