/**
 * The rights of one session: asks `authorize` or the rule, in bounded time, and again after a change.
 *
 * A request that was allowed may wait long before it begins. If the session's rights changed meanwhile
 * (a fresh token, `reauthorize`), `authorize` or the rule decides again.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Channel from "../../../Channel.ts"
import { errorCodes } from "../../../Protocol.ts"
import { InvalidPayload } from "../../../RealtimeError.ts"
import type { Where } from "../../../Frame.ts"
import { allowanceOf } from "../auth/boundary.ts"
import { ruleName } from "../auth/rules.ts"
import { RuleRefused } from "../../Rule.ts"
import type { Action, Request } from "../../ServerOptions.ts"
import { inSpan } from "../tracing.ts"
import type { Port } from "./port.ts"
import type { Sent } from "./publishing.ts"
import type { Match } from "./registry.ts"
import { busy, overLimit, type Refusal, refusal, sourceDown } from "../limits/refusalText.ts"
import { within } from "../auth/timeLimit.ts"

/** A request for a channel. */
export interface Wish {
  readonly channel: string
  readonly match: Match
  readonly action: Action
  /** What the client sent, for a rule that decides what it becomes. */
  readonly sent?: Sent
}

/** What a decision allows, and when it was asked for. */
export interface Grant {
  /** Valid until the next `renew`. */
  readonly mark: number
  /** The JSON that the rule for publishing made of the payload; `undefined` where none did. */
  readonly json: string | undefined
  /** The rows that the client may see; `undefined` for all. */
  readonly boundary: Where | undefined
}

export const isRefusal = (decision: Refusal | Grant): decision is Refusal => "code" in decision

const undecided = "The server could not decide in time: try again later."
const failed = "The server failed to decide: try again later."

/** How a subscription ends: never with `server/internal`, because the client may retry. */
const endingOf = (
  code: "channel/forbidden" | "source/down" | "server/overloaded" | "state/too-large",
  message: string
) => ({ code, message, retry: errorCodes[code].retry })

/** Code and sentence for a subscription that `authorize` rejected later, or that cannot go on. */
export const endedBy = ({ code, limit, message }: Refusal) => {
  switch (code) {
    case "channel/forbidden":
      return endingOf(code, "The client may not subscribe to this channel any more.")
    case "source/down":
      return endingOf(code, sourceDown.message)
    case "state/too-large":
      return endingOf(code, message)
  }
  // `authorize` failed or was late, or the state cannot be read: the client may retry.
  const overloaded = code === "server/overloaded" ? message : failed
  return endingOf("server/overloaded", limit === undefined ? overloaded : undecided)
}

const forbidden = {
  subscribe: refusal("channel/forbidden"),
  publish: refusal("publish/forbidden"),
  present: refusal("publish/forbidden", "The client may not be a member of this channel.")
}

/** How long an answer of `authorize` about volatile publishes counts, in milliseconds. */
const allowedFor = 1000

export class Rights {
  readonly #port: Port
  /** The number of changes of the rights. */
  #mark = 0
  /** The last grant of `authorize` for volatile publishes, by channel, and until when it counts. */
  #allowed: Map<string, { readonly grant: Grant; readonly until: number }> | undefined

  constructor(port: Port) {
    this.#port = port
  }

  /** Makes every earlier answer invalid. */
  renew(): void {
    this.#mark++
  }

  /** Whether a grant still holds. */
  #isValid(grant: Grant): boolean {
    return grant.mark === this.#mark
  }

  /** The deadline of an answer that is asked for now, in milliseconds since 1970. */
  get deadline(): number {
    const { clock, limits } = this.#port.context
    return clock() + limits.authorizeTimeout
  }

  /** Asks `authorize` or the rule. Wishes may share a deadline. */
  decide(wish: Wish, deadline?: number): Effect.Effect<Refusal | Grant> {
    if (wish.action === "subscribe" || wish.match.delivery.remembers) {
      return this.#look(wish, deadline)
    }
    // A rule makes each volatile payload, and `volatileRate` bounds those.
    return wish.sent === undefined ? this.#lookRarely(wish) : this.#ask(wish)
  }

  /**
   * Asks `authorize` about volatile publishes at most once in `allowedFor` for each channel: asked about
   * each of 60 a second, few sessions would use up `authorizeRate`.
   */
  #lookRarely(wish: Wish): Effect.Effect<Refusal | Grant> {
    const { clock, limits } = this.#port.context
    const { channel } = wish
    return Effect.suspend(() => {
      const allowed = (this.#allowed ??= new Map())
      const known = allowed.get(channel)
      if (known !== undefined && this.#isValid(known.grant) && clock() < known.until) {
        return Effect.succeed(known.grant)
      }
      return Effect.map(this.#look(wish), (decision) => {
        allowed.delete(channel)
        if (isRefusal(decision)) return decision
        for (const oldest of allowed.keys()) {
          if (allowed.size < limits.maxSubscriptions) break
          allowed.delete(oldest)
        }
        allowed.set(channel, { grant: decision, until: clock() + allowedFor })
        return decision
      })
    })
  }

  /** Asks within `authorizeRate`. */
  #look(wish: Wish, deadline?: number): Effect.Effect<Refusal | Grant> {
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

  #ask(wish: Wish, deadline?: number): Effect.Effect<Refusal | Grant> {
    const { action, channel, match } = wish
    const { clock, failed: say, notice, publishRule } = this.#port.context
    const name = publishRule === undefined ? "authorize" : ruleName(match.definition, action)
    const attributes = () => ({
      root: true,
      attributes: { "realtime.channel": channel, "realtime.action": action }
    })
    const reject = (message?: string) =>
      Effect.as(
        notice(`${name} ${action}`, `${name} refused to let a client ${action} on "${channel}"`),
        message === undefined ? forbidden[action] : { ...forbidden[action], message }
      )
    return Effect.suspend(() => {
      const mark = this.#mark
      const left = (deadline ?? this.deadline) - clock()
      if (left <= 0) return Effect.fail(new Cause.TimeoutError())
      return Effect.flatMap(
        within(inSpan("realtime.authorize", attributes)(this.#answer(wish)), left),
        (allowed): Effect.Effect<Refusal | Grant> =>
          allowed === undefined ? reject() : Effect.succeed({ mark, ...allowed })
      )
    }).pipe(
      Effect.catchCause((cause) => {
        const error = Cause.squash(cause)
        if (error instanceof RuleRefused) return reject(error.message)
        const what =
          error instanceof InvalidPayload
            ? `${name} gave a payload that does not match`
            : `${name} failed`
        return Effect.as(
          say(what, cause),
          Cause.isTimeoutError(error)
            ? overLimit("authorizeTimeout", "server/internal", undecided)
            : refusal("server/internal", failed)
        )
      })
    )
  }

  /** What the answer allows, with the JSON of a payload that a rule made; `undefined` if it rejects. */
  #answer({
    action,
    channel,
    match,
    sent
  }: Wish): Effect.Effect<Omit<Grant, "mark"> | undefined, InvalidPayload | RuleRefused> {
    const { authorize, publishRule } = this.#port.context
    const { definition, param: params } = match
    const { identity } = this.#port.principal
    const request: Request<unknown> = { identity, channel, definition, params, action }
    if (sent === undefined || publishRule === undefined) {
      return Effect.map(authorize(request), (answer) => {
        const allowed = allowanceOf(answer, action, match.channel)
        return allowed && { ...allowed, json: undefined }
      })
    }
    // The registry has no payload type for the channel. Its Schema checks the payload of the rule.
    const made = match.channel as Channel.Channel<unknown>
    return Effect.flatMap(publishRule(request, sent.payload), (payload) =>
      Effect.map(Effect.fromResult(Channel.toJson(made, payload)), (json) => ({
        json,
        boundary: undefined
      }))
    )
  }

  /**
   * Begins work that was granted, in a step in which the grant is valid. Asks again first if it is not.
   * Does not begin after the token has expired. Returns the refusal, or the result of `begin`.
   */
  hold<E>(
    wish: Wish,
    grant: Grant,
    begin: (grant: Grant) => Effect.Effect<Refusal | undefined, E>
  ): Effect.Effect<Refusal | undefined, E> {
    return Effect.suspend(() => {
      if (this.#port.hasExpired()) {
        this.#port.close("tokenExpired")
        return Effect.succeed(refusal("server/internal", undecided))
      }
      return this.#isValid(grant)
        ? begin(grant)
        : Effect.flatMap(this.decide(wish), (decision) =>
            isRefusal(decision) ? Effect.succeed(decision) : this.hold(wish, decision, begin)
          )
    })
  }
}
