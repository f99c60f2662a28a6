/**
 * A presence channel: the members that are here, each with a typed state.
 *
 * It has members and no events. Presence never touches a table.
 *
 * @since 0.1.0
 */
import type * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type Any, type AnyFamily, type Codec, construct } from "./ChannelBase.ts"
import { familyMembers } from "./internal/familyMembers.ts"
import { codecOf } from "./internal/payloadCodec.ts"
import { presenceKeeper as keeper } from "./internal/presence.ts"
import type { PresenceKeeper } from "./internal/presenceTypes.ts"
import { channelNameFault } from "./Protocol.ts"
import { InvalidChannelName, type InvalidPayload } from "./RealtimeError.ts"

/**
 * What a presence channel counts: `persons` are identities, over all their sessions on all nodes, and
 * `devices` are sessions.
 *
 * @category models
 * @since 0.1.0
 */
export type Counts = "persons" | "devices"

/**
 * Options of `presence`.
 *
 * @category models
 * @since 0.1.0
 */
export interface PresenceOptions {
  /** What counts as one member, default `persons`. Each session without an identity is one of its own. */
  readonly counts?: Counts | undefined
}

/**
 * A presence channel whose members have a state of type `A`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Presence<in out A, out Name extends string = string> extends Any {
  readonly name: Name
  readonly delivery: "presence"
  readonly publish: false
  /** What counts as one member. */
  readonly counts: Counts
  readonly decode: (json: unknown) => Result.Result<A, InvalidPayload>
  readonly encode: (member: A) => Result.Result<unknown, InvalidPayload>
  /** @internal What keeps the members current in a client. */
  readonly keeper: PresenceKeeper
}

/**
 * The presence channels of a prefix, with a typed parameter. A call never throws: a parameter that does not
 * fit gives a channel whose every use fails with `InvalidChannelName`.
 *
 * @category models
 * @since 0.1.0
 */
export interface PresenceFamily<
  Param,
  in out A,
  out Prefix extends string = string
> extends AnyFamily {
  (param: Param): Presence<A, `${Prefix}${string}`>
  readonly prefix: Prefix
  readonly delivery: "presence"
  readonly publish: false
  readonly counts: Counts
  readonly match: (
    name: string
  ) => { readonly channel: Presence<A, `${Prefix}${string}`>; readonly param: Param } | undefined
}

/**
 * The state of a member of a presence channel, or of the channels of a family.
 *
 * @category models
 * @since 0.1.0
 */
export type MemberOf<D> =
  D extends Presence<infer A, string>
    ? A
    : D extends (...params: never) => Presence<infer A, string>
      ? A
      : never

const construction = <A, Name extends string>(
  name: Name,
  codec: Codec<A>,
  options: PresenceOptions | undefined,
  fault?: InvalidChannelName
): Presence<A, Name> => ({
  ...construct(name, codec, { publish: false as const }, fault),
  delivery: "presence",
  counts: options?.counts ?? "persons",
  keeper
})

const familyOf = <Param, A, const Prefix extends string>(
  prefix: Prefix,
  param: Schema.Codec<Param, string>,
  codec: Codec<A>,
  options: PresenceOptions | undefined
): PresenceFamily<Param, A, Prefix> => {
  const reason = channelNameFault(`${prefix}x`)
  if (reason !== undefined) throw new InvalidChannelName({ channel: prefix, reason })
  const member = (text: string, fault?: InvalidChannelName) =>
    construction(`${prefix}${text}` as const, codec, options, fault)
  const { call, match } = familyMembers({ prefix, param, member })
  return Object.assign(call, {
    _tag: "Family" as const,
    prefix,
    except: [],
    publish: false as const,
    delivery: "presence" as const,
    counts: options?.counts ?? ("persons" as const),
    match
  })
}

/**
 * Defines a presence channel, or with a parameter every presence channel of a prefix. `Member` is the state
 * that a member shows to the others; it travels as JSON. Throws `InvalidChannelName` when the name does not
 * fit.
 *
 * **Example** (The members in a room)
 *
 * ```ts
 * const InRoom = Channel.presence("in_room_", RoomId, Schema.Struct({ name: Schema.String }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const presence: {
  <const Name extends string, A, I>(
    name: Name,
    member: Schema.Codec<A, I>,
    options?: PresenceOptions
  ): Presence<A, Name>
  <const Prefix extends string, Param, A, I>(
    prefix: Prefix,
    param: Schema.Codec<Param, string>,
    member: Schema.Codec<A, I>,
    options?: PresenceOptions
  ): PresenceFamily<Param, A, Prefix>
} = ((
  name: string,
  first: Schema.Codec<unknown, string>,
  second?: Schema.Codec<unknown, unknown> | PresenceOptions,
  third?: PresenceOptions
) => {
  if (Schema.isSchema(second)) return familyOf(name, first, codecOf(second), third)
  const channel = construction(name, codecOf(first), second)
  if (channel.fault !== undefined) throw channel.fault
  return channel
  // The overloads say what each call gives.
}) as never
