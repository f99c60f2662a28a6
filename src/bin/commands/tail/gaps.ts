/** Why there is a gap, in a sentence for the reader of a terminal: the reason on the wire has several causes. */
import * as Effect from "effect/Effect"
import type { Gap } from "../../../RealtimeEvent.ts"
import { parseDurable } from "../../../internal/cursorText.ts"
import type { OutboxReader, ResetReason } from "../../../server/OutboxReader.ts"

const ofCursor: Partial<Record<ResetReason, string>> = {
  identity:
    "the cursor is of another database, or of this one before it was restored or its objects were installed anew",
  witness: "the event of the cursor was lost in a crash or a restore, or deleted",
  future: "the cursor is of a later state than this database has, as after a crash or a restore"
}

const ofReason: Readonly<Record<string, string>> = {
  retention: "messages were pruned before this run could read them",
  truncate: "all rows of the table were removed",
  invalid:
    "a message does not fit the definition of the channel, or a trigger could not describe a change"
}

/** A cursor from which the reader can go on needs no more than a look. */
const bounds = { events: 1, bytes: 1 }

/** How long the database has to say why. */
const patience = "5 seconds"

/**
 * Why the channel has a gap after a cursor; `undefined` where nothing knows. The reader says on the wire that it
 * cannot go on from there, and knows why.
 */
export const gapCause = (
  reader: OutboxReader["Service"] | undefined,
  channel: string,
  reason: Gap["reason"],
  cursor: string | undefined
): Effect.Effect<string | undefined> => {
  if (reason !== "source") return Effect.succeed(ofReason[reason])
  const isDurable = cursor !== undefined && parseDurable(cursor) !== undefined
  if (reader === undefined || !isDurable) return Effect.succeed(undefined)
  return reader.join(channel, cursor, bounds).pipe(
    Effect.timeout(patience),
    Effect.map((join) => (join.reason === undefined ? undefined : ofCursor[join.reason])),
    Effect.orElseSucceed(() => undefined)
  )
}
