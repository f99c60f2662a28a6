/**
 * What one session may do: asks `authorize`, in bounded time, and asks again when it must.
 *
 * A request that was allowed may wait long before it begins. When all rights were looked at anew
 * meanwhile (a fresh token, `reauthorize`), the old answer does not count any more.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { errorCodes } from "../../../Protocol.ts"
import type { Request } from "../../ServerOptions.ts"
import type { Port } from "./port.ts"
import type { Match } from "./registry.ts"
import { busy, overLimit, type Refusal, refusal, sourceDown } from "../limits/refusalText.ts"
import { within } from "../auth/timeLimit.ts"

/** What is asked for. */
export interface Wish {
  readonly channel: string
  readonly match: Match
  readonly action: "subscribe" | "publish"
}

const undecided = "The server could not decide in time: try again later."
const failed = "The server failed to decide: try again later."

/** A code with which a subscription may end: never `server/internal`, for it may come back. */
const endingOf = (
  code: "channel/forbidden" | "source/down" | "server/overloaded",
  message: string
) => ({ code, message, retry: errorCodes[code].retry })

/** How a subscription ends that was refused when rights were looked at anew, or that cannot go on. */
export const endedBy = ({ code, limit }: Refusal) =>
  code === "channel/forbidden"
    ? endingOf(code, "The client may not subscribe to this channel any more.")
    : code === "source/down"
      ? endingOf(code, sourceDown.message)
      : // Nobody decided in time, which is no failure of the rule.
        endingOf("server/overloaded", limit === undefined ? failed : undecided)

const forbidden = {
  subscribe: refusal("channel/forbidden"),
  publish: refusal("publish/forbidden")
}

export class Rights {
  readonly #port: Port
  /** Counts how often all rights were looked at anew. */
  #mark = 0

  constructor(port: Port) {
    this.#port = port
  }

  /** Where an answer belongs: it holds until the next `renew`. */
  get mark(): number {
    return this.#mark
  }

  /** No answer from before holds. */
  renew(): void {
    this.#mark++
  }

  /** Until when somebody who asks now is answered, in milliseconds since 1970. */
  get deadline(): number {
    const { clock, limits } = this.#port.context
    return clock() + limits.authorizeTimeout
  }

  /** Why somebody may not; `undefined` when they may. Several wishes may share a deadline. */
  decide(wish: Wish, deadline?: number): Effect.Effect<Refusal | undefined> {
    const { clock, looks } = this.#port.context
    return Effect.suspend(() => {
      // Whom somebody let in before waits for the answer; who asks for more comes back.
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
      // Nothing but `true` opens.
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
   * Begins what was allowed at `mark`, in the very step in which that still holds; asks again first
   * when it does not. Nothing begins once the proof has ended. Gives the refusal, or what `begin` gives.
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
