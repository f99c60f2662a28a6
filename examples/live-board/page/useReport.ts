/**
 * A long query and its result, also across reloads.
 *
 * The tab keeps the query's id with a cursor from before the query. The result is after that cursor, so
 * the page receives it even if the server published it during a reload.
 */
import type { Channel } from "effect-realtime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { useEffect, useState } from "react"
import { reportResult } from "../channels.ts"
import { startReport } from "./api.ts"
import { store } from "./store.ts"
import { useAction } from "./useAction.ts"

const Query = Schema.fromJsonString(Schema.Struct({ id: Schema.String, cursor: Schema.String }))
type Query = typeof Query.Type

const key = "live-board report"

const recall = (): Query | undefined =>
  Option.getOrUndefined(Schema.decodeUnknownOption(Query)(sessionStorage.getItem(key)))

const remember = (query: Query): void =>
  sessionStorage.setItem(key, Schema.encodeSync(Query)(query))

type Result = Channel.Payload<typeof reportResult>

interface Answer {
  readonly query: Query
  readonly result: Result
}

const failed = (query: Query, error: unknown): Answer => ({
  query,
  result: { status: "error", error }
})

const lost = "The answer is not kept any more. Run the report again."

export const useReport = () => {
  const [query, setQuery] = useState(recall)
  const [answer, setAnswer] = useState<Answer>()
  const asking = useAction()

  useEffect(() => {
    if (query === undefined) return undefined
    return store.listen(reportResult(query.id), (result) => setAnswer({ query, result }), {
      from: query.cursor,
      // The cursor is too old or of another database.
      onGap: () => setAnswer((known) => (known?.query === query ? known : failed(query, lost))),
      onError: (error) => setAnswer(failed(query, error instanceof Error ? error.message : error))
    })
  }, [query])

  const run = () =>
    asking.run(async () => {
      const id = crypto.randomUUID().slice(0, 8)
      const query = { id, cursor: await startReport(id) }
      remember(query)
      setQuery(query)
    })

  return {
    run,
    asking: asking.running,
    /** Why the server did not start the query. */
    refused: asking.error,
    channel: query && reportResult(query.id).name,
    /** `undefined` until the result arrives. */
    result: answer?.query === query ? answer?.result : undefined
  }
}
