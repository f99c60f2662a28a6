/** Views with a filter on a durable channel: which events each receives, and how its frames look. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import { encode } from "../../../../src/Frame.ts"
import type { ServerFrame } from "../../../../src/Frame.ts"
import type { Narrowing } from "../../../../src/server/internal/hub/delivery.ts"
import type { Step } from "../../../../src/server/internal/hub/batch.ts"
import { outboxCursor } from "../../../../src/server/internal/hub/viewCursor.ts"
import {
  at,
  collect,
  frameOf,
  narrowed,
  narrowing,
  type OrderRow,
  Orders,
  OrdersTable
} from "../../support/filtered.ts"

const row = (id: number, status: string | null, owner = "a"): OrderRow => ({
  id,
  status,
  owner,
  note: `note ${id} ${status} ${owner}`
})

/** A table with a channel, and the frames of a view for each narrowing. */
const opened = <const Narrowings extends ReadonlyArray<Narrowing | undefined>>(
  ...narrowings: Narrowings
) => {
  const table = new OrdersTable()
  const channel = table.channel()
  const views = narrowings.map((one) => {
    const view = channel.view(Orders, one && narrowed(one))
    const sink = collect()
    view.subscribe(sink)
    return { view, batches: sink.batches }
  })
  return {
    table,
    channel,
    views,
    /** Commits, and returns the frames of each view since the last call. */
    commit: () => {
      const missing = channel.receive([table.commit()])
      return { missing, frames: views.map(({ batches }) => batches.splice(0).map(frameOf)) }
    }
  }
}

/** The payloads of the events, and the reasons of the gaps. */
const short = (frames: ReadonlyArray<ReturnType<typeof frameOf>>) =>
  frames.flatMap((frame): ReadonlyArray<unknown> =>
    frame.events === undefined ? [frame.reason ?? frame.type] : frame.events.map(({ data }) => data)
  )

const isNew = narrowing({ status: "new" })
const isSent = narrowing({ status: ["sent", "back"] })

describe("a view with a filter", () => {
  it("receives a row that enters as INSERT, one that leaves as DELETE, and nothing of others", () => {
    const { commit, table } = opened(isNew, isSent, undefined)
    table.write(undefined, row(1, "new"))
    table.write(undefined, row(2, "packed"))
    let { frames } = commit()
    expect(short(frames[0]!)).toEqual([
      { operation: "INSERT", data: row(1, "new"), key: { id: 1 } }
    ])
    expect(frames[1]).toEqual([])
    table.write(row(1, "new"), row(1, "sent"))
    ;({ frames } = commit())
    expect(short(frames[0]!)).toEqual([{ operation: "DELETE", key: { id: 1 } }])
    expect(short(frames[1]!)).toEqual([
      { operation: "INSERT", data: row(1, "sent"), key: { id: 1 } }
    ])
    table.write(row(1, "sent"), row(1, "back"))
    ;({ frames } = commit())
    expect(frames[0]).toEqual([])
    expect(short(frames[1]!)).toEqual(short(frames[2]!))
    table.write(row(1, "back"), undefined)
    ;({ frames } = commit())
    expect(short(frames[1]!)).toEqual([
      { operation: "DELETE", data: row(1, "back"), key: { id: 1 } }
    ])
  })

  it("receives the old row only where the filter included it", () => {
    const { commit, table } = opened(isNew, isSent)
    const old = true
    table.write(undefined, row(1, "new"))
    table.write(row(1, "new"), { ...row(1, "new"), note: "again" }, { old })
    table.write({ ...row(1, "new"), note: "again" }, row(1, "sent"), { old })
    const { frames } = commit()
    const [, stays, leaves] = short(frames[0]!)
    expect(stays).toMatchObject({ operation: "UPDATE", old: row(1, "new") })
    expect(leaves).toEqual({
      operation: "DELETE",
      data: { ...row(1, "new"), note: "again" },
      key: { id: 1 }
    })
    expect(short(frames[1]!)).toEqual([
      { operation: "INSERT", data: row(1, "sent"), key: { id: 1 } }
    ])
  })

  it("receives a key that changed as a DELETE and an INSERT", () => {
    const { commit, table } = opened(isNew)
    table.write(undefined, row(1, "new"))
    table.write(row(1, "new"), row(9, "new"))
    expect(short(commit().frames[0]!).slice(1)).toEqual([
      { operation: "DELETE", data: row(1, "new"), key: { id: 1 } },
      { operation: "INSERT", data: row(9, "new"), key: { id: 9 } }
    ])
  })

  it("receives the key of a row that leaves although the row is truncated or does not match", () => {
    const { commit, table } = opened(isNew, isSent)
    table.write(row(1, "new"), row(1, "sent"), { truncated: true })
    table.write(row(2, "new"), undefined, { truncated: true })
    table.message({
      text: '{"operation":"DELETE","data":{"id":"three"},"key":{"id":9007199254740993}}',
      match: '{"old":{"status":"new","owner":"a"}}'
    })
    const { frames, missing } = commit()
    expect(short(frames[0]!)).toEqual([
      { operation: "DELETE", key: { id: 1 } },
      { operation: "DELETE", key: { id: 2 } },
      { operation: "DELETE", key: { id: "9007199254740993" } }
    ])
    // Its data does not travel, so a view that it enters has to be read again.
    expect(short(frames[1]!)).toEqual(["invalid"])
    expect(missing.map(({ id }) => id)).toEqual(["1"])
  })

  it("receives no data of a deleted row that is truncated, also where the key alone matches", () => {
    const Keys = Channel.table(
      "orders",
      Schema.Struct({ id: Schema.Int, status: Schema.optionalKey(Schema.String) }),
      { key: "id", filter: ["status"] }
    )
    const table = new OrdersTable()
    const channel = table.channel()
    const sink = collect()
    channel.view(Keys, narrowed(isNew)).subscribe(sink)
    table.write(row(1, "new"), undefined, { truncated: true })
    channel.receive([table.commit()])
    expect(short(sink.batches.map(frameOf))).toEqual([{ operation: "DELETE", key: { id: 1 } }])
  })

  it("has a gap where a row leaves without a key", () => {
    const { commit, table } = opened(isNew, isSent)
    table.message({
      text: '{"operation":"DELETE","data":null,"truncated":true}',
      match: '{"old":{"status":"new","owner":"a"}}'
    })
    const { frames } = commit()
    expect([short(frames[0]!), short(frames[1]!)]).toEqual([["invalid"], []])
  })

  it("has a gap for a change that says nothing of its columns, and goes on behind it", () => {
    const { commit, table, views } = opened(isNew, isSent, undefined)
    table.write(undefined, row(1, "new"))
    table.write(undefined, row(2, "new"), { unmatched: true })
    table.write(undefined, row(3, "new"))
    const { frames, missing } = commit()
    expect(frames[0]!.map(({ cursor, type }) => [type, outboxCursor(cursor)])).toEqual([
      ["events", at(1)],
      ["gap", at(2)],
      ["events", at(3)]
    ])
    expect(short(frames[1]!)).toEqual(["invalid"])
    expect(frames[2]!).toHaveLength(1)
    expect(missing).toHaveLength(1)
    expect(missing[0]!.unfit?.cure).toContain("watch it again")
    expect(views[0]!.view.tick).toBe(table.tick)
  })

  it("receives gaps and positions of the whole channel", () => {
    const { channel, commit, table, views } = opened(isNew, isSent)
    table.truncate()
    expect(commit().frames.map(short)).toEqual([["truncate"], ["truncate"]])
    channel.receive([
      { _tag: "Position", cursor: at(1), tick: 8 },
      { _tag: "Gap", reason: "source", cursor: at(1), tick: 9 }
    ])
    expect(views.map(({ batches }) => short(batches.map(frameOf)))).toEqual([
      ["cursor", "source"],
      ["cursor", "source"]
    ])
  })

  it("receives the position at the end of a tick only after a batch of that tick", () => {
    const { channel, table, views } = opened(isNew, isSent)
    table.write(undefined, row(1, "new"))
    const batch = { ...table.commit(), isMidway: true }
    const { cursor: ends, tick } = batch
    channel.receive([batch, { _tag: "Position", cursor: at(1), tick, ends }])
    expect(views.map(({ batches }) => short(batches.map(frameOf)).length)).toEqual([2, 0])
  })

  it("receives the end of a tick where the last batch of the tick has nothing for it", () => {
    const { channel, table, views } = opened(isNew, isSent)
    table.write(undefined, row(1, "new"))
    const first = { ...table.commit(), isMidway: true }
    table.write(undefined, row(2, "sent"))
    const last = { ...table.commit(), tick: first.tick }
    channel.receive([first, last])
    const [ann, bob] = views.map(({ batches }) => batches)
    expect(ann!.map(({ count, cursor, from }) => [count, from, cursor])).toEqual([
      [1, views[0]!.view.cursorOf(at(0)), views[0]!.view.cursorOf(at(1))],
      [0, views[0]!.view.cursorOf(at(1)), views[0]!.view.cursorOf(at(2))]
    ])
    expect(bob!.map(({ count }) => count)).toEqual([1])
    // The subscriber receives it once.
    table.write(undefined, row(3, "sent"))
    channel.receive([table.commit()])
    expect(ann!.length).toBe(2)
  })

  it("receives the end of a batch in which its last message is left out", () => {
    const { channel, table, views } = opened(isNew, isSent)
    table.write(undefined, { ...row(1, "new"), id: "one" } as never)
    table.write(undefined, row(2, "sent"))
    channel.receive([table.commit()])
    expect(views[0]!.batches.at(-1)!.cursor).toBe(views[0]!.view.cursorOf(at(2)))
  })

  it("frames carry the label after the channel, and cursors the digest", () => {
    const { channel, table, views } = opened(isNew)
    const { label } = views[0]!.view
    table.write(undefined, row(1, "new"))
    table.write(undefined, row(1, "new"), { unmatched: true })
    channel.receive([table.commit(), { _tag: "Position", cursor: at(2), tick: 9 }])
    const { digest } = narrowed(isNew)
    const texts = views[0]!.batches.map(({ text }) => text)
    for (const text of texts) {
      const frame = JSON.parse(text) as ServerFrame
      expect(encode(frame)).toBe(text)
      expect(frame).toMatchObject({ channel: Orders.name, view: label })
      expect(text).toContain(`,"view":"${label}"`)
      expect(text).toContain(`.${digest}"`)
    }
    expect(views[0]!.batches.map(({ key }) => key)).toEqual(Array(3).fill(views[0]!.view.key))
    expect(views[0]!.batches.map(({ from }) => from)).toEqual([
      `${at(0)}.${digest}`,
      `${at(1)}.${digest}`,
      `${at(2)}.${digest}`
    ])
  })
})

describe("the views of a channel with filters", () => {
  it("equal filters share a view until the last subscriber releases it", () => {
    const { channel } = opened()
    const same = narrowed(narrowing({ status: ["new"] }))
    const view = channel.view(Orders, narrowed(isNew))
    expect(channel.view(Orders, same)).toBe(view)
    expect(channel.view(Orders)).not.toBe(view)
    channel.release(view)
    expect(channel.view(Orders, same)).toBe(view)
    channel.release(view)
    channel.release(view)
    expect(channel.view(Orders, same)).not.toBe(view)
  })

  it("the label hides the boundary and differs by it, and the digest is that of the filter", () => {
    const where = { status: "new" }
    const all = [
      narrowed(narrowing(where)),
      narrowed(narrowing(where, { owner: "a" })),
      narrowed(narrowing(where, { owner: "b" })),
      narrowed(narrowing({ ...where, owner: "b" })),
      narrowed(narrowing(where), "table_updates_others")
    ]
    expect(new Set(all.map(({ label }) => label)).size).toBe(5)
    expect(new Set(all.map(({ digest }) => digest)).size).toBe(4)
    expect(all[2]!.digest).toBe(all[3]!.digest)
  })

  it("a filter over the limit is rejected, and one that is there already is not", () => {
    const table = new OrdersTable()
    const channel = table.channel(2)
    const [one, two, three] = ["1", "2", "3"].map((status) => narrowed(narrowing({ status })))
    const first = channel.view(Orders, one)
    channel.view(Orders, two)
    expect(channel.refuses(Orders, one!)).toBe(undefined)
    expect(channel.refuses(Orders, three!)).toMatchObject({ limit: 2, channel: Orders.name })
    channel.release(first)
    expect(channel.refuses(Orders, three!)).toBe(undefined)
  })

  it("an event is decoded once, however many views have it", () => {
    let decoded = 0
    const Counted = Channel.table(
      "orders",
      Schema.Struct({
        id: Schema.Int.check(Schema.makeFilter(() => ++decoded > 0)),
        status: Schema.String,
        owner: Schema.String,
        note: Schema.String
      }),
      { key: "id", filter: ["status"], boundary: ["owner"] }
    )
    const table = new OrdersTable()
    const channel = table.channel()
    const sinks = Array.from({ length: 50 }, (_, index) => {
      const sink = collect()
      const view = channel.view(Counted, narrowed(narrowing({ status: ["new", `${index}`] })))
      view.subscribe(sink)
      return sink
    })
    table.write(undefined, row(1, "sent"))
    table.write(row(1, "sent"), row(1, "new"))
    channel.receive([table.commit()])
    const once = decoded
    expect(sinks.map(({ batches }) => batches.length)).toEqual(Array(50).fill(1))
    const jsons = new Set(sinks.map(({ batches }) => batches[0]!.events[0]!.json))
    expect(jsons.size).toBe(1)
    decoded = 0
    const one = new OrdersTable().channel()
    one.view(Counted, narrowed(isNew)).subscribe(collect())
    one.receive([table.batch(1, 2, 5)])
    expect(once).toBe(decoded)
  })
})

describe("a join of a view with a filter", () => {
  const open = (steps: ReadonlyArray<Step>) =>
    Effect.map(
      Effect.forEach(steps, ({ open }) => open),
      (batches) => batches.flat()
    )

  it.effect("replays what the filter includes, with its cursors", () =>
    Effect.gen(function* () {
      const { table, views } = opened(isNew)
      const { view } = views[0]!
      const from = view.cursorOf(table.cursor)
      table.write(undefined, row(1, "new"))
      table.write(undefined, row(2, "sent"))
      table.write(row(2, "sent"), row(2, "new"), { old: true })
      table.write(undefined, row(3, "sent"))
      table.write(row(1, "new"), row(1, "sent"))
      table.commit()
      const join = yield* view.join(from)
      expect([join.state, join.cursor]).toEqual(["recovered", from])
      expect(join.replay.map((step) => [step.from, step.cursor])).toEqual([
        [from, view.cursorOf(at(3))],
        [view.cursorOf(at(3)), view.cursorOf(at(5))]
      ])
      const frames = (yield* open(join.replay)).map(frameOf)
      expect(frames.map(({ cursor }) => cursor)).toEqual(
        [at(3), at(5)].map((c) => view.cursorOf(c))
      )
      expect(short(frames)).toEqual([
        { operation: "INSERT", data: row(1, "new"), key: { id: 1 } },
        { operation: "INSERT", data: row(2, "new"), key: { id: 2 } },
        { operation: "DELETE", key: { id: 1 } }
      ])
      expect(yield* open(join.replay)).toEqual(yield* open((yield* view.join(from)).replay))
    })
  )

  it.effect("is reset with a cursor of another filter, or of none", () =>
    Effect.gen(function* () {
      const { table, views } = opened(isNew, isSent, undefined)
      table.write(undefined, row(1, "new"))
      table.commit()
      const [one, other, whole] = [views[0]!.view, views[1]!.view, views[2]!.view]
      for (const from of [other.cursorOf(at(0)), whole.cursorOf(at(0)), at(0) + ".", "nonsense"]) {
        const join = yield* one.join(from)
        expect([join.state, join.cursor, join.replay]).toEqual(["reset", one.cursorOf(at(1)), []])
      }
      expect((yield* whole.join(one.cursorOf(at(0)))).state).toBe("reset")
      expect((yield* one.join(undefined)).state).toBe("fresh")
    })
  )
})
