/** Errors of the durable side that several of its modules raise. */
import * as Schema from "effect/Schema"
import { errorText } from "../../../internal/errorText.ts"
import { NotPrimary } from "../link/databaseRefusal.ts"
import { NotInstalled, OutdatedInstall } from "../../PgInstaller.ts"

/**
 * The reader uses another outbox than the pool publishes to: no message would arrive.
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
 * Why durable channels cannot be read, as far as waiting does not fix it.
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
 * The pool failed to answer a replay.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReplayError extends Schema.TaggedError<ReplayError>()("ReplayError", {
  channel: Schema.String,
  /** The error of PostgreSQL or of the connection. */
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `Reading channel "${this.channel}" from the outbox failed: ${errorText(this.cause)}. Check that the pool connects to the primary, as a role that may read realtime.messages.`
  }
}
