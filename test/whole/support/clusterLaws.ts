/**
 * What must be true of a cluster, whatever happens to its nodes: a law for each thing that its clients follow.
 *
 * Another thing that clients follow, as the members of a presence channel, is another `Law` beside these, and one more entry of
 * the list in `cluster.test.ts`.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, type Scope, Stream } from "effect"
import type { RealtimeClient } from "effect-realtime/client"
import type { Random } from "../../server/support/random.ts"
import { until } from "../../support/until.ts"
import { Kept, Live } from "./clusterChannels.ts"
import type { World } from "./clusterWorld.ts"
import { Ledger, Witness } from "./law.ts"
import { changePair, Collections, type Part } from "./pairs.ts"

type Client = RealtimeClient.RealtimeClient["Service"]

export interface Law {
  /** Has another client follow it. */
  readonly follow: (client: Client, name: string) => Effect.Effect<void, never, Scope.Scope>
  /** Whether each client has received something. */
  readonly begun: () => boolean
  /** Changes it once, or fails to. */
  readonly changes: ReadonlyArray<Effect.Effect<void, never, PgClient.PgClient>>
  /** Completes when each client has all of it, after the last fault and the last change. */
  readonly settled: Effect.Effect<void, never, PgClient.PgClient>
  /** What was against the law so far, in words. */
  readonly violations: () => ReadonlyArray<unknown>
  /** Whether enough was received for the test to say anything. */
  readonly meaningful: () => boolean
}

interface EventsLaw extends Law {
  /** Runs an effect while no publish waits for its answer: a crash could commit it without one. */
  readonly calm: <A>(during: Effect.Effect<A>) => Effect.Effect<A>
}

/**
 * Of a durable channel each client receives each event once, in order and without a gap; of a live channel a
 * gap for every missing event. After a gap it may receive live events again, in order: the node that it
 * changes to may be behind the other one.
 */
export const eventsLaw = ({ pick }: Random): EventsLaw => {
  const ledger = new Ledger()
  const witnesses: Array<Witness> = []
  let quiet = false
  let publishing = 0

  /** Publishes on a channel. The commit counts when the database has confirmed it. */
  const publishOn = (channel: typeof Live | typeof Kept) => {
    const n = ledger.next()
    const json = JSON.stringify({ n })
    return PgClient.PgClient.use((sql) =>
      channel === Kept
        ? sql`select realtime.publish(${channel.name}, ${json}::text)`
        : sql`select pg_notify(${channel.name}, ${json})`
    ).pipe(
      Effect.andThen(Effect.sync(() => ledger.commit(channel.name, n))),
      Effect.exit,
      Effect.asVoid
    )
  }

  const publish = Effect.suspend(() => {
    if (quiet) return Effect.void
    publishing++
    return Effect.ensuring(
      publishOn(pick([Live, Kept])),
      Effect.sync(() => publishing--)
    )
  })

  const reached = () =>
    witnesses.every(({ channel, told }) => {
      const item = told.findLast(({ _tag }) => _tag === "Event")
      return item?._tag === "Event" && item.n === ledger.of(channel).at(-1)
    })

  return {
    follow: (client, name) =>
      Effect.forEach(
        [Live, Kept],
        (channel) => {
          const witness = new Witness(name, channel.name, ledger, channel === Live)
          witnesses.push(witness)
          return client.events(channel).pipe(
            Stream.runForEach((event) => Effect.sync(() => witness.hear([event]))),
            Effect.forkScoped
          )
        },
        { discard: true }
      ),
    begun: () => witnesses.every(({ events }) => events > 0),
    // One publisher, so that its commits have the order of its numbers.
    changes: [publish],
    // Publishes on each channel until each client has received the last of it.
    settled: Effect.gen(function* () {
      while (!reached()) {
        for (const channel of [Live, Kept]) yield* publishOn(channel)
        yield* Effect.raceFirst(until(reached), Effect.sleep(1000))
      }
    }),
    violations: () =>
      witnesses.flatMap(({ channel, name, told, violations }) =>
        channel === Kept.name && told.some(({ _tag }) => _tag === "Gap")
          ? [...violations, `${name} on ${channel}: a gap`]
          : violations
      ),
    meaningful: () => witnesses.every(({ events }) => events > 5),
    calm: (during) =>
      Effect.acquireUseRelease(
        Effect.andThen(
          Effect.sync(() => (quiet = true)),
          until(() => publishing === 0)
        ),
        () => during,
        () => Effect.sync(() => (quiet = false))
      )
  }
}

/** The rows of a table are those of one position, and at the end those of a `select`. */
export const rowsLaw = ({ query }: World, dice: Random): Law => {
  const collections = new Collections()
  const change = Effect.suspend(() => changePair(dice)).pipe(Effect.exit, Effect.asVoid)
  return {
    follow: (client) => collections.follow(client),
    begun: () => collections.areLive,
    changes: Array.from({ length: 6 }, () => change),
    settled: Effect.gen(function* () {
      const rows = (yield* query("select * from parts")) as unknown as ReadonlyArray<Part>
      yield* until(() => collections.equal(rows))
    }),
    violations: () => collections.wrong.map((one) => JSON.stringify(one)),
    meaningful: () => collections.compared > 60
  }
}
