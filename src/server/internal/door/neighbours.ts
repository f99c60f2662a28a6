/**
 * Other listeners of the same `upgrade` event. Node calls all of them for every request: one that answers
 * paths which are not its own writes HTTP between the frames of a socket of ours, or kills it.
 *
 * Keeps them from it for as long as the event is handed around, and says once what one of them did and
 * how to end that. What one does later is only told where it shows: when it pipes into the socket.
 */
import type { Server } from "node:http"
import type { Socket } from "node:net"

/** What tells somebody who runs the server. */
export type Tell = (line: string) => void

const cure =
  'Such a listener comes with new WebSocketServer({ server }) of "ws", also with a path, and with a proxy that takes all paths: make it with { noServer: true }, or with a filter, and let your own "upgrade" listener hand it the requests of its paths only.'

export class Neighbours {
  readonly #server: Server
  readonly #tell: Tell
  #told = false

  constructor(server: Server, tell: Tell) {
    this.#server = server
    this.#tell = tell
  }

  /** Whether others listen too. */
  get there(): boolean {
    return this.#server.listenerCount("upgrade") > 1
  }

  /**
   * Lets `enter` have a socket that asked for `path`, unless somebody has answered it already; nobody
   * else writes to it, ends it or cuts it in this step.
   */
  keepOff(path: string, socket: Socket, enter: () => void): void {
    if (!this.there) return enter()
    if (socket.writableEnded) return this.#found(path, "it was first")
    // Before `enter`, so that it runs before anything that may be written here.
    process.nextTick(release, socket)
    try {
      enter()
    } catch (error) {
      // `ws` takes a socket once.
      socket.destroy()
      return this.#found(path, String(error))
    }
    if (socket.writableEnded || socket.destroyed) return
    socket.once("pipe", () => this.#found(path, "it pipes into it"))
    this.#hold(path, socket)
  }

  #hold(path: string, socket: Socket): void {
    const found = (did: unknown): void => {
      const said = Buffer.isBuffer(did) ? did.toString("latin1") : did
      this.#found(
        path,
        typeof said === "string" ? `it says ${JSON.stringify(firstLine(said))}` : "it ends it"
      )
    }
    const own = (value: unknown) => ({ value, configurable: true })
    Object.defineProperties(socket, {
      // `ws` looks at it before it complains by throwing; then it cuts the socket.
      writable: own(false),
      write: own((data: unknown) => {
        found(data)
        return true
      }),
      end: own((data: unknown) => {
        found(data)
        return socket
      }),
      destroy: own(() => {
        found(undefined)
        return socket
      })
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

/** The socket is as it was. */
const release = (socket: Socket): void => {
  for (const name of ["writable", "write", "end", "destroy"]) Reflect.deleteProperty(socket, name)
}

const firstLine = (text: string): string => text.split("\r\n", 1)[0]!.slice(0, 100)

const known = new WeakMap<Server, Neighbours>()

/** One for each server, so that it tells once. */
export const neighboursOf = (server: Server, tell: Tell): Neighbours => {
  let neighbours = known.get(server)
  if (neighbours === undefined) known.set(server, (neighbours = new Neighbours(server, tell)))
  return neighbours
}
