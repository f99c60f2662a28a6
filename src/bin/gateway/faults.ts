/** The faults of what a gateway was given, in the words of its flags, variables and file. */
import { ListenNotDelivered, NotPrimary } from "../../server/internal/link/databaseRefusal.ts"
import { isStandby } from "../../server/internal/link/sqlState.ts"
import { InvalidOption } from "../../server/internal/options.ts"
import { ChannelConflict } from "../../server/internal/session/registry.ts"
import { channelOf, InvalidGateway } from "./config.ts"
import type { Joined } from "./given.ts"
import { InvalidNats } from "../shared/nats.ts"

/** The key of an option that has another name in the file. */
const keys: Readonly<Record<string, string>> = { listenUrl: "listen" }

/** The places that name a channel, or the families with a prefix. */
const placesOf = ({ channels, tables }: Joined, name: string): ReadonlyArray<string> =>
  [
    ...channels.filter((one) => one.name === name || one.name.startsWith(`${name}{`)),
    ...tables.filter((one) => name.startsWith(channelOf(one.name, one.config)))
  ].map(({ place }) => place)

/** An error as a fault of what was given; `undefined` for one of the database or the network. */
export const faultOf = (given: Joined, error: unknown): InvalidGateway | undefined => {
  if (error instanceof InvalidGateway) return error
  if (error instanceof InvalidOption) {
    const { expected, option, value } = error
    return new InvalidGateway({
      where: given.placeOf(keys[option] ?? option),
      // No flag and no file can say Infinity.
      reason: `The value is ${value}. It must be ${expected.replace(/, or Infinity$/, "")}.`
    })
  }
  if (error instanceof ChannelConflict) {
    const first = placesOf(given, error.first)[0]!
    const second = placesOf(given, error.second).find((place) => place !== first)
    return new InvalidGateway({
      where: second ?? first,
      reason: `It matches the same names as ${first}. Give each name, and each beginning of a name, to one of them only.`
    })
  }
  if (error instanceof InvalidNats) {
    const keys = Object.keys(given.nats ?? {})
    const key = keys.includes("servers") ? "servers" : (keys[0] ?? "servers")
    return new InvalidGateway({ where: given.placeOf(`nats.${key}`), reason: error.message })
  }
  return undefined
}

/** The sentence for an error whose own one names what only an application has; else `undefined`. */
export const gatewaySentence = (error: unknown): string | undefined => {
  if (error instanceof ListenNotDelivered) {
    return `A notification that was sent did not arrive within ${error.waited} ms, on three sessions in a row: the URL of the database leads through a transaction pooler such as PgBouncer, which drops LISTEN, or --listen leads to another database. Give the direct URL of the same database with --listen (REALTIME_LISTEN, in the file listen).`
  }
  if (error instanceof NotPrimary || isStandby(error)) {
    return "The database is a standby, and a gateway needs the primary: a standby sends no notifications and takes no writes. Give --database the address of the primary, or a name that leads to it."
  }
  return undefined
}
