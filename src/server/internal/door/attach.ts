/**
 * Brings a door the upgrade requests of any `node:http` or `node:https` server, and leaves all other
 * requests, paths and listeners alone.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type IncomingMessage, type Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { Door } from "./door.ts"
import { enter, refuse, wantsWebSocket } from "./upgrade.ts"

interface Entry {
  readonly doors: Set<Door>
  readonly listener: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
}

/** One listener per server, however many doors it has: the first that answers ends the request. */
const attached = new WeakMap<Server, Entry>()

const listen = (server: Server): Entry => {
  const doors = new Set<Door>()
  const listener: Entry["listener"] = (request, duplex, head) => {
    const socket = duplex as Socket
    // For every path: nobody else may answer, and a reset without a listener ends the process.
    socket.on("error", () => undefined)
    for (const door of doors) {
      if (door.owns(request)) {
        enter(door, request, socket, head)
        return
      }
    }
    if (server.listenerCount("upgrade") > 1) return
    const hasBody = "content-length" in request.headers || "transfer-encoding" in request.headers
    if (wantsWebSocket(request) || hasBody) {
      return refuse(socket, { status: 404, reason: "There is no WebSocket here." })
    }
    // `Upgrade: h2c` and the like were ordinary requests before this listener came.
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket)
    response.once("finish", () => socket.end())
    server.emit("request", request, response)
  }
  const entry = { doors, listener }
  attached.set(server, entry)
  server.on("upgrade", listener)
  return entry
}

export const attach = (door: Door, server: Server): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        const entry = attached.get(server) ?? listen(server)
        entry.doors.add(door)
        return entry
      }),
      ({ doors, listener }) =>
        // While the door drains it still answers: it refuses upgrades with 503.
        Effect.andThen(
          door.drain,
          Effect.sync(() => {
            if (!doors.delete(door) || doors.size > 0) return
            attached.delete(server)
            server.off("upgrade", listener)
          })
        )
    )
  )
