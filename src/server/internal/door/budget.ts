/**
 * What subscribing costs, one session and the node, and the words for who asks for too much of it.
 */
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import { hubKey } from "../../Realtime.ts"
import { asking, one } from "../turns.ts"
import {
  busy,
  overLimit,
  type Refusal,
  Refused,
  type SessionContext,
  sourceDown
} from "./sessionContext.ts"

/** A replay counts as one subscribe more for each so many bytes of payload. */
export const replayBytes = 64 * 1024

export const tooFast = (wait: number): Refusal =>
  overLimit("subscribes", "rate/limited", "Subscribe slower.", wait)

/**
 * Why the node may not open this channel now; `take`: it does, if it may. Seen before anybody is asked:
 * what is refused in a storm must cost next to nothing.
 */
export const openingRefused = (
  { opens, realtime }: SessionContext,
  channel: Channel.Any,
  take: boolean
): Refusal | undefined => {
  if (realtime[hubKey].isOpen(channel)) return undefined
  const wait = take ? opens.take() : opens.wait
  return wait > 0 ? busy("channelOpens", wait) : undefined
}

/** What a subscription counts that opens a channel. */
const four = { events: 4, bytes: 0 }

/** Begins a subscription in its turn, unless there is no room for its channel by then. */
export const beginInTurn = (
  context: SessionContext,
  channel: Channel.Any,
  begin: Effect.Effect<void>,
  refuse: (refused: Refusal) => Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.flatMap(asking.take(context.realtime[hubKey].isOpen(channel) ? one : four), () => {
    const refused = openingRefused(context, channel, false)
    return refused === undefined ? begin : refuse(refused)
  })

/** Why a subscription does not begin in time: while the source is up, others are before it. */
export const late = ({ sourceIsUp }: SessionContext, opened: boolean) =>
  opened && sourceIsUp() ? new Refused(busy("replays")) : sourceDown
