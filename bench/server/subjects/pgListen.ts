/**
 * The program written by hand with `pg-listen` and `ws`.
 */
import { createServer } from "node:http"
import { type WebSocket, WebSocketServer } from "ws"
import { channelName } from "../../lib/messages.ts"
import { pgListen } from "../peers.ts"
import { listen, type Open, shut } from "../subject.ts"

export const open: Open = async ({ audience, databaseUrl }) => {
  if (databaseUrl === undefined) throw new Error("this subject needs a database")
  const createSubscriber = await pgListen()
  const subscriber = createSubscriber(
    { connectionString: databaseUrl },
    // It would parse every payload, which would then be encoded again.
    { parse: (text) => text }
  )
  subscriber.events.on("error", (error) => {
    throw error
  })
  await subscriber.connect()
  const server = createServer()
  const wss = new WebSocketServer({ server, perMessageDeflate: false })
  const serve = async (index: number) => {
    const channel = channelName(index)
    const sockets = new Set<WebSocket>()
    wss.on("connection", (ws, request) => {
      if (request.url !== `/${channel}`) return
      sockets.add(ws)
      ws.on("error", () => undefined)
      ws.once("close", () => sockets.delete(ws))
    })
    subscriber.notifications.on(channel, (text) => {
      for (const ws of sockets) ws.send(text)
    })
    await subscriber.listenTo(channel)
  }
  await Promise.all(Array.from({ length: audience.channels }, (_, index) => serve(index)))
  return {
    port: await listen(server),
    publish: () => undefined,
    [Symbol.asyncDispose]: async () => {
      await subscriber.close()
      for (const ws of wss.clients) ws.terminate()
      await shut(server)
    }
  }
}
