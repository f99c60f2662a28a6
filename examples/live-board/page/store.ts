/**
 * The one client of the page, for the hooks and for what listens without them.
 */
import { createRealtimeClient } from "effect-realtime/client"

export const store = createRealtimeClient({ url: "/realtime" })
