/**
 * Stands where the door will be: until the server has started, and when it could not, its upgrades are
 * answered 503. Without it they would be the application's, which knows nothing of them.
 */
import * as Effect from "effect/Effect"
import { withoutSlash } from "../../server/internal/door/claimedPaths.ts"
import type { Door } from "../../server/internal/door/door.ts"

/** How soon a refused client may come back. */
const retryAfterSeconds = 5

/** `reason` is read at each upgrade. */
export const waitingDoor = (path: string, reason: () => string): Door => ({
  path,
  owns: ({ url = "" }) => withoutSlash(url.split(/[?#]/, 1)[0]!) === withoutSlash(path),
  refusal: () => ({ status: 503, reason: reason(), retryAfterSeconds }),
  open: (_, socket) => socket.destroy(),
  accept: () => {
    throw new Error("Nobody enters before the server has started.")
  },
  size: () => 0,
  isReady: () => false,
  ready: Effect.never,
  revoke: () => undefined,
  reauthorize: () => Effect.void,
  drain: Effect.void
})
