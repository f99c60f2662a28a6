/** Runs a callback of the application that may give a value, a Promise or an Effect. */
import * as Effect from "effect/Effect"

/** A thrown error of the class `Refused` rejects the client. Any other defect stays a defect. */
export const eventually = <A, E, R>(
  evaluate: () => A | Promise<A> | Effect.Effect<A, E, R>,
  Refused: abstract new (...fields: never) => E
): Effect.Effect<A, E, R> =>
  Effect.suspend((): Effect.Effect<A, E, R> => {
    const value = evaluate()
    if (Effect.isEffect(value)) return value
    // A callback that gives its value at once costs no turn of the event loop.
    const isThenable = typeof value === "object" && value !== null && "then" in value
    return isThenable ? Effect.promise(() => Promise.resolve(value)) : Effect.succeed(value as A)
  }).pipe(
    Effect.catchDefect((defect) =>
      defect instanceof Refused ? Effect.fail(defect) : Effect.die(defect)
    )
  )
