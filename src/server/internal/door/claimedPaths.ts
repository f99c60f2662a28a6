/**
 * Which doors stand on a server already: of two on one path the second would never be asked, in silence.
 */
import type { DoorOptions } from "../../ServerOptions.ts"
import { InvalidOption } from "../options.ts"

const claimed = new WeakMap<object, Set<string>>()

/** A slash at the end makes no other path. */
export const withoutSlash = (path: string): string =>
  path.endsWith("/") ? path.slice(0, -1) : path

/** Where the WebSocket of a door is. */
export const pathOf = ({ path }: Pick<DoorOptions, "path">): `/${string}` => path ?? "/realtime"

/**
 * Takes a path of a server, or of a router, for a door. Throws `InvalidOption` when another one has it.
 * Returns how it is given back.
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
