/**
 * Other listeners of the same `upgrade` event. Node calls all of them for every request. A listener
 * that answers paths which are not its own writes HTTP between the frames of our socket, or destroys
 * it.
 *
 * This guards our sockets while such a listener may still answer, which takes a moment if it asks
 * another service first. It logs once what a listener did and the cure.
 */
import type { Server } from "node:http"
import type { Socket } from "node:net"
import { errorText } from "../../../internal/errorText.ts"
import { keep } from "./keptSocket.ts"

/** Logs a line for the operator of the server. */
type Tell = (line: string) => void

/** Milliseconds in which other listeners answer an upgrade request. */
export const answerMillis = 10_000

const cure =
  'Such a listener belongs to a new WebSocketServer({ server }) of "ws", also with a path, or to a proxy that takes all paths. Create it with { noServer: true }, or with a filter, and let your own "upgrade" listener hand it the requests of its paths only.'

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

  /** Whether the server has other `upgrade` listeners. */
  get there(): boolean {
    return this.#server.listenerCount("upgrade") > 1
  }

  /**
   * Calls `enter` with a socket that asked for `path`, unless another listener has ended it already.
   * For 10 s, while the server listens, no other listener can write to it, end it or destroy it.
   */
  keepOff(path: string, socket: Socket, enter: (socket: Socket) => void): void {
    if (!this.there) return enter(socket)
    if (socket.writableEnded) return this.#found(path, "it was first")
    const until = this.#now() + answerMillis
    // An application that closes the server may cut open sockets.
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
      // `ws` throws for a socket that it has already.
      ours.destroy()
      return this.#found(path, errorText(error))
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

/** One instance for each server, so that it logs once. */
export const neighboursOf = (server: Server, tell: Tell, now: () => number): Neighbours => {
  let neighbours = known.get(server)
  if (neighbours === undefined) {
    known.set(server, (neighbours = new Neighbours(server, tell, now)))
  }
  return neighbours
}
