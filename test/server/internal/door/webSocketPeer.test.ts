import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer } from "node:http"
import { createServer as createSecureServer } from "node:https"
import { type AddressInfo, connect, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { connect as connectSecurely } from "node:tls"
import { type WebSocket, WebSocketServer } from "ws"
import { WebSocketPeer } from "../../../../src/server/internal/door/webSocketPeer.ts"
import { Sized } from "../../../support/messages.ts"

/** TLS by a shared key, which needs no certificate. */
const psk = { ciphers: "PSK", maxVersion: "TLSv1.2" } as const
const sharedKey = Buffer.alloc(32, 7)

/** The transports of a server, as options of `listen` and of `connect`. */
const ways = {
  "plain TCP": { secure: false, at: { port: 0, host: "127.0.0.1" } },
  TLS: { secure: true, at: { port: 0, host: "127.0.0.1" } },
  "a Unix socket": { secure: false, at: { path: join(tmpdir(), `peer-${process.pid}.sock`) } }
} as const

/** A client that opens a WebSocket and then reads nothing, and the server's peer of that client. */
const silentClient = ({ at, secure }: (typeof ways)[keyof typeof ways]) =>
  Effect.acquireRelease(
    Effect.callback<{
      readonly client: Socket
      readonly peer: WebSocketPeer
      /** Resolves when the server has closed its socket. */
      readonly gone: Promise<void>
      readonly close: () => void
    }>((resume) => {
      const http = secure
        ? createSecureServer({ ...psk, pskCallback: () => sharedKey })
        : createServer()
      const wss = new WebSocketServer({ noServer: true })
      http.on("upgrade", (request, socket: Socket, head) => {
        socket.on("error", () => undefined)
        wss.handleUpgrade(request, socket, head, (ws: WebSocket) => {
          ws.on("error", () => undefined)
          resume(
            Effect.succeed({
              client,
              peer: new WebSocketPeer(ws, socket),
              gone: new Promise<void>((resolve) => void ws.on("close", () => resolve())),
              close: () => {
                client.destroy()
                http.close()
                http.closeAllConnections()
              }
            })
          )
        })
      })
      let client: Socket
      http.listen(at, () => {
        const here = "path" in at ? at : { ...at, port: (http.address() as AddressInfo).port }
        const opened = () => {
          client.pause()
          client.write(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
          )
        }
        const identity = () => ({ psk: sharedKey, identity: "x" })
        client = secure
          ? connectSecurely(
              { ...psk, ...here, pskCallback: identity, checkServerIdentity: () => undefined },
              opened
            )
          : connect(here, opened)
      })
    }),
    ({ close }) => Effect.sync(close)
  )

it.live.each(["plain TCP", "TLS"] as const)(
  "terminate resets the connection of a client that reads nothing, so that the kernel keeps no data: %s",
  (way) =>
    Effect.gen(function* () {
      const { client, gone, peer } = yield* silentClient(ways[way])
      const chunk = new Sized(1024 * 1024)
      // More bytes than the kernel buffers.
      while (peer.write(chunk));
      const ended = new Promise((resolve) => {
        client.on("error", (error) => resolve("code" in error ? error.code : error))
        client.on("end", () => resolve("a FIN, behind everything that waits"))
      })
      peer.terminate()
      yield* Effect.promise(() => gone)
      client.resume()
      expect(yield* Effect.promise(() => ended)).toBe("ECONNRESET")
    }).pipe(Effect.scoped)
)

it.live("terminate closes a peer on a Unix socket, which has no reset", () =>
  Effect.gen(function* () {
    const { gone, peer } = yield* silentClient(ways["a Unix socket"])
    peer.terminate()
    yield* Effect.promise(() => gone)
    expect(peer.closing()).toBe(true)
  }).pipe(Effect.scoped)
)
