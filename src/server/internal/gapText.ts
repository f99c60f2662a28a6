/**
 * Gaps as the database writes them: texts among the payloads of a channel that are no payload.
 *
 * Each is JSON, so that tools which read NOTIFY or the outbox by themselves go on, and begins with a
 * space, which nothing that makes JSON writes: a payload never looks like one. The reader of a channel
 * compares the text before it parses it.
 */

/** What is told when no event can say what happened. */
export const gapTexts = {
  /** All rows of the table are gone. */
  truncate: ` {"operation":"TRUNCATE"}`,
  /** Changes may have passed by the triggers: `realtime.tell_gap`. */
  source: ` {"operation":"GAP"}`,
  /** A trigger could not tell what it saw. */
  invalid: ` {"operation":"UNKNOWN"}`
} as const

const reasons = new Map(
  Object.entries(gapTexts).map(([reason, text]) => [
    text as string,
    reason as keyof typeof gapTexts
  ])
)

/** Why there is a gap, when the text tells one. */
export const gapOf = (text: string): keyof typeof gapTexts | undefined =>
  // A payload of an event is told apart by its first character.
  text.charCodeAt(0) === 32 ? reasons.get(text.trimEnd()) : undefined
