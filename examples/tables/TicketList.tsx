// #region list
import { useRows } from "effect-realtime/react"
import { Tickets } from "./tables.ts"

/** <TicketList status="open" /> */
export function TicketList({ status }: { readonly status: string }) {
  const tickets = useRows(Tickets, { where: { status } })
  if (tickets.status === "loading") return <p>Loading</p>
  return (
    <ul aria-busy={tickets.status !== "live"}>
      {tickets.rows.map(({ id, team }) => (
        <li key={id}>
          Ticket {id} of {team}
        </li>
      ))}
    </ul>
  )
}
// #endregion
