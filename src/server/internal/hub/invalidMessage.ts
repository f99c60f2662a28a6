/**
 * A message that no event can tell: a gap in its place.
 */
import type { InvalidMessage } from "../../../RealtimeEvent.ts"
import { gapOf, type gapTexts } from "../gapText.ts"
import type { Unfit } from "../reading/mismatch.ts"

export class Missing {
  readonly reason: keyof typeof gapTexts
  /** Of the event that it would have been. */
  readonly id: string
  readonly tx: string | undefined
  /** What was wrong with it; `undefined` when the database tells a gap for a reason of its own. */
  readonly unfit: Unfit | undefined

  constructor(reason: Missing["reason"], id: string, tx: string | undefined, unfit?: Unfit) {
    this.reason = reason
    this.id = id
    this.tx = tx
    this.unfit = unfit
  }

  get invalid(): InvalidMessage | undefined {
    const { id, unfit } = this
    return unfit && { id, path: unfit.path, expected: unfit.expected }
  }
}

const untold: Unfit = {
  path: "",
  expected: "a change that its trigger can tell",
  cure: "the trigger met a change that it could not read: re-read the table"
}

/** The gap that a text tells, when it is one of the database's own texts for that. */
export const toldBy = (text: string, id: string, tx: string | undefined): Missing | undefined => {
  const reason = gapOf(text)
  if (reason === undefined) return undefined
  return new Missing(reason, id, tx, reason === "invalid" ? untold : undefined)
}
