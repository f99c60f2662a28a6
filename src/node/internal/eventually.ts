/** What a callback of the application gave, as an Effect. */
import * as Effect from "effect/Effect"
import { AuthRefused } from "../../server/ServerOptions.ts"
import type { Eventually } from "../Options.ts"

/** `AuthRefused` is an answer, however it comes; anything else that is thrown is a defect. */
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
