/**
 * The rows of a table as one value that is kept current: the state, and every change behind it.
 *
 * `RealtimeClient.rows` and `PlainClient.rows` give it, and `useRows` of React shows it.
 *
 * @since 0.1.0
 */
import type { Any, Table, Where } from "../Channel.ts"

export type { Collection, Loaded, Rows } from "../internal/rowTypes.ts"

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
