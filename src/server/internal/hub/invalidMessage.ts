/**
 * A message that cannot become an event. The channel sends a gap in its place.
 */
import type { InvalidChange, InvalidMessage } from "../../../RealtimeEvent.ts"
import { gapOf, type gapTexts } from "../gapText.ts"
import type { Unfit } from "../reading/mismatch.ts"

export class Missing {
  readonly reason: keyof typeof gapTexts
  /** The id that the event would have had. */
  readonly id: string
  readonly tx: string | undefined
  /** What does not match the schema; `undefined` for a gap that the database reports by itself. */
  readonly unfit: Unfit | undefined
  /** The change that is missing, where nothing else is. */
  readonly change: InvalidChange | undefined

  constructor(
    reason: Missing["reason"],
    id: string,
    tx: string | undefined,
    unfit?: Unfit,
    change?: InvalidChange
  ) {
    this.reason = reason
    this.id = id
    this.tx = tx
    this.unfit = unfit
    this.change = change
  }

  get invalid(): InvalidMessage | undefined {
    const { id, unfit } = this
    return unfit && { id, path: unfit.path, expected: unfit.expected }
  }
}

/** The fault of a payload that the schema decodes but cannot encode for the wire. */
export const unsendable: Unfit = {
  path: "",
  expected: "a payload that its schema can also encode",
  cure: undefined
}

const untold: Unfit = {
  path: "",
  expected: "a change that its trigger can tell",
  cure: "the trigger met a change that it could not read: re-read the table"
}

/** The gap for a text; `undefined` if it is none of the database's own texts for gaps. */
export const toldBy = (text: string, id: string, tx: string | undefined): Missing | undefined => {
  const reason = gapOf(text)
  if (reason === undefined) return undefined
  return new Missing(reason, id, tx, reason === "invalid" ? untold : undefined)
}
