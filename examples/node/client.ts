// #region plain
import { createRealtimeClient } from "effect-realtime/client"
import { Notices } from "../channels.ts"

export const chat = async (url: string, show: (text: string) => void) => {
  const store = createRealtimeClient({ url }) // in a page: "/realtime"
  const leave = store.listen(Notices, ({ message }) => show(message), {
    onGap: () => show("something may be missing here")
  })
  await store.publish(Notices, { type: "info", message: "hello" })
  return { leave, close: store.close }
}
// #endregion
