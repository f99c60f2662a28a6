/**
 * Reduces the events of a channel into a value, for adapters to frameworks and for code without one.
 *
 * In: a state, and the events, gaps and cursors of a channel. Out: one immutable snapshot, which changes
 * at most once in a frame, and says how far to believe it. It listens only while it has subscribers; after
 * a pause it goes on from the last position. React's hooks stand on it.
 *
 * @since 0.1.0
 */
import type { Any, Payload } from "../Channel.ts"
import { asChannel } from "../ChannelBase.ts"
import type { Event, Gap, Snapshot } from "../RealtimeEvent.ts"
import * as Cell from "./internal/cell.ts"
import { type Collecting, type Shown, type Status, valueOf } from "./internal/joinedState.ts"
import { attempt, report } from "../internal/callbacks.ts"
import { onceInNextFrame } from "../internal/nextFrame.ts"
import type { PlainClient } from "./PlainClient.ts"
import type { Readable } from "./Readable.ts"

export type { Status } from "./internal/joinedState.ts"

/**
 * A value made of events.
 *
 * @category models
 * @since 0.1.0
 */
export interface Collected<S> {
  readonly value: S
  /** `loading`, `live`, `stale` or `error`. */
  readonly status: Status
  /**
   * Why the value is not `live`: a `Refused`, with `retryAfter` if the client goes on by itself; a
   * `ConnectionStopped`; the last failure of `load` or `reduce`; or a `Gap` while the next read waits.
   * Default: `undefined`.
   */
  readonly error: unknown
  /**
   * Reads the state now, by default with the option `load`, and replaces the value in one change with the
   * result and the events behind it. If the read fails, the promise rejects and the value stays, `stale`.
   * A caller may ignore the promise. The same function in every snapshot.
   */
  readonly reload: (load?: Load<S>) => Promise<void>
}

/**
 * Reads the state. A `Snapshot` (the server's `Realtime.snapshot`, also as JSON) is exact, however old it
 * is: the stream goes on from its cursor. A state without a cursor may contain an event that arrived during
 * the read, which `reduce` then adds once more. On a durable channel return a `Snapshot`: the client cannot
 * tell that a state without a cursor, from a cache or a replica, is older than the subscription.
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
  /** Events may be missing before this point; the value is `stale` until the next read. */
  readonly onGap?: ((gap: Gap) => void) | undefined
  /**
   * The server rejected the channel, for good or for now; the connection stopped; `load` failed; or
   * `reduce` threw. Called once per change. Default: `reportError`, except for `ConnectionStopped`.
   */
  readonly onError?: ((error: unknown) => void) | undefined
}

/**
 * Options of `Collector.make`.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<S, in A> extends LatestOptions {
  /** The value before the first event. A `Snapshot` goes on from its cursor. Read once. */
  readonly initial: S | Snapshot<S>
  /** The next value. Called once per event, as it arrives. */
  readonly reduce: (value: S, payload: A) => S
  /**
   * Reads the state: first when the channel is active, unless `initial` is a `Snapshot`, and again after
   * each gap. The collector applies the events that arrive meanwhile to the result. It retries a failed
   * read after the client's `backoff`, or as soon as the link is back, at most 9 times in a minute.
   * Default: none, call `reload` yourself.
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
export interface Collector<S> extends Readable<Collected<S>> {
  /** The initial value, `loading`, always the same: for rendering on a server, and for hydration. */
  readonly getServerSnapshot: () => Collected<S>
}

/**
 * The part of a client that a collector uses.
 *
 * @category models
 * @since 0.1.0
 */
export type Source = Pick<PlainClient, "sync" | "last">

const collect = <S, A>(
  client: Source,
  channel: Any | string,
  given: Options<S, A> | (() => Options<S, A>),
  /** Gives the last event of an open channel; with it, any event makes the value current. */
  last?: () => Event<S> | undefined
): Collector<S> => {
  const options = typeof given === "function" ? given : () => given
  const { initial } = options()
  const from = (event: Event<S> | undefined): S | Snapshot<S> =>
    event ? { _tag: "Snapshot", value: event.payload, cursor: event.cursor! } : initial

  const tell = (error: unknown) => attempt(() => (options().onError ?? report)(error), report)
  const make = () =>
    client.sync().collect<S, A>({
      channel: asChannel(channel),
      initial: from(last?.()),
      reduce: (value, payload) => options().reduce(value, payload),
      load: () => {
        const { load } = options()
        return load && ((loaded, failed) => void run(load).then(loaded, failed))
      },
      isLast: last !== undefined,
      onChange: changed,
      onGap: (gap) => attempt(() => options().onGap?.(gap), report),
      onError: tell,
      onEnd: tell
    })
  let made: Collecting<S> | undefined
  const collecting = () => (made ??= make())

  const run = async (load: Load<S>) => load()
  const reload: Collected<S>["reload"] = (load = options().load) => {
    const read = load === undefined ? Promise.reject(new Error(noLoad)) : run(load)
    if (load !== undefined) collecting().read((loaded, failed) => void read.then(loaded, failed))
    const over = read.then(() => undefined)
    over.catch(() => {})
    return over
  }

  const collected = ({ error, status, value }: Shown<S>): Collected<S> => ({
    value,
    status,
    error,
    reload
  })
  const begin = (state: S | Snapshot<S>) =>
    collected({ value: valueOf(state), status: "loading", error: undefined })
  const onServer = begin(initial)
  const known = last?.()
  const cell = Cell.make(known ? begin(from(known)) : onServer)

  const show = () => {
    const now = collecting().shown()
    const { error, status, value } = cell.getSnapshot()
    const isSame = Object.is(now.value, value) && now.status === status && now.error === error
    if (!isSame) cell.set(collected(now))
  }
  const changed = onceInNextFrame(show)

  let readers = 0
  let isStopped = true
  /** The event that was the last when it stopped. */
  let seen: string | undefined
  const start = () => {
    const event = isStopped ? last?.() : undefined
    const isNew = event && event.id !== seen
    isStopped = false
    // Goes on with the event that the channel has delivered meanwhile, without what is in between.
    if (isNew) made = undefined
    collecting().start()
    if (isNew) show()
  }
  const stop = () => {
    isStopped = true
    seen = last?.()?.id
    made?.stop()
  }
  return {
    getSnapshot: cell.getSnapshot,
    getServerSnapshot: () => onServer,
    subscribe: (onChange) => {
      const leave = cell.subscribe(onChange)
      readers++
      start()
      return () => {
        if (!leave()) return
        readers--
        // After the batch, because there is no position within it to go on from.
        queueMicrotask(() => {
          if (readers === 0) stop()
        })
      }
    }
  }
}

const noLoad = "reload() without a function needs the option `load`"

/**
 * Collects the events of a channel into a value. After a gap it is `stale` until the state is read again.
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
export const make: <C extends Any | string, S>(
  client: Source,
  channel: C,
  options: Options<S, Payload<C>> | (() => Options<S, Payload<C>>)
) => Collector<S> = collect as never

/**
 * The payload of the latest event: at once where this client has it already, else the last one that the
 * server still has, or `undefined`. After a gap it is `stale` until the server sends that again, or the next
 * event arrives. On the channel of a table, and on a volatile one, it begins with the next event. Options given as a function are asked whenever they are used.
 *
 * @category constructors
 * @since 0.1.0
 */
export const latest = <C extends Any | string>(
  client: Source,
  channel: C,
  given?: LatestOptions | (() => LatestOptions | undefined)
): Collector<Payload<C> | undefined> =>
  collect<Payload<C> | undefined, Payload<C>>(
    client,
    channel,
    () => ({
      ...(typeof given === "function" ? given() : given),
      initial: undefined,
      reduce: (_, payload) => payload
    }),
    () => client.last(channel)
  )
