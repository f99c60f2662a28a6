/**
 * The channel that a command is given by its name: its definition, and whether it is live or durable.
 *
 * No part of the database says how a channel is delivered, except of the channel of a watched table.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Channel from "../../Channel.ts"
import { channelNameFault } from "../../Protocol.ts"
import { ofTable, tables } from "../../server/internal/link/watched.ts"
import { hasMessages, isInstalled } from "../../server/internal/sql/inspection.ts"
import { definitionsOf } from "./definitions.ts"
import { wrongUsage } from "./exit.ts"

/** How a channel of PostgreSQL is delivered. */
type Kept = "durable" | "live"

/** A channel of any JSON or of a definition. */
export interface Chosen {
  readonly channel: Channel.Channel<unknown>
  readonly delivery: Kept
  /** Where nothing says how the channel is delivered. */
  readonly isGuess: boolean
  /** The channel of the table of which this is a route. */
  readonly routeOf: string | undefined
}

export const channelArgument = Argument.String("channel").pipe(
  Argument.withDescription("The name of the channel, e.g. table_updates_orders"),
  Argument.filter(
    (name) => channelNameFault(name) === undefined,
    (name) =>
      `The channel name ${JSON.stringify(name.slice(0, 80))} ${channelNameFault(name)}. A name has 1-63 of A-Z a-z 0-9 _ . : -, and does not begin with "realtime:".`
  )
)

export const deliveryFlag = Flag.Literals("delivery", ["live", "durable"]).pipe(
  Flag.withMetavar("<live|durable>"),
  Flag.withDescription(
    "How the channel is delivered (default: as its definition or its watched table says)"
  ),
  Flag.optional
)

const Change = Schema.Union([Channel.TableUpdate(Schema.Unknown), Channel.TruncatedUpdate])

const named = (
  definitions: ReadonlyArray<Channel.Definition>,
  name: string
): Channel.Any | undefined => {
  for (const one of definitions) if (one._tag === "Channel" && one.name === name) return one
  for (const one of definitions) {
    const found = one._tag === "Family" ? one.match(name) : undefined
    if (found !== undefined) return found.channel
  }
  return undefined
}

/** Whether a server without definitions has the channel, and it is not of a table. */
const isKnown = (name: string): boolean =>
  !name.startsWith("table_updates_") && named(Channel.known(), name) !== undefined

/** Ends the command, because the channel may be of either kind. */
export const withoutDelivery = (name: string) =>
  wrongUsage(
    `Nothing says how channel "${name}" is delivered. Give --delivery durable for the outbox, --delivery live for NOTIFY, or --definitions.`
  )

/** Finds the definition and the delivery of a channel. */
export const choose = Effect.fnUntraced(function* (given: {
  readonly name: string
  readonly delivery: Option.Option<Kept>
  readonly definitions: ReadonlyArray<string>
}) {
  const { name } = given
  const defined = named(yield* definitionsOf(given.definitions), name)
  if (defined !== undefined) {
    const { delivery } = defined
    if (delivery !== "live" && delivery !== "durable") {
      return yield* wrongUsage(
        `Channel "${name}" is of the kind ${delivery}: it never reaches the database. Use a client.`
      )
    }
    return chosen(defined as Channel.Channel<unknown>, delivery, false, defined.table?.channel)
  }
  const sql = yield* PgClient.PgClient
  const watched = (yield* tables(sql)) ?? []
  const table = ofTable(name, watched)
  const watch = watched.find(({ channel }) => channel === table)
  const known =
    Option.getOrUndefined(given.delivery) ??
    (watch?.delivery as Kept | undefined) ??
    (isKnown(name) ? "live" : undefined) ??
    ((yield* isInstalled(sql)) ? undefined : "live") ??
    ((yield* hasMessages(sql, name)) === true ? "durable" : undefined)
  const delivery = known ?? "durable"
  const any = name.startsWith("table_updates_")
    ? Channel.make(name, Change as Schema.Codec<unknown>, { delivery })
    : Channel.make(name, Schema.Unknown, { delivery })
  // A known kind has its payload however it is delivered.
  const channel = isKnown(name) ? { ...any, ...codecIn(named(Channel.known(), name)!) } : any
  return chosen(channel, delivery, known === undefined, table === name ? undefined : table)
})

const codecIn = ({ codec, decode, encode }: Channel.Any) =>
  ({ codec, decode, encode }) as Pick<Chosen["channel"], "codec" | "decode" | "encode">

const chosen = (
  channel: Channel.Channel<unknown>,
  delivery: Kept,
  isGuess: boolean,
  routeOf: string | undefined
): Chosen => ({ channel, delivery, isGuess, routeOf })
