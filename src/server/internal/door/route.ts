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
    // Only Node knows: a request with `Upgrade` but without `Connection: Upgrade` is an ordinary one.
    if (!("upgrade" in incoming && incoming.upgrade === true)) {
      return HttpServerResponse.text("This is a WebSocket.", {
        status: 426,
        headers: { upgrade: "websocket", connection: "Upgrade" }
      })
    }
    const { socket } = incoming
    const { server } = socket as { readonly server?: Server }
    drainBefore(door, server)
    // Effect writes nothing over a response that has ended. It is detached first, so that none of it
    // reaches the socket between the frames.
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
    // Effect does not pass on bytes after the request. A client must send nothing before the 101 (RFC
    // 6455, 4.1). Frames that it sends too early are lost, and the session ends without a hello.
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
    // Only for the access log and the span: the response is not written.
    return HttpServerResponse.empty({ status })
  })

const closing = new WeakMap<Server, Set<Door>>()

/**
 * An HTTP server that closes waits for its open sockets, up to 20 s, before the layers inside it close.
 * So its `close` first drains the door, and then waits.
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
