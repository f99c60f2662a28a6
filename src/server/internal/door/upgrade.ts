/**
 * Answers upgrade requests with HTTP, before there is a WebSocket.
 */
import { type IncomingMessage, STATUS_CODES } from "node:http"
import type { Socket } from "node:net"
import type { UpgradeRefusal } from "./admission.ts"
import type { Door } from "./door.ts"

/** Opens a session for an upgrade request, or rejects it. Returns the HTTP status. */
export const enter = (
  door: Door,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer
): number => {
  // Node removed its own listener at "upgrade". Without one, a reset ends the process.
  socket.on("error", () => undefined)
  const refused = door.refusal(request)
  if (refused === undefined) {
    door.open(request, socket, head)
    return 101
  }
  refuse(socket, refused)
  return refused.status
}

/** Answers an upgrade request with an HTTP status and closes the socket. */
export const refuse = (
  socket: Socket,
  { reason, retryAfterSeconds, status }: UpgradeRefusal
): void => {
  // Otherwise a peer that never closes its side would keep the file descriptor.
  socket.once("finish", () => socket.destroy())
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n` +
      (retryAfterSeconds === undefined ? "" : `Retry-After: ${retryAfterSeconds}\r\n`) +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(reason)}\r\n\r\n${reason}`
  )
}

export const wantsWebSocket = (request: IncomingMessage): boolean =>
  request.headers.upgrade?.toLowerCase() === "websocket"
