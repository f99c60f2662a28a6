/**
 * A compared program: it accepts sockets and messages, and sends the messages to the sockets.
 */
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import type { Setup } from "../lib/types.ts"

export interface Subject extends AsyncDisposable {
  readonly port: number
  /** Sends a JSON text to a channel. Not called where NOTIFYs come from PostgreSQL. */
  readonly publish: (channel: string, text: string) => void
  /** The cost of the broker, when it is another process. */
  readonly usage?: {
    /** CPU time since its start, in microseconds. */
    readonly cpu: () => { readonly user: number; readonly system: number }
    readonly rss: () => number
  }
}

export type Open = (setup: Setup) => Promise<Subject>

/** Listens on a free port of this machine. */
export const listen = async (server: Server): Promise<number> => {
  const backlog = 4096
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", backlog, resolve))
  return (server.address() as AddressInfo).port
}

export const shut = async (server: Server): Promise<void> => {
  server.closeAllConnections()
  await new Promise<void>((resolve) => server.close(() => resolve()))
}
