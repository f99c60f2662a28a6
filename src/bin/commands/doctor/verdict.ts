/** What a check of `doctor` finds. */
import type { PgClient, PgClientConfig } from "@effect/sql-pg/PgClient"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as Channel from "../../../Channel.ts"

/**
 * - `ok`: it is as it should be.
 * - `fix`: something is to be changed; `cure` says what, where the text does not.
 * - `skipped`: it was not looked at, for a reason that is no fault.
 * - `unknown`: it could not be looked at.
 */
export interface Verdict {
  readonly status: "fix" | "ok" | "skipped" | "unknown"
  readonly text: string
  readonly cure?: string
  /** More of the text, a line for each. */
  readonly lines?: ReadonlyArray<string>
}

export const ok = (text: string): Verdict => ({ status: "ok", text })
export const fix = (text: string, cure?: string): Verdict =>
  cure === undefined ? { status: "fix", text } : { status: "fix", text, cure }
export const skipped = (text: string): Verdict => ({ status: "skipped", text })

/** What the checks look at. */
export interface Patient {
  readonly pool: PgClient
  /** How the pool connects. */
  readonly config: PgClientConfig
  readonly database: Redacted.Redacted
  /** The direct address, where the pool leads through a pooler. */
  readonly listen: Redacted.Redacted | undefined
  readonly schema: string
  /** The role of the nodes. */
  readonly role: string
  /** From this age on an open transaction is to be changed. */
  readonly oldTransaction: Duration.Duration
  readonly definitions: ReadonlyArray<Channel.Definition>
}

export interface Check {
  /** One word or two, in the output and for `--ignore`. */
  readonly name: string
  readonly look: (
    patient: Patient
  ) => Effect.Effect<ReadonlyArray<Verdict> | Verdict, unknown, Scope.Scope>
}
