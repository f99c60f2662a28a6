/** The rule that limits the rows of `Tickets`. */
// #region rule
import { Effect } from "effect"
import { RealtimeServer } from "effect-realtime/server"
import { Tickets } from "./teams.ts"

/** Your user, as your API finds it for a token. */
interface User {
  readonly id: string
  readonly isAdmin: boolean
  readonly teams: ReadonlyArray<string>
}

export const door = (find: (token: string) => Effect.Effect<User | undefined>) =>
  RealtimeServer.layer({
    channels: [Tickets],
    authenticate: ({ token = "" }) =>
      Effect.flatMap(find(token), (user) =>
        user === undefined
          ? Effect.fail(new RealtimeServer.AuthRefused({ code: "auth/invalid" }))
          : Effect.succeed({ identity: user })
      ),
    identityKey: ({ id }) => id,
    rules: ({ onSubscribe }) => [
      onSubscribe(Tickets, ({ identity }) =>
        identity.isAdmin ? true : { where: { team: identity.teams } }
      )
    ]
  })
// #endregion
