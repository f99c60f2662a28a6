/** Runs a callback of the application that may give a value, a Promise or an Effect. */
import * as Effect from "effect/Effect"
import { AuthRefused } from "../../server/ServerOptions.ts"
import type { Eventually } from "../Options.ts"

/** A thrown `AuthRefused` rejects the client. Any other defect stays a defect. */
export const eventually = <A>(
  evaluate: () => Eventually<A, AuthRefused>
): Effect.Effect<A, AuthRefused> =>
  Effect.suspend(() => {
    const value = evaluate()
    return Effect.isEffect(value) ? value : Effect.promise(() => Promise.resolve(value))
  }).pipe(
    Effect.catchDefect((defect) =>
      defect instanceof AuthRefused ? Effect.fail(defect) : Effect.die(defect)
    )
  )
