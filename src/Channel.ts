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
  type AnyFamily,
  type Channel,
  type Codec,
  construct,
  type Delivery,
  type Options
} from "./ChannelBase.ts"
import { TableUpdate, TruncatedUpdate } from "./ChannelTable.ts"
import { familyMembers } from "./internal/familyMembers.ts"
import { codecOf } from "./internal/payloadCodec.ts"
import { channelNameFault } from "./Protocol.ts"
import { InvalidChannelName, InvalidPayload } from "./RealtimeError.ts"

export type {
  Any,
  AnyFamily,
  Channel,
  Delivery,
  EncodeWhere,
  Options,
  Table
} from "./ChannelBase.ts"
export type {
  Boundary,
  Column,
  Filter,
  Listed,
  OneOf,
  Row,
  RowOf,
  TypedTable,
  Where
} from "./ChannelRow.ts"
export {
  type Counts,
  type MemberOf,
  presence,
  type Presence,
  type PresenceFamily,
  type PresenceOptions
} from "./ChannelPresence.ts"
export {
  type AnyTable,
  type By,
  type DurableOnly,
  type OneOrMore,
  type RouteColumn,
  type RouteValue,
  type RouteValues,
  table,
  type TableChannel,
  type TableFamily,
  type TableOf,
  type TableOptions,
  tableUpdates,
  TableUpdate,
  TruncatedUpdate
} from "./ChannelTable.ts"

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
 * The payload type of a channel or a family; `unknown` for the name of a channel.
 *
 * @category models
 * @since 0.1.0
 */
export type Payload<D> =
  D extends Channel<infer A, boolean, string>
    ? A
    : D extends (...params: never) => Channel<infer A, boolean, string>
      ? A
      : D extends string
        ? unknown
        : never

/**
 * Defines a channel.
 *
 * Payloads travel as JSON: `Schema.Date`, `Schema.BigInt`, Maps and the like have a JSON form by
 * themselves. Throws `InvalidChannelName` when the name does not fit.
 *
 * **Example** (Defining a channel that clients may publish to)
 *
 * ```ts
 * const Notes = Channel.make("notes", Schema.Struct({ text: Schema.String }), { publish: true })
 * ```
 *
 * **Example** (Defining a channel of pointers, which never reach the database)
 *
 * ```ts
 * const Pointer = Schema.Struct({ user: Schema.String, x: Schema.Finite, y: Schema.Finite })
 * const Pointers = Channel.make("pointers", Pointer, { delivery: "volatile", publish: true, latestBy: "user" })
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
  options?: Options<Publish, Kind, Extract<keyof I, string>>
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
  Kind extends Delivery = Delivery,
  Field extends string = never
> extends Options<Publish, Kind, Field> {
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
  options?: FamilyOptions<Publish, Kind, Extract<keyof I, string>>
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
  options: FamilyOptions<Publish, Kind, string> | undefined
): Family<Param, A, Publish, Prefix, Kind> => {
  const except = (options?.except ?? []).map((start) => `${prefix}${start}`)
  const excepted = (name: string) => except.some((start) => name.startsWith(start))
  type Member = Channel<A, Publish, `${Prefix}${string}`, Kind>
  const member = (text: string, fault?: InvalidChannelName): Member =>
    construct(`${prefix}${text}` as const, codec, options, fault)
  const { call, match } = familyMembers({ prefix, param, member, excepted })
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
  const Kind extends Exclude<Delivery, "volatile"> = "live",
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

/** A table's channel holds no colon: with one it is a route of the table. */
const Unrouted = /* @__PURE__ */ Schema.String.check(/* @__PURE__ */ Schema.isPattern(/^[^:]+$/))

/**
 * `table_updates_*` for every table without a definition of its own: live, rows untyped. Names with a
 * colon are routes of a table, and not among these.
 *
 * @category known channels
 * @since 0.1.0
 */
export const allTableUpdates = /* @__PURE__ */ family(
  "table_updates_",
  Unrouted,
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
