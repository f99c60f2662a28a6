import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { type WebSocket, WebSocketServer } from "ws"
import { WebSocketPeer } from "../../../../src/server/internal/door/peer.ts"

/** A client that has opened a WebSocket and reads nothing more; and the peer that the server has of it. */
const silentClient = Effect.acquireRelease(
  Effect.callback<{
    readonly client: Socket
    readonly peer: WebSocketPeer
    readonly close: () => void
  }>((resume) => {
    const http = createServer()
    const wss = new WebSocketServer({ noServer: true })
    http.on("upgrade", (request, socket: Socket, head) => {
      socket.on("error", () => undefined)
      wss.handleUpgrade(request, socket, head, (ws: WebSocket) => {
        ws.on("error", () => undefined)
        resume(
          Effect.succeed({
            client,
            peer: new WebSocketPeer(ws, socket),
            close: () => {
              client.destroy()
              http.close()
            }
          })
        )
      })
    })
    let client: Socket
    http.listen(0, "127.0.0.1", () => {
      client = connect((http.address() as AddressInfo).port, "127.0.0.1", () => {
        client.pause()
        client.write(
          "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
      })
    })
  }),
  ({ close }) => Effect.sync(close)
)

it.live(
  "cuts a peer that reads nothing with a reset, so that the kernel keeps nothing for it",
  () =>
    Effect.gen(function* () {
      const { client, peer } = yield* silentClient
      const chunk = Buffer.alloc(1024 * 1024)
      // More than the kernel takes.
      while (peer.write(chunk));
      const ended = new Promise((resolve) => {
        client.on("error", (error) => resolve("code" in error ? error.code : error))
        client.on("end", () => resolve("a FIN, behind everything that waits"))
      })
      peer.terminate()
      client.resume()
      expect(yield* Effect.promise(() => ended)).toBe("ECONNRESET")
    }).pipe(Effect.scoped)
)
