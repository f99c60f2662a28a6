/** A TCP server of a test, which speaks no protocol by itself. */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

/** Listens on a free port of this machine, and gives the port. By default it accepts and says nothing. */
export const tcpServer = (
  accept: (socket: Net.Socket) => void = () => {}
): Effect.Effect<number, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer((socket) => {
          socket.on("error", () => {})
          accept(socket)
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    ),
    (server) => (server.address() as Net.AddressInfo).port
  )
