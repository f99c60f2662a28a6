// #region client
import { PgClient } from "@effect/sql-pg"
import { Config, Effect, Layer } from "effect"
import { PgTls } from "effect-realtime/server"

/** DATABASE_URL=postgres://app:secret@db.example.com/app?sslmode=verify-full&sslrootcert=rds.pem */
export const Database = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* Config.Redacted("DATABASE_URL")
    return PgClient.layer(yield* PgTls.config(url))
  })
)
// #endregion
