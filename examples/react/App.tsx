// #region app
import { RealtimeProvider, useConnection, useLatest } from "effect-realtime/react"

export function Price() {
  const { status, value } = useLatest("prices") // for a string the payload is unknown
  const connection = useConnection() // status: idle, connecting, open, waiting or stopped
  return (
    <p aria-busy={status === "stale"}>
      {String(value ?? "none yet")} ({connection.status})
    </p>
  )
}

export const App = ({ token }: { token: () => string }) => (
  <RealtimeProvider url="wss://api.example.com/realtime" token={token}>
    <Price />
  </RealtimeProvider>
)
// #endregion
