// #region issue
import { Config, Effect, Redacted } from "effect"
import { SignJWT } from "jose"

export const secret = Config.Redacted("TOKEN_SECRET") // at least 32 bytes

/** Your API returns this token to a signed-in page. It is valid for 5 minutes. */
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
