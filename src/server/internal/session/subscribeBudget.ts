/**
 * What a subscription costs its session and the node, and the refusals of requests over the limit.
 */
import * as Effect from "effect/Effect"
import { asking, few, one } from "../eventLoopTurns.ts"
import type { Match } from "./registry.ts"
import { busy, overLimit, type Refusal, RequestRefused, sourceDown } from "../limits/refusalText.ts"
import { Bucket } from "../limits/tokenBucket.ts"
import type { SessionContext } from "./sessionContext.ts"

/** A replay or a state counts as one more subscribe request for each so many bytes of payload. */
const replayBytes = 64 * 1024

const tooFast = (wait: number): Refusal =>
  overLimit("subscribeRate", "rate/limited", "The client subscribes too often: slow down.", wait)

/**
 * The refusal of a channel that the node may not open now. `take`: counts the opening. Asked before
 * `authorize`, because in a storm a rejected request must cost little.
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

/** Begins a subscription in its turn, or rejects it if the channel may not be opened by then. */
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

/** The refusal of a late subscription. While the source is up, it waited for other replays. */
export const late = ({ sourceIsUp }: SessionContext, opened: boolean) =>
  opened && sourceIsUp() ? new RequestRefused(busy("maxReplays")) : sourceDown

/** The subscribe requests of a session within `subscribeRate`, and what their replays and states cost. */
export class SubscribeBudget {
  readonly #context: SessionContext
  #bucket: Bucket | undefined

  constructor(context: SessionContext) {
    this.#context = context
  }

  /** Counts a request. Returns the refusal of one that is too early. */
  take(): Refusal | undefined {
    const { clock, limits } = this.#context
    const now = clock()
    this.#bucket ??= new Bucket(limits.subscribeRate, now)
    const wait = this.#bucket.take(limits.subscribeRate, now)
    return wait > 0 ? tooFast(wait) : undefined
  }

  /** The refusal of a replay or a state while the last ones count: in parallel they cost as much. */
  get debt(): Refusal | undefined {
    const { clock, limits } = this.#context
    const wait = this.#bucket?.debt(limits.subscribeRate, clock()) ?? 0
    return wait > 0 ? tooFast(wait) : undefined
  }

  /** Counts the bytes of a replay or a state as further requests. */
  charge(bytes: number): void {
    this.#bucket?.spend(Math.floor(bytes / replayBytes))
  }
}
