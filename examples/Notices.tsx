// #region component
import { useWebSocket } from "effect-realtime/react"
import { useState } from "react"
import { Notices } from "./channels.ts"

export function Notice() {
  const [last, setLast] = useState("nothing yet")
  const { sendNotification } = useWebSocket(Notices, ({ message }) => setLast(message))
  const hello = () => sendNotification({ type: "info", message: "hello" })
  return <button onClick={hello}>Say hello. The last notice: {last}</button>
}
// #endregion
