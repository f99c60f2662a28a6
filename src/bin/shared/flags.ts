/** The flags that several commands have. */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Flag from "effect/cli/Flag"
import { schemaNameFault, usual } from "../../server/internal/sql/schemaName.ts"

/** The schema of the objects. */
export const schemaFlag = Flag.String("schema").pipe(
  Flag.withMetavar("<name>"),
  Flag.withDescription("The schema of the objects"),
  Flag.filter(
    (name) => schemaNameFault(name) === undefined,
    (name) => schemaNameFault(name)!
  ),
  Flag.withDefault(usual)
)

/** The URL of the database, which holds a password. */
export const databaseFlag = Flag.Redacted("database").pipe(
  Flag.withMetavar("<url>"),
  Flag.withDescription("The URL of the database, default that of DATABASE_URL"),
  Flag.withFallbackConfig(Config.Redacted("DATABASE_URL"))
)

/** A duration with its unit. */
export const durationFlag = (name: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("<duration>"),
    Flag.filterMap(
      (text) => Duration.fromInput(text as Duration.Input),
      (text) => `--${name} is a duration such as "36 hours", not "${text}".`
    )
  )

/** The direct address beside that of a pooler. */
export const listenFlag = Flag.Redacted("listen").pipe(
  Flag.withMetavar("<url>"),
  Flag.withDescription(
    "The direct URL of the database where --database leads through a transaction pooler"
  ),
  Flag.optional
)
