/**
 * The client of the page, for the hooks and for code without hooks.
 */
import { createRealtimeClient } from "effect-realtime/client"

export const store = createRealtimeClient({ url: "/realtime" })
