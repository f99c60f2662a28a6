/** Another WebSocket on the HTTP server of a door: it handles upgrade requests of its own path only. */
import type { Server } from "node:http"
import { WebSocketServer } from "ws"

export const otherWebSocket = (http: Server) => {
  // #region beside
  const other = new WebSocketServer({ noServer: true })
  http.on("upgrade", (request, socket, head) => {
    if (request.url !== "/other") return
    other.handleUpgrade(request, socket, head, (ws) => other.emit("connection", ws, request))
  })
  // #endregion
  return other
}
