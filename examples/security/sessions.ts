/** Sign-in with a table of sessions: the token or a cookie holds the session id. */
// #region identity
import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import { Cookies } from "effect/http"
import { RealtimeServer } from "effect-realtime/server"
import { OrderUpdates, Report } from "../channels.ts"

/** Your session: its user and its end. */
interface Session {
  readonly userId: string
  readonly queries: ReadonlyArray<string>
  readonly expires: Date
}

const find = (id: string) =>
  PgClient.PgClient.use(
    (sql) => sql<Session>`select user_id as "userId", queries, expires from sessions
      where id = ${id} and expires > now()`
  )

const authenticate = ({ headers, token }: RealtimeServer.Credentials) =>
  Effect.gen(function* () {
    const id = token ?? Cookies.parseHeader(headers.cookie ?? "")["session"]
    if (id === undefined) return yield* new RealtimeServer.AuthRefused({ code: "auth/required" })
    const [session] = yield* Effect.orDie(find(id)) // the client receives server/internal
    if (session === undefined)
      return yield* new RealtimeServer.AuthRefused({ code: "auth/invalid" })
    return { identity: session, expires: session.expires }
  })

export const Door = RealtimeServer.layer({
  channels: [OrderUpdates, Report],
  authenticate,
  authorize: ({ definition, identity, params }) =>
    Effect.succeed(definition === OrderUpdates || identity.queries.includes(String(params))),
  identityKey: ({ userId }) => userId
})
// #endregion
