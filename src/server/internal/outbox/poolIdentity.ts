/** The outbox to which the pool of an application leads. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import { isMissing } from "../link/sqlState.ts"
import { openStatement } from "../sql/identity.ts"
import { untraced } from "../tracing.ts"

/** Its identity, asked as every node asks at first. */
export const identityOf = (pool: Pick<PgClient, "unsafe">): Effect.Effect<string | undefined> =>
  pool.unsafe<{ readonly identity: string | null }>(openStatement).pipe(
    untraced,
    Effect.timeout("2 seconds"),
    Effect.map(([row]) => row?.identity ?? undefined),
    // The reader sees an outbox, and the pool does not.
    Effect.catchIf(isMissing, () => Effect.succeed("")),
    // The answer is unknown when the query fails now, or for this role.
    Effect.catch(() => Effect.succeed(undefined))
  )
