/** The table that F watches. */
import { Schema } from "effect"
import * as Channel from "../../src/Channel.ts"

const Item = Schema.Struct({ id: Schema.Int, kind: Schema.Int, note: Schema.String })

export const items = Channel.table("items", Item, { key: "id", filter: "kind" })

/** Each row has the next of so many kinds. */
export const insertOf = (kinds: number, bytes: number): string =>
  `insert into items (id, kind, note) select n, n % ${kinds}, repeat('x', ${bytes}) from nextval('numbers') n`
