// #region server
import type { RealtimeServer } from "effect-realtime/node"
import { Tickets } from "./tables.ts"

/** Shows the number of open tickets, until the server closes. */
export const countOpen = async (
  realtime: Pick<RealtimeServer, "rows">,
  show: (count: number) => void
) => {
  for await (const { rows, status } of realtime.rows(Tickets, { where: { status: "open" } })) {
    if (status === "live") show(rows.length)
  }
}
// #endregion

// #region client
import type { PlainClient } from "effect-realtime/client"

/** In a page without a framework. Returns a function that stops. */
export const followOpen = (
  client: Pick<PlainClient.PlainClient, "rows">,
  show: (count: number) => void
) => {
  const tickets = client.rows(Tickets, { where: { status: "open" } })
  return tickets.subscribe(() => show(tickets.getSnapshot().rows.length))
}
// #endregion
