/** `serve` runs the gateway: a node that needs no code. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import { schemaNameFault, usual } from "../../server/internal/sql/schemaName.ts"
import * as Config from "../gateway/config.ts"
import { joined } from "../gateway/given.ts"
import { settings } from "../gateway/settings.ts"
import { failedBy } from "../shared/database.ts"
import { untilSignal, wrongUsage } from "../shared/exit.ts"
import { flagsOf, type FlagValues, valuesOf } from "../shared/setting.ts"

/** The part with the server, which the help of all commands does not wait for. */
const load = () => import("../gateway/gateway.ts")

const read = (config: Option.Option<string>) =>
  Option.match(config, {
    onNone: () => Effect.succeed<Config.Config>({}),
    onSome: (path) =>
      FileSystem.FileSystem.use((fs) => fs.readFileString(path)).pipe(
        Effect.mapError(() => wrongUsage(`--config: ${path} cannot be read.`)),
        Effect.flatMap((text) => Config.parse(path, text))
      )
  })

/** Errors of what was given, and not of the database or the network. */
const faults: ReadonlySet<unknown> = new Set([
  "ChannelConflict",
  "InvalidBoundary",
  "InvalidGateway",
  "InvalidNats",
  "InvalidOption"
])

const isFault = (error: unknown): error is Error => faults.has(Object(error)._tag)

/** What one flag or its variable says. */
const valueOf = <A>(given: FlagValues, flag: string): A | undefined =>
  Option.getOrUndefined(given[flag] as Option.Option<A>)

const listOf = (given: FlagValues, flag: string): ReadonlyArray<string> =>
  valueOf(given, flag) ?? []

/** Channels and tables of flags are joined by their names. */
const ofOneValue = settings.filter(({ key }) => key !== "channels" && key !== "tables")

const configOf = Effect.fnUntraced(function* (given: FlagValues) {
  const file = yield* read(given["config"] as Option.Option<string>)
  const { origins, ...rest } = yield* valuesOf(ofOneValue, given)
  const listed = origins as ReadonlyArray<string> | undefined
  return yield* Effect.try({
    try: () =>
      joined(file, {
        channels: {
          live: listOf(given, "live"),
          durable: listOf(given, "durable"),
          volatile: listOf(given, "volatile"),
          presence: listOf(given, "presence")
        },
        tables: listOf(given, "table"),
        read: valueOf(given, "read"),
        publish: valueOf(given, "publish"),
        allowAll: valueOf(given, "allow-all"),
        rest: {
          ...rest,
          ...(listed === undefined ? {} : { origins: listed.includes("any") ? "any" : listed })
        }
      }),
    catch: (error) => error
  })
})

export const serveCommand = Command.make(
  "serve",
  { settings: flagsOf(settings) },
  Effect.fnUntraced(
    function* (given) {
      const config = yield* configOf(given.settings)
      const { database, schema = usual } = config
      if (database === undefined) {
        return yield* wrongUsage("serve needs a database: give --database, or set DATABASE_URL.")
      }
      const fault = schemaNameFault(schema)
      if (fault !== undefined) return yield* wrongUsage(`--schema: ${fault}`)
      yield* untilSignal
      const { open } = yield* Effect.promise(load)
      yield* open({ config, database, schema }).pipe(
        Effect.mapError((error) => (isFault(error) ? error : failedBy(schema)(error))),
        Effect.flatMap((url) => Console.log(`ready ${url}`))
      )
      return yield* Effect.never
    },
    Effect.mapError((error) => (isFault(error) ? wrongUsage(error.message) : error)),
    Effect.scoped
  )
).pipe(
  Command.withDescription(
    "Run a gateway: a node with the channels, tables and rules of flags, variables or one file. GET /health answers 200 or 503, GET /metrics in the text format of Prometheus. Prints `ready <url>` once clients can come in."
  ),
  Command.withShortDescription("Run a gateway that needs no code"),
  Command.withExamples([
    {
      command: "effect-realtime serve --allow-all --live news --table orders",
      description: "Open to everybody, for a first look"
    },
    {
      command: "effect-realtime serve --config gateway.json",
      description: "With rules and tokens, see the guide"
    }
  ])
)
