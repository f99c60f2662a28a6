import { Schema } from "effect"
import { Channel } from "effect-realtime"

/** A table with many rows, of which many change. */
export const Entries = Channel.table(
  "entries",
  Schema.Struct({
    id: Schema.Int,
    status: Schema.Literals(["open", "done"]),
    n: Schema.Int,
    note: Schema.String
  }),
  { key: "id", filter: "status" }
)
export type Entry = Channel.RowOf<typeof Entries>
