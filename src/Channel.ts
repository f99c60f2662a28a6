/**
 * A channel: a name with a payload Schema. Server and client import the same definition.
 *
 * It types the server's Stream, the client's Stream and the hook. It carries the codec that checks every
 * payload on its way in and out. A family is a prefix with a typed parameter: `Report("42")` is the
 * channel `query_results_42`. A definition does not say which clients may use it: that is `authorize`, on
 * the server.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import {
  type Any,
  type Channel,
  type Codec,
  construct,
  type Delivery,
  type Options
} from "./ChannelBase.ts"
import { errorText } from "./internal/errorText.ts"
import { channelNameFault } from "./Protocol.ts"
import { InvalidChannelName, InvalidPayload } from "./RealtimeError.ts"

export type { Any, Channel, Delivery, Options } from "./ChannelBase.ts"

/**
 * What every family has. Use it as the type of lists of families.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnyFamily {
  readonly _tag: "Family"
  /** What every name begins with. */
  readonly prefix: string
  /** Prefixes of names that belong to other families. */
  readonly except: ReadonlyArray<string>
  /** Whether clients may publish here. */
  readonly publish: boolean
  /** How events travel. */
  readonly delivery: Delivery
  /** The channel and the parameter of a name, or `undefined` when the name is not in this family. */
  readonly match: (name: string) => { readonly channel: Any; readonly param: unknown } | undefined
}

/**
 * A prefix with a typed parameter. A call never throws: a parameter that does not fit gives a channel
 * whose every use fails with `InvalidChannelName`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Family<
  Param,
  in out A,
  out Publish extends boolean = boolean,
  out Prefix extends string = string,
  out Kind extends Delivery = Delivery
> extends AnyFamily {
  (param: Param): Channel<A, Publish, `${Prefix}${string}`, Kind>
  readonly prefix: Prefix
  readonly publish: Publish
  readonly delivery: Kind
  readonly match: (name: string) =>
    | {
        readonly channel: Channel<A, Publish, `${Prefix}${string}`, Kind>
        readonly param: Param
      }
    | undefined
}

/**
 * What a server serves: a channel or a family.
 *
 * @category models
 * @since 0.1.0
 */
export type Definition = Any | AnyFamily

/**
 * The payload type of a channel or a family.
 *
 * @category models
 * @since 0.1.0
 */
export type Payload<D> =
  D extends Channel<infer A, boolean, string>
    ? A
    : D extends (param: never) => Channel<infer A, boolean, string>
      ? A
      : never

/** Builds on first use, so that a definition costs nothing where it is only imported. */
const once = <T>(build: () => T): (() => T) => {
  let built: T | undefined
  return () => (built ??= build())
}

const codecOf = <A, I>(schema: Schema.Codec<A, I>): Codec<A> => {
  const json = once((): Schema.Codec<A, Schema.Json> => Schema.toCodecJson(schema))
  const decoder = once(() => Schema.decodeUnknownResult(json(), { errors: "first" }))
  const encoder = once(() => Schema.encodeUnknownResult(json()))
  const invalid = (channel: string, direction: "decode" | "encode", error: unknown) => {
    const issue = errorText(error)
    return new InvalidPayload({ channel, direction, issue })
  }
  /** A function of the schema that throws makes this one payload invalid. */
  const guarded = <In, Out>(
    direction: "decode" | "encode",
    run: (input: In) => Result.Result<Out, unknown>
  ) => {
    return (input: In, channel: string): Result.Result<Out, InvalidPayload> => {
      try {
        return Result.mapError(run(input), (error) => invalid(channel, direction, error))
      } catch (error) {
        return Result.fail(invalid(channel, direction, error))
      }
    }
  }
  return {
    decode: guarded("decode", (input: unknown) => decoder()(input)),
    encode: guarded("encode", (payload: A) => encoder()(payload)),
    schema: json
  }
}

/**
 * Defines a channel.
 *
 * Payloads travel as JSON: `Schema.Date`, `Schema.BigInt`, Maps and the like have a JSON form by
 * themselves. Throws `InvalidChannelName` when the name does not fit.
 *
 * **Example** (Defining a channel that clients may publish to)
 *
 * ```ts
 * const Moves = Channel.make("pointer_moves", Schema.Struct({ x: Schema.Finite, y: Schema.Finite }), { publish: true })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  const Name extends string,
  A,
  I,
  const Publish extends boolean = false,
  const Kind extends Delivery = "live"
>(
  name: Name,
  payload: Schema.Codec<A, I>,
  options?: Options<Publish, Kind>
): Channel<A, Publish, Name, Kind> => {
  const channel = construct(name, codecOf(payload), options)
  if (channel.fault !== undefined) throw channel.fault
  return channel
}

/**
 * Options of `family`.
 *
 * @category models
 * @since 0.1.0
 */
export interface FamilyOptions<
  Publish extends boolean,
  Kind extends Delivery = Delivery
> extends Options<Publish, Kind> {
  /**
   * What a parameter may not begin with, default nothing. Such names belong to another family. A server
   * does not start when two of its families match one name.
   */
  readonly except?: ReadonlyArray<string> | undefined
}

/**
 * Defines every channel whose name is `prefix` and a parameter.
 *
 * `param` is a Schema whose encoded form is the text after the prefix. A parameter has one spelling, the
 * one that encoding gives: with `Schema.FiniteFromString`, `room_1` is a name of the family and `room_01`
 * is not. A value whose text does not decode and encode to the same text gives a channel whose every use
 * fails. Throws `InvalidChannelName` when no name can begin with the prefix.
 *
 * @category constructors
 * @since 0.1.0
 */
export const family = <
  const Prefix extends string,
  Param,
  A,
  I,
  const Publish extends boolean = false,
  const Kind extends Delivery = "live"
>(
  prefix: Prefix,
  param: Schema.Codec<Param, string>,
  payload: Schema.Codec<A, I>,
  options?: FamilyOptions<Publish, Kind>
): Family<Param, A, Publish, Prefix, Kind> => {
  const reason = channelNameFault(`${prefix}x`)
  if (reason !== undefined) throw new InvalidChannelName({ channel: prefix, reason })
  return familyOf(prefix, param, codecOf(payload), options)
}

const familyOf = <
  const Prefix extends string,
  Param,
  A,
  const Publish extends boolean,
  const Kind extends Delivery
>(
  prefix: Prefix,
  param: Schema.Codec<Param, string>,
  codec: Codec<A>,
  options: FamilyOptions<Publish, Kind> | undefined
): Family<Param, A, Publish, Prefix, Kind> => {
  const except = (options?.except ?? []).map((start) => `${prefix}${start}`)
  const excepted = (name: string) => except.some((start) => name.startsWith(start))
  type Member = Channel<A, Publish, `${Prefix}${string}`, Kind>
  const member = (text: string, fault?: InvalidChannelName): Member =>
    construct(`${prefix}${text}` as const, codec, options, fault)
  /** The one text of a value, or the empty text when the value does not match. */
  const spell = (value: unknown) =>
    Result.getOrElse(Schema.encodeUnknownResult(param)(value), () => "")
  const match = (name: string) => {
    const text = name.slice(prefix.length)
    if (!name.startsWith(prefix) || text === "" || excepted(name)) return undefined
    const value = Schema.decodeUnknownResult(param)(text)
    return Result.isSuccess(value) && spell(value.success) === text
      ? { channel: member(text), param: value.success }
      : undefined
  }
  const call = (value: Param): Member => {
    const found = match(prefix + spell(value))
    if (found !== undefined) return found.channel
    // The value may be anything, also one that has no text.
    const given = typeof value === "string" ? value : ""
    const reason = "has a parameter that does not match the family's schema"
    return member(given, new InvalidChannelName({ channel: `${prefix}${given}`, reason }))
  }
  return Object.assign(call, {
    _tag: "Family" as const,
    prefix,
    except,
    publish: (options?.publish ?? false) as Publish,
    delivery: options?.delivery ?? ("live" as Kind),
    match
  })
}

// These need no Schema, for clients that use strings only.
export { toJson, untyped } from "./ChannelBase.ts"

// -----------------------------------------------------------------------------------------------
// the three known kinds

/** What follows the prefix: any text that keeps the name valid. */
const Suffix = /* @__PURE__ */ Schema.String.check(/* @__PURE__ */ Schema.isNonEmpty())

/**
 * The payload of `query_results_${queryId}`.
 *
 * A result that arrives at once is `completed` or `error`. One that arrives in parts begins with `running`,
 * goes on with `running` and a `chunk` each, and ends with the whole.
 *
 * @category known channels
 * @since 0.1.0
 */
export interface QueryResult<out A> {
  /**
   * - `running`: without `chunk` the work begins, with it a part of the result follows.
   * - `completed`, `error`, `stopped`: the work has ended.
   * - `stop`: asks the node that runs the work to stop it.
   */
  readonly status: "completed" | "error" | "running" | "stopped" | "stop"
  /** The result. For `error` and `stopped` the parts that were there. */
  readonly data?: A
  /** What is new in the result: a text, or a list, which follows the chunks before it. */
  readonly chunk?: A
  /** Why the query failed, in the words that the server chose for the page. */
  readonly error?: unknown
}

/**
 * The Schema of `QueryResult`.
 *
 * @category known channels
 * @since 0.1.0
 */
export const QueryResult = <A, I>(data: Schema.Codec<A, I>) =>
  Schema.Struct({
    status: Schema.Literals(["completed", "error", "running", "stopped", "stop"]),
    data: Schema.optionalKey(data),
    chunk: Schema.optionalKey(data),
    error: Schema.optionalKey(Schema.Unknown)
  })

/**
 * Options of `queryResults`.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryResultsOptions<
  Publish extends boolean,
  Kind extends Delivery = Delivery
> extends Pick<FamilyOptions<Publish, Kind>, "delivery" | "except"> {
  /**
   * Whether clients may publish `{ status: "stop" }` and nothing else, still subject to `authorize`; default
   * `false`.
   */
  readonly publish?: Publish | undefined
}

/** What a client may publish to a channel of results. A page cannot write the result of others. */
const stopOnly = (
  json: unknown,
  channel: string
): Result.Result<QueryResult<never>, InvalidPayload> =>
  Object(json).status === "stop"
    ? Result.succeed({ status: "stop" })
    : Result.fail(
        new InvalidPayload({
          channel,
          direction: "decode",
          issue: `clients may publish { status: "stop" } only`
        })
      )

/**
 * `query_results_${queryId}`: the result of a query that ran in the background, whole or in parts. On a
 * durable channel a page that reloads still receives the result.
 *
 * @category known channels
 * @since 0.1.0
 */
export const queryResults = <
  A,
  I,
  const Kind extends Delivery = "live",
  const Publish extends boolean = false
>(
  data: Schema.Codec<A, I>,
  options?: QueryResultsOptions<Publish, Kind>
): Family<string, QueryResult<A>, Publish, "query_results_", Kind> =>
  familyOf(
    "query_results_",
    Suffix,
    { ...codecOf<QueryResult<A>, unknown>(QueryResult(data)), published: stopOnly },
    options
  )

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
  const Kind extends Delivery = "live"
>(
  table: Table,
  row: Schema.Codec<A, I>,
  options?: { readonly channel?: Name | undefined; readonly delivery?: Kind | undefined }
): Channel<Schema.Schema.Type<ReturnType<typeof TableUpdate<A, I>>>, false, Name, Kind> => {
  const name = (options?.channel ?? `table_updates_${table}`) as Name
  const channel = make(name, TableUpdate(row), {
    delivery: options?.delivery
  })
  // One codec object for each definition, as elsewhere.
  return { ...channel, codec: { ...channel.codec, row: true } }
}

/**
 * The payload of `system_notifications`.
 *
 * @category known channels
 * @since 0.1.0
 */
export const SystemNotification = /* @__PURE__ */ Schema.Struct({
  type: /* @__PURE__ */ Schema.Literals(["info", "warning", "error"]),
  message: Schema.String
})

/**
 * `system_notifications`: messages of operators and of the system. Clients cannot publish to it.
 *
 * @category known channels
 * @since 0.1.0
 */
export const systemNotifications = /* @__PURE__ */ make("system_notifications", SystemNotification)

/**
 * `table_updates_*` for every table without a definition of its own: live, rows untyped.
 *
 * @category known channels
 * @since 0.1.0
 */
export const allTableUpdates = /* @__PURE__ */ family(
  "table_updates_",
  Suffix,
  /* @__PURE__ */ Schema.Union([/* @__PURE__ */ TableUpdate(Schema.Unknown), TruncatedUpdate])
)

/**
 * The three known kinds for every query and every table: live, rows and results untyped. A server without
 * `channels` serves these.
 *
 * @category known channels
 * @since 0.1.0
 */
export const known = (): ReadonlyArray<Definition> => [
  queryResults(Schema.Unknown),
  allTableUpdates,
  systemNotifications
]
