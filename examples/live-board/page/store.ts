/**
 * The one client of the page, for the hooks and for what listens without them.
 */
import { ChannelStore } from "effect-realtime/client"

export const store = ChannelStore.make({ url: "/realtime" })
