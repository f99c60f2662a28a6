/**
 * The answer of `authorize` or of a rule for subscribing: yes, no, or the rows that the client may see.
 *
 * An answer that limits the rows in a way that the definition does not have is a fault of the application.
 * It allows nothing.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Channel from "../../../Channel.ts"
import type { Where } from "../../../Frame.ts"
import type { Action } from "../../ServerOptions.ts"

/** The message has names of columns, and never a value. */
export class InvalidBoundary extends Schema.TaggedError<InvalidBoundary>()("InvalidBoundary", {
  channel: Schema.String,
  issue: Schema.String
}) {
  override get message(): string {
    return `The answer for channel "${this.channel}" has a where ${this.issue}.`
  }
}

/** What an answer allows. Without a boundary, all rows. */
export interface Allowance {
  readonly boundary: Where | undefined
}

/** Reads an answer. Gives `undefined` when it allows nothing, and throws `InvalidBoundary`. */
export const allowanceOf = (
  answer: unknown,
  action: Action,
  { name, table }: Pick<Channel.Any, "name" | "table">
): Allowance | undefined => {
  if (answer === true) return { boundary: undefined }
  if (typeof answer !== "object" || answer === null || !("where" in answer)) return undefined
  const wrong = (issue: string) => new InvalidBoundary({ channel: name, issue })
  if (action !== "subscribe") throw wrong(`for a request to ${action}, which only true allows`)
  if (table === undefined) throw wrong("on a channel that is not a table's")
  const { where } = answer
  if (typeof where !== "object" || where === null || Array.isArray(where)) {
    throw wrong("that is no object of columns")
  }
  // Built from a claim that is missing, it would allow all rows.
  if (Object.keys(where).length === 0) throw wrong("without a column: only true allows all rows")
  const known = new Set([...table.filter, ...table.boundary, ...table.by])
  const boundary = Result.getOrThrowWith(table.within(name, where), ({ column }) =>
    wrong(
      known.has(column)
        ? `with a value of "${column}" that does not match its Schema`
        : `with "${column}", which is in none of filter, boundary and by`
    )
  )
  return { boundary }
}
