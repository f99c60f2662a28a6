/**
 * Publishing to the outbox: one call of `realtime.publish`, in the caller's transaction when there is
 * one, and what its errors mean.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import { PayloadTooLarge } from "../../RealtimeError.ts"
import { SourceError } from "../NotificationSource.ts"
import { maxPayloadBytes } from "./sql/schema.ts"
import { sqlMessage, sqlState } from "./sqlState.ts"

/**
 * The database does not take a message for this channel, or not under this key.
 *
 * - `table`: the channel belongs to the triggers of its table, because who reads it trusts that a row
 *   has really changed.
 * - `key`: the key was used on this channel for another payload.
 *
 * @category errors
 * @since 0.1.0
 */
export class PublishRefused extends Schema.TaggedError<PublishRefused>()("PublishRefused", {
  channel: Schema.String,
  reason: Schema.Literals(["table", "key"])
}) {
  override get message(): string {
    return this.reason === "table"
      ? `Channel "${this.channel}" is written by the triggers of its table only. Change the table, or publish to a channel of your own.`
      : `The key was used on channel "${this.channel}" for another payload. Make a new key for a new payload.`
  }
}

export type OutboxPublishError = PublishRefused | PayloadTooLarge | SourceError

/** Publishes JSON text; completes when the statement did, so within a transaction before its commit. */
export const publish = (
  sql: SqlClient,
  channel: string,
  json: string,
  key: string | undefined
): Effect.Effect<void, OutboxPublishError> =>
  sql`select realtime.publish(${channel}, ${json}::text, ${key ?? null}::text)`.pipe(
    Effect.asVoid,
    Effect.mapError((error) => {
      switch (sqlState(error)) {
        case "RT002":
          return new PublishRefused({ channel, reason: "table" })
        case "RT003":
          return new PayloadTooLarge({
            channel,
            bytes: Buffer.byteLength(json),
            limit: maxPayloadBytes
          })
        case "RT004":
          return new PublishRefused({ channel, reason: "key" })
        default:
          return new SourceError({
            operation: "notify",
            channel,
            cause: new Error(sqlMessage(error), { cause: error })
          })
      }
    })
  )
