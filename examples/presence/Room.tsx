// #region room
import { usePresence } from "effect-realtime/react"
import { inRoom } from "./channels.ts"

export function Room({ room, name }: { room: string; name: string }) {
  const { count, me, members, named, status, update } = usePresence(inRoom(room), {
    name,
    away: false
  })
  const away = me?.state.away ?? false
  return (
    <section aria-busy={status !== "live"}>
      <h2>{count} here</h2>
      {named && (
        <ul>
          {members.map(({ id, isMe, state }) => (
            <li key={id}>
              {isMe ? "you" : state.name}
              {state.away && " (away)"}
            </li>
          ))}
        </ul>
      )}
      <button onClick={() => void update({ name, away: !away })}>{away ? "Back" : "Away"}</button>
    </section>
  )
}
// #endregion
