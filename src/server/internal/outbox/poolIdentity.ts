/** The identity of the outbox that the pool leads to, asked as every node asks at first. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import { isMissing } from "../link/sqlState.ts"
import { openStatement } from "../sql/identity.ts"

export const identityOf = (pool: Pick<PgClient, "unsafe">): Effect.Effect<string | undefined> =>
  pool.unsafe<{ readonly identity: string | null }>(openStatement).pipe(
    Effect.timeout("2 seconds"),
    Effect.map(([row]) => row?.identity ?? undefined),
    // The reader sees an outbox, and the pool does not.
    Effect.catchIf(isMissing, () => Effect.succeed("")),
    // The answer is unknown when the query fails now, or for this role.
    Effect.catch(() => Effect.succeed(undefined))
  )
