/**
 * The events that a channel had before, page by page, joined to those that come: for adapters to frameworks
 * and for code without one.
 *
 * In: pages backwards, and the events, gaps and cursors of a channel. Out: one list in the order of the ids,
 * without a hole and without a duplicate between its first event and now. The subscription is active before
 * the first page is read, so each event is in a page, or live, or both. Commits become visible out of the
 * order of their ids: the next page ends where the last one began, and never at the lowest id of all. React's
 * `useHistory` stands on it.
 *
 * @since 0.1.0
 */
import type { Any, Payload } from "../Channel.ts"
import { asChannel } from "../ChannelBase.ts"
import { historyLimit } from "../internal/defaults.ts"
import type { Event } from "../RealtimeEvent.ts"
import * as Cell from "./internal/cell.ts"
import type { Status } from "./internal/joinedState.ts"
import type { SubscribeError } from "./internal/listener.ts"
import { attempt, report } from "../internal/callbacks.ts"
import { onceInNextFrame } from "../internal/nextFrame.ts"
import type { PlainClient } from "./PlainClient.ts"
import type { Readable } from "./Readable.ts"

/**
 * What a channel had and has.
 *
 * @category models
 * @since 0.1.0
 */
export interface History<out A> {
  /**
   * The oldest first. An event is the same object for as long as it is in the list. Events that come beyond
   * 10,000, or beyond what `loadMore` has brought, push out the oldest; `loadMore` reads them again.
   */
  readonly events: ReadonlyArray<Event<A>>
  /**
   * `loading` until the first page is read, `live`, `stale` while the link is away or after a gap until the
   * list is read again, `error` when the server rejects the channel or the connection stopped.
   */
  readonly status: Status
  /** Why the list is not `live`, or what the last `loadMore` failed with. Default: `undefined`. */
  readonly error: unknown
  /** Whether there are events before these. */
  readonly more: boolean
  /**
   * Reads the page before these events. Calls while one is read share it. A caller may ignore the promise,
   * which rejects when the read fails. The same function in every snapshot.
   */
  readonly loadMore: () => Promise<void>
}

/**
 * Options of `make`.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The events of a page, default 50, at most 1,000. Read when a page is read. */
  readonly limit?: number | undefined
  /**
   * The server rejected the channel or a page, for good or for now, or the connection stopped. Default:
   * `reportError`, except for `ConnectionStopped`.
   */
  readonly onError?: ((error: unknown) => void) | undefined
}

/** So many events stay when more come, unless `loadMore` has brought more. */
const maxKept = 10_000

/** The most that one read after a gap asks for: the server's own bound. */
const maxLimit = 1000

/** Whether an id is above another: longer digits are. Ids of two epochs of a live channel are not compared. */
const isAbove = (one: string, other: string): boolean => {
  const at = one.lastIndexOf(":")
  if (one.slice(0, at + 1) !== other.slice(0, other.lastIndexOf(":") + 1)) return false
  return one.length === other.length ? one > other : one.length > other.length
}

/** Whether each of these follows the one before it, and the first one `last`. */
const isNext = <A>(last: Event<A> | undefined, events: ReadonlyArray<Event<A>>): boolean =>
  events.every(({ id }, index) => {
    const one = index === 0 ? last : events[index - 1]
    return one === undefined || isAbove(id, one.id)
  })

/** One list in the order of the ids, each event once. */
const merge = <A>(
  events: ReadonlyArray<Event<A>>,
  others: ReadonlyArray<Event<A>>
): ReadonlyArray<Event<A>> => {
  if (others.length === 0) return events
  if (isNext(events.at(-1), others)) return [...events, ...others]
  const known = new Set(events.map(({ id }) => id))
  const fresh = others.filter(({ id }) => !known.has(id) && known.add(id))
  if (fresh.length === 0) return events
  return [...events, ...fresh].toSorted((one, other) =>
    isAbove(one.id, other.id) ? 1 : isAbove(other.id, one.id) ? -1 : 0
  )
}

/**
 * Follows a channel from the newest page on, for as long as the result has subscribers; after a pause it goes
 * on from the last position. `getSnapshot` gives the same object until it changes, at most once in a frame.
 * After a gap it reads as many events again as it had, at most 1,000. Options given as a function are asked
 * whenever they are used.
 *
 * **Example** (An adapter to any framework)
 *
 * ```ts
 * const messages = History.make(client, Room("lobby"))
 * const leave = messages.subscribe(() => show(messages.getSnapshot().events))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <C extends Any | string>(
  client: Pick<PlainClient, "sync" | "history">,
  channel: C,
  given: Options | (() => Options | undefined) = {}
): Readable<History<Payload<C>>> & { readonly getServerSnapshot: () => History<Payload<C>> } => {
  type A = Payload<C>
  const options = () => (typeof given === "function" ? given() : given) ?? {}
  let events: ReadonlyArray<Event<A>> = []
  /** Events since the last snapshot, or since the newest page is due. */
  let arrived: Array<Event<A>> = []
  /** Where the next page ends: the first event of the last one. */
  let before: string | undefined
  let more = false
  let kept = maxKept
  let cursor: string | undefined
  let isActive = false
  /** The newest page is to be read: at the beginning, and after a gap. */
  let isDue = true
  let hasPage = false
  /** The read of the newest page, and that of an older one. */
  let reading: Promise<void> | undefined
  let loading: Promise<void> | undefined
  /** The newest page was rejected for good: it is not asked for again before the subscription is. */
  let isRefused = false
  /** Grows with each list: a page of an earlier one is dropped. */
  let list = 0
  let refusal: unknown
  let ended: unknown
  let failed: unknown

  const tell = (error: unknown) => attempt(() => (options().onError ?? report)(error), report)

  /** Adds what has come, and forgets the oldest beyond the bound. */
  const settle = () => {
    if (isDue) return
    events = merge(events, arrived)
    arrived = []
    if (events.length <= kept) return
    events = events.slice(-kept)
    const { id } = events[0]!
    // A late commit may be below the last page.
    if (before === undefined || isAbove(id, before)) before = id
    more = true
  }

  const page = async (limit: number, end: string | undefined): Promise<void> => {
    const mine = list
    try {
      const past = await client.history(channel, { limit, before: end })
      if (mine !== list) return
      failed = undefined
      if (end === undefined) {
        events = []
        hasPage = true
        isDue = false
        list++
      }
      settle()
      events = merge(past.events, events)
      before = past.events[0]?.id ?? end
      more = past.more
      kept = Math.max(maxKept, events.length)
    } catch (error) {
      if (mine !== list) return
      failed = error
      throw error
    } finally {
      changed()
    }
  }

  /** Reads the newest page, and once more when a gap has come meanwhile. */
  const read = () => {
    if (!isDue || !isActive || isRefused || reading !== undefined) return
    const { limit = historyLimit } = options()
    const newest = async () => {
      try {
        await page(Math.min(maxLimit, Math.max(limit, events.length)), undefined)
      } catch (error) {
        // After a stop the client may be connecting again by now.
        isRefused = (error as SubscribeError)._tag !== "ConnectionStopped"
        tell(error)
      }
      reading = undefined
      read()
    }
    reading = newest()
  }

  const loadMore = (): Promise<void> => {
    if (!more) return Promise.resolve()
    if (loading === undefined) {
      const { limit = historyLimit } = options()
      const over = () => {
        loading = undefined
      }
      const older = () => (more ? page(limit, before) : undefined)
      loading = reading === undefined ? page(limit, before) : reading.then(older)
      loading.then(over, over)
    }
    return loading
  }

  const status = (): Status =>
    ended !== undefined || (failed !== undefined && !hasPage)
      ? "error"
      : !hasPage
        ? "loading"
        : isActive && !isDue
          ? "live"
          : "stale"

  const shown = (): History<A> => ({
    events,
    status: status(),
    error: ended ?? refusal ?? failed,
    more,
    loadMore
  })
  const onServer = shown()
  const cell = Cell.make(onServer)

  const changed = onceInNextFrame(() => {
    settle()
    const now = shown()
    const { error, events: had, more: hadMore, status } = cell.getSnapshot()
    const isSame =
      now.events === had && now.more === hadMore && now.status === status && now.error === error
    if (!isSame) cell.set(now)
  })

  /** The subscription is active, and stands at a position. */
  const arrive = (at: string | undefined) => {
    cursor = at || cursor
    isActive = true
    refusal = ended = undefined
    read()
    changed()
  }

  /** The list is to be read again: later events are added to that. */
  const again = () => {
    settle()
    arrived = []
    isDue = true
    list++
  }

  const listen = () =>
    client.sync().listen<A>(
      asChannel<A>(channel),
      {
        onEvents: (batch) => {
          for (const event of batch) {
            if (event._tag === "Event") arrived.push(event)
            // No event of the history is missing after these.
            else if (event.reason !== "invalid" && event.reason !== "truncate") again()
          }
          // Too many to hold until the newest page is there.
          if (isDue && arrived.length > maxKept) again()
          arrive(batch.at(-1)!.cursor)
        },
        onCursor: arrive,
        onInactive: (error) => {
          isActive = isRefused = false
          refusal = error
          ended = undefined
          if (error !== undefined) tell(error)
          changed()
        },
        onEnd: (error) => {
          isActive = false
          ended = error
          tell(error)
          changed()
        }
      },
      cursor
    )

  let readers = 0
  let leave: (() => void) | undefined
  return {
    getSnapshot: cell.getSnapshot,
    getServerSnapshot: () => onServer,
    subscribe: (onChange) => {
      const stop = cell.subscribe(onChange)
      readers++
      if (leave === undefined) isRefused = false
      leave ??= listen()
      return () => {
        if (!stop()) return
        readers--
        // After the batch, because there is no position within it to go on from.
        queueMicrotask(() => {
          if (readers > 0) return
          leave?.()
          leave = undefined
          isActive = false
          changed()
        })
      }
    }
  }
}
