// #region issue
import { Config, Effect, Redacted } from "effect"
import { SignJWT } from "jose"

export const secret = Config.Redacted("TOKEN_SECRET") // 32 bytes or more

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
