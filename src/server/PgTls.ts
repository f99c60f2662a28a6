/**
 * TLS to PostgreSQL, as a connection string asks for it. The URL is read as libpq reads it.
 *
 * `sslmode` is `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`; `ssl=true` is
 * `require`. Only the two `verify` modes check the server's identity. The trusted authorities are those
 * of `sslrootcert` (a file, or `system`), else those that Node trusts. Without these parameters the
 * connection is not encrypted. The link, the reader and the class of `./node` read their URLs this way.
 * `PgClient.layer({ url })` does not: pass it `config`.
 *
 * @since 0.1.0
 */
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { InvalidDatabaseUrl } from "./internal/link/databaseUrl.ts"
import { secured } from "./internal/link/pgLink.ts"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  SslMode
} from "./internal/link/databaseUrl.ts"

/**
 * Where to connect, and with which TLS: fields of the configuration of a `PgClient`. `username` is the
 * user of the operating system when neither the URL nor the environment names one.
 *
 * @category models
 * @since 0.1.0
 */
export type Config = Pick<PgClientConfig, "url" | "ssl" | "stream" | "username">

/**
 * The configuration for `PgClient.layer` that follows the URL's TLS parameters. Reads the files that the
 * URL names once, now. Fails before it connects when the URL cannot be used: an unknown `sslmode` or
 * `ssl*` parameter, several hosts, or a missing file.
 *
 * **Example** (A client whose server has to prove itself)
 *
 * ```ts
 * const Database = Layer.unwrap(
 *   Effect.gen(function* () {
 *     const url = yield* Config.Redacted("DATABASE_URL") // ...?sslmode=verify-full&sslrootcert=rds.pem
 *     return PgClient.layer(yield* PgTls.config(url))
 *   })
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const config = (
  url: Redacted.Redacted | string
): Effect.Effect<Config, InvalidDatabaseUrl> =>
  Effect.suspend(() =>
    Effect.fromResult(
      Result.map(
        secured({ url: typeof url === "string" ? Redacted.make(url) : url }),
        ({ connection }): Config => connection
      )
    )
  )
