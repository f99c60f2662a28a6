/**
 * A TCP proxy to PostgreSQL that drops the notifications of its first sessions, as a transaction
 * pooler does: LISTEN is answered, and everything else passes.
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

export interface DeafHop {
  /** The port on this machine. */
  readonly port: number
  /** The number of sessions so far. */
  readonly sessions: () => number
  /** The number of notifications dropped so far. */
  readonly swallowed: () => number
}

/** NotificationResponse, the type of a message of the server. */
const notification = "A".charCodeAt(0)

/** The code of a CancelRequest, which begins no session. */
const cancelRequest = 80_877_102

/** Forwards whole messages, except notifications. */
const without = (told: () => void, give: (data: Buffer) => void) => {
  let held = Buffer.alloc(0)
  return (data: Buffer) => {
    held = Buffer.concat([held, data])
    // A type of one byte, and a length that counts itself.
    while (held.length >= 5 && held.length > held.readUInt32BE(1)) {
      const size = held.readUInt32BE(1) + 1
      if (held[0] === notification) told()
      else give(held.subarray(0, size))
      held = held.subarray(size)
    }
  }
}

/** Drops notifications on the first `deaf` sessions. TLS would not pass. */
export const deafHop = (
  target: Net.NetConnectOpts,
  deaf: number
): Effect.Effect<DeafHop, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<DeafHop & { readonly close: () => void }>((resume) => {
      const sockets = new Set<Net.Socket>()
      let sessions = 0
      let swallowed = 0
      const server = Net.createServer((near) => {
        const far = Net.connect(target)
        let isDeaf = false
        near.once("data", (data) => {
          // A cancelled query uses a connection of its own.
          if (data.length >= 8 && data.readInt32BE(4) === cancelRequest) return
          isDeaf = sessions++ < deaf
        })
        const end = () => {
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
        far.on("data", (data) => (isDeaf ? swallow(data) : give(data)))
      })
      const close = () => {
        server.close()
        for (const socket of sockets) socket.destroy()
      }
      server.listen(0, "127.0.0.1", () =>
        resume(
          Effect.succeed({
            port: (server.address() as Net.AddressInfo).port,
            sessions: () => sessions,
            swallowed: () => swallowed,
            close
          })
        )
      )
    }),
    ({ close }) => Effect.sync(close)
  )
