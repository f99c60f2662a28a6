/**
 * The channels that a server serves, looked up by name. For clients no other channel exists.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Channel from "../../../Channel.ts"
import type { Delivery } from "../hub/delivery.ts"
import type { Hub } from "../hub/hub.ts"

/**
 * Two channel definitions of a server match the same name.
 *
 * @category errors
 * @since 0.1.0
 */
export class ChannelConflict extends Schema.TaggedError<ChannelConflict>()("ChannelConflict", {
  /** The name of one channel, or the prefix of one family. */
  first: Schema.String,
  /** The same of the other definition. */
  second: Schema.String
}) {
  override get message(): string {
    return `The channel definitions "${this.first}" and "${this.second}" match the same names. Give each name, and each prefix, to one definition only.`
  }
}

export interface Match {
  readonly channel: Channel.Any
  readonly definition: Channel.Definition
  readonly delivery: Delivery
  /** The decoded parameter of a family; `undefined` for a single channel. */
  readonly param: unknown
}

export interface Registry {
  readonly match: (name: string) => Match | undefined
}

/**
 * Whether a name could match both: one prefix begins with the other, and does not exclude it. All routes of
 * a table are alike to a family with a shorter prefix, so one of them is asked for.
 */
const meet = (one: Channel.AnyFamily, other: Channel.AnyFamily): boolean => {
  const [outer, inner] = one.prefix.length <= other.prefix.length ? [one, other] : [other, one]
  return (
    inner.prefix.startsWith(outer.prefix) &&
    !outer.except.some((start) => inner.prefix.startsWith(start)) &&
    (inner.table === undefined ||
      inner.prefix === outer.prefix ||
      outer.match(`${inner.prefix}x`) !== undefined)
  )
}

/** An exact channel beats a family. Fails if two families, or two channels, match one name. */
export const make = (
  definitions: ReadonlyArray<Channel.Definition>,
  { deliveryOf }: Pick<Hub, "deliveryOf">
): Effect.Effect<Registry, ChannelConflict> =>
  Effect.gen(function* () {
    const exact = new Map<string, Match>()
    const families: Array<readonly [Channel.AnyFamily, Delivery]> = []
    for (const definition of definitions) {
      const delivery = deliveryOf(definition)
      if (definition._tag === "Channel") {
        const { name } = definition
        if (exact.has(name)) return yield* new ChannelConflict({ first: name, second: name })
        exact.set(name, { channel: definition, definition, delivery, param: undefined })
        continue
      }
      const { prefix } = definition
      const other = families.find(([family]) => meet(family, definition))
      if (other !== undefined) {
        return yield* new ChannelConflict({ first: other[0].prefix, second: prefix })
      }
      families.push([definition, delivery])
    }
    return {
      match: (name) => {
        const single = exact.get(name)
        if (single !== undefined) return single
        for (const [definition, delivery] of families) {
          const member = definition.match(name)
          if (member !== undefined) return { ...member, definition, delivery }
        }
        return undefined
      }
    }
  })
