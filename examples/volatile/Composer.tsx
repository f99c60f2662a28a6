// #region composer
import { useWebSocket } from "effect-realtime/react"
import { useEffect, useState } from "react"
import { typingIn } from "./channels.ts"

/** Milliseconds for which an event shows that a user types. */
const shownFor = 3000

export function Composer({ room, user }: { room: string; user: string }) {
  const [typing, setTyping] = useState<ReadonlyMap<string, number>>(new Map())
  const { sendNotification } = useWebSocket(typingIn(room), (event) => {
    if (event.user !== user) setTyping((all) => new Map(all).set(event.user, Date.now()))
  })
  useEffect(() => {
    const isNew = ([, at]: readonly [string, number]) => Date.now() - at < shownFor
    const expire = () => setTyping((all) => (all.size > 0 ? new Map([...all].filter(isNew)) : all))
    const timer = setInterval(expire, 500)
    return () => clearInterval(timer)
  }, [])
  return (
    <p>
      <input aria-label="Message" onChange={() => sendNotification({ user })} />
      {typing.size > 0 ? `${[...typing.keys()].join(", ")} typing` : ""}
    </p>
  )
}
// #endregion
