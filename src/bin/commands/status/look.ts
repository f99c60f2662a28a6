/**
 * What `status` sees at one time.
 *
 * In: the database, and the bus of a guest. Out: facts without any text for a reader.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Keys } from "../../../server/internal/bus/bus.ts"
import * as Bus from "../../../server/internal/bus/bus.ts"
import { resolvedBus } from "../../../server/internal/bus/busOptions.ts"
import * as DatabaseKeys from "../../../server/internal/bus/databaseKeys.ts"
import { standby } from "../../shared/cures.ts"
import { failed } from "../../shared/exit.ts"
import type { Carrier } from "../../../server/internal/bus/carrier.ts"
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
  /** What carries the bus. */
  readonly over: "nats" | "notify"
  /** Whether the bus delivers: no node is seen otherwise. */
  readonly hears: boolean
  readonly nodes: ReadonlyArray<SeenNode>
  /** The node that reads for all, where it was not heard. */
  readonly unheard: string | undefined
  /** Nodes that were heard and did not answer. */
  readonly silent: ReadonlyArray<string>
  readonly outbox: OutboxFacts
  readonly consumers: ReadonlyArray<SeenConsumer>
}

/** What carries the bus of the guest. */
export interface Over<E, R> {
  readonly name: Seen["over"]
  readonly carrier: (keys: Keys) => Effect.Effect<Carrier, E, R>
}

/** Joins the bus. The result looks, each time it runs. */
export const looking = Effect.fnUntraced(function* <E, R>(over: Over<E, R>) {
  const sql = yield* PgClient.PgClient
  const facts = Effect.gen(function* () {
    const held = yield* holders(sql)
    const consumers = yield* consumerFacts(sql)
    return { held, consumers, outbox: yield* outboxFacts(sql) }
  })
  const [server] = yield* sql<{ readonly standby: boolean }>`select pg_is_in_recovery() as standby`
  if (server?.standby === true) return yield* failed(standby)
  // Names what the role lacks before the bus does.
  yield* facts
  const keys = yield* DatabaseKeys.make(sql)
  const carrier = yield* over.carrier(keys)
  const bus = yield* Bus.make(carrier, keys, { ...resolvedBus({}), isGuest: true })
  const ask = yield* Guest.statsAsked(bus)
  return Effect.gen(function* () {
    const { answered, missing } = yield* ask
    const { consumers, held, outbox } = yield* facts
    const feeder = held.get(readerLease)
    return {
      over: over.name,
      hears: (yield* SubscriptionRef.get(bus.state)) === "up",
      nodes: answered
        .map((stats) => Object.assign({}, stats, { feeds: stats.node === feeder }))
        .toSorted((a, b) => (a.node < b.node ? -1 : 1)),
      silent: missing.toSorted(),
      unheard:
        feeder !== undefined &&
        !answered.some(({ node }) => node === feeder) &&
        !missing.includes(feeder)
          ? feeder
          : undefined,
      outbox,
      consumers: consumers.map((one) =>
        Object.assign({}, one, { node: held.get(`${consumerLease}${one.name}`) })
      )
    } satisfies Seen
  })
})
