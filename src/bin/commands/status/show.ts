/** Looks once, or again and again, and prints what was seen. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as PgNotificationSource from "../../../server/PgNotificationSource.ts"
import { inDatabase, type Place, sentenceOf } from "../../shared/database.ts"
import { untilSignal } from "../../shared/exit.ts"
import { styles } from "../../shared/styles.ts"
import { looking, type Seen } from "./look.ts"
import { linesOf } from "./text.ts"

interface ShowOptions extends Place {
  readonly watch: boolean
  readonly interval: Duration.Duration
  readonly json: boolean
  readonly listen: Option.Option<Redacted.Redacted>
}

/** How long a refusal of PostgreSQL must last before the command ends. */
const startPatience = "500 millis"

const printer = ({ json, watch }: ShowOptions) =>
  TerminalCapabilities.useSync(({ canAnimate, canColor }) => {
    const style = styles(canColor)
    return (seen: Seen): Effect.Effect<void> => {
      if (json) {
        return Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Console.log(JSON.stringify({ at: new Date(now).toISOString(), ...seen }))
        )
      }
      const lines = linesOf(seen, style)
      if (watch && canAnimate) {
        // From the top, each line over the one before, and then nothing.
        return Console.log(`\u001b[H${lines.map((line) => `${line}\u001b[K\n`).join("")}\u001b[J`)
      }
      return Console.log([...lines, ...(watch ? [""] : [])].join("\n"))
    }
  })

export const show = (given: ShowOptions) =>
  Effect.gen(function* () {
    const look = yield* looking
    const print = yield* printer(given)
    const first = yield* look
    if (!given.watch) return yield* print(first)
    yield* untilSignal
    yield* print(first)
    const again = Effect.flatMap(look, print).pipe(
      // The database may come back.
      Effect.catch((error) => Console.error(sentenceOf(error, given.schema)))
    )
    return yield* Effect.forever(Effect.andThen(Effect.sleep(given.interval), again))
  }).pipe(
    Effect.provide(
      PgNotificationSource.layer({
        startPatience,
        listenUrl: Option.getOrUndefined(given.listen)
      })
    ),
    Effect.scoped,
    inDatabase(given)
  )
