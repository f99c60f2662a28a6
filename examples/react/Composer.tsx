// #region composer
import { useConnection, usePublish, usePublishQueue } from "effect-realtime/react"
import { Room } from "../channels.ts"

const Lobby = Room("lobby")

export function Composer() {
  const send = usePublish(Lobby)
  const { messages } = usePublishQueue()
  const { message, status } = useConnection()
  return (
    <p>
      <button onClick={() => send({ text: "hello" })}>Hello</button>
      {status === "open" ? "" : message} {messages > 0 ? `${messages} not sent yet` : ""}
    </p>
  )
}
// #endregion
