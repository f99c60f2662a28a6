/** Uses a server and a client once and closes both, so the process can exit. */
import { RealtimeServer } from "effect-realtime/node"
import { createRealtimeClient } from "effect-realtime/client"
import { Channel } from "effect-realtime"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

const http = createServer()
await new Promise<void>((listening) => {
  http.listen(0, "127.0.0.1", listening)
})
const server = new RealtimeServer(http, process.env["DATABASE_URL"], { authorize: () => true })
await server.ready
const { port } = http.address() as AddressInfo
const store = createRealtimeClient({ url: `ws://127.0.0.1:${port}/realtime` })
await new Promise<void>((heard) => {
  store.listen(Channel.systemNotifications, () => heard(), {
    onCursor: () =>
      void server.publish(Channel.systemNotifications, { type: "info", message: "hello" })
  })
})
await store.close()
await server.close()
http.close()
process.stdout.write("closed\n")
