/**
 * The rows of a table as one value that is kept current: the state, and every change behind it.
 *
 * `RealtimeClient.rows` and `PlainClient.rows` give it, and `useRows` of React shows it.
 *
 * @since 0.1.0
 */
import type { Any, Table, Where } from "../Channel.ts"
import type { Status } from "./internal/joinedState.ts"
import type { Readable } from "./Readable.ts"

/**
 * A channel of `Channel.table`, or one of its routes: durable, because only a durable channel joins its
 * state and its events exactly.
 *
 * @category models
 * @since 0.1.0
 */
export type TableChannel = Any & { readonly delivery: "durable"; readonly table: Table }

/**
 * Which rows.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<C> {
  /**
   * By equality, on the columns of `filter` of the definition: `{ status: ["new", "packed"], owner: null }`.
   * Compared by its content. Default: all rows that `authorize` allows.
   */
  readonly where?: Where<C> | undefined
  /** Compared by `Object.is`. With another key nothing is shared: the rows are loaded again. */
  readonly key?: unknown
}

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
  readonly status: Status
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
   * reconnect. Rejects when the server rejects it for good, or the connection stopped. A caller may ignore
   * the promise. The same function in every snapshot.
   */
  readonly reload: () => Promise<void>
}

/**
 * The rows for as long as there are subscribers: `getSnapshot` gives the same object until it changes, and
 * `subscribe` calls back after each change, at most once in a frame (in Node and in a hidden page: once in
 * 100 ms). While no one subscribes the rows are `stale`; a subscriber that comes back goes on from there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Collection<out R> extends Readable<Loaded<R>> {
  /** No rows, `loading`, always the same: for rendering on a server, and for hydration. */
  readonly getServerSnapshot: () => Loaded<R>
}
