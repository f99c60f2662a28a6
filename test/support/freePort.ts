/** A port on which a server of a test can listen again after it was killed. */
import { Effect } from "effect"
import * as Net from "node:net"

/**
 * Below the range from which a system takes the port of a client: one that retries on this machine would
 * connect to itself, and hold the port.
 */
export const freePort = Effect.callback<number>((resume) => {
  const next = () => {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    const server = Net.createServer()
    server.once("error", next)
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(port))))
  }
  next()
})
