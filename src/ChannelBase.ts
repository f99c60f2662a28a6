/**
 * The part of a channel that needs no Schema: its type, its construction from a codec, the channel that
 * is only a name, and the JSON text of a payload. A client that uses strings does not load Schema.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import { errorText } from "./internal/errorText.ts"
import type { Keeper } from "./internal/rowTypes.ts"
import type { Where } from "./Frame.ts"
import { channelNameFault } from "./Protocol.ts"
import { InvalidChannelName, InvalidPayload, type InvalidWhere } from "./RealtimeError.ts"

/**
 * How the events of a channel travel.
 *
 * `live` uses NOTIFY: at most once, and the node remembers the last events for a short time. `durable`
 * uses a table, the outbox: a reader can resume for the retention time, and receives each event exactly
 * once per position. It needs the database objects of `PgInstaller` and an `OutboxReader` on the node.
 * `volatile` uses no database: for pointers and typing. Nothing is remembered, and a subscriber that is
 * busy receives the newest event of each key (`latestBy`).
 *
 * @category models
 * @since 0.1.0
 */
export type Delivery = "live" | "durable" | "volatile"

/**
 * Options of `make` and `family`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<
  Publish extends boolean,
  Kind extends Delivery = Delivery,
  Field extends string = never
> {
  /** Whether clients may publish here (still subject to `authorize`), default `false`. */
  readonly publish?: Publish | undefined
  /** How events travel, default `live`. */
  readonly delivery?: Kind | undefined
  /**
   * For `delivery: "volatile"`: a field of the payload's JSON. Of the events with the same value there, a
   * subscriber that is busy receives only the newest. Default: of the events of the same publisher, which
   * is the session of a client.
   */
  readonly latestBy?: ([Kind] extends ["volatile"] ? Field : never) | undefined
}

/**
 * A table as a definition describes it, for the SQL that watches it and for the server. Columns have the
 * names that they have in the database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Table {
  readonly name: string
  readonly schema: string
  /** The table's channel. With `by`, the name of a route is this, a colon, and the values of `by`. */
  readonly channel: string
  readonly key: ReadonlyArray<string>
  /** The columns whose values route a row; empty for a table with one channel. */
  readonly by: ReadonlyArray<string>
  readonly filter: ReadonlyArray<string>
  readonly boundary: ReadonlyArray<string>
  /** The columns that travel; `undefined` for all. */
  readonly columns: ReadonlyArray<string> | undefined
  /** The Schema of a row. */
  readonly row: Schema.Codec<unknown, unknown>
  /** Decodes and encodes single rows. */
  readonly rowCodec: Codec<unknown>
  /**
   * Encodes a filter by the columns of `filter` for the wire: equal filters give equal JSON. `undefined`
   * for a filter without columns.
   */
  readonly where: EncodeWhere
  /** The same for one that `authorize` adds: by the columns of `filter`, `boundary` and `by`. */
  readonly within: EncodeWhere
  /** @internal What keeps the rows current in a client. */
  readonly rows: Keeper
}

/**
 * Encodes a filter for the wire.
 *
 * @category internals
 * @since 0.1.0
 */
export type EncodeWhere = (
  channel: string,
  where: object | undefined
) => Result.Result<Where | undefined, InvalidWhere>

/**
 * What every channel has, whatever its payload. Use it as the type of lists of channels.
 *
 * @category models
 * @since 0.1.0
 */
export interface Any {
  readonly _tag: "Channel"
  /** The name on the wire and in NOTIFY, 1-63 bytes. */
  readonly name: string
  /** How events travel; `presence` for a channel that has members and no events. */
  readonly delivery: Delivery | "presence"
  /** Whether clients may publish here. */
  readonly publish: boolean
  /** The field whose newest event per value counts, on a volatile channel; `undefined`: per publisher. */
  readonly latestBy: string | undefined
  /** Set when the name, or the parameter it was made from, does not fit. Every use then fails with it. */
  readonly fault: InvalidChannelName | undefined
  /**
   * The same object for all channels of one definition: subscribers that share it share the decoded
   * events.
   */
  readonly codec: object
  /** The table whose changes the channel has, when `Channel.table` defined it. */
  readonly table?: Table | undefined
  /** Checks parsed JSON and gives the typed payload. Drops unknown properties. */
  readonly decode: (json: unknown) => Result.Result<unknown, InvalidPayload>
  /** Gives a value that `JSON.stringify` can write. */
  readonly encode: (payload: never) => Result.Result<unknown, InvalidPayload>
}

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
  /** How events travel; `presence` for channels that have members and no events. */
  readonly delivery: Delivery | "presence"
  /** The table whose changes the family has, when `Channel.table` defined it. */
  readonly table?: Table | undefined
  /** The channel and the parameter of a name, or `undefined` when the name is not in this family. */
  readonly match: (name: string) => { readonly channel: Any; readonly param: unknown } | undefined
}

/**
 * A channel whose payloads are of type `A`. Make one with `make`, `family` or `untyped`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Channel<
  in out A,
  out Publish extends boolean = boolean,
  out Name extends string = string,
  out Kind extends Delivery = Delivery
> extends Any {
  readonly name: Name
  readonly delivery: Kind
  readonly publish: Publish
  readonly decode: (json: unknown) => Result.Result<A, InvalidPayload>
  readonly encode: (payload: A) => Result.Result<unknown, InvalidPayload>
}

/**
 * Decodes and encodes the payloads of one definition. Errors name the given channel.
 *
 * @category internals
 * @since 0.1.0
 */
export interface Codec<A> {
  readonly decode: (json: unknown, channel: string) => Result.Result<A, InvalidPayload>
  readonly encode: (payload: A, channel: string) => Result.Result<unknown, InvalidPayload>
  /** The Schema, which finds the path of a fault in a payload. Absent when any JSON fits. */
  readonly schema?: (() => Schema.Codec<A, Schema.Json>) | undefined
  /** Checks what a client publishes, where clients may publish less than the server. */
  readonly published?:
    | ((json: unknown, channel: string) => Result.Result<A, InvalidPayload>)
    | undefined
  /** Whether payloads are row text that PostgreSQL wrote, whatever the channel's name. */
  readonly row?: boolean | undefined
}

/**
 * Makes a channel from a codec. Not for applications.
 *
 * @category internals
 * @since 0.1.0
 */
export const construct = <
  A,
  Publish extends boolean,
  Name extends string,
  Kind extends Delivery = "live"
>(
  name: Name,
  codec: Codec<A>,
  options: Options<Publish, Kind, string> | undefined,
  fault?: InvalidChannelName
): Channel<A, Publish, Name, Kind> => {
  const reason = channelNameFault(name)
  return {
    _tag: "Channel",
    name,
    delivery: options?.delivery ?? ("live" as Kind),
    publish: (options?.publish ?? false) as Publish,
    latestBy: options?.latestBy,
    fault:
      fault ??
      (reason === undefined ? undefined : new InvalidChannelName({ channel: name, reason })),
    codec,
    decode: (json) => codec.decode(json, name),
    encode: (payload) => codec.encode(payload, name)
  }
}

/**
 * A channel known by its name only, with any JSON as its payload. For code without a definition, such as
 * a hook called with a string. An invalid name fails at use.
 *
 * @category constructors
 * @since 0.1.0
 */
export const untyped = (name: string): Channel<unknown, true, string, "live"> =>
  construct(name, anyJson, { publish: true })

const anyJson: Codec<unknown> = {
  decode: (json) => Result.succeed(json),
  encode: (payload) => Result.succeed(payload)
}

/**
 * The JSON text of a payload, checked by its channel.
 *
 * @category encoding
 * @since 0.1.0
 */
export const toJson = <A>(
  channel: Pick<Channel<A>, "encode" | "name">,
  payload: A
): Result.Result<string, InvalidPayload> =>
  Result.flatMap(channel.encode(payload), (encoded) => {
    let issue = "undefined is not JSON"
    try {
      const text = JSON.stringify(encoded) as string | undefined
      if (text !== undefined) return Result.succeed(text)
    } catch (error) {
      // The payload has a cycle, or a bigint where its type is unknown.
      issue = errorText(error)
    }
    return Result.fail(new InvalidPayload({ channel: channel.name, direction: "encode", issue }))
  })

/**
 * A channel, also where it was given by its name: an untyped one then.
 *
 * @category constructors
 * @since 0.1.0
 */
export const asChannel = <A>(channel: Any | string): Channel<A, true> =>
  (typeof channel === "string" ? untyped(channel) : channel) as Channel<A, true>
