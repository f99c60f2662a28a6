/** The log about subscriptions and states that failed. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { errorText } from "../../../internal/errorText.ts"
import { refusalOf, sourceDown } from "../limits/refusalText.ts"
import type { Port } from "./port.ts"

/** Logs why a subscription or a state failed, unless the client is at fault or another place logs it. */
export const logFailure = (
  { context, stopped }: Pick<Port, "context" | "stopped">,
  channel: string,
  cause: Cause.Cause<unknown>,
  how = "failed"
): Effect.Effect<void> => {
  // The session ended meanwhile.
  if (Cause.hasInterruptsOnly(cause) || stopped) return Effect.void
  const refused = refusalOf(Cause.squash(cause))
  switch (refused.code) {
    case "server/overloaded":
    case "rate/limited":
    case "subscribe/invalid-where":
    case "channel/invalid-name":
      return Effect.void
    case "state/none":
    case "state/too-large":
      return context.notice(`${refused.code} ${channel}`, errorText(Cause.squash(cause)))
    default:
      return refused === sourceDown
        ? Effect.void
        : context.failed(`a subscription to "${channel}" ${how}`, cause)
  }
}
