/** The faults of what a gateway was given, in the words of its flags, variables and file. */
import { InvalidOption } from "../../server/internal/options.ts"
import { ChannelConflict } from "../../server/internal/session/registry.ts"
import { InvalidGateway } from "./config.ts"
import type { Joined } from "./given.ts"
import { InvalidNats } from "../shared/nats.ts"

/** The key of an option that has another name in the file. */
const keys: Readonly<Record<string, string>> = { listenUrl: "listen" }

/** The place that named a channel, or the family with a prefix. */
const placeOfName = ({ channels, tables }: Joined, name: string): string =>
  channels.find((one) => one.name === name || one.name.startsWith(`${name}{`))?.place ??
  tables.find((one) => name.startsWith(one.config.channel ?? `table_updates_${one.name}`))?.place ??
  `channels.${name}`

/** An error as a fault of what was given; `undefined` for one of the database or the network. */
export const faultOf = (given: Joined, error: unknown): InvalidGateway | undefined => {
  if (error instanceof InvalidGateway) return error
  if (error instanceof InvalidOption) {
    const { expected, option, value } = error
    return new InvalidGateway({
      where: given.placeOf(keys[option] ?? option),
      reason: `The value is ${value}. It must be ${expected}.`
    })
  }
  if (error instanceof ChannelConflict) {
    const [first, second] = [error.first, error.second].map((name) => placeOfName(given, name))
    return new InvalidGateway({
      where: second!,
      reason: `It matches the same names as ${first}. Give each name, and each beginning of a name, to one of them only.`
    })
  }
  if (error instanceof InvalidNats) {
    return new InvalidGateway({ where: given.placeOf("nats.servers"), reason: error.message })
  }
  return undefined
}
