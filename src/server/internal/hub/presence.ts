/** The delivery of presence channels: they have members and no events, so every use fails with the cure. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Delivery } from "./delivery.ts"
import { NoEvents } from "./errors.ts"

const fails = ({ name }: { readonly name: string }) => Effect.fail(new NoEvents({ channel: name }))

export const presence: Delivery = {
  missing: () => undefined,
  state: undefined,
  refused: Effect.never,
  checkTable: () => Effect.void,
  open: fails,
  history: fails,
  isOpen: () => false,
  batches: (channel) => Stream.fromEffect(fails(channel)),
  publish: (channel) => fails({ name: channel }),
  resumes: false,
  remembers: false
}
