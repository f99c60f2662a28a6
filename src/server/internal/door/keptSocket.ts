/**
 * A socket of ours on which somebody else has listeners too. They hold the socket itself, and for a while
 * what they write, end or cut on it is told and not done; we hold a proxy of it, which does everything.
 *
 * Node and `ws` act on the socket itself as well, so what shows that it is over passes: an end of either
 * side, an error of the system, a server that closes. What others read of it, pause or pipe away cannot be
 * told from what is harmless, and is not held up.
 */
import type { Socket } from "node:net"

/** What others may not do: what they say, or nothing where they end or cut it. */
type Found = (said: unknown) => void

const kept = ["writable", "write", "end", "destroy"] as const
const isKept = new Set<PropertyKey>(kept)

/** What a failing network or its library gives, and somebody who was not let in does not. */
const isOfNode = (error: unknown): boolean =>
  error instanceof Error && "code" in error && typeof error.code === "string"

interface Beneath {
  readonly _parent?: { readonly destroyed?: boolean } | null
}

/** It is over already, whoever ended it. */
const isOver = (socket: Socket): boolean =>
  socket.destroyed ||
  socket.readableEnded ||
  socket.writableEnded ||
  (socket as Beneath)._parent?.destroyed === true

/** All that we do, on the socket behind the guards. */
class Behind implements ProxyHandler<Socket> {
  /** How deep we are in a call of ours: what Node does for it comes from here too. */
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
 * Keeps others from the socket for as long as `holds`, and tells what they do. Returns what we hold
 * ourselves.
 */
export const keep = (socket: Socket, holds: () => boolean, found: Found): Socket => {
  const behind = new Behind(socket)
  const above = Object.getPrototypeOf(socket) as Socket
  const holdsNow = () => behind.depth === 0 && holds() && !isOver(socket)
  const own = (value: unknown) => ({ value, configurable: true, writable: true })
  Object.defineProperties(socket, {
    // `ws` looks at it before it complains by throwing; then it cuts the socket.
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
