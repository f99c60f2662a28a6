/**
 * The route of an Effect HTTP app to a door.
 *
 * It answers 426 to a request that is no WebSocket upgrade. For an upgrade the door takes the socket,
 * and the HTTP request ends without a response of its own.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Door } from "./door.ts"
import { neighboursOf } from "./neighbours.ts"
import { enter, refuse } from "./upgrade.ts"

export const upgrade = (
  door: Door,
  request: HttpServerRequest.HttpServerRequest
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.map(Effect.all([Effect.context<never>(), Clock.Clock]), ([services, clock]) => {
    const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
    // Asks Node: an `Upgrade` header without `Connection: Upgrade` is an ordinary request.
    if (!("upgrade" in incoming && incoming.upgrade === true)) {
      return HttpServerResponse.text("This is a WebSocket.", {
        status: 426,
        headers: { upgrade: "websocket", connection: "Upgrade" }
      })
    }
    const { socket } = incoming
    const { server } = socket as { readonly server?: Server }
    drainBefore(door, server)
    // Effect writes nothing to a response that has ended. It is detached first, so that none of its
    // bytes reach the socket between the frames.
    const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    if (!response.writableEnded) {
      response.detachSocket(socket)
      response.end()
    }
    // The router also matches other spellings of the path.
    if (!door.owns(incoming)) {
      refuse(socket, { status: 404, reason: "There is no WebSocket here." })
      return HttpServerResponse.empty({ status: 404 })
    }
    // Effect does not pass on bytes that follow the request. A client must not send any before the 101
    // (RFC 6455, 4.1). If it does, they are lost, and the session ends without a hello.
    let status = 400
    const come = (ours: typeof socket) => {
      status = enter(door, incoming, ours, Buffer.alloc(0))
    }
    if (server === undefined) come(socket)
    else {
      const tell = (line: string) => Effect.runForkWith(services)(Effect.logWarning(line))
      const now = () => clock.currentTimeMillisUnsafe()
      neighboursOf(server, tell, now).keepOff(door.path, socket, come)
    }
    // Only for the access log and the span: it is not written.
    return HttpServerResponse.empty({ status })
  })

const closing = new WeakMap<Server, Set<Door>>()

/**
 * Makes the server's `close` drain the door first. An HTTP server waits up to 20 s for its open sockets
 * before the layers inside it close.
 */
const drainBefore = (door: Door, server: Server | undefined): void => {
  if (server === undefined) return
  const known = closing.get(server)
  if (known !== undefined) {
    known.add(door)
    return
  }
  const doors = new Set([door])
  closing.set(server, doors)
  const close = server.close.bind(server)
  server.close = (done) => {
    for (const open of doors) Effect.runFork(open.drain)
    return close(done)
  }
}
