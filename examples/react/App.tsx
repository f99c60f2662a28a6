// #region app
import { RealtimeProvider, useConnection, useLatest } from "effect-realtime/react"

export function Price() {
  const { stale, value } = useLatest("prices") // for a string the payload is unknown
  const { status } = useConnection() // idle, connecting, open, waiting or stopped
  return (
    <p aria-busy={stale}>
      {String(value ?? "none yet")} ({status})
    </p>
  )
}

export const App = ({ token }: { token: () => string }) => (
  <RealtimeProvider url="wss://api.example.com/realtime" token={token}>
    <Price />
  </RealtimeProvider>
)
// #endregion
