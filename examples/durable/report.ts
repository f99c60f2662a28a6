// #region report
import { Effect } from "effect"
import { QueryResults } from "effect-realtime/server"
import { DurableReport, type Order } from "../channels.ts"

export const start = <E, R>(
  userId: string,
  query: Effect.Effect<ReadonlyArray<typeof Order.Type>, E, R>
) =>
  Effect.gen(function* () {
    const id = QueryResults.newId(userId) // authorize: QueryResults.isOwner(userId, id)
    yield* QueryResults.run(DurableReport(id), query)
    return id // returns at once, and publishes the result on query_results_<id>
  })
// #endregion
