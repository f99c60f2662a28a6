/**
 * The rights of one session: asks `authorize`, in bounded time, and again after a change.
 *
 * A request that was allowed may wait long before it begins. If the session's rights changed meanwhile
 * (a fresh token, `reauthorize`), `authorize` decides again.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { errorCodes } from "../../../Protocol.ts"
import type { Request } from "../../ServerOptions.ts"
import type { Port } from "./port.ts"
import type { Match } from "./registry.ts"
import { busy, overLimit, type Refusal, refusal, sourceDown } from "../limits/refusalText.ts"
import { within } from "../auth/timeLimit.ts"

/** A request for a channel. */
export interface Wish {
  readonly channel: string
  readonly match: Match
  readonly action: "subscribe" | "publish"
}

const undecided = "The server could not decide in time: try again later."
const failed = "The server failed to decide: try again later."

/** How a subscription ends: never with `server/internal`, because the client may retry. */
const endingOf = (
  code: "channel/forbidden" | "source/down" | "server/overloaded",
  message: string
) => ({ code, message, retry: errorCodes[code].retry })

/** Code and sentence for a subscription that `authorize` rejected later, or that cannot go on. */
export const endedBy = ({ code, limit }: Refusal) =>
  code === "channel/forbidden"
    ? endingOf(code, "The client may not subscribe to this channel any more.")
    : code === "source/down"
      ? endingOf(code, sourceDown.message)
      : // `authorize` failed or was late: the client may retry.
        endingOf("server/overloaded", limit === undefined ? failed : undecided)

const forbidden = {
  subscribe: refusal("channel/forbidden"),
  publish: refusal("publish/forbidden")
}

export class Rights {
  readonly #port: Port
  /** The number of changes of the rights. */
  #mark = 0

  constructor(port: Port) {
    this.#port = port
  }

  /** The mark of an answer of `authorize`, valid until the next `renew`. */
  get mark(): number {
    return this.#mark
  }

  /** Makes every earlier answer invalid. */
  renew(): void {
    this.#mark++
  }

  /** The deadline of an answer that is asked for now, in milliseconds since 1970. */
  get deadline(): number {
    const { clock, limits } = this.#port.context
    return clock() + limits.authorizeTimeout
  }

  /** Asks `authorize`. Returns the refusal; `undefined` if allowed. Wishes may share a deadline. */
  decide(wish: Wish, deadline?: number): Effect.Effect<Refusal | undefined> {
    const { clock, looks } = this.#port.context
    return Effect.suspend(() => {
      // At the limit `authorizeRate` a subscription that holds waits, and a new request is rejected.
      const wait = looks.take(deadline === undefined ? 0 : deadline - clock())
      if (wait > 0 && (deadline === undefined || clock() + wait > deadline)) {
        return Effect.succeed(busy("authorizeRate", wait))
      }
      const asked = this.#ask(wish, deadline)
      return wait > 0 ? Effect.delay(asked, wait) : asked
    })
  }

  #ask({ action, channel, match }: Wish, deadline?: number): Effect.Effect<Refusal | undefined> {
    const { authorize, clock } = this.#port.context
    const { definition, param: params } = match
    return Effect.suspend(() => {
      const left = (deadline ?? this.deadline) - clock()
      if (left <= 0) return Effect.fail(new Cause.TimeoutError())
      const { identity } = this.#port.principal
      const request: Request<unknown> = { identity, channel, definition, params, action }
      return within(authorize(request), left)
    }).pipe(
      // Only `true` allows.
      Effect.flatMap((allowed) =>
        allowed === true
          ? Effect.undefined
          : Effect.as(
              this.#port.context.notice(
                `authorize ${action}`,
                `authorize refused to let a client ${action} on "${channel}"`
              ),
              forbidden[action]
            )
      ),
      Effect.catchCause((cause) =>
        Effect.as(
          this.#port.context.failed("authorize failed", cause),
          Cause.isTimeoutError(Cause.squash(cause))
            ? overLimit("authorizeTimeout", "server/internal", undecided)
            : refusal("server/internal", failed)
        )
      )
    )
  }

  /**
   * Begins work that was allowed at `mark`, in a step in which that answer is valid. Asks again first
   * if it is not. Does not begin after the token has expired. Returns the refusal, or the result of
   * `begin`.
   */
  hold<E>(
    wish: Wish,
    mark: number,
    begin: () => Effect.Effect<Refusal | undefined, E>
  ): Effect.Effect<Refusal | undefined, E> {
    return Effect.suspend(() => {
      if (this.#port.hasExpired()) {
        this.#port.close("tokenExpired")
        return Effect.succeed(refusal("server/internal", undecided))
      }
      const current = this.#mark
      return mark === current
        ? begin()
        : Effect.flatMap(this.decide(wish), (refused) =>
            refused === undefined ? this.hold(wish, current, begin) : Effect.succeed(refused)
          )
    })
  }
}
