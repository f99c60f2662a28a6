// #region page
import { createRealtimeClient } from "effect-realtime/client"

export const client = createRealtimeClient({
  url: "/realtime",
  onMetric: (name, value) => navigator.sendBeacon("/measurements", JSON.stringify([name, value]))
})
// #endregion
