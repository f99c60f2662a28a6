/**
 * What subscribing costs, one session and the node, and the words for who asks for too much of it.
 */
import * as Effect from "effect/Effect"
import { asking, few, one } from "../eventLoopTurns.ts"
import type { Match } from "./registry.ts"
import { busy, overLimit, type Refusal, RequestRefused, sourceDown } from "../limits/refusalText.ts"
import type { SessionContext } from "./sessionContext.ts"

/** A replay counts as one subscribe more for each so many bytes of payload. */
export const replayBytes = 64 * 1024

export const tooFast = (wait: number): Refusal =>
  overLimit("subscribeRate", "rate/limited", "The client subscribes too often: slow down.", wait)

/**
 * Why the node may not open this channel now; `take`: it does, if it may. Seen before anybody is asked:
 * what is refused in a storm must cost next to nothing.
 */
export const openingRefused = (
  { opens }: SessionContext,
  { channel, delivery }: Match,
  take: boolean
): Refusal | undefined => {
  if (delivery.isOpen(channel.name)) return undefined
  const wait = take ? opens.take() : opens.wait
  return wait > 0 ? busy("channelOpenRate", wait) : undefined
}

/** Begins a subscription in its turn, unless there is no room for its channel by then. */
export const beginInTurn = (
  context: SessionContext,
  match: Match,
  begin: Effect.Effect<void>,
  refuse: (refused: Refusal) => Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.flatMap(asking.take(match.delivery.isOpen(match.channel.name) ? one : few), () => {
    const refused = openingRefused(context, match, false)
    return refused === undefined ? begin : refuse(refused)
  })

/** Why a subscription does not begin in time: while the source is up, others are before it. */
export const late = ({ sourceIsUp }: SessionContext, opened: boolean) =>
  opened && sourceIsUp() ? new RequestRefused(busy("maxReplays")) : sourceDown
