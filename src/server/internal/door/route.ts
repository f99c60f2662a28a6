/**
 * The route of an Effect HTTP app that leads to a door.
 *
 * A request that is no WebSocket upgrade is answered 426. Of an upgrade the door takes the socket, and the
 * HTTP request ends without a response of its own.
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
    // Only Node knows: an `Upgrade` header without `Connection: Upgrade` is an ordinary request.
    if (!("upgrade" in incoming && incoming.upgrade === true)) {
      return HttpServerResponse.text("This is a WebSocket.", {
        status: 426,
        headers: { upgrade: "websocket", connection: "Upgrade" }
      })
    }
    const { socket } = incoming
    const { server } = socket as { readonly server?: Server }
    drainBefore(door, server)
    // Effect writes nothing over a response that has ended; detached first, so that nothing of it
    // reaches the wire between the frames.
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
    // Effect keeps what came behind the request to itself. A client must not send anything before the
    // 101 (RFC 6455, 4.1); what one sends all the same is lost, and the session ends without a hello.
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
    // For the access log and the span; nothing is written.
    return HttpServerResponse.empty({ status })
  })

const closing = new WeakMap<Server, Set<Door>>()

/**
 * An HTTP server waits for its open sockets when it closes, up to 20 s, before the layers inside it
 * close. So its `close` drains the door first, and only then waits.
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
