/**
 * A socket of ours that other listeners hold too. They hold the socket itself. For a while, what they
 * write, end or destroy on it is reported and has no effect. We hold a proxy of the socket, which has
 * full effect.
 *
 * Node and `ws` act on the socket itself as well, so whatever shows that the socket is over takes
 * effect: an end of either side, an error of the system, a server that closes. Other listeners may
 * still read, pause or pipe the socket, because that cannot be distinguished from harmless use.
 */
import type { Socket } from "node:net"

/** Receives what another listener tried to write, or `undefined` if it tried to end or destroy. */
type OnAttempt = (said: unknown) => void

const kept = ["writable", "write", "end", "destroy"] as const
const isKept = new Set<PropertyKey>(kept)

/** Whether the network or Node raised an error, and not another listener. */
const isOfNode = (error: unknown): boolean =>
  error instanceof Error && "code" in error && typeof error.code === "string"

interface Beneath {
  readonly _parent?: { readonly destroyed?: boolean } | null
}

/** Whether the socket is over already, for any reason. */
const isOver = (socket: Socket): boolean =>
  socket.destroyed ||
  socket.readableEnded ||
  socket.writableEnded ||
  (socket as Beneath)._parent?.destroyed === true

/** The handler of our proxy: calls act on the socket behind the guards. */
class Behind implements ProxyHandler<Socket> {
  /** Depth of our calls under way. What Node does within them counts as ours. */
  depth = 0
  readonly #above: object
  readonly #methods = new Map<PropertyKey, unknown>()

  constructor(socket: Socket) {
    this.#above = Object.getPrototypeOf(socket) as object
  }

  get(socket: Socket, name: PropertyKey): unknown {
    const known = this.#methods.get(name)
    if (known !== undefined) return known
    const value: unknown = Reflect.get(isKept.has(name) ? this.#above : socket, name, socket)
    if (typeof value !== "function" || name === "constructor") return value
    const method = (...args: ReadonlyArray<unknown>): unknown => {
      this.depth++
      try {
        return Reflect.apply(value, socket, args)
      } finally {
        this.depth--
      }
    }
    this.#methods.set(name, method)
    return method
  }

  set(socket: Socket, name: PropertyKey, value: unknown): boolean {
    this.#methods.delete(name)
    return Reflect.set(socket, name, value, socket)
  }
}

/**
 * Guards a socket against other listeners while `holds` returns true, and reports what they try.
 * Returns our proxy.
 */
export const keep = (socket: Socket, holds: () => boolean, found: OnAttempt): Socket => {
  const behind = new Behind(socket)
  const above = Object.getPrototypeOf(socket) as Socket
  const holdsNow = () => behind.depth === 0 && holds() && !isOver(socket)
  const own = (value: unknown) => ({ value, configurable: true, writable: true })
  Object.defineProperties(socket, {
    // `ws` checks `writable` before it throws; then it destroys the socket.
    writable: {
      get: () => !holdsNow() && Reflect.get(above, "writable", socket),
      configurable: true
    },
    write: own((...args: Parameters<Socket["write"]>) => {
      if (!holdsNow()) return Reflect.apply(above.write, socket, args)
      found(args[0])
      return true
    }),
    end: own((...args: Parameters<Socket["end"]>) => {
      if (!holdsNow()) return Reflect.apply(above.end, socket, args)
      found(args[0])
      return socket
    }),
    destroy: own((error?: Error) => {
      if (isOfNode(error) || !holdsNow()) return Reflect.apply(above.destroy, socket, [error])
      found(undefined)
      return socket
    })
  })
  return new Proxy(socket, behind)
}
