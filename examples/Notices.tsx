// #region component
import { useWebSocket } from "effect-realtime/react"
import { useState } from "react"
import { Notices } from "./channels.ts"

export function NoticeBoard() {
  const [notices, setNotices] = useState<ReadonlyArray<string>>([])
  const { connection, sendNotification } = useWebSocket(Notices, ({ message }) =>
    setNotices((all) => [message, ...all])
  )
  const hello = () => sendNotification({ type: "info", message: "hello" })
  return (
    <section>
      <button onClick={hello}>Say hello ({connection.status})</button>
      <ul>
        {notices.map((text, index) => (
          <li key={notices.length - index}>{text}</li>
        ))}
      </ul>
    </section>
  )
}
// #endregion
