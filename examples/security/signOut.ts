/** Ends the sessions of a user on every node, and refuses the tokens that the user still has. */
// #region revoke
import { Effect, Layer } from "effect"
import { Jwt, RealtimeServer } from "effect-realtime/server"
import { OrderUpdates } from "../channels.ts"
import { secret } from "./issue.ts"

/** Serve `Door.pipe(Layer.provide(PgNodeBus.layer()))`. */
export const Door = Layer.unwrap(
  Effect.map(secret, (keys) =>
    RealtimeServer.layer({
      channels: [OrderUpdates],
      authenticate: Jwt.authenticate({ keys }),
      authorize: RealtimeServer.allowAll,
      control: true
    })
  )
)

/** Call it on any node, also in the transaction that ends the session in your tables. */
export const signOut = (userId: string) =>
  RealtimeServer.RealtimeServer.use((server) => server.revoke(userId)).pipe(
    Effect.tap(({ missing }) =>
      missing.length === 0
        ? Effect.void
        : Effect.logInfo(`Nodes that did not answer, and read it within 2 s: ${missing.join(", ")}`)
    )
  )
// #endregion
