// #region plain
import { createRealtimeClient } from "effect-realtime/client"
import { inRoom } from "./channels.ts"

const client = createRealtimeClient({ url: "https://example.com/realtime" })

/** Shows the members of a room, as one of them, until the result is called. */
export const enter = (room: string, name: string, show: (names: Array<string>) => void) => {
  const here = client.presence(inRoom(room), { name, away: false })
  return here.subscribe(() => show(here.getSnapshot().members.map(({ state }) => state.name)))
}
// #endregion
