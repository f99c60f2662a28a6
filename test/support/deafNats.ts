/**
 * A TCP proxy to NATS that can drop the messages of its present connections: INFO, PING and PONG pass, so
 * that both ends believe in the connection.
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

export interface DeafNats {
  /** The port on this machine. */
  readonly port: number
  /** The connections of this moment deliver nothing more. Later ones do. */
  readonly deafen: () => void
  /** The number of connections so far. */
  readonly connections: () => number
  /** The number of messages dropped so far. */
  readonly swallowed: () => number
}

const lineEnd = "\r\n"

/** Forwards whole protocol messages, except what the server delivers. */
const without = (told: () => void, give: (data: Buffer) => void) => {
  let held = Buffer.alloc(0)
  return (data: Buffer) => {
    held = Buffer.concat([held, data])
    while (true) {
      const end = held.indexOf(lineEnd)
      if (end < 0) return
      const line = held.toString("latin1", 0, end)
      const payload = /^H?MSG .* (\d+)$/.exec(line)
      const size = end + 2 + (payload === null ? 0 : Number(payload[1]) + 2)
      if (held.length < size) return
      if (payload === null) give(held.subarray(0, size))
      else told()
      held = held.subarray(size)
    }
  }
}

export const deafNats = (to: number): Effect.Effect<DeafNats, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<DeafNats & { readonly close: () => void }>((resume) => {
      const sockets = new Set<Net.Socket>()
      const present = new Set<{ deaf: boolean }>()
      let connections = 0
      let swallowed = 0
      const server = Net.createServer((near) => {
        connections++
        const far = Net.connect(to, "127.0.0.1")
        const one = { deaf: false }
        present.add(one)
        const end = () => {
          present.delete(one)
          near.destroy()
          far.destroy()
        }
        for (const socket of [near, far]) {
          sockets.add(socket)
          socket.on("error", end)
          socket.on("close", end)
        }
        near.pipe(far)
        const give = (data: Buffer) => void near.write(data)
        const swallow = without(() => swallowed++, give)
        far.on("data", (data) => (one.deaf ? swallow(data) : give(data)))
      })
      const close = () => {
        server.close()
        for (const socket of sockets) socket.destroy()
      }
      server.listen(0, "127.0.0.1", () =>
        resume(
          Effect.succeed({
            port: (server.address() as Net.AddressInfo).port,
            deafen: () => {
              for (const one of present) one.deaf = true
            },
            connections: () => connections,
            swallowed: () => swallowed,
            close
          })
        )
      )
    }),
    ({ close }) => Effect.sync(close)
  )
