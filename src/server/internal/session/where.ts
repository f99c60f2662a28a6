/**
 * The filter of a `subscribe`: its name within a session, and the refusal of one that the channel has not.
 */
import type { Where } from "../../../Frame.ts"
import { unfitColumn } from "../columnTexts.ts"
import { make } from "../filter.ts"
import { type Refusal, refusal } from "../limits/refusalText.ts"
import type { Match } from "./registry.ts"

/** The most values that a filter has for one column. */
const maxValues = 100

/** The text of a condition: equal conditions have the same, also when they are written differently. */
export const textOf = (where: Where | undefined): string => make(where)?.text ?? ""

/** Names a subscription within a session. */
export const subscriptionKey = (channel: string, where: Where | undefined): string => {
  const text = textOf(where)
  // A name contains no space.
  return text === "" ? channel : `${channel} ${text}`
}

const invalid = (message: string): Refusal => refusal("subscribe/invalid-where", message)

/**
 * The refusal of a filter that does not fit the channel. The sentence names the columns of `filter` and no
 * others, because a client must not learn those of `boundary`.
 */
export const whereRefused = (
  { channel: { table } }: Pick<Match, "channel">,
  where: Where | undefined
): Refusal | undefined => {
  const columns = Object.keys(where ?? {})
  if (where === undefined || columns.length === 0) return undefined
  const known = table?.filter ?? []
  if (known.length === 0) return invalid("This channel has no columns to filter by.")
  if (!columns.every((column) => known.includes(column))) {
    return invalid(`This channel filters by ${known.join(", ")} and by no other column.`)
  }
  const long = columns.find((column) => {
    const value = where[column]
    return Array.isArray(value) && value.length > maxValues
  })
  if (long !== undefined) {
    return invalid(`A filter has at most ${maxValues} values for a column, and ${long} has more.`)
  }
  const unfit = unfitColumn(table!, where)
  return unfit === undefined
    ? undefined
    : invalid(`The filter has a value of ${unfit} that does not match its Schema.`)
}
