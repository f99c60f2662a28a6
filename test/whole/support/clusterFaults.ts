/** What happens to a cluster: faults of its nodes, of their networks, of their clocks, of NATS and PostgreSQL. */
import { Effect, Option, Semaphore } from "effect"
import type { Random } from "../../server/support/random.ts"
import type { Hop } from "../../support/hop.ts"
import type { NatsServer } from "../../support/natsServer.ts"
import type { World } from "./clusterWorld.ts"

interface Fault {
  readonly name: string
  readonly inject: Effect.Effect<void>
}

export interface Faults {
  /** Each kind once. */
  readonly kinds: ReadonlyArray<Fault>
  /** How often each kind was injected, by name. */
  readonly counts: Map<string, number>
}

/** Milliseconds that a holder of a lease may be without a renewal. */
const doubtAfter = 3000
/** Milliseconds after which another node has the lease of one that is stopped. */
const lapses = 6500

/** Lets a lease go on for each that had it once, as if its holder could not know better. */
const renewForAll = `create or replace function realtime.renew_lease(name text, incarnation text, term bigint) returns boolean
language sql security definer as $$
  update realtime.leases l set expires_at = clock_timestamp() + interval '4 seconds'
    where l.name = $1 and l.incarnation = $2 and l.term = $3;
  select true
$$`

/**
 * `calm` runs what makes the database forget its answers, while no commit waits for one. `patient`: all kinds,
 * also those that take seconds. Else those that need NATS where there is one, and the others where there is
 * none.
 */
export const faultsOf = (
  { nats, nodes, postgres, query }: World,
  { chance, int, pick }: Random,
  calm: <A>(during: Effect.Effect<A>) => Effect.Effect<A>,
  patient: boolean
): Faults => {
  const awhile = Effect.suspend(() => Effect.sleep(300 + int(patient ? 2700 : 700)))
  const node = Effect.sync(() => pick(nodes))
  /** What is done to the whole database, one at a time. */
  const turn = Semaphore.makeUnsafe(1)

  const silence = (hop: Hop, during: Effect.Effect<unknown>) =>
    Effect.acquireUseRelease(
      Effect.sync(hop.silence),
      () => Effect.asVoid(during),
      () => Effect.sync(hop.heal)
    )

  const lease = Effect.map(
    query(
      `select node, term::text, expires_at::text ends from realtime.leases where name = 'reader' and expires_at > clock_timestamp()`
    ),
    ([row]) => Option.fromUndefinedOr(row as Record<"node" | "term" | "ends", string> | undefined)
  )

  /** The node that reads for all, or any where there is none now. */
  const reader = lease.pipe(
    Effect.delay(50),
    Effect.repeat({ until: Option.isSome }),
    Effect.timeoutOption(3000),
    Effect.map((found) => {
      const name = Option.getOrUndefined(Option.flatten(found))?.node
      return nodes.find((one) => one.name === name) ?? pick(nodes)
    })
  )

  const crash = turn.withPermit(calm(Effect.orDie(postgres.crash)))

  /** The lease of the reader is stolen while it is stopped, and then both go on. */
  const twoReaders = Effect.gen(function* () {
    const old = yield* reader
    const before = Option.getOrUndefined(yield* lease)
    // Right after a renewal, so that it believes in it for longest.
    const renewed = Effect.map(lease, (now) => Option.getOrUndefined(now)?.ends !== before?.ends)
    yield* Effect.repeat(Effect.delay(renewed, 20), { until: (is) => is }).pipe(
      Effect.timeoutOption(2000)
    )
    const [row] = yield* query(
      `select pg_get_functiondef('realtime.renew_lease(text, text, bigint)'::regprocedure) as text`
    )
    const stolen = Effect.map(lease, (now) => {
      const term = Option.getOrUndefined(now)?.term
      return term !== undefined && term !== before?.term
    })
    yield* query(renewForAll)
    yield* old
      .pauseFor(
        query(`update realtime.leases set expires_at = '-infinity' where name = 'reader'`).pipe(
          Effect.andThen(Effect.repeat(Effect.delay(stolen, 50), { until: (is) => is })),
          Effect.timeoutOption(doubtAfter - 300)
        )
      )
      .pipe(
        Effect.andThen(Effect.suspend(() => Effect.sleep(1000 + int(1500)))),
        Effect.ensuring(query(String(row!["text"])))
      )
  })

  const ofNodes: ReadonlyArray<Fault> = [
    {
      name: "a node is killed",
      inject: Effect.flatMap(node, ({ restart }) => restart("SIGKILL"))
    },
    {
      name: "a node stops and goes on",
      inject: Effect.flatMap(node, ({ pauseFor }) => pauseFor(awhile))
    },
    {
      name: "a node is cut off from the database",
      inject: Effect.flatMap(node, ({ toDatabase }) => silence(toDatabase, awhile))
    },
    {
      name: "a node loses its clients",
      inject: Effect.flatMap(node, ({ toNode }) => Effect.sync(toNode.cut))
    },
    { name: "the database crashes", inject: crash },
    {
      name: "the clock of a node steps",
      inject: Effect.flatMap(node, ({ stepFor }) =>
        stepFor((chance(0.5) ? -1 : 1) * 1000 * pick([5, 45, 3600, 86_400]), awhile)
      )
    },
    {
      name: "the nodes are replaced one by one",
      inject: Effect.forEach(nodes, ({ restart }) => restart("SIGTERM"), { discard: true })
    }
  ]
  const ofNats = (server: NatsServer): ReadonlyArray<Fault> => [
    {
      name: "the elected reader is killed",
      inject: Effect.flatMap(reader, ({ restart }) => restart("SIGKILL"))
    },
    {
      name: "NATS is killed and comes back",
      inject: Effect.acquireUseRelease(
        server.stop,
        () => awhile,
        () => server.start
      )
    },
    {
      name: "a node is cut off from NATS, and another one from the database",
      inject: Effect.suspend(() => {
        const first = int(nodes.length)
        const one = nodes[first]!
        const other = nodes[(first + 1 + int(nodes.length - 1)) % nodes.length]!
        return silence(one.toNats!, silence(other.toDatabase, awhile))
      })
    },
    {
      name: "a node loses its connection to NATS",
      inject: Effect.flatMap(node, ({ toNats }) => Effect.sync(toNats!.cut))
    },
    {
      name: "the elected reader stops and goes on",
      inject: Effect.flatMap(reader, ({ pauseFor }) =>
        pauseFor(patient && chance(0.5) ? Effect.sleep(lapses) : awhile)
      )
    },
    {
      name: "the clock of the database steps, as its leases see it",
      inject: Effect.suspend(() =>
        query(
          `update realtime.leases set expires_at = expires_at ${pick(["-", "+"])} interval '1 hour' where expires_at > '-infinity'`
        )
      )
    }
  ]

  const ofLeases: ReadonlyArray<Fault> = [
    { name: "two nodes read for all", inject: turn.withPermit(twoReaders) }
  ]
  const kinds =
    nats === undefined
      ? ofNodes
      : patient
        ? [...ofNodes, ...ofNats(nats), ...ofLeases]
        : ofNats(nats)

  const counts = new Map<string, number>()
  return {
    counts,
    kinds: kinds.map(({ inject, name }) => ({
      name,
      inject: Effect.andThen(
        Effect.sync(() => counts.set(name, (counts.get(name) ?? 0) + 1)),
        inject
      )
    }))
  }
}
