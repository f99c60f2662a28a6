/** The database of a command: where it is, and its connections. `cures` says what to do where it refuses. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import { SchemaName } from "../../server/internal/sql/schemaName.ts"
import * as PgTls from "../../server/PgTls.ts"
import { wrongUsage } from "./exit.ts"

/** Where the objects of a command are. */
export interface Place {
  readonly database: Redacted.Redacted
  readonly schema: string
  /** The direct address beside that of a pooler. */
  readonly listen?: Option.Option<Redacted.Redacted>
}

/** How a command connects by a URL; ends it where that is no URL that can be used. */
const configOf = (url: Redacted.Redacted, place = "") =>
  Effect.mapError(PgTls.config(url), ({ message }) => wrongUsage(`${place}${message}`))

/** A pool of few connections, and the schema of the objects. Connects at the first statement. */
export const layerDatabase = ({ database, listen, schema }: Place) =>
  Layer.merge(
    Layer.unwrap(
      Effect.gen(function* () {
        const config = yield* configOf(database)
        if (listen !== undefined && Option.isSome(listen))
          yield* configOf(listen.value, "--listen: ")
        return PgClient.layer({
          ...config,
          maxConnections: 2,
          applicationName: "effect-realtime cli"
        })
      })
    ),
    Layer.succeed(SchemaName, schema)
  )
