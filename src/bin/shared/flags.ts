/** The flags that several commands have. */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Flag from "effect/cli/Flag"
import { schemaNameFault, usual } from "../../server/internal/sql/schemaName.ts"
import { described, variableOf } from "./setting.ts"

const SchemaName = Schema.NonEmptyString.check(Schema.makeFilter(schemaNameFault))

/** The schema of the objects. */
export const schemaFlag = Flag.String("schema").pipe(
  Flag.withMetavar("<name>"),
  Flag.withDescription(described("schema", `The schema of the objects, default ${usual}`)),
  Flag.filter(
    (name) => schemaNameFault(name) === undefined,
    (name) => schemaNameFault(name)!
  ),
  Flag.withFallbackConfig(Config.schema(SchemaName, variableOf("schema"))),
  Flag.withDefault(usual)
)

/** A flag without a value, which is off by default. */
export const switchFlag = (name: string, what: string) =>
  Flag.Boolean(name).pipe(Flag.withoutNegation, Flag.withDescription(what), Flag.withDefault(false))

/** A text. An empty one is mostly a variable of a shell without a value. */
export const textFlag = (name: string) =>
  Flag.String(name).pipe(
    Flag.filter(
      (text) => text !== "",
      () => "a text that is not empty"
    )
  )

/** The URL of the database, which holds a password. */
export const databaseFlag = Flag.Redacted("database").pipe(
  Flag.withMetavar("<url>"),
  Flag.withDescription("The URL of the database (DATABASE_URL)"),
  Flag.withFallbackConfig(Config.Redacted("DATABASE_URL"))
)

/** A duration with its unit, with an end, of at least so many milliseconds (default 0). */
export const durationFlag = (name: string, least = 0) =>
  Flag.String(name).pipe(
    Flag.withMetavar("<duration>"),
    Flag.filterMap(
      (text) =>
        Option.filter(
          Duration.fromInput(text as Duration.Input),
          (duration) => Duration.isFinite(duration) && Duration.toMillis(duration) >= least
        ),
      () =>
        least === 0
          ? 'a duration such as "36 hours"'
          : `a duration of at least ${least} milliseconds, such as "5 seconds"`
    )
  )

/** The direct address beside that of a pooler. */
export const listenFlag = Flag.Redacted("listen").pipe(
  Flag.withMetavar("<url>"),
  Flag.withDescription(
    described(
      "listen",
      "The direct URL of the database where --database leads through a transaction pooler"
    )
  ),
  Flag.withFallbackConfig(Config.Redacted(variableOf("listen"))),
  Flag.optional
)
