/**
 * What `status` sees at one time.
 *
 * In: the database, and the bus of a guest. Out: facts without any text for a reader.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Bus from "../../../server/internal/bus/bus.ts"
import { resolvedBus } from "../../../server/internal/bus/busOptions.ts"
import * as DatabaseKeys from "../../../server/internal/bus/databaseKeys.ts"
import * as NotifyCarrier from "../../../server/internal/bus/notifyCarrier.ts"
import type { NodeStats } from "../../../server/internal/control/control.ts"
import * as Guest from "../../../server/internal/control/guest.ts"
import { consumerLease } from "../../../server/internal/outbox/lease.ts"
import {
  type ConsumerFacts,
  consumerFacts,
  holders,
  type OutboxFacts,
  outboxFacts
} from "../../../server/internal/sql/statusFacts.ts"
import { NotificationSource } from "../../../server/NotificationSource.ts"

/** The lease of the node that reads the outbox for all. */
const readerLease = "reader"

export interface SeenNode extends NodeStats {
  /** Whether it reads the outbox for all nodes. */
  readonly feeds: boolean
}

export interface SeenConsumer extends ConsumerFacts {
  /** The node that runs it now; `undefined` for none. */
  readonly node: string | undefined
}

export interface Seen {
  /** Whether the bus delivers: no node is seen otherwise. */
  readonly hears: boolean
  readonly nodes: ReadonlyArray<SeenNode>
  /** Nodes that were heard and did not answer. */
  readonly silent: ReadonlyArray<string>
  readonly outbox: OutboxFacts
  readonly consumers: ReadonlyArray<SeenConsumer>
}

/** Joins the bus. The result looks, each time it runs. */
export const looking = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const facts = Effect.gen(function* () {
    const held = yield* holders(sql)
    const consumers = yield* consumerFacts(sql)
    return { held, consumers, outbox: yield* outboxFacts(sql) }
  })
  // Names what the role lacks before the bus does.
  yield* facts
  const carrier = yield* NotifyCarrier.make(yield* NotificationSource, sql)
  const keys = yield* DatabaseKeys.make(sql)
  const bus = yield* Bus.make(carrier, keys, { ...resolvedBus({}), isGuest: true })
  const ask = yield* Guest.statsAsked(bus)
  return Effect.gen(function* () {
    const { answered, missing } = yield* ask
    const { consumers, held, outbox } = yield* facts
    const feeder = held.get(readerLease)
    return {
      hears: (yield* SubscriptionRef.get(bus.state)) === "up",
      nodes: answered
        .map((stats) => Object.assign({}, stats, { feeds: stats.node === feeder }))
        .toSorted((a, b) => (a.node < b.node ? -1 : 1)),
      silent: missing.toSorted(),
      outbox,
      consumers: consumers.map((one) =>
        Object.assign({}, one, { node: held.get(`${consumerLease}${one.name}`) })
      )
    } satisfies Seen
  })
})
