/**
 * The types of a table's rows, and of the filters that a definition allows. Nothing here is left at run time.
 *
 * @since 0.1.0
 */
import type * as Schema from "effect/Schema"
import type { Table } from "./ChannelBase.ts"

/**
 * The Schema of a row: a `Schema.Struct` or a `Schema.Class`.
 *
 * @category models
 * @since 0.1.0
 */
export type Row = Schema.Codec<unknown, unknown> & { readonly fields: Schema.Struct.Fields }

/**
 * The names of a row's columns in the database.
 *
 * @category models
 * @since 0.1.0
 */
export type Column<R extends Row> = keyof R["Encoded"] & keyof R["fields"] & string

/**
 * A table with the types of its row and of its columns.
 *
 * @category models
 * @since 0.1.0
 */
export interface TypedTable<
  R extends Row,
  By extends string,
  Filter extends string,
  Bound extends string
> extends Table {
  readonly row: R
  readonly by: ReadonlyArray<By>
  readonly filter: ReadonlyArray<Filter>
  readonly boundary: ReadonlyArray<Bound>
}

/**
 * The columns of an option: none, one, or a list.
 *
 * @category models
 * @since 0.1.0
 */
export type Listed<C> = C extends string
  ? C
  : C extends ReadonlyArray<infer Each extends string>
    ? Each
    : never

/**
 * The values of a column in a filter: one, one of a list, or `null` where the column may be null.
 *
 * @category models
 * @since 0.1.0
 */
export type OneOf<A> = NonNullable<A> | ReadonlyArray<NonNullable<A>> | Extract<A, null>

/**
 * A filter by some columns of a row.
 *
 * @category models
 * @since 0.1.0
 */
export type Filter<R extends Row, C extends string> = [C] extends [never]
  ? Readonly<Record<string, never>>
  : { readonly [K in C & Column<R>]?: OneOf<R["fields"][K]["Type"]> }

/**
 * A filter that a subscriber of a table may use: by equality, on the columns of `filter`. A row is inside
 * if each of these columns has the value, or one of the list.
 *
 * @category models
 * @since 0.1.0
 */
export type Where<D> = D extends {
  readonly table: TypedTable<infer R, string, string, string>
}
  ? Filter<R, D["table"]["filter"][number]>
  : never

/**
 * A filter that `authorize` may add for a table: as `Where`, on the columns of `filter`, `boundary` and
 * `by`.
 *
 * @category models
 * @since 0.1.0
 */
export type Boundary<D> = D extends {
  readonly table: TypedTable<infer R, string, string, string>
}
  ? // Not inferred: of an option that is left out, that would be any column.
    Filter<R, D["table"]["by" | "filter" | "boundary"][number]>
  : never

/**
 * The type of a table's rows.
 *
 * @category models
 * @since 0.1.0
 */
export type RowOf<D> = D extends { readonly table: { readonly row: infer R extends Row } }
  ? R["Type"]
  : unknown
