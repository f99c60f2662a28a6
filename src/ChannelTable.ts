/**
 * Channels of tables: the payloads of a changed row, and the definition that SQL, server, client and hook
 * share.
 *
 * With `by`, a table is a family: the trigger computes the route of a row from the row, and sends its
 * changes on the channel of that route. The definition has the names of columns only; the server writes the
 * SQL from it.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import {
  type Any,
  type AnyFamily,
  type Channel,
  construct,
  type Delivery,
  type Table
} from "./ChannelBase.ts"
import type { Column, Listed, Row, TypedTable } from "./ChannelRow.ts"
import { codecOf, once } from "./internal/payloadCodec.ts"
import * as RowCollection from "./internal/rowCollection.ts"
import * as WhereText from "./internal/whereText.ts"
import { InvalidChannelName, InvalidTable } from "./RealtimeError.ts"

const Operation = /* @__PURE__ */ Schema.Literals(["INSERT", "UPDATE", "DELETE"])
const Key = /* @__PURE__ */ Schema.Record(Schema.String, Schema.Unknown)

/**
 * The payload of `table_updates_${table}`. For DELETE, `data` is the deleted row.
 *
 * @category known channels
 * @since 0.1.0
 */
export const TableUpdate = <A, I>(row: Schema.Codec<A, I>) =>
  Schema.Struct({
    operation: Operation,
    data: row,
    /** The row before an UPDATE, when the trigger sends it (`old`). */
    old: Schema.optionalKey(row),
    /** The primary key of the row, column by column. */
    key: Schema.optionalKey(Key),
    /** Whether the sender left out what did not fit. `TruncatedUpdate` is a row without data. */
    truncated: Schema.optionalKey(Schema.Boolean)
  })

/**
 * The payload of a row that is too large to travel: its key, without data. A channel of `TableUpdate`
 * alone gives a `gap invalid` for it. A channel of both lets the reader read the row by its key.
 *
 * **Example** (Taking both)
 *
 * ```ts
 * const Change = Schema.Union([Channel.TableUpdate(Document), Channel.TruncatedUpdate])
 * const Documents = Channel.make("table_updates_documents", Change)
 * ```
 *
 * @category known channels
 * @since 0.1.0
 */
export const TruncatedUpdate = /* @__PURE__ */ Schema.Struct({
  operation: Operation,
  key: Key,
  truncated: /* @__PURE__ */ Schema.Literal(true)
})

/** The codec of events of a table, whatever the channel's name. */
const rowCodec = <A, I>(row: Schema.Codec<A, I>) => ({ ...codecOf(TableUpdate(row)), row: true })

/**
 * `table_updates_${table}`: one event per changed row. Pass `channel` for a table whose name does not fit
 * into a channel name, or that is not in the schema `public`.
 *
 * @category known channels
 * @since 0.1.0
 */
export const tableUpdates = <
  const Table extends string,
  A,
  I,
  const Name extends string = `table_updates_${Table}`,
  const Kind extends Exclude<Delivery, "volatile"> = "live"
>(
  table: Table,
  row: Schema.Codec<A, I>,
  options?: { readonly channel?: Name | undefined; readonly delivery?: Kind | undefined }
): Channel<Schema.Schema.Type<ReturnType<typeof TableUpdate<A, I>>>, false, Name, Kind> => {
  const name = (options?.channel ?? `table_updates_${table}`) as Name
  const channel = construct(name, rowCodec(row), {
    publish: false as const,
    delivery: options?.delivery
  })
  if (channel.fault !== undefined) throw channel.fault
  return channel
}

// -----------------------------------------------------------------------------------------------
// one definition of a table

/**
 * The columns of a row whose values can route it: text, numbers and booleans.
 *
 * @category models
 * @since 0.1.0
 */
export type RouteColumn<R extends Row> = {
  [C in Column<R>]: NonNullable<R["fields"][C]["Type"]> extends string | number | bigint | boolean
    ? C
    : never
}[Column<R>]

/**
 * One column, or several.
 *
 * @category models
 * @since 0.1.0
 */
export type OneOrMore<C extends string> = C | readonly [C, ...ReadonlyArray<C>]

/**
 * The columns of `by`: one or two.
 *
 * @category models
 * @since 0.1.0
 */
export type By<R extends Row> =
  | RouteColumn<R>
  | readonly [RouteColumn<R>]
  | readonly [RouteColumn<R>, RouteColumn<R>]

/**
 * An option that a live channel does not have.
 *
 * @category models
 * @since 0.1.0
 */
export type DurableOnly<Kind extends Delivery, Option> = "live" extends Kind ? undefined : Option

/**
 * Options of `table`.
 *
 * @category models
 * @since 0.1.0
 */
export interface TableOptions<
  R extends Row,
  B extends By<R> | undefined,
  Name extends string,
  Kind extends Delivery,
  F extends OneOrMore<Column<R>> | undefined = undefined,
  O extends OneOrMore<Column<R>> | undefined = undefined
> {
  /** The primary key of the table: its column, or all of its columns. */
  readonly key: OneOrMore<Column<R>>
  /**
   * One or two columns whose values route a row, default none: the table is then a family, and
   * `Messages("lobby")` has the rows with that value. The trigger computes the route. A value that is not
   * one or more of `A-Z a-z 0-9 _ . -`, or with which the name is longer than 63 bytes, is on no route.
   */
  readonly by?: DurableOnly<Kind, B>
  /**
   * The columns by which subscribers may filter, default none. The database keeps their values beside each
   * event.
   */
  readonly filter?: DurableOnly<Kind, F>
  /** The columns by which only `authorize` may filter, default none. Kept as those of `filter` are. */
  readonly boundary?: DurableOnly<Kind, O>
  /** The columns that travel, default all. The key is one of them. */
  readonly columns?: readonly [Column<R>, ...ReadonlyArray<Column<R>>] | undefined
  /** The schema of the table, default `public`. */
  readonly schema?: string | undefined
  /** The table's channel, default `table_updates_` and the table's name. It has no colon. */
  readonly channel?: Name | undefined
  /** How events travel, default `durable`. A live channel has no routes, filters or boundary. */
  readonly delivery?: Kind | undefined
}

/**
 * A channel of a table's changes.
 *
 * @category models
 * @since 0.1.0
 */
export type TableChannel<
  R extends Row,
  Name extends string = string,
  Kind extends Delivery = Delivery,
  T extends Table = Table
> = Channel<
  Schema.Schema.Type<ReturnType<typeof TableUpdate<R["Type"], R["Encoded"]>>>,
  false,
  Name,
  Kind
> & {
  readonly table: T
}

/**
 * The channels of a table with routes. A call with a value for each column of `by` gives the channel of
 * that route. A call never throws: a value that no route can have gives a channel whose every use fails
 * with `InvalidChannelName`.
 *
 * @category models
 * @since 0.1.0
 */
export interface TableFamily<
  Values extends ReadonlyArray<unknown>,
  R extends Row,
  Name extends string = string,
  T extends Table = Table
> extends AnyFamily {
  (...values: Values): TableChannel<R, `${Name}:${string}`, "durable", T>
  readonly prefix: `${Name}:`
  readonly publish: false
  readonly delivery: "durable"
  readonly table: T
  readonly match: (name: string) =>
    | {
        readonly channel: TableChannel<R, `${Name}:${string}`, "durable", T>
        /** The value of the route, or the values when `by` has two columns. */
        readonly param: Values extends readonly [infer Value] ? Value : Values
      }
    | undefined
}

/**
 * Every definition that `table` gives. Use it as the type of lists of tables to watch.
 *
 * @category models
 * @since 0.1.0
 */
export type AnyTable = (Any | AnyFamily) & { readonly table: Table }

/**
 * The value of a column in a route: never NULL.
 *
 * @category models
 * @since 0.1.0
 */
export type RouteValue<R extends Row, C extends string> = NonNullable<R["fields"][C]["Type"]>

/**
 * The values that a family of routes is called with.
 *
 * @category models
 * @since 0.1.0
 */
export type RouteValues<R extends Row, B> = B extends readonly [
  infer One extends string,
  infer Two extends string
]
  ? readonly [RouteValue<R, One>, RouteValue<R, Two>]
  : B extends readonly [infer One extends string]
    ? readonly [RouteValue<R, One>]
    : B extends string
      ? readonly [RouteValue<R, B>]
      : never

/**
 * What `table` gives: a channel, or with `by` a family.
 *
 * @category models
 * @since 0.1.0
 */
export type TableOf<
  R extends Row,
  B,
  Name extends string,
  Kind extends Delivery,
  F = undefined,
  O = undefined
> = [B] extends [undefined]
  ? TableChannel<R, Name, Kind, TypedTable<R, never, Listed<F>, Listed<O>>>
  : TableFamily<RouteValues<R, B>, R, Name, TypedTable<R, Listed<B>, Listed<F>, Listed<O>>>

type Columns = string | ReadonlyArray<string> | undefined

const list = (columns: Columns): ReadonlyArray<string> =>
  columns === undefined ? [] : typeof columns === "string" ? [columns] : columns

/** How the value of a column is written in a channel's name, and read from it. */
const routing = (field: Schema.Codec<unknown, unknown>) => {
  const json = once(() => Schema.toCodecJson(field))
  const encoder = once(() => Schema.encodeUnknownResult(json()))
  const decoder = once(() => Schema.decodeUnknownResult(json()))
  /** The one text of a value, or the empty text when no route has the value. */
  const spell = (value: unknown): string => {
    const encoded = Result.getOrElse(encoder()(value), () => null)
    const text = typeof encoded === "object" ? "" : String(encoded)
    return /^[\w.-]+$/.test(text) ? text : ""
  }
  /** The value of a text: a string, or else what the text is as JSON. */
  const read = (text: string): { readonly value: unknown } | undefined => {
    const forms: Array<unknown> = text === "" ? [] : [text]
    if (/^(?:true|false|-?(?:0|[1-9]\d*))$/.test(text)) forms.push(JSON.parse(text))
    for (const form of forms) {
      const decoded = decoder()(form)
      if (Result.isSuccess(decoded) && spell(decoded.success) === text) {
        return { value: decoded.success }
      }
    }
    return undefined
  }
  return { spell, read }
}

const separator = ":"

/** The family of a table's routes; `defined` makes its channels. */
const routes = (
  table: Table,
  { fields }: Row,
  defined: (name: string, fault?: InvalidChannelName) => Any
): AnyFamily => {
  const prefix = `${table.channel}${separator}`
  const columns = once(() =>
    table.by.map((column) => routing(fields[column] as Schema.Codec<unknown, unknown>))
  )
  const call = (...values: ReadonlyArray<unknown>): Any => {
    const texts = columns().map(({ spell }, index) => spell(values[index]))
    const name = prefix + texts.join(separator)
    const reason = `has a value of ${table.by.join(" or ")} that no route has`
    const fault = texts.includes("") ? new InvalidChannelName({ channel: name, reason }) : undefined
    return defined(name, fault)
  }
  const match: AnyFamily["match"] = (name) => {
    if (!name.startsWith(prefix)) return undefined
    const texts = name.slice(prefix.length).split(separator)
    if (texts.length !== table.by.length) return undefined
    const read = columns().map(({ read }, index) => read(texts[index]!))
    const values = read.flatMap((one) => (one === undefined ? [] : [one.value]))
    if (values.length < texts.length) return undefined
    return { channel: defined(name), param: values.length === 1 ? values[0] : values }
  }
  return Object.assign(call, {
    _tag: "Family" as const,
    prefix,
    except: [],
    publish: false,
    delivery: "durable" as const,
    table,
    match
  })
}

/**
 * A table: one definition for the SQL that watches it, the server, the client and the hook.
 *
 * Pass it to `PgInstaller.install({ watch })`, to the server's `channels` and to a client. Payloads are
 * those of `tableUpdates`. It is durable unless `delivery` says otherwise. Throws `InvalidChannelName` when
 * the name of its channel does not fit, and `InvalidTable` when `columns` leaves out the key.
 *
 * **Example** (A table with one channel, and one with a channel for each room)
 *
 * ```ts
 * const Orders = Channel.table("orders", Order, { key: "id", filter: ["status", "owner"] })
 * const Messages = Channel.table("messages", Message, { key: "id", by: "room_id" })
 * const lobby = Messages("lobby") // table_updates_messages:lobby
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const table = <
  const Name extends string,
  R extends Row,
  const B extends By<R> | undefined = undefined,
  const Topic extends string = `table_updates_${Name}`,
  const Kind extends Exclude<Delivery, "volatile"> = "durable",
  const F extends OneOrMore<Column<R>> | undefined = undefined,
  const O extends OneOrMore<Column<R>> | undefined = undefined
>(
  name: Name,
  row: R,
  options: TableOptions<R, B, Topic, Kind, F, O>
): TableOf<R, B, Topic, NoInfer<Kind>, F, O> => {
  const topic = options.channel ?? `table_updates_${name}`
  const lists = {
    key: list(options.key),
    by: list(options.by as Columns),
    filter: list(options.filter as Columns),
    boundary: list(options.boundary as Columns)
  }
  const { boundary, by, filter, key } = lists
  const missing = key.find((column) => options.columns?.includes(column as never) === false)
  if (missing !== undefined) {
    throw new InvalidTable({
      table: name,
      reason: `leaves its key "${missing}" out of \`columns\``
    })
  }
  const kept = {
    key,
    rowCodec: codecOf(row as Schema.Codec<unknown, unknown>),
    where: WhereText.make(row.fields, filter)
  }
  const table: Table = {
    name,
    schema: options.schema ?? "public",
    channel: topic,
    ...lists,
    ...kept,
    columns: options.columns,
    row,
    rows: RowCollection.keeper(kept),
    within: WhereText.make(row.fields, [...by, ...filter, ...boundary])
  }
  const codec = rowCodec(row as Schema.Codec<unknown, unknown>)
  const delivery = options.delivery ?? "durable"
  const defined = (name: string, fault?: InvalidChannelName) => ({
    ...construct(name, codec, { delivery }, fault),
    table
  })
  const whole = defined(topic)
  const fault = topic.includes(separator)
    ? new InvalidChannelName({ channel: topic, reason: "holds a colon, which only routes have" })
    : whole.fault
  if (fault !== undefined) throw fault
  const made = table.by.length === 0 ? whole : routes(table, row, defined)
  return made as unknown as TableOf<R, B, Topic, NoInfer<Kind>, F, O>
}
