/** Looks once, or again and again, and prints what was seen. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import type { Keys } from "../../../server/internal/bus/bus.ts"
import * as NotifyCarrier from "../../../server/internal/bus/notifyCarrier.ts"
import * as PgNotificationSource from "../../../server/PgNotificationSource.ts"
import { inDatabase, sentenceOf } from "../../shared/cures.ts"
import type { Place } from "../../shared/database.ts"
import { type NatsGiven, natsSettings, overNats } from "../../shared/nats.ts"
import { type FlagValues, spelledOf, valuesOf } from "../../shared/setting.ts"
import { untilSignal } from "../../shared/exit.ts"
import { own, say, tell } from "../../shared/output.ts"
import { styles } from "../../shared/styles.ts"
import { looking, type Over, type Seen } from "./look.ts"
import { linesOf } from "./text.ts"

interface ShowOptions extends Place {
  readonly watch: boolean
  readonly interval: Duration.Duration
  readonly json: boolean
  readonly listen: Option.Option<Redacted.Redacted>
  readonly nats: FlagValues
}

/** How long a refusal of PostgreSQL must last before the command ends. */
const startPatience = "500 millis"

const printer = ({ json, watch }: ShowOptions) =>
  TerminalCapabilities.useSync(({ canAnimate, canColor }) => {
    const style = styles(canColor)
    return (seen: Seen): Effect.Effect<void> => {
      if (json) {
        return Effect.flatMap(Clock.currentTimeMillis, (now) =>
          say(JSON.stringify({ at: new Date(now).toISOString(), ...seen }))
        )
      }
      const lines = linesOf(seen, style)
      if (watch && canAnimate) {
        // From the top, each line over the one before, and then nothing.
        const [first = "", ...rest] = lines.map((line) => `${line}${own("[K")}`)
        return say(`${own("[H")}${first}`, ...rest, own("[J"))
      }
      return say(...lines, ...(watch ? [""] : []))
    }
  })

/** The bus over PostgreSQL, or over NATS where its servers are given. */
const overOf = Effect.fnUntraced(function* ({ listen, nats, schema }: ShowOptions) {
  const { nats: given } = valuesOf(yield* spelledOf(natsSettings, nats)) as {
    readonly nats?: NatsGiven
  }
  if (given === undefined) {
    const source = yield* PgNotificationSource.make({
      startPatience,
      listenUrl: Option.getOrUndefined(listen)
    })
    const sql = yield* PgClient.PgClient
    const carrier = () => NotifyCarrier.make(source, sql)
    return { name: "notify", carrier } satisfies Over<never, unknown>
  }
  const { carrier, connect } = yield* overNats(given)
  // A question has no use without an answer.
  const connection = yield* connect({ startWithout: false })
  return {
    name: "nats",
    carrier: (keys: Keys) =>
      Effect.succeed(carrier.make(connection, schema, () => keys.current()?.identity))
  } satisfies Over<never, unknown>
})

export const show = (given: ShowOptions) =>
  Effect.gen(function* () {
    const look = yield* looking(yield* overOf(given))
    const print = yield* printer(given)
    const first = yield* look
    if (!given.watch) return yield* print(first)
    yield* untilSignal
    yield* print(first)
    const again = Effect.flatMap(look, print).pipe(
      // The database may come back.
      Effect.catch((error) =>
        Effect.flatMap(sentenceOf(given, "node")(error), (text) => tell(...text.split("\n")))
      )
    )
    return yield* Effect.forever(Effect.andThen(Effect.sleep(given.interval), again))
  }).pipe(Effect.scoped, inDatabase(given, "node"))
