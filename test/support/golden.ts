/**
 * The golden frames of `test/golden.json`: each frame of both directions with its text, byte by byte. The
 * file is plain JSON, so that a client in another language can be tested against it too.
 */
import { readFileSync } from "node:fs"
import type { ClientFrame, ServerFrame } from "../../src/Frame.ts"

export interface Golden<Frame> {
  readonly name: string
  readonly text: string
  readonly frame: Frame
}

export const golden = JSON.parse(
  readFileSync(new URL("../golden.json", import.meta.url), "utf8")
) as {
  readonly client: ReadonlyArray<Golden<ClientFrame>>
  readonly server: ReadonlyArray<Golden<ServerFrame>>
}
