/** The channels of a family: which names it has, and the channel of a parameter. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { InvalidChannelName } from "../RealtimeError.ts"

/** How the channels of a family are made. */
interface Naming<Param, Member> {
  readonly prefix: string
  /** Its encoded form is the text after the prefix. */
  readonly param: Schema.Codec<Param, string>
  /** Makes the channel of a text. With a fault every use of it fails. */
  readonly member: (text: string, fault?: InvalidChannelName) => Member
  /** Names that belong to other families; default none. */
  readonly excepted?: (name: string) => boolean
}

/** What a family is called with, and what it matches: a parameter has one spelling, that of its encoding. */
export const familyMembers = <Param, Member>({
  excepted,
  member,
  param,
  prefix
}: Naming<Param, Member>) => {
  /** The one text of a value, or the empty text when the value does not match. */
  const spell = (value: unknown) =>
    Result.getOrElse(Schema.encodeUnknownResult(param)(value), () => "")
  const match = (name: string) => {
    const text = name.slice(prefix.length)
    if (!name.startsWith(prefix) || text === "" || excepted?.(name)) return undefined
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
  return { call, match }
}
