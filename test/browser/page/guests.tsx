/** The guests of a lobby: the page is one of them under the name in its address until it leaves. */
import { createRealtimeClient } from "effect-realtime/client"
import { RealtimeProvider, usePresence } from "effect-realtime/react"
import { StrictMode, useState } from "react"
import { createRoot } from "react-dom/client"
import { guestsIn } from "./guests.ts"

const name = location.hash.slice(1)

const Lobby = () => {
  const [isHere, setHere] = useState(true)
  const guest = { name, typing: false }
  const { count, members, status, update } = usePresence(
    guestsIn("lobby"),
    isHere ? guest : undefined
  )
  return (
    <>
      <ul data-status={status} data-count={count}>
        {members.map(({ id, isMe, state }) => (
          <li key={id}>{`${state.name}${state.typing ? " types" : ""}${isMe ? ", me" : ""}`}</li>
        ))}
      </ul>
      <button id="type" onClick={() => void update({ name, typing: true })} />
      <button id="leave" onClick={() => setHere(false)} />
    </>
  )
}

const client = createRealtimeClient({ url: "/realtime" })
createRoot(document.querySelector("#root")!).render(
  <StrictMode>
    <RealtimeProvider client={client}>
      <Lobby />
    </RealtimeProvider>
  </StrictMode>
)
