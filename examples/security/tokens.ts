// #region door
import { Effect, Layer } from "effect"
import { Jwt, QueryResults, RealtimeServer } from "effect-realtime/server"
import { OrderUpdates, Report } from "../channels.ts"
import { secret } from "./issue.ts"

export const Door = Layer.unwrap(
  Effect.map(secret, (keys) =>
    RealtimeServer.layer({
      channels: [OrderUpdates, Report],
      // The identity is the claim `sub`. A page without a token may send the cookie.
      authenticate: Jwt.authenticate({
        keys,
        issuer: "https://app.example.com",
        audience: "realtime",
        cookie: "token"
      }),
      authorize: ({ definition, identity, params }) =>
        Effect.succeed(
          definition === OrderUpdates || QueryResults.isOwner(identity, String(params))
        ),
      origins: ["https://app.example.com"]
    })
  )
)
// #endregion
