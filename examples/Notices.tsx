// #region component
import { useWebSocket } from "effect-realtime/react"
import { useState } from "react"
import { Notices } from "./channels.ts"

export function NoticeBoard() {
  const [notices, setNotices] = useState<ReadonlyArray<{ id: string; message: string }>>([])
  const { connection, sendNotification } = useWebSocket(Notices, ({ message }, { id }) =>
    setNotices((all) => [{ id, message }, ...all])
  )
  const hello = () => sendNotification({ type: "info", message: "hello" })
  return (
    <section>
      <button onClick={hello}>Say hello ({connection.status})</button>
      <ul>
        {notices.map(({ id, message }) => (
          <li key={id}>{message}</li>
        ))}
      </ul>
    </section>
  )
}
// #endregion
