/**
 * The path from the database to this page. Its two halves fail separately, so each shows its state:
 * `connection` is this page's socket, `source` is the server's link to the database. A spark runs along
 * the path with every event.
 */
import type { Connection } from "effect-realtime/client"
import { useConnection, useReconnect, useSource, useWebSocket } from "effect-realtime/react"
import { useState } from "react"
import { Notices, OrderUpdates } from "../channels.ts"
import { useNow } from "./useNow.ts"

type Source = ReturnType<typeof useSource>
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

const sentence = (connection: Connection.State, source: Source): string => {
  switch (connection.status) {
    case "open":
      return source === "up" ? "Live" : "The server has lost the database and tries to get it back"
    case "waiting":
      return "The server cannot be reached"
    case "stopped":
      return `The connection has ended: ${connection.message}`
    default:
      return "Connecting to the server"
  }
}

interface LinkProps {
  readonly state: readonly [Health, string]
  readonly events: number
}

const Link = ({ events, state: [health, text] }: LinkProps) => (
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

export const Path = () => {
  const connection = useConnection()
  const reconnect = useReconnect()
  const source = useSource()
  const [events, setEvents] = useState(0)
  const spark = () => setEvents((events) => events + 1)
  // The other components use the same channels. The client has one subscription per channel.
  useWebSocket(OrderUpdates, spark)
  useWebSocket(Notices, spark)
  return (
    <div className="path" data-connection={connection.status} data-source={source}>
      <div className="drawing" aria-hidden="true">
        <span className="stop">PostgreSQL</span>
        <Link state={ear(connection, source)} events={events} />
        <span className="stop">Server</span>
        <Link state={socket(connection)} events={events} />
        <span className="stop">This page</span>
      </div>
      <p className="sentence">
        <span role="status">{sentence(connection, source)}</span>
        {connection.status === "waiting" && <Countdown until={connection.until} />}
        {(connection.status === "waiting" || connection.status === "stopped") && (
          <button className="again" type="button" onClick={reconnect}>
            Try now
          </button>
        )}
      </p>
    </div>
  )
}
