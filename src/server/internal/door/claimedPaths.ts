/**
 * The paths that doors have on each HTTP server. A second door on the same path would receive no
 * request.
 */
import type { DoorOptions } from "../../ServerOptions.ts"
import { invalid, InvalidOption } from "../options.ts"

const claimed = new WeakMap<object, Set<string>>()

/** The path without a slash at its end, which makes no difference. */
export const withoutSlash = (path: string): string =>
  path.endsWith("/") ? path.slice(0, -1) : path

/** The path of a door's WebSocket. */
export const pathOf = ({ path }: Pick<DoorOptions, "path">): `/${string}` => path ?? "/realtime"

/**
 * Throws for a path of a `node:http` server that no client asks for: `/chât` is sent as `/ch%C3%A2t`, and the
 * server compares what is sent. A router decodes it.
 */
export const checkSent = (path: string): void => {
  const sent = new URL(`http://host${path}`).pathname
  if (sent !== path) throw invalid("path", path, `written as clients send it: "${sent}"`)
}

/**
 * Takes a path of a server, or of a router, for a door. Throws `InvalidOption` if another door has it.
 * Returns a function that releases the path.
 */
export const claim = (server: object, path: string): (() => void) => {
  let paths = claimed.get(server)
  if (paths === undefined) claimed.set(server, (paths = new Set()))
  const held = withoutSlash(path)
  if (paths.has(held)) {
    throw new InvalidOption({
      option: "path",
      value: JSON.stringify(path),
      expected:
        "one that no other door of this HTTP server has: close the other one first, or give one of them another path"
    })
  }
  paths.add(held)
  let ours = true
  return () => {
    if (ours) paths.delete(held)
    ours = false
  }
}
