/**
 * Other listeners of the same `upgrade` event. Node calls all of them for every request: one that answers
 * paths which are not its own writes HTTP between the frames of a socket of ours, or kills it.
 *
 * Keeps them from it while they may still answer, which takes those a moment that ask somebody first, and
 * says once what one of them did and how to end that.
 */
import type { Server } from "node:http"
import type { Socket } from "node:net"
import { keep } from "./keptSocket.ts"

/** What tells somebody who runs the server. */
type Tell = (line: string) => void

/** Time in which other listeners answer an upgrade request, in milliseconds. */
export const answerMillis = 10_000

const cure =
  'Such a listener comes with new WebSocketServer({ server }) of "ws", also with a path, and with a proxy that takes all paths: make it with { noServer: true }, or with a filter, and let your own "upgrade" listener hand it the requests of its paths only.'

export class Neighbours {
  readonly #server: Server
  readonly #tell: Tell
  readonly #now: () => number
  #told = false

  constructor(server: Server, tell: Tell, now: () => number) {
    this.#server = server
    this.#tell = tell
    this.#now = now
  }

  /** Whether others listen too. */
  get there(): boolean {
    return this.#server.listenerCount("upgrade") > 1
  }

  /**
   * Lets `enter` have a socket that asked for `path`, unless somebody has answered it already; nobody
   * else writes to it, ends it or cuts it for 10 s, while the server listens.
   */
  keepOff(path: string, socket: Socket, enter: (socket: Socket) => void): void {
    if (!this.there) return enter(socket)
    if (socket.writableEnded) return this.#found(path, "it was first")
    const until = this.#now() + answerMillis
    // Who closes the server may cut what is open.
    const holds = () => this.#server.listening && this.#now() < until
    const ours = keep(socket, holds, (did) => {
      const said = Buffer.isBuffer(did) ? did.toString("latin1") : did
      this.#found(
        path,
        typeof said === "string" ? `it says ${JSON.stringify(firstLine(said))}` : "it ends it"
      )
    })
    try {
      enter(ours)
    } catch (error) {
      // `ws` takes a socket once.
      ours.destroy()
      return this.#found(path, String(error))
    }
    if (ours.writableEnded || ours.destroyed) return
    socket.once("pipe", () => {
      if (holds()) this.#found(path, "it pipes into it")
    })
  }

  #found(path: string, did: string): void {
    if (this.#told) return
    this.#told = true
    this.#tell(
      `Another "upgrade" listener of this HTTP server answers WebSockets at ${path}, which are not its own (${did}). ${cure}`
    )
  }
}

const firstLine = (text: string): string => text.split("\r\n", 1)[0]!.slice(0, 100)

const known = new WeakMap<Server, Neighbours>()

/** One for each server, so that it tells once. */
export const neighboursOf = (server: Server, tell: Tell, now: () => number): Neighbours => {
  let neighbours = known.get(server)
  if (neighbours === undefined) {
    known.set(server, (neighbours = new Neighbours(server, tell, now)))
  }
  return neighbours
}
