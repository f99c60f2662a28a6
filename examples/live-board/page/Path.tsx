/**
 * The path from the database to this page. Its two halves fail separately, so each shows its state:
 * `connection` is this page's socket, `source` is the server's link to the database. A spark runs along
 * the path with every event.
 */
import type { Connection } from "effect-realtime/client"
import { useReconnect, useWebSocket } from "effect-realtime/react"
import { useState } from "react"
import { Notices, type Order } from "../channels.ts"
import { clock } from "./format.ts"
import type { Link } from "./useLink.ts"
import { useNow } from "./useNow.ts"

type Source = Link["source"]
type Health = "good" | "waiting" | "bad" | "unknown"

const socket = (connection: Connection.State): readonly [Health, string] =>
  connection.status === "open"
    ? ["good", "connected"]
    : connection.status === "stopped"
      ? ["bad", "stopped"]
      : ["waiting", connection.status === "waiting" ? "waiting" : "connecting"]

const ear = (connection: Connection.State, source: Source): readonly [Health, string] =>
  connection.status !== "open"
    ? ["unknown", "unknown"]
    : source === "up"
      ? ["good", "listening"]
      : ["bad", "database down"]

const sentence = ({ connection, since }: Link): string => {
  if (since === undefined) return "Live"
  const time = clock(since)
  switch (connection.status) {
    case "open":
      return `The server has lost the database at ${time} and tries to get it back`
    case "waiting":
      return `No connection since ${time}`
    case "stopped":
      return `The connection ended at ${time}: ${connection.message}`
    case "connecting":
      if (connection.attempt > 1) return `No connection since ${time}, trying now`
  }
  return "Connecting to the server"
}

/** How often a value has changed. */
const useChanges = (value: unknown): number => {
  const [known, setKnown] = useState({ value, changes: 0 })
  if (known.value !== value) setKnown({ value, changes: known.changes + 1 })
  return known.changes
}

interface HalfProps {
  readonly state: readonly [Health, string]
  readonly events: number
}

const Half = ({ events, state: [health, text] }: HalfProps) => (
  <span className="link" data-health={health}>
    <span className="link-text">{text}</span>
    <span className="link-line">
      {/* A new key restarts the animation. */}
      {events > 0 && <span className="spark" key={events} />}
    </span>
  </span>
)

const Countdown = ({ until }: { readonly until: number }) => {
  const now = useNow()
  return (
    <span aria-hidden="true">, next try in {Math.max(0, Math.ceil((until - now) / 1000))} s</span>
  )
}

interface PathProps {
  readonly link: Link
  /** The orders on this page: other rows came along the path. */
  readonly rows: ReadonlyArray<Order>
}

export const Path = ({ link, rows }: PathProps) => {
  const { connection, source } = link
  const reconnect = useReconnect()
  const [notices, setNotices] = useState(0)
  // Another component uses the same channel. The client has one subscription per channel.
  useWebSocket(Notices, () => setNotices((notices) => notices + 1))
  const events = notices + useChanges(rows)
  return (
    <div className="path" data-connection={connection.status} data-source={source}>
      <div className="drawing" aria-hidden="true">
        <span className="stop">PostgreSQL</span>
        <Half state={ear(connection, source)} events={events} />
        <span className="stop">Server</span>
        <Half state={socket(connection)} events={events} />
        <span className="stop">This page</span>
      </div>
      <p className="sentence">
        <span role="status">{sentence(link)}</span>
        {connection.status === "waiting" && <Countdown until={connection.until} />}
        {(connection.status === "waiting" || connection.status === "stopped") && (
          <button className="inline" type="button" onClick={reconnect}>
            Try now
          </button>
        )}
      </p>
    </div>
  )
}
