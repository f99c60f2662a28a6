// #region chat
import { useHistory } from "effect-realtime/react"
import { talkAbout } from "../support-desk/channels.ts"

/** The talk about a ticket: the last 50 messages, those before them on demand, and each new one. */
export function Chat({ ticket }: { readonly ticket: number }) {
  const { events, loadMore, more, status } = useHistory(talkAbout(ticket), { limit: 50 })
  return (
    <section aria-busy={status !== "live"}>
      {more && <button onClick={() => void loadMore()}>Earlier</button>}
      {events.map(({ id, payload }) => (
        <p key={id}>
          {payload.sender}: {payload.text}
        </p>
      ))}
    </section>
  )
}
// #endregion
