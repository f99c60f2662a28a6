/**
 * The client of the page, for the hooks and for code without hooks.
 */
import { ChannelStore } from "effect-realtime/client"

export const store = ChannelStore.make({ url: "/realtime" })
