/**
 * Opens a socket and subscribes it.
 */
import * as Net from "node:net"
import { Connection, type Hooks } from "./Connection.ts"
import type { Dialect } from "./dialects.ts"
import type { Feed } from "./Feed.ts"

/** One buffer for all sockets: bytes that are only compared allocate nothing. */
const shared = Buffer.allocUnsafe(256 * 1024)

/** An address has 28,000 ports for outgoing connections. */
const socketsPerAddress = 10_000

export interface Newcomer {
  readonly port: number
  readonly number: number
  readonly channels: ReadonlyArray<number>
  readonly dialect: Dialect
  readonly feed: Feed
  readonly onFailure: (error: Error) => void
  readonly onProgress: Hooks["onProgress"]
}

export const join = async (newcomer: Newcomer): Promise<Connection> => {
  const { channels, dialect, feed, number, onFailure, onProgress, port } = newcomer
  const ready = Promise.withResolvers<void>()
  const connection = new Connection(number, channels, dialect, feed, {
    onReady: ready.resolve,
    onProgress,
    onFailure: (error) => {
      ready.reject(error)
      onFailure(error)
    }
  })
  const socket = Net.connect({
    port,
    host: "127.0.0.1",
    // Each server and each 10,000 sockets have an address of their own; elsewhere than on Linux only
    // 127.0.0.1 exists by itself.
    ...(process.platform === "linux"
      ? { localAddress: `127.0.${port % 250}.${2 + Math.floor(number / socketsPerAddress)}` }
      : {}),
    noDelay: true,
    onread: {
      buffer: shared,
      callback: (size) => {
        connection.receive(shared.subarray(0, size))
        return true
      }
    }
  })
  socket.once("connect", () => connection.open(socket))
  socket.once("error", (error) => connection.fail(error))
  socket.once("close", () => connection.fail(new Error("the socket was closed")))
  await ready.promise
  return connection
}
