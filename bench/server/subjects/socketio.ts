/**
 * socket.io 4.8: a room per channel, WebSocket only, its own defaults otherwise. With a database, its
 * own adapter for PostgreSQL brings the messages.
 */
import { createServer } from "node:http"
import { pg, socketIo, socketIoPostgres } from "../peers.ts"
import { listen, type Open, shut } from "../subject.ts"

export const open: Open = async ({ databaseUrl }) => {
  const { Server } = await socketIo()
  const server = createServer()
  const io = new Server(server, { serveClient: false, transports: ["websocket"] })
  const pool =
    databaseUrl === undefined
      ? undefined
      : new (await pg()).default.Pool({ connectionString: databaseUrl, max: 4 })
  if (pool !== undefined) io.adapter((await socketIoPostgres()).createAdapter(pool))
  io.on("connection", (socket) => socket.join(socket.handshake.auth.channels ?? []))
  return {
    port: await listen(server),
    // Applications of socket.io pass values, as their NOTIFY listeners get them.
    publish: (channel, text) => io.to(channel).emit("message", JSON.parse(text)),
    [Symbol.asyncDispose]: async () => {
      io.disconnectSockets(true)
      await io.close()
      await shut(server)
      await pool?.end()
    }
  }
}
