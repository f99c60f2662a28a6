import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect, it } from "vitest"

const program = `
  import { createRealtimeClient } from "effect-realtime/client"
  import { once } from "node:events"
  import { WebSocketServer } from "ws"
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" })
  await once(server, "listening")
  const limits = { subscriptions: 100, frameBytes: 65536, publishPerSecond: 20, volatilePerSecond: 60 }
  server.on("connection", (socket) =>
    socket.on("message", (text) => {
      const { channel, id, type } = JSON.parse(text)
      const answers = {
        hello: { type: "welcome", version: 1, session: "s", ping: 25000, slack: 10000, limits },
        subscribe: { type: "subscribed", id, channel, state: "fresh", cursor: "e:0" },
        publish: { type: "published", id }
      }
      socket.send(JSON.stringify(answers[type]))
    })
  )
  const store = createRealtimeClient({ url: "http://127.0.0.1:" + server.address().port + "/realtime" })
  store.listen("a", () => {})
  await store.publish("a", 1)
  await store.close()
  server.close()
  console.log("closed")
`

it("a process exits after it closed a client over Node's own WebSocket", async () => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["-C", "@effect-realtime/source", "--input-type=module", "-e", program],
    { cwd: join(import.meta.dirname, "../.."), timeout: 15_000 }
  )
  expect(stdout).toBe("closed\n")
})
