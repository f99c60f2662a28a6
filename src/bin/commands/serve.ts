/** `serve` runs the gateway: a node that needs no code. */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import { schemaNameFault, usual } from "../../server/internal/sql/schemaName.ts"
import * as Config from "../gateway/config.ts"
import { joined, type NameGiven } from "../gateway/given.ts"
import { settings } from "../gateway/settings.ts"
import { warnOfUnknown } from "../gateway/variables.ts"
import { failedBy } from "../shared/cures.ts"
import { type CommandFailed, failed, serverUntilSignal, wrongUsage } from "../shared/exit.ts"
import { say } from "../shared/output.ts"
import { flagsOf, type FlagValues, spelledOf, valuesOf } from "../shared/setting.ts"

/** The part with the server, which the help of all commands does not wait for. */
const load = () =>
  Promise.all([import("../gateway/gateway.ts"), import("../gateway/faults.ts")] as const)

const read = (path: string, place: string) =>
  FileSystem.FileSystem.use((fs) => fs.readFileString(path)).pipe(
    Effect.mapError(() => wrongUsage(`${place}: ${path} cannot be read.`)),
    Effect.flatMap((text) => Config.parse(path, text))
  )

const deliveries = ["live", "durable", "volatile", "presence"] as const

/** Joins the flags, the variables and the file. */
const configOf = Effect.fnUntraced(function* (given: FlagValues) {
  yield* warnOfUnknown
  const spelled = yield* spelledOf(settings, given)
  const by = new Map([...spelled].map(([{ flag }, one]) => [flag, one]))
  const valueOf = <A>(flag: string) => by.get(flag)?.value as A | undefined
  const namesOf = (flag: string): ReadonlyArray<NameGiven> =>
    (valueOf<ReadonlyArray<string>>(flag) ?? []).map((name) => ({
      name,
      place: by.get(flag)!.place
    }))
  const path = valueOf<string>("config")
  const file = path === undefined ? {} : yield* read(path, by.get("config")!.place)
  if (file.database !== undefined && by.has("database")) {
    yield* Effect.logWarning(
      `The database is that of ${by.get("database")!.place}, and not that of ${path}, because a flag and a variable are stronger than the file.`
    )
  }
  const ofOneValue = new Map(
    [...spelled].filter(([{ key }]) => key !== "channels" && key !== "tables")
  )
  const { origins, ...rest } = valuesOf(ofOneValue)
  const listed = origins as ReadonlyArray<string> | undefined
  const places = [...ofOneValue].map(([{ key }, { place }]) => [String(key), place] as const)
  return yield* Effect.try({
    try: () =>
      joined(
        file,
        {
          channels: deliveries.flatMap((delivery) =>
            namesOf(delivery).map(({ name, place }) => ({ name, place, delivery }))
          ),
          tables: namesOf("table"),
          read: valueOf("read"),
          publish: valueOf("publish"),
          allowAll: valueOf("allow-all"),
          rest: {
            ...rest,
            ...(listed === undefined ? {} : { origins: listed.includes("any") ? "any" : listed })
          },
          places: new Map(places)
        },
        path
      ),
    catch: (error) => error
  })
})

export const serveCommand = Command.make(
  "serve",
  { settings: flagsOf(settings) },
  Effect.fnUntraced(
    function* (given) {
      const config = yield* configOf(given.settings)
      const { database, listen, schema = usual } = config
      if (database === undefined) {
        return yield* wrongUsage("serve needs a database: give --database, or set DATABASE_URL.")
      }
      const fault = schemaNameFault(schema)
      if (fault !== undefined) return yield* wrongUsage(`${config.placeOf("schema")}: ${fault}`)
      yield* serverUntilSignal
      const [{ open }, { faultOf, gatewaySentence }] = yield* Effect.promise(load)
      yield* open({ config, database, schema }).pipe(
        Effect.catch((error): Effect.Effect<never, CommandFailed | Config.InvalidGateway> => {
          const fault = faultOf(config, error)
          if (fault !== undefined) return Effect.fail(fault)
          const sentence = gatewaySentence(error)
          return sentence === undefined
            ? failedBy({ database, listen: Option.fromUndefinedOr(listen), schema }, "node")(error)
            : Effect.fail(failed(sentence))
        }),
        Effect.flatMap((url) => say(`ready ${url}`))
      )
      return yield* Effect.never
    },
    Effect.mapError((error) =>
      error instanceof Config.InvalidGateway ? wrongUsage(error.message) : error
    ),
    Effect.scoped
  )
).pipe(
  Command.withDescription(
    "Run a gateway: a node with the channels, tables and rules of flags, variables or one file. GET /health answers 200 or 503, GET /metrics in the text format of Prometheus. Prints `ready <url>` once clients can come in. Secrets have variables and no flags: REALTIME_JWT_SECRET, REALTIME_NATS_PASSWORD, REALTIME_NATS_TOKEN."
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
