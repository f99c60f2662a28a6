/**
 * What the keys of the bus are made from, as the database has it: read at the start, every 10 s, and when a
 * text arrives that they do not decrypt. So a node notices a rotation of the secret.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { errorText } from "../../../internal/errorText.ts"
import { NotInstalled, OutdatedInstall } from "../../PgInstaller.ts"
import { explained } from "../link/databaseRefusal.ts"
import { isForbidden, isMissing } from "../link/sqlState.ts"
import { Outage } from "../outage.ts"
import { secretsStatement } from "../sql/busSecret.ts"
import { openStatement } from "../sql/identity.ts"
import { objects } from "../sql/objects.ts"
import { schemaVersion } from "../sql/schema.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { untraced } from "../tracing.ts"
import type { Keys } from "./bus.ts"
import { BusForbidden } from "./busErrors.ts"
import type { Secrets } from "./dayKey.ts"

/** Milliseconds between two reads. */
const every = 10_000

/** Milliseconds that the database has for one. */
const timeout = 5000

interface SecretsRow {
  readonly identity: string | null
  readonly version: number
  readonly secrets: ReadonlyArray<string>
  readonly lasting: string | null
}

/**
 * Completes with the first read, or when the database could not be reached. Fails when the objects are
 * missing or of an earlier version, or when the role may not read the secret.
 */
export const make = (
  sql: PgClient
): Effect.Effect<Keys, NotInstalled | OutdatedInstall | BusForbidden, Scope.Scope> =>
  Effect.gen(function* () {
    const schema = yield* SchemaName
    const client = yield* objects(sql)
    let current: Secrets | undefined
    const lasting = Deferred.makeUnsafe<string>()
    const outage = new Outage({
      lost: "The secret of the bus cannot be read",
      back: "The secret of the bus is read again"
    })

    const read = client.unsafe<SecretsRow>(secretsStatement(openStatement)).pipe(
      untraced,
      Effect.timeout(timeout),
      Effect.tap(([row]) =>
        Effect.sync(() => {
          // None on a standby: the last ones go on to hold.
          const identity = row?.identity ?? undefined
          if (row !== undefined && identity !== undefined && row.secrets.length > 0) {
            current = { identity, secrets: row.secrets }
            if (row.lasting !== null) Deferred.doneUnsafe(lasting, Effect.succeed(row.lasting))
          }
        })
      )
    )
    const again = read.pipe(
      Effect.andThen(outage.recovered),
      Effect.catch((error) =>
        outage.failing(
          isMissing(error) ? new NotInstalled({ schema }).message : explained(error, schema)
        )
      ),
      Effect.catchDefect((defect) => outage.failing(errorText(defect), Cause.die(defect))),
      Effect.annotateLogs("component", "effect-realtime bus")
    )
    const refusal = (error: unknown): NotInstalled | OutdatedInstall | BusForbidden | undefined => {
      // What an earlier version says to a call of this one.
      if (isMissing(error)) return new NotInstalled({ cause: error as SqlError, schema })
      if (isForbidden(error)) return new BusForbidden({ schema })
      return undefined
    }
    yield* read.pipe(
      Effect.flatMap(([row]) =>
        row !== undefined && row.version < schemaVersion
          ? Effect.fail(
              new OutdatedInstall({ installed: row.version, needed: schemaVersion, schema })
            )
          : Effect.void
      ),
      Effect.catch((error) => {
        const refused = error instanceof OutdatedInstall ? error : refusal(error)
        return refused === undefined ? again : Effect.fail(refused)
      })
    )
    yield* Effect.forkScoped(Effect.repeat(again, Schedule.spaced(every)))
    return { current: () => current, lasting: Deferred.await(lasting), again }
  })
