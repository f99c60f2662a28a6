/** A counter on one line of a terminal; in a pipe it is silent. */
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"

/** Counts between two prints: printing each would take longer than the work. */
const step = 100

export const progress = (text: (count: number) => string) =>
  Effect.gen(function* () {
    const stdio = yield* Stdio.Stdio
    if (!(yield* stdio.stderrIsTerminal)) return { at: () => Effect.void, end: Effect.void }
    const print = (line: string) =>
      Effect.ignore(
        Stream.run(Stream.make(`\r\u001b[K${line}`), stdio.stderr({ endOnDone: false }))
      )
    return {
      at: (count: number): Effect.Effect<void> =>
        count % step === 0 ? print(text(count)) : Effect.void,
      end: print("")
    }
  })
