import { Effect, type Scope } from "effect"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"

/** An HTTP server that listens on this machine and answers "theirs"; it closes with the scope. */
export const httpServer: Effect.Effect<Server, never, Scope.Scope> = Effect.acquireRelease(
  Effect.callback<Server>((resume) => {
    const server = createServer((_, response) => response.end("theirs"))
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
)

/** Its host and port. */
export const addressOf = (server: Server): string =>
  `127.0.0.1:${(server.address() as AddressInfo).port}`
