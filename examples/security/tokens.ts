/** Signing in with JSON Web Tokens: the API of the app makes them, the door checks them. */
// #region issue
import { Config, Effect, Redacted } from "effect"
import { SignJWT } from "jose"

const secret = Config.Redacted("TOKEN_SECRET") // 32 bytes or more, on both sides

/** What your API answers to a page that is signed in: a token of 5 minutes for the socket. */
export const issue = (userId: string) =>
  Effect.gen(function* () {
    const key = new TextEncoder().encode(Redacted.value(yield* secret))
    const token = new SignJWT()
      .setProtectedHeader({ alg: "HS256" })
      .setSubject(userId)
      .setIssuer("https://app.example.com")
      .setAudience("realtime")
      .setIssuedAt()
      .setExpirationTime("5 minutes")
    return yield* Effect.promise(() => token.sign(key))
  })
// #endregion

// #region door
import { Layer } from "effect"
import { jwt, QueryResults, RealtimeServer } from "effect-realtime/server"
import { OrderUpdates, Report } from "../channels.ts"

export const Door = Layer.unwrap(
  Effect.map(secret, (keys) =>
    RealtimeServer.layer({
      channels: [OrderUpdates, Report],
      // The identity is the claim `sub`. A page without a token may bring the cookie.
      authenticate: jwt({
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
