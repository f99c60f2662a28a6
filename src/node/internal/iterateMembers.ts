/**
 * The members of a presence channel for code without Effect: an iterable of the list, and a member that a
 * program is.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as Channel from "../../Channel.ts"
import { invalid } from "../../server/internal/options.ts"
import * as Realtime from "../../server/Realtime.ts"
import type { PresentMember } from "../Options.ts"

/** Throws `InvalidOption` for what is no presence channel, and `InvalidChannelName`. */
export const checkPresence = (channel: Channel.Any): void => {
  const { _tag, delivery, fault }: Partial<Channel.Any> = Object(channel)
  if (_tag !== "Channel" || delivery !== "presence") {
    throw invalid(
      "channel",
      channel,
      "a channel of Channel.presence, and of a family one with its parameter"
    )
  }
  if (fault !== undefined) throw fault
}

/** Runs an Effect with the services of the class once it has started. */
type RunOnceStarted = <A, E>(effect: Effect.Effect<A, E, Realtime.Realtime>) => Promise<A>

/** Makes the server a member until `leave`, or until the server closes. A call that rejects leaves no member. */
export const presentMember = async <A>(
  channel: Channel.Presence<A>,
  state: A,
  run: RunOnceStarted
): Promise<PresentMember<A>> => {
  const scope = Scope.makeUnsafe()
  const leave = () => Effect.runPromise(Scope.close(scope, Exit.void))
  try {
    const { member, update } = await run(Scope.provide(Realtime.present(channel, state), scope))
    return {
      member,
      update: (state: A) => Effect.runPromise(update(state)),
      leave,
      [Symbol.asyncDispose]: leave
    }
  } catch (error) {
    // The seat may be taken: an interruption arrives at any step.
    await leave()
    throw error
  }
}
