/**
 * What keeps the rows of a table current, as types: the definition of a table brings it, so that pages
 * without one do not load it, and a client is its host.
 *
 * @since 0.1.0
 */
import type { FrameOf, ServerFrame, Where } from "../Frame.ts"
import type { InvalidChannelName, InvalidWhere } from "../RealtimeError.ts"
import type { RealtimeEvent } from "../RealtimeEvent.ts"

/**
 * The rows of a table, with how far to believe them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rows<out R> {
  /**
   * In no particular order. The same array until a row changes, and the same row until it changes itself,
   * also after the state was read again.
   */
  readonly rows: ReadonlyArray<R>
  /**
   * - `loading`: the state is not here yet.
   * - `live`: these are the rows.
   * - `stale`: the rows may be behind. The link is away, the server rejected the channel for now (`error`
   *   is a `Refused` with `retryAfter`), or the state after a gap is not here yet. The client goes on by itself.
   * - `error`: nothing follows (`error` is `Refused`, `InvalidWhere`, `InvalidChannelName` or
   *   `ConnectionStopped`).
   */
  readonly status: "loading" | "live" | "stale" | "error"
  /** Why the rows are not `live`, if the server or the link said it. */
  readonly error: unknown
  /** The keys of rows that do not match the Schema, and are left out. The server names at most 100. */
  readonly invalid: ReadonlyArray<unknown>
}

/**
 * The rows with a way to read them again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Loaded<out R> extends Rows<R> {
  /**
   * Reads the state now, and replaces the rows in one change. Resolves when it is here, also after a
   * reconnect, or when the last subscriber has left. Rejects when the server rejects it for good, or the
   * connection stopped. A caller may ignore the promise. The same function in every snapshot.
   */
  readonly reload: () => Promise<void>
}

/**
 * The rows for as long as there are subscribers, which are called back after each change, at most once in a
 * frame (in Node and in a hidden page: once in 100 ms). Without subscribers the rows are `stale`; a new
 * subscriber goes on from there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Collection<out R> {
  /** The rows now; the same object until something changes. */
  readonly getSnapshot: () => Loaded<R>
  /** Calls back after each change; gives back the way to stop. */
  readonly subscribe: (onChange: () => void) => () => void
  /** No rows, `loading`, always the same: for rendering on a server, and for hydration. */
  readonly getServerSnapshot: () => Loaded<R>
}

/** The part of a channel that is used here. */
export interface RowsChannel {
  readonly name: string
  readonly codec: object
  readonly fault: InvalidChannelName | undefined
}

/** A row that was written, with its key alone one that does not match, or without both one that is gone. */
export interface Change {
  readonly name: string
  readonly data?: unknown
  readonly key?: unknown
}

/** What a subscription calls; see `Listener` and `Collecting` of the client. */
export interface RowListener {
  readonly onEvents: (batch: ReadonlyArray<RealtimeEvent<Change>>) => void
  readonly onCursor: (cursor: string) => void
  readonly onInactive: (error: unknown) => void
  readonly onEnd: (error: Ended) => void
  readonly onState: (frame: FrameOf<ServerFrame, "state">, isFirst: boolean) => void
  readonly lacks: () => 0 | 1 | 2
}

/** Why nothing follows. */
export type Ended = InvalidChannelName | InvalidWhere | { readonly _tag: string }

/** What a client has for the rows of its channels. */
export interface Host {
  /** Subscribes; gives the way to leave. `decode` reads the changes, and `collection` takes the states. */
  readonly listen: (
    channel: RowsChannel & { readonly decode: (json: unknown) => unknown },
    listener: RowListener,
    from: string | undefined,
    where: Where | undefined,
    collection: RowListener
  ) => () => void
  /** Looks at what the listeners lack. */
  readonly look: () => void
  /** Calls after so many milliseconds; calling the result prevents it. */
  readonly after: (millis: number, run: () => void) => () => void
  /** How long what is not watched any more is kept, in milliseconds. */
  readonly linger: number
  /** What runs in the next frame, in one callback. */
  readonly due: Array<() => void>
  /** Those that are watched, or were until a short time ago. */
  readonly stores: Set<Store>
}

/** Which rows are asked for. */
export interface Asked {
  readonly where?: object | undefined
  readonly key?: unknown
}

export interface Watcher {
  /** The rows or their status may have changed. */
  readonly onChange: () => void
  /** Nothing follows. */
  readonly onEnd: (error: never) => void
}

export interface Store {
  readonly is: (id: ReadonlyArray<unknown>) => boolean
  readonly shown: () => Rows<unknown>
  /** Keeps the rows current; gives the way to leave. */
  readonly watch: (watcher: Watcher) => () => void
  /** Keeps the rows current, and hands them out now and after each change. */
  readonly follow: (onRows: (rows: Rows<unknown>) => void, onEnd: Watcher["onEnd"]) => () => void
  readonly reload: () => Promise<void>
}

/** What the definition of a table brings. */
export interface Keeper {
  /** The store that is open for these rows, else `mine`, which may have been dropped, else a new one. */
  readonly open: (host: Host, channel: RowsChannel, asked: Asked, mine?: Store) => Store
  /** The rows as a value that changes once in a frame. */
  readonly collect: (host: Host, channel: RowsChannel, asked: Asked) => Collection<unknown>
}
