/**
 * Presence delivery: channels that have members and no events. The rooms of `presence/` make what
 * subscribers receive. This opens the channels, and every use of events fails with the cure.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Presence } from "../presence/presence.ts"
import { nowhere } from "./batch.ts"
import { type Delivery, unfiltered } from "./delivery.ts"
import { NoEvents } from "./errors.ts"
import { Told } from "./gapCounter.ts"
import type { OpenChannels } from "./openChannels.ts"
import { type View, type ViewJoin, Views } from "./view.ts"

const fails = ({ name }: { readonly name: string }) => Effect.fail(new NoEvents({ channel: name }))

class PresenceChannel extends Views {
  protected override get resumes(): boolean {
    return false
  }

  protected override join(view: View): Effect.Effect<ViewJoin> {
    const { tick } = view
    return Effect.succeed({
      state: "fresh",
      cursor: nowhere,
      tick,
      replay: [],
      more: false,
      bytes: 0
    })
  }
}

export const make = (
  openChannels: OpenChannels,
  presence: Presence
): Effect.Effect<Delivery, never, Scope.Scope> =>
  Effect.gen(function* () {
    const told = new Told("is dropped")
    const kind = yield* openChannels.kind("presence", (name) =>
      Effect.sync(() => new PresenceChannel(name, told))
    )
    return {
      missing: () => undefined,
      state: undefined,
      refused: Effect.never,
      checkTable: () => Effect.void,
      open: (channel, narrowing) =>
        Effect.andThen(unfiltered(channel, narrowing), kind.view(channel)),
      history: fails,
      isOpen: kind.isOpen,
      batches: (channel) => Stream.fromEffect(fails(channel)),
      publish: (channel) => fails({ name: channel }),
      presence,
      resumes: false,
      remembers: false
    }
  })
