/**
 * The token of a client: how long it is good, and how a fresh one is got.
 *
 * In: the option `token`, and what the server says of the latest one. Out: a fresh token. `onError` receives
 * once why there is none, until it works again, and once why the server does not let the client in for now,
 * until it does. When to ask is left to the connection.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { FrameOf, ServerFrame } from "../../Frame.ts"
import { HelloRefused, TokenFailed } from "../ClientError.ts"
import type { Options } from "../Connection.ts"
import type { Time } from "./time.ts"

export interface Token {
  /** The latest one, which may be good no more; `undefined` where there is no callback. */
  readonly latest: () => string | undefined
  /** Whether an attempt needs no fresh one. */
  readonly isGood: () => boolean
  /** The latest one is good until then. */
  readonly goodUntil: (time: number) => void
  /** The server has let the client in. */
  readonly accepted: () => void
  /** The server has rejected the client, with this token or without one. */
  readonly rejected: (refusal: FrameOf<ServerFrame, "error">) => void
  /** Asks for a fresh one, and calls one of the two, unless the result was called before. */
  readonly fetch: (then: () => void, failed: (cause: unknown) => void) => () => void
  /** The callback failed, or was late. */
  readonly failed: (cause: unknown) => TokenFailed
}

export const make = (
  options: Pick<Options, "token">,
  { fork, now }: Time,
  tell: (error: HelloRefused | TokenFailed) => void
): Token => {
  let token: string | undefined
  let until = 0
  /** It has failed since it last gave a token. */
  let failing = false
  /** The server has rejected the client since it last let it in. */
  let refused = false
  return {
    latest: () => (options.token && token) || undefined,
    isGood: () => options.token === undefined || now() < until,
    goodUntil: (time) => {
      until = time
    },
    accepted: () => {
      refused = false
    },
    rejected: ({ code, message, retry, retryAfter }) => {
      if (refused || retry !== "later") return
      refused = true
      tell(new HelloRefused({ code, message, retryAfter }))
    },
    fetch: (then, failed) =>
      fork(
        Effect.suspend(() => {
          const given = options.token!()
          return Effect.isEffect(given) ? given : Effect.promise(async () => given)
        }).pipe(
          Effect.matchCause({
            onSuccess: (fresh) => {
              token = fresh
              until = Infinity
              failing = false
              then()
            },
            onFailure: (cause) => failed(Cause.squash(cause))
          })
        )
      ),
    failed: (cause) => {
      const error = new TokenFailed({ cause })
      if (!failing) {
        failing = true
        tell(error)
      }
      return error
    }
  }
}
