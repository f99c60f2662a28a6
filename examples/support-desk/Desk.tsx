/** The page of the desk. */
// #region desk
import { useHistory, useQueryStream, useRows, useWebSocket } from "effect-realtime/react"
import { useEffect, useState } from "react"
import { reportOf, talkAbout, ticketsOf, typingAbout } from "./channels.ts"

type Status = "open" | "waiting" | "closed"

export function Desk({ team, name }: { readonly team: string; readonly name: string }) {
  const [status, setStatus] = useState<Status>("open")
  const [shown, setShown] = useState<number>()
  const tickets = useRows(ticketsOf(team), { where: { status } })
  return (
    <main>
      <label>
        Status
        <select value={status} onChange={({ target }) => setStatus(target.value as Status)}>
          <option>open</option>
          <option>waiting</option>
          <option>closed</option>
        </select>
      </label>
      <ul aria-busy={tickets.status !== "live"} aria-label="Tickets">
        {tickets.rows.map(({ id, restricted, title }) => (
          <li key={id}>
            <button onClick={() => setShown(id)}>{title}</button>
            {restricted && " (restricted)"}
          </li>
        ))}
      </ul>
      {tickets.status === "live" && tickets.rows.length === 0 && <p>No ticket is {status}.</p>}
      {shown !== undefined && <Room key={shown} ticket={shown} name={name} />}
    </main>
  )
}
// #endregion

// #region room
/** How long a person types without another key, in milliseconds. */
const typingFor = 1500

const isForbidden = (error: unknown) =>
  (error as { readonly code?: unknown }).code === "channel/forbidden"

/** The talk about one ticket, and the person that types. The server stamps the sender. */
function Room({ name, ticket }: { readonly ticket: number; readonly name: string }) {
  const [typing, setTyping] = useState<{ readonly sender: string }>()
  const [refused, setRefused] = useState(false)
  // The ticket moved to another team, or became restricted.
  const onError = (error: unknown) => setRefused((was) => was || isForbidden(error))
  const { events } = useHistory(talkAbout(ticket), { limit: 50, onError })
  const talk = useWebSocket(talkAbout(ticket), () => setTyping(undefined), { onError })
  const typed = ({ sender }: { readonly sender: string }) => {
    if (sender !== name) setTyping({ sender })
  }
  const typist = useWebSocket(typingAbout(ticket), typed, { onError })
  useEffect(() => {
    if (typing === undefined) return
    const timer = setTimeout(() => setTyping(undefined), typingFor)
    return () => clearTimeout(timer)
  }, [typing])
  if (refused) return <p>This ticket is not yours to read.</p>
  return (
    <section aria-label="Talk">
      {events.map(({ id, payload }) => (
        <p key={id}>
          {payload.sender}: {payload.text}
        </p>
      ))}
      {typing !== undefined && <p>{typing.sender} types</p>}
      <form
        onSubmit={(event) => {
          event.preventDefault()
          const input = event.currentTarget.elements.namedItem("text") as HTMLInputElement
          void talk.sendNotification({ sender: name, text: input.value })
          input.value = ""
        }}
      >
        <input
          name="text"
          aria-label="Message"
          onChange={() => void typist.sendNotification({ sender: name })}
        />
      </form>
    </section>
  )
}
// #endregion

// #region report
/** A report while it arrives. */
export function ReportText({ id }: { readonly id: string }) {
  const [refused, setRefused] = useState(false)
  const onError = () => setRefused(true)
  const { status, stop, value = [] } = useQueryStream(reportOf(id), { onError })
  return (
    <section aria-label="Report">
      {value.map((line) => (
        <p key={line}>{line}</p>
      ))}
      {status === "running" && <button onClick={() => void stop()}>Stop</button>}
      {status === "stopped" && <p>Stopped.</p>}
      {refused && <p>This report is of another team.</p>}
    </section>
  )
}
// #endregion
