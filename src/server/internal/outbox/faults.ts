/** Errors of the durable side that more than one of its modules raises. */
import * as Schema from "effect/Schema"
import { NotPrimary } from "../link/databaseRefusal.ts"
import { NotInstalled, OutdatedInstall } from "../../PgInstaller.ts"

/**
 * The reader stands in another outbox than the one that the pool publishes to: nothing would arrive.
 *
 * @category errors
 * @since 0.1.0
 */
export class OtherOutbox extends Schema.TaggedError<OtherOutbox>()("OtherOutbox", {}) {
  override get message(): string {
    return "The reader stands in another database than the pool: what is published would never be read. Give readUrl (listenUrl of the class of ./node) the direct address of the database that the pool leads to."
  }
}

/**
 * Why durable channels cannot be read, as far as waiting does not help.
 *
 * @category errors
 * @since 0.1.0
 */
export type OutboxFault = NotInstalled | OutdatedInstall | NotPrimary | OtherOutbox

export const isFault = (error: unknown): error is OutboxFault =>
  error instanceof NotInstalled ||
  error instanceof OutdatedInstall ||
  error instanceof NotPrimary ||
  error instanceof OtherOutbox

/**
 * The pool did not answer a replay as it must.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReplayError extends Schema.TaggedError<ReplayError>()("ReplayError", {
  channel: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const cause = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `Reading channel "${this.channel}" from the outbox failed: ${cause}. Check that the pool connects to the primary, as a role that may read realtime.messages.`
  }
}
