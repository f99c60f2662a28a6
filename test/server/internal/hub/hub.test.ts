import { expect, it } from "@effect/vitest"
import { Duration, Effect, SubscriptionRef } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Channel from "../../../../src/Channel.ts"
import * as Hub from "../../../../src/server/internal/hub/hub.ts"
import type { NotificationSource, SourceState } from "../../../../src/server/NotificationSource.ts"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

/** Bytes of heap in use. */
const used = () => {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

it.effect("a hub without linger keeps under 32 bytes for a channel after its subscriber left", () =>
  Effect.gen(function* () {
    const source: NotificationSource["Service"] = {
      state: yield* SubscriptionRef.make<SourceState>("up"),
      listen: () => Effect.void,
      notify: () => Effect.void
    }
    const hub = yield* Hub.make(source, undefined, {
      linger: Duration.zero,
      maxChannels: 10,
      ring: { events: 256, maxAge: 120_000, bytes: 1_000_000 },
      batchWindow: 0,
      announceSource: false,
      maxFilters: 9,
      presence: { grace: 0, named: 9, rate: 5 },
      state: { rows: 9, bytes: 999 }
    })
    const count = 10_000
    const open = (first: number) =>
      Effect.forEach(
        Array.from({ length: count }, (_, index) => Channel.untyped(`orders_${first + index}`)),
        (channel) => Effect.scoped(hub.deliveryOf(channel).open(channel)),
        { discard: true }
      )
    yield* open(0)
    const before = used()
    yield* open(count)
    // A channel name alone takes more than this bound.
    expect((used() - before) / count).toBeLessThan(32)
  })
)
