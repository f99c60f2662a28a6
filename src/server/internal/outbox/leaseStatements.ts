/**
 * The statements of all leases of a node.
 *
 * In: what each lease asks of the database, about once a second. Out: one statement for all that ask within
 * 50 ms. They run on the session of the reader, and one commit for each of hundreds of consumers would stand
 * before its looks. All nodes lock the rows in the order of their names, so that none waits for another in a
 * circle.
 */
import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import type { SqlError } from "effect/sql/SqlError"

/** There is no session now. */
export class NoSession extends Data.TaggedError("NoSession")<{}> {
  override get message(): string {
    return "the reader of the outbox is down"
  }
}

type Fields = Readonly<Record<string, unknown>>

/** Runs a statement on a session that reaches the primary, and fails while there is none. */
export type Ask = (
  text: string,
  params: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<Fields>, SqlError | NoSession>

interface LeaseRequest extends Request.Request<Fields, SqlError | NoSession> {
  /** The name of the lease, and the other arguments of the function. */
  readonly values: ReadonlyArray<string>
}
const LeaseRequest = Request.of<LeaseRequest>()

/** Milliseconds in which leases ask together. */
const together = 50

const takeStatement = `select a.n::int n, l.term::text term, l.wait_ms
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality a (name, node, incarnation, n)
  cross join lateral realtime.take_lease(a.name, a.node, a.incarnation) l`

const renewStatement = `select a.n::int n, realtime.renew_lease(a.name, a.incarnation, a.term) mine
  from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality a (name, incarnation, term, n)`

const arrayText = (values: ReadonlyArray<string>): string =>
  `{${values.map((value) => `"${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`).join(",")}}`

const byName = (one: Request.Entry<LeaseRequest>, other: Request.Entry<LeaseRequest>): number => {
  const [a, b] = [one.request.values[0]!, other.request.values[0]!]
  return a < b ? -1 : a > b ? 1 : 0
}

const batched = (statement: string, ask: Ask): RequestResolver.RequestResolver<LeaseRequest> =>
  RequestResolver.make<LeaseRequest>((given) => {
    const entries = given.toSorted(byName)
    const columns = given[0].request.values.map((_, column) =>
      arrayText(entries.map(({ request }) => request.values[column]!))
    )
    return Effect.map(ask(statement, columns), (rows) => {
      for (const row of rows) entries[Number(row["n"]) - 1]!.completeUnsafe(Exit.succeed(row))
    })
  })

/** What leases ask of the database. */
export interface LeaseStatements {
  /** Those that wait for it take together. A lease that is not wanted any more leaves without a request. */
  readonly gathered: Effect.Effect<void>
  readonly take: (
    ...values: readonly [name: string, node: string, incarnation: string]
  ) => Effect.Effect<Fields, SqlError | NoSession>
  readonly renew: (
    ...values: readonly [name: string, incarnation: string, term: string]
  ) => Effect.Effect<Fields, SqlError | NoSession>
  /** At once: it is the last of its lease. */
  readonly release: (
    ...values: readonly [name: string, incarnation: string, term: string]
  ) => Effect.Effect<unknown, SqlError | NoSession>
}

export const make = (ask: Ask): LeaseStatements => {
  const takes = batched(takeStatement, ask)
  const renewals = RequestResolver.setDelay(batched(renewStatement, ask), together)
  let gathering: Deferred.Deferred<void> | undefined
  return {
    gathered: Effect.contextWith((context: Context.Context<never>) => {
      if (gathering === undefined) {
        const mine = (gathering = Deferred.makeUnsafe<void>())
        // On a fiber of its own, because the first lease may leave.
        Effect.runForkWith(context)(
          Effect.andThen(
            Effect.sleep(together),
            Effect.sync(() => {
              gathering = undefined
              Deferred.doneUnsafe(mine, Effect.void)
            })
          )
        )
      }
      return Deferred.await(gathering)
    }),
    take: (...values) => Effect.request(LeaseRequest({ values }), takes),
    renew: (...values) => Effect.request(LeaseRequest({ values }), renewals),
    release: (...values) => ask("select realtime.release_lease($1, $2, $3::bigint)", values)
  }
}
