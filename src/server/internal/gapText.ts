/**
 * Gaps as the database writes them: texts in a channel that are not payloads.
 *
 * Each is JSON, so that other tools that read NOTIFY or the outbox can still parse it. It begins with a
 * space, which no writer of JSON does, so a payload never looks like one. The reader of a channel compares
 * the text before it parses it.
 */

/** The text of each kind of gap. */
export const gapTexts = {
  /** The table was truncated. */
  truncate: ` {"operation":"TRUNCATE"}`,
  /** Changes may have bypassed the triggers: `realtime.tell_gap`. */
  source: ` {"operation":"GAP"}`,
  /** A trigger could not describe a change. */
  invalid: ` {"operation":"UNKNOWN"}`
} as const

const reasons = new Map(
  Object.entries(gapTexts).map(([reason, text]) => [
    text as string,
    reason as keyof typeof gapTexts
  ])
)

/** The reason of a gap, or `undefined` for a payload. */
export const gapOf = (text: string): keyof typeof gapTexts | undefined =>
  // A payload never begins with a space.
  text.charCodeAt(0) === 32 ? reasons.get(text.trimEnd()) : undefined
