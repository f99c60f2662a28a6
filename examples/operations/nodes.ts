/** A client that knows the nodes of its server. */
// #region nodes
import { createRealtimeClient } from "effect-realtime/client"

export const client = createRealtimeClient({
  url: ["wss://a.example.com/realtime", "wss://b.example.com/realtime"]
})

/** Or the nodes of this moment, from a service of yours. */
export const discovering = createRealtimeClient({
  url: () => fetch("https://example.com/nodes").then((response) => response.json())
})
// #endregion
