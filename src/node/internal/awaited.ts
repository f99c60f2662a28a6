/**
 * What a node shows of the parts that it does not have yet, while it waits for its database.
 *
 * In: the parts that it will have. Out: their series, as those of parts that are down, until the scope
 * closes: an alert must see a node that started while the database was away.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { refusalReasons } from "../../server/internal/limits/refusalLog.ts"
import * as metrics from "../../server/internal/metrics.ts"
import { secondsSince, tally as tallyOfFiber } from "../../server/internal/tally.ts"

/** The parts of a node that its options ask for. */
export interface Parts {
  readonly link: boolean
  readonly reader: boolean
  readonly bus: boolean
  readonly nats: boolean
}

const no = () => 0

/** Shows them as down, and what a door counts as 0. */
export const awaited = (parts: Parts): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const tally = yield* tallyOfFiber
    yield* metrics.countBy(metrics.refused, "reason", refusalReasons)
    if (parts.link) yield* tally.show("linkUp", no)
    if (parts.reader) {
      const clock = yield* Clock.Clock
      const began = clock.currentTimeMillisUnsafe()
      yield* tally.show("readerUp", no)
      yield* tally.show("readerLag", () => secondsSince(clock, began))
      yield* tally.show("oldestTransaction", no)
    }
    if (parts.bus) yield* tally.show("busUp", no)
    if (parts.nats) yield* tally.show("natsUp", no)
  })
