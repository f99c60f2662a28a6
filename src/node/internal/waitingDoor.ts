/**
 * Stands in for the door until the server has started, and after a failed start: it answers upgrades with
 * 503. Otherwise they would go to the application, which does not handle them.
 */
import * as Effect from "effect/Effect"
import { withoutSlash } from "../../server/internal/door/claimedPaths.ts"
import type { Door } from "../../server/internal/door/door.ts"

/** The `Retry-After` of the 503. */
const retryAfterSeconds = 5

/** Reads `reason` at each upgrade. */
export const waitingDoor = (path: string, reason: () => string): Door => ({
  path,
  owns: ({ url = "" }) => withoutSlash(url.split(/[?#]/, 1)[0]!) === withoutSlash(path),
  refusal: () => ({ status: 503, reason: reason(), retryAfterSeconds }),
  open: (_, socket) => socket.destroy(),
  accept: () => {
    throw new Error("No client can connect before the server has started.")
  },
  size: () => 0,
  isReady: () => false,
  ready: Effect.never,
  end: () => undefined,
  revoke: () => undefined,
  reauthorize: () => Effect.void,
  drain: Effect.void
})
