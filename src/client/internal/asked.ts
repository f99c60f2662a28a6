/**
 * A function of the options that the client calls again and again: `token`, and `url` where it is one.
 *
 * In: the function. Out: what it gives, and why it gives nothing: to the connection each time, and to
 * `onError` once until the function works again. When to call it is left to the connection.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Reason, TokenFailed, UrlFailed } from "../ClientError.ts"
import type { Because } from "./reasons.ts"
import type { Time } from "./time.ts"

type Failure = TokenFailed | UrlFailed

export interface Asked {
  /** Calls the function, and then one of the two, unless the result was called before. */
  readonly fetch: (then: () => void, failed: (cause: unknown) => void) => () => void
  /** The function failed, or was late. */
  readonly failed: (cause: unknown) => Because
}

export const make = <A>(
  ask: () => A | Promise<A> | Effect.Effect<A, unknown>,
  /** Takes what the function gave. What it throws is a failure of the function. */
  take: (given: A) => void,
  { read }: Time,
  tell: (error: Failure) => void,
  reason: Reason,
  Failed: new (why: { readonly cause: unknown }) => Failure
): Asked => {
  /** It has failed since it last gave something. */
  let failing = false
  return {
    fetch: (then, failed) =>
      read(
        Effect.suspend(() => {
          const given = ask()
          return Effect.isEffect(given) ? given : Effect.promise(async () => given)
        }).pipe(Effect.map(take)),
        () => {
          failing = false
          then()
        },
        failed
      ),
    failed: (cause) => {
      const error = new Failed({ cause })
      if (!failing) {
        failing = true
        tell(error)
      }
      return { reason, message: error.message }
    }
  }
}
