// #region identity
import { Effect } from "effect"
import { AuthRefused, RealtimeServer } from "effect-realtime/server"
import { OrderUpdates, Report } from "./channels.ts"

/** Yours: who the token is for. */
interface User {
  readonly id: string
  readonly queries: ReadonlyArray<string>
}
declare const verify: (token: string) => Effect.Effect<{ user: User; expires: Date } | undefined>

export const Door = RealtimeServer.layer({
  channels: [OrderUpdates, Report],
  authenticate: ({ token }) =>
    Effect.gen(function* () {
      const proof = token === undefined ? undefined : yield* verify(token)
      if (proof === undefined) return yield* new AuthRefused({ code: "auth/invalid" })
      return { identity: proof.user, expires: proof.expires }
    }),
  authorize: ({ definition, identity, params }) =>
    Effect.succeed(definition === OrderUpdates || identity.queries.includes(String(params))),
  identityKey: (user) => user.id
})
// #endregion
