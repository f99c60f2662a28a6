/** A table with routes and filters, for tests that read its rows and its events. */
import { Schema } from "effect"
import * as Channel from "../../../src/Channel.ts"
import * as Filters from "../../../src/server/internal/filter.ts"
import type { DurableEvent } from "../../../src/server/OutboxReader.ts"
import type { Random } from "./random.ts"

const Thing = Schema.Struct({
  id: Schema.Int,
  room: Schema.NullOr(Schema.String),
  n: Schema.NullOr(Schema.Int),
  text: Schema.String
})
type Thing = typeof Thing.Type

export const Things = Channel.table("things", Thing, { key: "id", by: "room", filter: "n" })

export const createThings =
  "create table things (id int primary key, room text, n int, text text not null)"

/** A change of the table. */
export type ThingChange =
  | { readonly insert: Thing }
  | { readonly update: number; readonly to: Partial<Thing> }
  | { readonly delete: number }
  | { readonly truncate: true }

const literal = (value: string | number | null): string =>
  value === null ? "null" : typeof value === "number" ? String(value) : `'${value}'`

export const sqlOf = (change: ThingChange): string => {
  if ("insert" in change) {
    const { id, n, room, text } = change.insert
    return `insert into things values (${[id, room, n, text].map(literal).join()})`
  }
  if ("truncate" in change) return "truncate things"
  if ("delete" in change) return `delete from things where id = ${change.delete}`
  const set = Object.entries(change.to).map(([name, value]) => `${name} = ${literal(value)}`)
  return `update things set ${set.join()} where id = ${change.update}`
}

/** The rows as a test counts them. */
export class ThingModel {
  readonly rows = new Map<number, Thing>()

  change(change: ThingChange): void {
    if ("insert" in change) this.rows.set(change.insert.id, change.insert)
    else if ("truncate" in change) this.rows.clear()
    else if ("delete" in change) this.rows.delete(change.delete)
    else {
      const row = this.rows.get(change.update)
      if (row === undefined) return
      this.rows.delete(change.update)
      const now = { ...row, ...change.to }
      this.rows.set(now.id, now)
    }
  }

  /** A change that the table accepts: its key is free. */
  random({ int, pick }: Random): ThingChange {
    const id = int(12)
    const row = { id, room: pick(["a", "b", null]), n: pick([1, 2, 3, null]), text: `${int(3)}` }
    if (!this.rows.has(id)) return { insert: row }
    const free = [id, ...Array.from({ length: 12 }, (_, n) => n)].filter(
      (n) => n === id || !this.rows.has(n)
    )
    return pick<ThingChange>([
      { update: id, to: { room: row.room } },
      { update: id, to: { n: row.n } },
      { update: id, to: { text: row.text } },
      { update: id, to: { ...row, id: pick(free) } },
      { delete: id }
    ])
  }

  /** The rows of a route, or of the whole table, with one of these values of `n`. */
  some(room?: string, values?: ReadonlyArray<number | null>): ReadonlyArray<Thing> {
    return [...this.rows.values()]
      .filter((row) => room === undefined || row.room === room)
      .filter(({ n }) => values === undefined || values.includes(n))
      .toSorted((one, other) => one.id - other.id)
  }
}

interface ThingEvent {
  readonly operation: string
  readonly data: Thing
  readonly key: Pick<Thing, "id">
}

/** The rows of a filter after these events. */
export const folded = (
  rows: ReadonlyArray<string>,
  events: ReadonlyArray<DurableEvent>,
  filter: Filters.Filter | undefined
): ReadonlyArray<Thing> => {
  const all = new Map(
    rows.map((text) => JSON.parse(text) as Thing).map((row) => [row.id, row] as const)
  )
  for (const { match, text } of events) {
    const { data, key, operation } = JSON.parse(text) as ThingEvent
    const judged = filter === undefined ? "stays" : Filters.judge(filter, Filters.parseMatch(match))
    if (judged === "outside") continue
    if (judged === "leaves" || operation === "DELETE") all.delete(key.id)
    else all.set(key.id, data)
  }
  return [...all.values()].toSorted((one, other) => one.id - other.id)
}
