// #region changes
import { useWebSocket } from "effect-realtime/react"
import { useState } from "react"
import { OrderUpdates } from "../channels.ts"

/** One message for all rows of a frame, and one for each gap. */
export function Changes() {
  const [text, setText] = useState("No order has changed")
  useWebSocket(OrderUpdates, undefined, {
    onBatch: (updates) => setText(`${updates.length} orders have changed`),
    onGap: () => setText("Orders may have changed")
  })
  return <p>{text}</p>
}
// #endregion
