/** The key of a row that left a filter has the spelling that the row has in a state. */
import { expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import * as Filter from "../../../../src/server/internal/filter.ts"
import { Judged } from "../../../../src/server/internal/hub/judged.ts"
import { framesOf } from "../../../../src/server/internal/hub/stateFrames.ts"
import { View } from "../../../../src/server/internal/hub/view.ts"
import { keyOnWire } from "../../../../src/server/internal/reading/rowKey.ts"

const Visits = Channel.table(
  "visits",
  Schema.Struct({ at: Schema.DateFromString, room: Schema.String }),
  { key: "at", filter: "room" }
)

/** As PostgreSQL spells a timestamptz. */
const at = "2026-11-29T10:00:00+00:00"

it("a client finds the row of a state by the key of its DELETE", () =>
  Effect.gen(function* () {
    const view = new View(Visits, () => Effect.die("not joined"), true)
    const { frames } = yield* framesOf(view, Visits.table, {
      cursor: "c",
      rows: [JSON.stringify({ at, room: "a" })]
    })
    const [row] = JSON.parse(frames[0]!.message.text).rows
    const text = JSON.stringify({ operation: "UPDATE", data: { at, room: "b" }, key: { at } })
    const match = JSON.stringify({ old: { room: "a" }, new: { room: "b" } })
    const judged = new Judged({ id: "1", tx: "1", at: 0, text, match }, view)
    expect(judged.of(Filter.make({ room: "a" })!)).toMatchObject({
      json: JSON.stringify({ operation: "DELETE", key: { at: row.at } })
    })
    expect(row.at).not.toBe(at)
  }).pipe(Effect.runPromise))

it("a key that does not match the Schema stays as it is", () => {
  expect(keyOnWire(Visits.table, { at: 7 })).toEqual({ at: 7 })
})
