/**
 * Whose sessions an operation of control concerns, and for how long a revocation holds.
 *
 * Both are checked before anything is sent: a token without a name is that of most sessions, and a
 * revocation that is over closes none.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Door } from "../door/door.ts"
import { invalid, type InvalidOption } from "../options.ts"

/**
 * Whose sessions: those of an identity, by the text of `identityKey`; one session, by the id in the client's
 * `welcome`; or those with one token, by the name that `authenticate` gave it. No text may be empty.
 *
 * @category models
 * @since 0.1.0
 */
export type Whose = string | { readonly session: string } | { readonly token: string }

/**
 * Options of `revoke`.
 *
 * @category models
 * @since 0.1.0
 */
export interface RevokeOptions {
  /**
   * When every token that is revoked has expired, default 24 hours from now. Until then no node accepts
   * them. It must be later than now; the claim `exp` of a token is in seconds, and a `Date` takes
   * milliseconds. Without the option `control`, and for one session, it has no other effect.
   */
  readonly expires?: Date | undefined
}

const isText = (value: unknown): boolean => typeof value === "string" && value !== ""

const isWhose = (value: unknown): boolean => {
  if (typeof value !== "object" || value === null) return isText(value)
  const [[name, text] = [], ...more] = Object.entries(value) as ReadonlyArray<[string, unknown]>
  return (name === "session" || name === "token") && isText(text) && more.length === 0
}

/** Fails for what names no sessions. */
export const checkWhose = (whose: Whose): Effect.Effect<void, InvalidOption> =>
  isWhose(whose)
    ? Effect.void
    : Effect.fail(
        invalid("whose", whose, "a text that is not empty, or { session } or { token } with one")
      )

/** Fails for a text that names no identity. */
export const checkKey = (key: string): Effect.Effect<void, InvalidOption> =>
  isText(key) ? Effect.void : Effect.fail(invalid("key", key, "a text that is not empty"))

/** Fails for an end that is over, or none. */
export const checkExpiry = (
  options: RevokeOptions | undefined
): Effect.Effect<void, InvalidOption> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const expires: unknown = options?.expires
    return expires === undefined || (expires instanceof Date && expires.getTime() > now)
      ? Effect.void
      : Effect.fail(invalid("expires", expires, "a Date later than now, or left out"))
  })

/** Closes the sessions of this node. */
export const endAll = (door: Door, name: "revoked" | "removed", whose: Whose): void => {
  if (typeof whose === "string") door.end(name, () => true, whose)
  else if ("session" in whose) door.end(name, ({ id }) => id === whose.session)
  else door.end(name, ({ principal }) => principal.token === whose.token)
}
