import { useWebSocket } from "effect-realtime/react"
import { type FormEvent, useEffect, useState } from "react"
import { type Notice, Notices as NoticesChannel } from "../channels.ts"
import { clock } from "./format.ts"
import { useAction } from "./useAction.ts"

interface Line extends Notice {
  readonly id: string
  readonly at: Date
}

const kinds = ["info", "warning", "error"] as const

/** How long the page shows a new notice on top, in milliseconds. */
const newcomerTime = 8000

/** The newest notice, for a narrow screen, where the list is below the orders. */
const Newcomer = ({ at, message, type }: Line) => {
  const [shown, setShown] = useState(true)
  useEffect(() => {
    const timer = setTimeout(() => setShown(false), newcomerTime)
    return () => clearTimeout(timer)
  }, [])
  return (
    shown && (
      <a className="newcomer" data-type={type} href="#notices" aria-hidden="true" tabIndex={-1}>
        <NoticeText message={message} type={type} />
        <time>{clock(at)}</time>
      </a>
    )
  )
}

const NoticeText = ({ message, type }: Notice) => (
  <p>
    <strong>{type}</strong> {message}
  </p>
)

export const Notices = () => {
  const [lines, setLines] = useState<ReadonlyArray<Line>>([])
  const [kind, setKind] = useState<Notice["type"]>("info")
  const [message, setMessage] = useState("")
  const sending = useAction()
  const add = (line: Line) => setLines((lines) => [line, ...lines].slice(0, 20))
  const { connection, sendNotification } = useWebSocket(
    NoticesChannel,
    (notice, event) => add({ ...notice, id: event.id, at: event.at }),
    {
      onGap: ({ cursor }) =>
        add({
          type: "warning",
          message: "Notices may be missing here.",
          id: cursor,
          at: new Date()
        })
    }
  )
  const send = (event: FormEvent) => {
    event.preventDefault()
    sending.run(async () => {
      await sendNotification({ type: kind, message: message.trim() })
      setMessage("")
    })
  }
  return (
    <section className="panel notices" aria-labelledby="notices">
      <header className="panel-head">
        <div>
          <h2 id="notices">Notices</h2>
          <p className={sending.error === undefined ? undefined : "failure"}>
            {sending.error ??
              (sending.running && connection.status !== "open"
                ? "Kept until the connection is back"
                : "On system_notifications, to every page")}
          </p>
        </div>
      </header>
      <form className="send" onSubmit={send}>
        <select
          aria-label="Kind of notice"
          value={kind}
          onChange={({ target }) => setKind(target.value as Notice["type"])}
        >
          {kinds.map((kind) => (
            <option key={kind}>{kind}</option>
          ))}
        </select>
        <input
          aria-label="Message"
          placeholder="Grinder 2 is back"
          maxLength={200}
          value={message}
          onChange={({ target }) => setMessage(target.value)}
        />
        <button type="submit" disabled={sending.running || message.trim() === ""}>
          Send
        </button>
      </form>
      <ol className="lines" role="log" aria-live="polite">
        {lines.map(({ at, id, message, type }) => (
          <li key={id} data-type={type}>
            <NoticeText message={message} type={type} />
            <time>{clock(at)}</time>
          </li>
        ))}
        {lines.length === 0 && <li className="nothing">None yet</li>}
      </ol>
      {lines[0] !== undefined && <Newcomer key={lines[0].id} {...lines[0]} />}
    </section>
  )
}
