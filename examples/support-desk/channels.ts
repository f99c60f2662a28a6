/** What page and server share: each channel with its payload. */
// #region channels
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

export const Ticket = Schema.Struct({
  id: Schema.Int,
  team: Schema.String,
  title: Schema.String,
  status: Schema.Literals(["open", "waiting", "closed"]),
  restricted: Schema.Boolean
})

/** A channel for each team: a ticket that moves leaves one team and enters another. */
export const ticketsOf = Channel.table("tickets", Ticket, {
  key: "id",
  by: "team",
  filter: ["status"],
  boundary: ["restricted"]
})

/** The talk about one ticket. The server writes the sender. */
export const talkAbout = Channel.family(
  "talk_",
  Schema.FiniteFromString,
  Schema.Struct({ sender: Schema.String, text: Schema.String }),
  { delivery: "durable", publish: true }
)

/** The person that types about one ticket now. It never reaches the database. */
export const typingAbout = Channel.family(
  "typing_",
  Schema.FiniteFromString,
  Schema.Struct({ sender: Schema.String }),
  { delivery: "volatile", publish: true, latestBy: "sender" }
)

/** A report of a team, which arrives line by line. Its readers may stop it. */
export const reportOf = Channel.queryResults(Schema.Array(Schema.String), {
  delivery: "durable",
  publish: true
})
// #endregion
