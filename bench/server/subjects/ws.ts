/**
 * The program written by hand with `ws`: a set of sockets per channel and a loop.
 *
 * The floor is the same with the frame made once per message and written past `ws`: no library on
 * these sockets can be cheaper while it writes every message to every socket by itself.
 */
import { createServer, type IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import { type WebSocket, WebSocketServer } from "ws"
import { webSocket } from "../../../src/server/internal/door/webSocket.ts"
import { listen, type Open, shut } from "../subject.ts"

/** The sockets of each channel; the channel is the path of the request. */
const members = <Member>() => {
  const byChannel = new Map<string, Set<Member>>()
  return {
    of: (channel: string): Iterable<Member> => byChannel.get(channel) ?? [],
    join: (request: IncomingMessage, ws: WebSocket, member: Member) => {
      const channel = (request.url ?? "/").slice(1)
      const members = byChannel.get(channel) ?? new Set()
      byChannel.set(channel, members.add(member))
      ws.on("error", () => undefined)
      ws.once("close", () => members.delete(member))
    }
  }
}

export const openLoop: Open = async () => {
  const server = createServer()
  const wss = new WebSocketServer({ server, perMessageDeflate: false })
  const sockets = members<WebSocket>()
  wss.on("connection", (ws, request) => sockets.join(request, ws, ws))
  return {
    port: await listen(server),
    publish: (channel, text) => {
      for (const ws of sockets.of(channel)) ws.send(text)
    },
    [Symbol.asyncDispose]: async () => {
      for (const ws of wss.clients) ws.terminate()
      await shut(server)
    }
  }
}

export const openFloor: Open = async () => {
  const server = createServer()
  const wss = new WebSocketServer({ server, perMessageDeflate: false })
  const sockets = members<Socket>()
  wss.on("connection", (ws, request) => sockets.join(request, ws, request.socket))
  return {
    port: await listen(server),
    publish: (channel, text) => {
      const frame = webSocket.encode(text)
      for (const socket of sockets.of(channel)) socket.write(frame)
    },
    [Symbol.asyncDispose]: async () => {
      for (const ws of wss.clients) ws.terminate()
      await shut(server)
    }
  }
}
