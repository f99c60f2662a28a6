/** The rows of a table: states and changes in any order, over gaps, renamed views and reconnects. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import type { Rows } from "effect-realtime/client"
import type { ClientFrame } from "../../src/Frame.ts"
import type { Asked } from "../../src/internal/rowTypes.ts"
import type { SubscribeError } from "../../src/client/RealtimeClient.ts"
import * as Backoff from "../../src/Backoff.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"
import { amid, at, channel, events, gap, type Order, Orders, row, state } from "./support/rows.ts"

type Shown = Rows.Rows<typeof Order.Type>

/** A client of a server whose subscriptions the test answers. */
const make = Effect.gen(function* () {
  const server = FakeSocket.make({ auto: true })
  const client = yield* Client.make(server, { backoff: { ...Backoff.client, first: 2 } })
  server.heard = (socket, frame) => {
    if (["hello", "ping", "unsubscribe"].includes(frame.type)) server.answer(socket, frame)
  }
  const watch = (asked: Asked = {}, of: Rows.TableChannel = Orders) => {
    const { host } = client.sync
    const store = of.table.rows.open(host, of, asked)
    const self = {
      changes: 0,
      ended: [] as Array<SubscribeError>,
      get shown() {
        return store.shown() as Shown
      },
      get brief() {
        const { rows, status } = self.shown
        return [status, ...rows.map(({ id, status }) => `${id} ${status}`)]
      },
      reload: store.reload,
      stop: () => {}
    }
    self.stop = store.watch({
      onChange: () => self.changes++,
      onEnd: (error) => self.ended.push(error)
    })
    return self
  }
  const asked = <Type extends ClientFrame["type"]>(type: Type) => server.last.of(type).at(-1)!
  const subscribed = (tx: number, how: "fresh" | "recovered" | "reset" = "fresh", view?: string) =>
    server.last.say({
      type: "subscribed",
      id: asked("subscribe").id,
      channel,
      state: how,
      cursor: at(tx),
      ...(view === undefined ? {} : { view })
    })
  const reconnect = Effect.suspend(() => {
    server.last.drop()
    return TestClock.adjust(1000)
  })
  const count = (type: ClientFrame["type"]) =>
    server.sent.filter((frame) => frame.type === type).length
  return { server, client, watch, asked, subscribed, reconnect, count }
})

describe("the rows of a table", () => {
  it.effect("are a state and the changes behind it, by their keys", () =>
    Effect.gen(function* () {
      const { asked, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      assert.deepInclude(asked("subscribe"), { channel, state: true })
      assert.notProperty(asked("subscribe"), "where")
      assert.deepStrictEqual(orders.brief, ["loading"])
      subscribed(5)
      assert.deepStrictEqual(orders.brief, ["loading"])
      server.last.say(state(5, [row(1)], { more: true }))
      assert.deepStrictEqual(orders.brief, ["loading"], "half a state is not shown")
      server.last.say(state(5, [row(2)]))
      assert.deepStrictEqual(orders.brief, ["live", "1 new", "2 new"])
      orders.changes = 0
      server.last.say(
        events(6, [
          ["UPDATE", row(1, "packed")],
          ["INSERT", row(3)],
          ["DELETE", row(2)]
        ])
      )
      assert.deepStrictEqual(orders.brief, ["live", "1 packed", "3 new"])
      assert.strictEqual(orders.changes, 1, "one change for a frame")
      assert.deepStrictEqual(orders.shown.rows[0], { id: 1n, status: "packed", owner: null })
    })
  )

  it.effect("show nothing of a tick until its last change is here", () =>
    Effect.gen(function* () {
      const { asked, reconnect, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1), row(2)]))
      const before = orders.shown
      const part = { ...events(6, [["UPDATE", row(1, "packed")]]), cursor: amid(6) } as const
      server.last.say(part)
      assert.strictEqual(orders.shown, before)
      server.last.say(events(6, [["UPDATE", row(2, "packed")]]))
      assert.deepStrictEqual(orders.brief, ["live", "1 packed", "2 packed"])
      // The rest has nothing for this subscription.
      server.last.say({ ...events(7, [["DELETE", row(1)]]), cursor: amid(7) } as never)
      assert.deepStrictEqual(orders.brief, ["live", "1 packed", "2 packed"])
      server.last.say({ type: "cursor", channel, cursor: at(7) })
      assert.deepStrictEqual(orders.brief, ["live", "2 packed"])
      // It goes on from the middle.
      server.last.say({ ...events(8, [["INSERT", row(3)]]), cursor: amid(8) } as never)
      yield* reconnect
      assert.deepStrictEqual(orders.brief, ["stale", "2 packed"])
      assert.strictEqual(asked("subscribe").cursor, amid(8))
      server.last.say({
        type: "subscribed",
        id: asked("subscribe").id,
        channel,
        state: "recovered",
        cursor: amid(8)
      })
      assert.deepStrictEqual(orders.brief, ["live", "2 packed"])
      server.last.say(events(8, [["INSERT", row(4)]]))
      assert.deepStrictEqual(orders.brief, ["live", "2 packed", "3 new", "4 new"])
    })
  )

  it.effect("show nothing of a tick whose rest is missing, until a state has all of it", () =>
    Effect.gen(function* () {
      const { server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1), row(2)]))
      const part = (tx: number, id: number) =>
        ({ ...events(tx, [["UPDATE", row(id, "packed")]]), cursor: amid(tx) }) as const
      server.last.say(part(6, 1))
      server.last.say(gap(6))
      assert.deepStrictEqual(orders.brief, ["stale", "1 new", "2 new"])
      server.last.say(events(7, [["UPDATE", row(2, "packed")]]))
      assert.deepStrictEqual(orders.brief, ["stale", "1 new", "2 new"])
      server.last.say(state(7, [row(2, "packed")]))
      assert.deepStrictEqual(orders.brief, ["live", "2 packed"])
      // A row of the transaction is too large to travel.
      const large = { data: { operation: "INSERT", key: { id: 3 }, data: null, truncated: true } }
      server.last.say(events(8, [["UPDATE", row(2)], large]))
      assert.deepStrictEqual(orders.brief, ["stale", "2 packed"])
      server.last.say(state(8, [row(2), row(3)]))
      assert.deepStrictEqual(orders.brief, ["live", "2 new", "3 new"])
      // The server sends a state in the middle of a tick, in two frames.
      server.last.say(part(9, 2))
      server.last.say(state(9, [row(2, "packed")], { more: true }))
      assert.deepStrictEqual(orders.brief, ["live", "2 new", "3 new"])
      server.last.say(state(9, [row(3, "packed")]))
      assert.deepStrictEqual(orders.brief, ["live", "2 packed", "3 packed"])
    })
  )

  it.effect("keep the identity of what has not changed, also in a new state", () =>
    Effect.gen(function* () {
      const { server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1), row(2)]))
      const before = orders.shown
      server.last.say(events(6, [["UPDATE", row(1)]]), { type: "cursor", channel, cursor: at(7) })
      assert.strictEqual(orders.shown, before)
      server.last.say(events(8, [["UPDATE", row(2, "packed")]]))
      const after = orders.shown
      assert.notStrictEqual(after.rows, before.rows)
      assert.strictEqual(after.rows[0], before.rows[0])
      assert.notStrictEqual(after.rows[1], before.rows[1])
      server.last.say(gap(9), state(9, [row(1), row(2, "packed")]))
      assert.strictEqual(orders.shown.rows, after.rows)
      assert.deepStrictEqual(orders.brief, ["live", "1 new", "2 packed"])
    })
  )

  it.effect("name a row by all digits of its key, and follow a key that changes", () =>
    Effect.gen(function* () {
      const { server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row("9007199254740993"), row("9007199254740992")]))
      server.last.say(
        events(6, [
          ["DELETE", row("9007199254740993")],
          ["INSERT", row("9007199254740995")]
        ])
      )
      assert.deepStrictEqual(orders.brief, ["live", "9007199254740992 new", "9007199254740995 new"])
    })
  )

  it.effect("of a filter ask for it once, however their columns and values are ordered", () =>
    Effect.gen(function* () {
      const { asked, count, server, subscribed, watch } = yield* make
      const some = watch({ where: { status: ["packed", "new", "new"], owner: null } })
      const same = watch({ where: { owner: null, status: ["new", "packed"] } })
      yield* TestClock.adjust(1)
      assert.strictEqual(count("subscribe"), 1)
      assert.deepStrictEqual(asked("subscribe").where, { owner: null, status: ["new", "packed"] })
      subscribed(5, "fresh", "v1").say(state(5, [row(1)], { view: "v1" }))
      assert.strictEqual(same.shown.rows, some.shown.rows)
      const all = watch({ where: {} })
      assert.strictEqual(count("subscribe"), 2)
      assert.notProperty(asked("subscribe"), "where")
      // Frames of the other view, before and after the answer, reach only that view.
      server.last.say(events(6, [["INSERT", row(2)]], "v1"))
      subscribed(6).say(state(6, [row(1), row(2), row(3)]))
      server.last.say(events(7, [["DELETE", row(1)]], "v1"), events(8, [["DELETE", row(3)]]))
      assert.deepStrictEqual(some.brief, ["live", "2 new"])
      assert.deepStrictEqual(all.brief, ["live", "1 new", "2 new"])
      some.stop()
      same.stop()
      yield* TestClock.adjust(1000)
      assert.deepInclude(asked("unsubscribe"), { channel, view: "v1" })
    })
  )

  it.effect("follow their view when rights rename it", () =>
    Effect.gen(function* () {
      const { asked, server, subscribed, watch } = yield* make
      const orders = watch({ where: { status: "new" } })
      yield* TestClock.adjust(1)
      subscribed(5, "fresh", "v1").say(state(5, [row(1), row(2)], { view: "v1" }))
      server.last.say(gap(6, "rights", { view: "v1", now: "v2" }))
      assert.deepStrictEqual(orders.brief, ["stale", "1 new", "2 new"])
      server.last.say(
        events(7, [["INSERT", row(9)]], "v1"),
        state(6, [row(2)], { view: "v2" }),
        events(7, [["INSERT", row(3)]], "v2")
      )
      assert.deepStrictEqual(orders.brief, ["live", "2 new", "3 new"])
      server.last.say(gap(8, "rights", { view: "v2" }), state(8, [row(4)]))
      assert.deepStrictEqual(orders.brief, ["live", "4 new"])
      orders.stop()
      yield* TestClock.adjust(1000)
      assert.notProperty(asked("unsubscribe"), "view")
    })
  )

  it.effect("are stale after a gap until the state is here that has it", () =>
    Effect.gen(function* () {
      const { count, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      server.last.say(gap(8))
      assert.deepStrictEqual(orders.brief, ["stale", "1 new"])
      // One that was on its way does not have it.
      server.last.say(state(7, [row(1), row(2)]))
      assert.strictEqual(orders.shown.status, "stale")
      server.last.say(events(8, [["DELETE", row(1)]]), state(9, [row(3)]))
      assert.deepStrictEqual(orders.brief, ["live", "3 new"])
      assert.isAtMost(count("state"), 1)
    })
  )

  it.effect("never go back to a state that is older than they are", () =>
    Effect.gen(function* () {
      const { asked, count, reconnect, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      const six = events(6, [
        ["INSERT", row(2)],
        ["UPDATE", row(1, "packed")]
      ])
      const seven = events(7, [["DELETE", row(2)]])
      subscribed(5).say(state(5, [row(1)]), six, seven)
      const reloaded = orders.reload()
      const { id } = asked("state")
      // The state that the server shares, and what follows it.
      server.last.say(state(5, [row(1)], { id }))
      assert.deepStrictEqual(orders.brief, ["live", "1 packed"])
      server.last.say(six)
      assert.deepStrictEqual(orders.brief, ["live", "1 packed"])
      // Also over another link, from the position of that state.
      yield* reconnect
      assert.deepInclude(asked("subscribe"), { cursor: at(6), state: true })
      subscribed(6, "recovered")
      assert.deepStrictEqual(orders.brief, ["live", "1 packed"])
      server.last.say(seven)
      assert.deepStrictEqual(orders.brief, ["live", "1 packed"])
      yield* Effect.promise(() => reloaded)
      server.last.say(events(8, [["INSERT", row(3)]]))
      assert.deepStrictEqual(orders.brief, ["live", "1 packed", "3 new"])
      assert.strictEqual(count("state"), 1)
      // What is before a gap may not come again.
      void orders.reload()
      yield* TestClock.adjust(250)
      server.last.say(state(7, [row(4)], { id: asked("state").id }), gap(9))
      assert.deepStrictEqual(orders.brief, ["stale", "4 new"])
      server.last.say(state(9, [row(5)]))
      assert.deepStrictEqual(orders.brief, ["live", "5 new"])
    })
  )

  it.effect("take the state that they ask for after a gap whose position the database lost", () =>
    Effect.gen(function* () {
      const { asked, count, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      server.last.say(gap(9), state(7, [row(2)]))
      assert.strictEqual(orders.shown.status, "stale")
      server.last.say(state(7, [row(2)], { id: asked("state").id }))
      assert.deepStrictEqual(orders.brief, ["live", "2 new"])
      assert.strictEqual(count("state"), 1)
    })
  )

  it.effect("take changes between the frames of a state for what follows it", () =>
    Effect.gen(function* () {
      const { subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(
        state(5, [row(1)], { more: true }),
        events(6, [
          ["DELETE", row(1)],
          ["UPDATE", row(2, "packed")]
        ]),
        state(5, [row(2)])
      )
      assert.deepStrictEqual(orders.brief, ["live", "2 packed"])
    })
  )

  it.effect("go on from their position after a reconnect, without a state", () =>
    Effect.gen(function* () {
      const { asked, count, reconnect, server, subscribed, watch } = yield* make
      const orders = watch({ where: { status: "new" } })
      yield* TestClock.adjust(1)
      subscribed(5, "fresh", "v1").say(state(5, [row(1)], { view: "v1" }))
      server.last.say({
        ...events(6, [["INSERT", row(2)]], "v1"),
        cursor: at(6, "digest-1")
      } as never)
      const { rows } = orders.shown
      yield* reconnect
      assert.deepInclude(asked("subscribe"), {
        cursor: at(6, "digest-1"),
        state: true,
        where: { status: "new" }
      })
      assert.deepStrictEqual(orders.brief, ["stale", "1 new", "2 new"])
      subscribed(6, "recovered", "v2")
      assert.strictEqual(orders.shown.status, "live")
      assert.strictEqual(orders.shown.rows, rows)
      server.last.say(events(7, [["DELETE", row(1)]], "v2"))
      assert.deepStrictEqual(orders.brief, ["live", "2 new"])
      assert.strictEqual(count("state"), 0)
    })
  )

  it.effect("begin anew where the server cannot go on", () =>
    Effect.gen(function* () {
      const { reconnect, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      yield* reconnect
      subscribed(9, "reset")
      assert.deepStrictEqual(orders.brief, ["stale", "1 new"])
      server.last.say(state(9, [row(2)]))
      assert.deepStrictEqual(orders.brief, ["live", "2 new"])
    })
  )

  it.effect("never show half a state, also when the link breaks in it", () =>
    Effect.gen(function* () {
      const { asked, reconnect, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)], { more: true }))
      yield* reconnect
      assert.notProperty(asked("subscribe"), "cursor")
      subscribed(6).say(state(6, [row(2)], { more: true }))
      assert.deepStrictEqual(orders.brief, ["loading"])
      server.last.say(state(6, [row(3)]))
      assert.deepStrictEqual(orders.brief, ["live", "2 new", "3 new"])
      server.last.say(gap(8), state(8, [row(4)], { more: true }))
      assert.deepStrictEqual(orders.brief, ["stale", "2 new", "3 new"])
      yield* reconnect
      assert.notProperty(asked("subscribe"), "cursor")
      subscribed(9).say(state(9, [row(5)]))
      assert.deepStrictEqual(orders.brief, ["live", "5 new"])
    })
  )

  it.effect("are asked for where a channel is open without a state, beside its listeners", () =>
    Effect.gen(function* () {
      const { asked, client, count, server, subscribed, watch } = yield* make
      const heard: Array<unknown> = []
      client.sync.listen(Orders, {
        onEvents: (batch) =>
          heard.push(...batch.map((event) => (event._tag === "Gap" ? event.reason : event.id))),
        onEnd: (error) => heard.push(error)
      })
      yield* TestClock.adjust(1)
      assert.notProperty(asked("subscribe"), "state")
      subscribed(5).say(insert(6, 1))
      const orders = watch()
      assert.deepInclude(asked("state"), { channel })
      server.last.say(insert(7, 2))
      assert.deepStrictEqual(orders.brief, ["loading"])
      // The state is older than the stream, which goes back to it: the listener hears nothing twice.
      server.last.say(state(5, [], { id: asked("state").id }), insert(6, 1))
      assert.strictEqual(client.sync.last(Orders)?.id, "700")
      server.last.say(insert(7, 2), insert(8, 3))
      assert.strictEqual(client.sync.last(Orders)?.id, "800")
      assert.deepStrictEqual(orders.brief, ["live", "1 new", "2 new", "3 new"])
      assert.deepStrictEqual(heard, ["600", "700", "800"])
      assert.deepStrictEqual([count("subscribe"), count("state")], [1, 1])
      // One that is newer: the listener goes on from its own position, over a subscription of its own.
      const reloaded = orders.reload()
      yield* TestClock.adjust(250)
      assert.strictEqual(count("state"), 2)
      server.last.say(state(10, [row(4)], { id: asked("state").id }))
      yield* Effect.promise(() => reloaded)
      assert.deepInclude(asked("subscribe"), { cursor: at(8), state: true })
      subscribed(8, "recovered").say(insert(9, 7), insert(10, 4), insert(11, 5))
      assert.deepStrictEqual(orders.brief, ["live", "4 new", "5 new"])
      assert.deepStrictEqual(heard, ["600", "700", "800", "900", "1000", "1100"])
    })
  )

  it.effect("ask after each gap of a subscription that is not theirs", () =>
    Effect.gen(function* () {
      const { asked, client, count, server, subscribed, watch } = yield* make
      client.sync.listen(Orders, { onEvents: () => {}, onEnd: () => {} })
      yield* TestClock.adjust(1)
      subscribed(5)
      const orders = watch()
      server.last.say(state(5, [row(1)], { id: asked("state").id }))
      server.last.say(gap(6))
      assert.deepStrictEqual(orders.brief, ["stale", "1 new"])
      yield* TestClock.adjust(250)
      assert.strictEqual(count("state"), 2)
      server.last.say(state(6, [row(2)], { id: asked("state").id }))
      assert.deepStrictEqual(orders.brief, ["live", "2 new"])
    })
  )

  it.effect("have a whole state before the stream goes back for a listener beside them", () =>
    Effect.gen(function* () {
      const { asked, client, count, server, subscribed, watch } = yield* make
      const orders = watch()
      const heard: Array<string> = []
      client.sync.listen(Orders, {
        onEvents: (batch) =>
          heard.push(...batch.map((event) => (event._tag === "Gap" ? event.reason : event.id))),
        onEnd: () => {}
      })
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      server.last.say(gap(6), state(8, [row(2)], { more: true }))
      // The listener lacks what lies before this state.
      assert.strictEqual(count("unsubscribe"), 0)
      server.last.say(state(8, [row(3)]))
      assert.deepStrictEqual(orders.brief, ["live", "2 new", "3 new"])
      assert.deepInclude(asked("subscribe"), { cursor: at(6), state: true })
      subscribed(6, "recovered").say(insert(7, 2), insert(8, 3), insert(9, 4))
      assert.deepStrictEqual(orders.brief, ["live", "2 new", "3 new", "4 new"])
      assert.deepStrictEqual(heard, ["source", "700", "800", "900"])
      assert.strictEqual(count("state"), 0, "without another state")
    })
  )

  it.effect("leave out and name rows that do not match the Schema", () =>
    Effect.gen(function* () {
      const { count, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(
        state(5, [row(1), row(2, "lost")], { more: true }),
        state(5, [row(3)], { invalid: [{ id: 4 }] })
      )
      assert.deepStrictEqual(orders.brief, ["live", "1 new", "3 new"])
      assert.deepStrictEqual(orders.shown.invalid, [{ id: 2 }, { id: 4 }])
      const before = orders.shown.rows
      server.last.say(
        events(6, [
          ["UPDATE", row(2)],
          ["DELETE", row(4)],
          ["UPDATE", row(1, "lost")]
        ])
      )
      assert.deepStrictEqual(orders.brief, ["live", "2 new", "3 new"])
      assert.strictEqual(orders.shown.rows[1], before[1])
      assert.deepStrictEqual(orders.shown.invalid, [{ id: 1 }])
      assert.strictEqual(count("state"), 0)
    })
  )

  it.effect("ask for the state when a change has no key, less and less often", () =>
    Effect.gen(function* () {
      const { asked, count, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      for (let tx = 6; tx < 56; tx++) {
        server.last.say(events(tx, [{ data: { operation: "UPDATE" } }]))
        assert.strictEqual(orders.shown.status, "stale")
        yield* TestClock.adjust(100)
        // The state that the server has is as old as the change before.
        const last = asked("state")
        if (last !== undefined) server.last.say(state(tx - 1, [row(tx)], { id: last.id }))
      }
      assert.isAtLeast(count("state"), 2)
      assert.isAtMost(count("state"), 50)
      yield* TestClock.adjust(30_000)
      server.last.say(state(60, [row(7)], { id: asked("state").id }))
      assert.deepStrictEqual(orders.brief, ["live", "7 new"])
    })
  )

  it.effect(
    "wait for a state that the server rejects for now, and end with one that it rejects",
    () =>
      Effect.gen(function* () {
        const { asked, client, count, server, subscribed, watch } = yield* make
        const ends: Array<unknown> = []
        client.sync.listen(Orders, { onEvents: () => {}, onEnd: (error) => ends.push(error) })
        yield* TestClock.adjust(1)
        subscribed(5)
        const orders = watch()
        const busy = { code: "server/overloaded", message: "Later.", retry: "later" } as const
        server.last.say({ type: "error", id: asked("state").id, ...busy, retryAfter: 500 })
        assert.deepStrictEqual(orders.brief, ["stale"])
        assert.deepInclude(orders.shown.error, { code: "server/overloaded", retryAfter: 500 })
        yield* TestClock.adjust(499)
        assert.strictEqual(count("state"), 1)
        yield* TestClock.adjust(100)
        assert.strictEqual(count("state"), 2)
        const large = { code: "state/too-large", message: "Large.", retry: "never" } as const
        server.last.say({ type: "error", id: asked("state").id, ...large })
        assert.deepStrictEqual(orders.brief, ["error"])
        assert.deepInclude(orders.ended[0], { _tag: "Refused", code: "state/too-large" })
        assert.deepStrictEqual(ends, [], "the channel has its events")
      })
  )

  it.effect("whose subscription is rejected leave the channel to listeners without rows", () =>
    Effect.gen(function* () {
      const { asked, client, server, subscribed, watch } = yield* make
      const heard: Array<unknown> = []
      client.sync.listen(Orders, {
        onEvents: (batch) => heard.push(batch.length),
        onEnd: (error) => heard.push(error)
      })
      const orders = watch()
      yield* TestClock.adjust(1)
      const large = { code: "state/too-large", message: "Large.", retry: "never" } as const
      server.last.say({ type: "error", id: asked("subscribe").id, ...large })
      assert.deepStrictEqual(orders.brief, ["error"])
      assert.notProperty(asked("subscribe"), "state")
      subscribed(5).say(insert(6, 1))
      assert.deepStrictEqual(heard, [1])
    })
  )

  it.effect("end with a filter that the definition does not have, and ask nothing", () =>
    Effect.gen(function* () {
      const { count, watch } = yield* make
      const orders = watch({ where: { id: 1n } })
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(orders.brief, ["error"])
      assert.deepInclude(orders.shown.error, { _tag: "InvalidWhere", channel, column: "id" })
      assert.lengthOf(orders.ended, 1)
      assert.strictEqual(count("subscribe"), 0)
    })
  )

  it.effect("live on for a while, and go on from where they were", () =>
    Effect.gen(function* () {
      const { asked, count, server, subscribed, watch } = yield* make
      const first = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      const { rows } = first.shown
      first.stop()
      assert.strictEqual(first.shown.status, "stale")
      yield* TestClock.adjust(500)
      const second = watch()
      assert.strictEqual(second.shown.status, "live")
      assert.strictEqual(second.shown.rows, rows)
      second.stop()
      // A change without a watcher is not applied, and the client has it sent once more.
      server.last.say(events(6, [["INSERT", row(2)]]))
      const third = watch()
      assert.deepInclude(asked("subscribe"), { cursor: at(5) })
      subscribed(5, "recovered").say(events(6, [["INSERT", row(2)]]))
      assert.deepStrictEqual(third.brief, ["live", "1 new", "2 new"])
      third.stop()
      yield* TestClock.adjust(1001)
      const fourth = watch()
      assert.deepStrictEqual(fourth.brief, ["loading"])
      assert.strictEqual(count("state"), 0)
      fourth.stop()
    })
  )

  it.effect("of another key or another definition share a subscription only", () =>
    Effect.gen(function* () {
      const { asked, count, server, subscribed, watch } = yield* make
      const one = watch({ key: "a" })
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      const other = watch({ key: "b" })
      assert.deepStrictEqual(other.brief, ["loading"])
      server.last.say(state(5, [row(1)], { id: asked("state").id }))
      assert.deepStrictEqual(other.brief, ["live", "1 new"])
      const Short = Channel.table("orders", Schema.Struct({ id: Schema.Int }), { key: "id" })
      const short = watch({}, Short)
      yield* TestClock.adjust(100)
      server.last.say(state(5, [row(1)], { id: asked("state").id }))
      assert.deepStrictEqual<unknown>(short.shown.rows, [{ id: 1 }])
      assert.deepStrictEqual(one.brief, ["live", "1 new"])
      assert.strictEqual(count("subscribe"), 1)
    })
  )

  it.effect("are stale while the connection is stopped, and begin again with it", () =>
    Effect.gen(function* () {
      const { client, server, subscribed, watch } = yield* make
      const orders = watch()
      yield* TestClock.adjust(1)
      subscribed(5).say(state(5, [row(1)]))
      server.last.drop(4202, "no")
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(orders.brief, ["error", "1 new"])
      assert.deepInclude(orders.ended[0], { _tag: "ConnectionStopped" })
      const rejected = yield* Effect.flip(
        Effect.tryPromise({ try: orders.reload, catch: (error) => error })
      )
      assert.deepInclude(rejected, { _tag: "ConnectionStopped" })
      client.sync.reconnect()
      yield* TestClock.adjust(3)
      subscribed(5, "recovered")
      assert.deepStrictEqual(orders.brief, ["live", "1 new"])
    })
  )
})

/** The row `id` is new, with all that a trigger writes. */
const insert = (tx: number, id: number) =>
  events(tx, [{ data: { operation: "INSERT", data: row(id), key: { id } } }])
