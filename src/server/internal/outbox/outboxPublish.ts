/**
 * Publishes to the outbox: one call of `realtime.publish`, in the caller's transaction when there is one,
 * and maps its errors.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { PayloadTooLarge } from "../../../RealtimeError.ts"
import { SourceError } from "../../NotificationSource.ts"
import { NotInstalled } from "../../PgInstaller.ts"
import { maxPayloadBytes } from "../sql/schema.ts"
import { explained } from "../link/databaseRefusal.ts"
import { isDataFault, isMissing, sqlMessage, sqlState } from "../link/sqlState.ts"
import { objects } from "../sql/objects.ts"
import { sentOf } from "../sql/publish.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { traceOfFiber } from "../tracing.ts"

/**
 * The database rejects a message for this channel, or under this key.
 *
 * - `table`: the channel belongs to the triggers of its table, because its subscribers rely on a real
 *   change of a row.
 * - `key`: the key was used on this channel for another payload.
 * - `value`: the database cannot store the payload or the key; `detail` is its message.
 *
 * @category errors
 * @since 0.1.0
 */
export class PublishRefused extends Schema.TaggedError<PublishRefused>()("PublishRefused", {
  channel: Schema.String,
  reason: Schema.Literals(["table", "key", "value"]),
  /** The message of the database, for the reason `value`. */
  detail: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    const { channel, detail = "" } = this
    return {
      table: `Channel "${channel}" is written by the triggers of its table only. Change the table, or publish to a channel of your own.`,
      key: `The key was used on channel "${channel}" for another payload. Make a new key for a new payload.`,
      value: `The database cannot store this message for channel "${channel}": ${detail}. A key has 1-500 bytes of UTF-8, without NUL and without half of a surrogate pair.`
    }[this.reason]
  }
}

/** Why the outbox did not store a message. */
export type OutboxPublishError = PublishRefused | PayloadTooLarge | SourceError

/**
 * Publishes JSON text. Completes with the statement, so within a transaction before its commit. `sent` is
 * compared in the place of the text when the key is there already.
 */
export const publish = (
  sql: SqlClient,
  channel: string,
  json: string,
  key?: string,
  sent?: string
): Effect.Effect<void, OutboxPublishError> => {
  // The driver would change such a key when it encodes it.
  if (key?.isWellFormed() === false) {
    return Effect.fail(notStored(channel, "the key is not well-formed"))
  }
  const message = [channel, json, key ?? null]
  return Effect.zip(objects(sql), traceOfFiber).pipe(
    Effect.flatMap(([client, trace]) => {
      if (sent !== undefined) message.push(sent)
      const call =
        sent === undefined
          ? "realtime.publish($1, $2::text, $3::text)"
          : "realtime.publish_once($1, $2, $3, $4)"
      return trace === undefined
        ? client.unsafe(`select ${call}`, message)
        : client.unsafe(
            `select set_config('realtime.trace', $${message.length + 1}, true), ${call}`,
            [...message, trace]
          )
    }),
    Effect.asVoid,
    Effect.catch((error) => refused(error, channel, json))
  )
}

/** Whether the message with this key is the same one; `undefined` if there is none. */
export const published = (
  sql: SqlClient,
  channel: string,
  json: string,
  key: string,
  sent: string
): Effect.Effect<boolean | undefined, OutboxPublishError> =>
  objects(sql).pipe(
    Effect.flatMap((client) =>
      client.unsafe<{ readonly same: boolean }>(
        `select coalesce(${sentOf("m.match")} = $4, m.payload = $2) as same from realtime.messages m where m.channel = $1 and m.key = $3`,
        [channel, json, key, sent]
      )
    ),
    Effect.map(([row]) => row?.same),
    Effect.catch((error) => refused(error, channel, json))
  )

const notStored = (channel: string, detail: string) =>
  new PublishRefused({ channel, reason: "value", detail })

const refused = (error: SqlError, channel: string, json: string) =>
  Effect.flatMap(SchemaName, (schema) => Effect.fail(faultOf(error, channel, json, schema)))

const faultOf = (
  error: SqlError,
  channel: string,
  json: string,
  schema: string
): OutboxPublishError => {
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
      return isDataFault(error)
        ? notStored(channel, sqlMessage(error))
        : new SourceError({
            operation: "publish",
            channel,
            cause: isMissing(error)
              ? new NotInstalled({ cause: error, schema })
              : new Error(explained(error, schema, "app"), { cause: error })
          })
  }
}
