/** `serve` runs the gateway: a node that needs no code. */
import * as ConfigFrom from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { gateway as Defaults } from "../../internal/defaults.ts"
import { schemaNameFault, usual } from "../../server/internal/sql/schemaName.ts"
import * as Config from "../gateway/config.ts"
import { joined } from "../gateway/given.ts"
import { failedBy } from "../shared/database.ts"
import { untilSignal, wrongUsage } from "../shared/exit.ts"
import { databaseFlag } from "../shared/flags.ts"

/** The part with the server, which the help of all commands does not wait for. */
const load = () => import("../gateway/gateway.ts")

/** The variable of a flag: REALTIME_JWT_KEYS for --jwt-keys. */
const variableOf = (flag: string): string => `REALTIME_${flag.toUpperCase().replaceAll("-", "_")}`

const described = (name: string, text: string): string => `${text} (${variableOf(name)})`

const text = (name: string, metavar: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar(metavar),
    Flag.withDescription(described(name, description)),
    Flag.withFallbackConfig(ConfigFrom.String(variableOf(name))),
    Flag.optional
  )

const isOpen = ["any", "signed-in"] as const

const access = (name: string, description: string) =>
  Flag.Literals(name, isOpen).pipe(
    Flag.withDescription(described(name, description)),
    Flag.withFallbackConfig(ConfigFrom.Literals(isOpen, variableOf(name))),
    Flag.optional
  )

/** May be given several times; the variable has commas between them. */
const names = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("<name>"),
    Flag.withDescription(described(name, `${description}; may be given several times`)),
    Flag.atLeast(0)
  )

/** The names of a flag, else those of its variable. */
const namesOf = (name: string, given: ReadonlyArray<string>) =>
  given.length > 0
    ? Effect.succeed(given)
    : Effect.map(
        ConfigFrom.option(ConfigFrom.String(variableOf(name))),
        Option.match({
          onNone: (): ReadonlyArray<string> => [],
          onSome: (list) =>
            list
              .split(",")
              .map((one) => one.trim())
              .filter((one) => one !== "")
        })
      )

const flags = {
  config: text("config", "<file>", "A file of JSON with channels, tables, rules and more"),
  database: Flag.optional(databaseFlag),
  schema: text("schema", "<name>", `The schema of the objects, default ${usual}`),
  host: text("host", "<address>", `The address to listen on, default ${Defaults.host}`),
  port: Flag.Int("port").pipe(
    Flag.withMetavar("<n>"),
    Flag.withDescription(
      described("port", `Its port, default ${Defaults.port}; 0 picks a free one`)
    ),
    Flag.withFallbackConfig(ConfigFrom.Int(variableOf("port"))),
    Flag.optional
  ),
  origin: names("origin", "A page that may connect, default those of the same origin; or any"),
  live: names("live", "A live channel"),
  durable: names("durable", "A durable channel"),
  volatile: names("volatile", "A volatile channel"),
  presence: names("presence", "A presence channel"),
  table: names("table", "A table whose changes clients see"),
  read: access("read", "Which clients may read the channels and tables of flags"),
  publish: access("publish", "Which clients may publish to the channels of flags"),
  allowAll: Flag.Boolean("allow-all").pipe(
    Flag.withoutNegation,
    Flag.withDescription("Every client may use what has no rule"),
    Flag.withDefault(false)
  ),
  jwtKeys: text("jwt-keys", "<url>", "The https address of the keys that tokens are signed with"),
  jwtIssuer: text("jwt-issuer", "<text>", "The issuer of tokens, or any"),
  jwtAudience: text("jwt-audience", "<text>", "The audience of tokens, or any"),
  install: Flag.Boolean("install").pipe(
    Flag.withDescription("Install what tables and durable channels need, where the role may"),
    Flag.withDefault(true)
  )
}

const secret = ConfigFrom.option(ConfigFrom.Redacted(variableOf("jwt-secret")))

/** The keys of a record whose value is there. */
const there = <A extends object>(record: A): { [K in keyof A]?: Exclude<A[K], undefined> } =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as never

const jwtOf = Effect.fnUntraced(function* (
  file: Config.Jwt | undefined,
  given: { readonly [K in "jwtAudience" | "jwtIssuer" | "jwtKeys"]: Option.Option<string> }
) {
  const jwt = there({
    ...file,
    secret: Option.getOrUndefined(yield* secret) ?? file?.secret,
    keys: Option.getOrUndefined(given.jwtKeys) ?? file?.keys,
    issuer: Option.getOrUndefined(given.jwtIssuer) ?? file?.issuer,
    audience: Option.getOrUndefined(given.jwtAudience) ?? file?.audience
  })
  return Object.keys(jwt).length === 0 ? undefined : jwt
})

const read = (config: Option.Option<string>) =>
  Option.match(config, {
    onNone: () => Effect.succeed<Config.Config>({}),
    onSome: (path) =>
      FileSystem.FileSystem.use((fs) => fs.readFileString(path)).pipe(
        Effect.mapError(() => wrongUsage(`--config: ${path} cannot be read.`)),
        Effect.flatMap((text) => Config.parse(path, text))
      )
  })

export const serveCommand = Command.make(
  "serve",
  flags,
  Effect.fnUntraced(
    function* (given) {
      const file = yield* read(given.config)
      const origins = yield* namesOf("origin", given.origin)
      const { durable, live, presence, table, volatile } = given
      const channels = {
        live: yield* namesOf("live", live),
        durable: yield* namesOf("durable", durable),
        volatile: yield* namesOf("volatile", volatile),
        presence: yield* namesOf("presence", presence)
      }
      const jwt = yield* jwtOf(file.jwt, given)
      const tables = yield* namesOf("table", table)
      const config = yield* Effect.try({
        try: () =>
          joined(file, {
            channels,
            tables,
            read: Option.getOrUndefined(given.read),
            publish: Option.getOrUndefined(given.publish),
            allowAll: given.allowAll,
            rest: there({
              host: Option.getOrUndefined(given.host),
              port: Option.getOrUndefined(given.port),
              origins: origins.length === 0 ? undefined : origins.includes("any") ? "any" : origins,
              jwt
            })
          }),
        catch: (error) => error
      })
      const database = Option.getOrUndefined(given.database) ?? config.database
      if (database === undefined) {
        return yield* wrongUsage("serve needs a database: give --database, or set DATABASE_URL.")
      }
      const schema = Option.getOrUndefined(given.schema) ?? config.schema ?? usual
      const fault = schemaNameFault(schema)
      if (fault !== undefined) return yield* wrongUsage(`--schema: ${fault}`)
      yield* untilSignal
      const { open } = yield* Effect.promise(load)
      yield* open({ config, database, schema, installs: given.install }).pipe(
        Effect.mapError((error) =>
          error instanceof Config.InvalidGateway ? error : failedBy(schema)(error)
        ),
        Effect.flatMap((url) => Console.log(`ready ${url}`))
      )
      return yield* Effect.never
    },
    Effect.mapError((error) =>
      error instanceof Config.InvalidGateway ? wrongUsage(error.message) : error
    ),
    Effect.scoped,
    Effect.provide(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)]))
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
