import { usePublishQueue, useWebSocket } from "effect-realtime/react"
import { type FormEvent, useEffect, useRef, useState } from "react"
import { type Notice, Notices as NoticesChannel } from "../channels.ts"
import { clock } from "./format.ts"

interface Line extends Notice {
  readonly id: string
  readonly at: Date
}

/** A notice of this page that the server has not answered yet. */
interface Outgoing extends Notice {
  readonly key: number
  /** Why it was not sent. */
  readonly error?: string
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

/** The notices that this page sends, until they are sent. */
const useOutgoing = (send: (notice: Notice) => Promise<void>) => {
  const [outgoing, setOutgoing] = useState<ReadonlyArray<Outgoing>>([])
  const keys = useRef(0)
  const drop = (key: number) => setOutgoing((all) => all.filter((one) => one.key !== key))
  const add = ({ message, type }: Notice) => {
    keys.current += 1
    const notice = { type, message, key: keys.current }
    const fail = (cause: unknown) => {
      const error = cause instanceof Error ? cause.message : String(cause)
      setOutgoing((all) => all.map((one) => (one.key === notice.key ? { ...notice, error } : one)))
    }
    setOutgoing((all) => [notice, ...all])
    send({ type, message }).then(() => drop(notice.key), fail)
  }
  const again = (notice: Outgoing) => {
    drop(notice.key)
    add(notice)
  }
  return { outgoing, add, again }
}

interface NoticesProps {
  readonly isConnected: boolean
}

export const Notices = ({ isConnected }: NoticesProps) => {
  const [lines, setLines] = useState<ReadonlyArray<Line>>([])
  const [kind, setKind] = useState<Notice["type"]>("info")
  const [message, setMessage] = useState("")
  const add = (line: Line) => setLines((lines) => [line, ...lines].slice(0, 20))
  const { sendNotification } = useWebSocket(
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
  const { again, outgoing, add: send } = useOutgoing(sendNotification)
  const waiting = usePublishQueue().messages
  const submit = (event: FormEvent) => {
    event.preventDefault()
    if (message.trim() === "") return
    send({ type: kind, message: message.trim() })
    setMessage("")
  }
  return (
    <section className="panel notices" aria-labelledby="notices">
      <header className="panel-head">
        <div>
          <h2 id="notices">Notices</h2>
          <p role="status">
            {isConnected
              ? "On system_notifications, to every page"
              : waiting === 0
                ? "What you send waits for the connection"
                : waiting === 1
                  ? "1 notice waits for the connection"
                  : `${waiting} notices wait for the connection`}
          </p>
        </div>
      </header>
      <form className="send" onSubmit={submit}>
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
        <button type="submit" aria-disabled={message.trim() === ""}>
          Send
        </button>
      </form>
      <div className="lines" role="log" aria-labelledby="notices" tabIndex={0}>
        <ol>
          {outgoing.map((notice) => (
            <li key={notice.key} data-type={notice.type} data-waiting={notice.error === undefined}>
              <NoticeText message={notice.message} type={notice.type} />
              {notice.error === undefined ? (
                <span className="fate">{isConnected ? "sending" : "waits"}</span>
              ) : (
                <span className="fate failure" title={notice.error}>
                  not sent
                  <button type="button" className="inline" onClick={() => again(notice)}>
                    Send again
                  </button>
                </span>
              )}
            </li>
          ))}
          {lines.map(({ at, id, message, type }) => (
            <li key={id} data-type={type}>
              <NoticeText message={message} type={type} />
              <time>{clock(at)}</time>
            </li>
          ))}
          {lines.length === 0 && outgoing.length === 0 && <li className="nothing">None yet</li>}
        </ol>
      </div>
      {lines[0] !== undefined && <Newcomer key={lines[0].id} {...lines[0]} />}
    </section>
  )
}
