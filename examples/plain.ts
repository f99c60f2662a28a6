import { ChannelStore } from "effect-realtime/client"
import { Notices } from "./channels.ts"

export const watch = async (url: string, show: (text: string) => void) => {
  // #region plain
  const store = ChannelStore.make({ url })
  const leave = store.listen(Notices, ({ message }) => show(message), {
    onGap: () => show("something may be missing here")
  })
  await store.publish(Notices, { type: "info", message: "hello" })
  // later: leave(), and store.close() for the whole page
  // #endregion
  return { leave, close: () => store.close() }
}
