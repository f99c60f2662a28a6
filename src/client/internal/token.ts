/**
 * The token of a client: how long it is good, and how a fresh one is got.
 *
 * In: the option `token`, and what the server says of the latest one. Out: a fresh token. `onError` receives
 * once why there is none, until it works again, and once why the server does not let the client in for now,
 * until it does. When to ask is left to the connection.
 *
 * @since 0.1.0
 */
import type { FrameOf, ServerFrame } from "../../Frame.ts"
import { HelloRefused, TokenFailed } from "../ClientError.ts"
import type { Options } from "../Connection.ts"
import * as Asked from "./asked.ts"
import type { Time } from "./time.ts"

export interface Token extends Asked.Asked {
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
}

export const make = (
  options: Pick<Options, "token">,
  time: Time,
  tell: NonNullable<Options["onError"]>
): Token => {
  let token: string | undefined
  let until = 0
  /** The server has rejected the client since it last let it in. */
  let refused = false
  return {
    ...Asked.make(
      () => options.token!(),
      (fresh) => {
        token = fresh
        until = Infinity
      },
      time,
      tell,
      "token",
      TokenFailed
    ),
    latest: () => (options.token && token) || undefined,
    isGood: () => options.token === undefined || time.now() < until,
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
    }
  }
}
