/** Requests for pages of history, from a socket's side: their answers, rights, costs and order. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import type { IdentityOptions, Limits } from "../../src/server/ServerOptions.ts"
import { settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Notes = Channel.make("notes", Schema.String, { delivery: "durable" })
const Live = Channel.make("live", Schema.String, { publish: true })
const Pointer = Channel.make("pointer", Schema.String, { delivery: "volatile" })
const Order = Schema.Struct({ id: Schema.Int, team: Schema.String, note: Schema.String })
const Orders = Channel.table("orders", Order, { key: "id", boundary: ["team"] })

interface World {
  readonly outbox: MemoryOutbox.MemoryOutbox["Service"]
  readonly door: Door.Door
  /** What `authorize` answers, `true` without an entry. */
  readonly answers: Record<string, unknown>
  readonly asked: Array<string>
  readonly commit: (
    ...texts: ReadonlyArray<string>
  ) => Effect.Effect<void, MemoryOutbox.TransactionError>
}

const world = <A, E>(
  body: (world: World) => Effect.Effect<A, E, TestDoor | Scope.Scope>,
  limits: Limits = {}
) =>
  Effect.gen(function* () {
    const answers: Record<string, unknown> = {}
    const asked: Array<string> = []
    const options: IdentityOptions<string> = {
      channels: [Notes, Live, Pointer, Orders],
      authenticate: ({ token = "" }) => Effect.succeed({ identity: token }),
      authorize: ({ action, channel, identity }) =>
        Effect.sync(() => {
          asked.push(`${action} ${channel}`)
          return (answers[identity] ?? true) as boolean
        }),
      limits
    }
    return yield* Effect.gen(function* () {
      const outbox = yield* MemoryOutbox.MemoryOutbox
      const commit: World["commit"] = (...texts) =>
        outbox.commit(...texts.map((text) => ({ channel: "notes", text: JSON.stringify(text) })))
      return yield* body({ outbox, door: yield* TestDoor, answers, asked, commit })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Layer.effect(TestDoor, Door.make(options)).pipe(
          Layer.provideMerge(Realtime.layer()),
          Layer.provide(MemorySource.layer),
          Layer.provideMerge(MemoryOutbox.layer())
        )
      )
    )
  })

const ask = (visitor: Visitor, ...frames: ReadonlyArray<object>) =>
  Effect.suspend(() => {
    for (const frame of frames) visitor.send(frame)
    return settle
  })

const history = (id: number, more: object = {}) => ({
  type: "history",
  id,
  channel: "notes",
  limit: 2,
  ...more
})

/** What an answer says, short: the data of a page, or the code of the error. */
const short = (visitor: Visitor, id: number) => {
  const answer = visitor.answer(id)
  if (answer?.type === "error") return answer.code
  if (answer?.type !== "history") return answer?.type
  const data = answer.events.map(({ data }) => data)
  return answer.more ? ["...", ...data] : data
}

describe("A request for history", () => {
  it.effect("is answered with a page, without a subscription", () =>
    world(({ asked, commit }) =>
      Effect.gen(function* () {
        for (const text of ["a", "b", "c"]) yield* commit(text)
        const visitor = yield* visit({ token: "ann" })
        yield* ask(visitor, history(1))
        const page = visitor.last("history")!
        expect(page).toEqual({
          type: "history",
          id: 1,
          channel: "notes",
          events: [
            { id: "2", at: "1970-01-01T00:00:00.000Z", data: "b", tx: page.events[0]!.tx },
            { id: "3", at: "1970-01-01T00:00:00.000Z", data: "c", tx: page.events[1]!.tx }
          ],
          more: true
        })
        yield* ask(visitor, history(2, { before: "2" }))
        expect(short(visitor, 2)).toEqual(["a"])
        expect(asked).toEqual(["subscribe notes", "subscribe notes"])
      })
    )
  )

  it.effect("has the same events as the subscription, and is answered after it", () =>
    world(({ commit }) =>
      Effect.gen(function* () {
        yield* commit("a", "b")
        const visitor = yield* visit({ token: "ann" })
        yield* ask(
          visitor,
          { type: "subscribe", id: 1, channel: "notes", cursor: "oldest" },
          history(2)
        )
        expect(visitor.frames.map(({ type }) => type).slice(1)).toEqual([
          "subscribed",
          "events",
          "history"
        ])
        expect(visitor.last("history")!.events).toEqual(visitor.last("events")!.events)
      })
    )
  )

  it.effect("has what the node remembers of a live channel", () =>
    world(() =>
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        const live = { channel: "live" }
        yield* ask(visitor, history(1, live), { type: "subscribe", id: 2, ...live })
        expect(short(visitor, 1)).toEqual([])
        for (const id of [3, 4, 5]) {
          yield* ask(visitor, { type: "publish", id, ...live, key: `${id}`, data: `${id}` })
        }
        yield* ask(visitor, history(6, live))
        expect(short(visitor, 6)).toEqual(["...", "4", "5"])
        const [first] = visitor.last("history")!.events
        yield* ask(visitor, history(7, { ...live, before: first!.id }))
        expect(short(visitor, 7)).toEqual(["3"])
      })
    )
  )

  it.effect("is rejected by the first check that fails", () =>
    world(
      ({ answers, asked }) =>
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "eve" })
          answers["eve"] = false
          yield* ask(visitor, history(1, { channel: "a b" }), history(2, { channel: "none" }))
          yield* ask(visitor, history(3), { ...history(4), limit: "2" })
          expect([1, 2, 3, 4].map((id) => short(visitor, id))).toEqual([
            "channel/invalid-name",
            "channel/unknown",
            "channel/forbidden",
            "frame/malformed"
          ])
          answers["eve"] = true
          yield* ask(visitor, history(5, { before: "x" }), history(6, { channel: "pointer" }))
          expect([5, 6].map((id) => visitor.answer(id))).toMatchObject([
            {
              code: "frame/malformed",
              message: "The frame is not valid: before is not the id of an event of this channel."
            },
            {
              code: "frame/malformed",
              message: "The frame is not valid: a volatile channel has no history."
            }
          ])
          // The server checks the rate before the rights.
          const before = asked.length
          yield* ask(visitor, history(7))
          expect(visitor.answer(7)).toMatchObject({ code: "rate/limited", retry: "later" })
          expect(asked).toHaveLength(before)
        }),
      { subscribeRate: { perSecond: 1, burst: 3 } }
    )
  )

  it.effect("leaves the reservation of a subscription alone when it is rejected", () =>
    world(({ answers }) =>
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* ask(visitor, { type: "subscribe", id: 1, channel: "notes" })
        answers["ann"] = false
        yield* ask(visitor, history(1))
        answers["ann"] = true
        yield* ask(visitor, { type: "subscribe", id: 2, channel: "notes" })
        expect(short(visitor, 2)).toBe("subscribe/duplicate")
      })
    )
  )

  it.effect("is charged by its bytes, as a replay is", () =>
    world(
      ({ commit }) =>
        Effect.gen(function* () {
          yield* commit("x".repeat(250_000), "y".repeat(100_000))
          const visitor = yield* visit({ token: "ann" })
          yield* ask(visitor, history(1))
          expect(visitor.last("history")!.events).toHaveLength(2)
          yield* ask(visitor, history(2))
          expect(short(visitor, 2)).toBe("rate/limited")
          yield* TestClock.adjust("10 seconds")
          yield* ask(visitor, history(3, { limit: 1 }))
          expect(visitor.answer(3)).toMatchObject({ more: true })
        }),
      { subscribeRate: { perSecond: 1, burst: 4 } }
    )
  )

  it.effect("is read and sent when the socket takes bytes, however large it is", () =>
    world(
      ({ commit }) =>
        Effect.gen(function* () {
          yield* commit("x".repeat(50_000))
          const visitor = yield* visit({ token: "ann" })
          visitor.reading = false
          yield* ask(visitor, { type: "ping" }, history(1), history(2))
          yield* TestClock.adjust("5 seconds")
          expect(visitor.frames.map(({ type }) => type)).toEqual(["welcome"])
          yield* commit("later")
          visitor.read()
          yield* settle
          for (const id of [1, 2]) expect(short(visitor, id)).toEqual(["x".repeat(50_000), "later"])
          expect(visitor.closeCode).toBeUndefined()
        }),
      { maxMailboxBytes: 20_000 }
    )
  )

  it.effect("waits for its database, and is rejected for now when that takes too long", () =>
    world(({ commit, outbox }) =>
      Effect.gen(function* () {
        yield* commit("a")
        yield* outbox.lose
        const visitor = yield* visit({ token: "ann" })
        yield* ask(visitor, history(1))
        expect(visitor.answer(1)).toBeUndefined()
        yield* outbox.restore
        yield* settle
        expect(short(visitor, 1)).toEqual(["a"])
        yield* outbox.lose
        yield* ask(visitor, history(2))
        yield* TestClock.adjust("11 seconds")
        yield* settle
        expect(visitor.answer(2)).toMatchObject({ code: "source/down", retry: "later" })
      })
    )
  )

  it.effect("has no row outside of the boundary, also when that changes while it waits", () =>
    world(({ answers, outbox }) =>
      Effect.gen(function* () {
        const { rows } = outbox
        answers["ann"] = { where: { team: "a" } }
        yield* rows.insert(Orders, { id: 1, team: "a", note: "one" })
        yield* rows.insert(Orders, { id: 2, team: "b", note: "two" })
        yield* rows.update(Orders, { id: 2 }, { team: "a", note: "three" })
        yield* rows.update(Orders, { id: 1 }, { team: "b", note: "four" })
        yield* rows.update(Orders, { id: 1 }, { note: "five" })
        const visitor = yield* visit({ token: "ann" })
        const orders = { channel: "table_updates_orders", limit: 100 }
        yield* ask(visitor, history(1, orders))
        expect(visitor.last("history")).toMatchObject({
          events: [
            { data: { operation: "INSERT", data: { id: 1, note: "one" } } },
            { data: { operation: "INSERT", data: { id: 2, note: "three" } } },
            { data: { operation: "DELETE", key: { id: 1 } } }
          ],
          more: false
        })
        // A page that has nothing of the newest rows goes on behind them.
        yield* ask(visitor, history(2, { ...orders, limit: 1 }))
        expect(visitor.last("history")).toMatchObject({
          events: [{ data: { operation: "DELETE", key: { id: 1 } } }],
          more: true
        })
        expect(JSON.stringify(visitor.frames)).not.toMatch(/"b"|two|four|five/)
        visitor.reading = false
        yield* ask(visitor, { type: "ping" }, history(3, orders))
        answers["ann"] = { where: { team: "b" } }
        const door = yield* TestDoor
        yield* Effect.forkScoped(door.reauthorize("ann"))
        yield* settle
        visitor.read()
        yield* settle
        const after = JSON.stringify(visitor.answer(3))
        expect(after).toContain("two")
        expect(after).not.toMatch(/"a"|one|three/)
      })
    )
  )

  it.effect("is dropped with its session", () =>
    world(({ outbox }) =>
      Effect.gen(function* () {
        yield* outbox.lose
        const visitor = yield* visit({ token: "ann" })
        yield* ask(visitor, history(1))
        visitor.leave()
        yield* outbox.restore
        yield* settle
        expect(visitor.answer(1)).toBeUndefined()
      })
    )
  )
})

describe("A subscription with state of a channel without a table", () => {
  const subscribe = (id: number, more: object = {}) => ({
    type: "subscribe",
    id,
    channel: "notes",
    state: true,
    ...more
  })
  /** The channel's frames after the welcome, short. */
  const told = ({ frames }: Visitor) =>
    frames.slice(1).flatMap((frame) => {
      switch (frame.type) {
        case "subscribed":
          return [frame.state]
        case "state":
          return [`state ${frame.rows}`]
        case "events":
          return frame.events.map(({ data }) => data)
        case "gap":
          return [`gap ${frame.reason}`]
        default:
          return []
      }
    })

  it.effect("begins with the last event of the outbox, and goes on behind it", () =>
    world(({ commit, outbox }) =>
      Effect.gen(function* () {
        const none = yield* visit({ token: "ann" })
        yield* ask(none, subscribe(1))
        expect(told(none)).toEqual(["fresh", "state "])
        yield* commit("a", "b")
        yield* outbox.commit({ channel: "notes", text: gapTexts.source })
        const visitor = yield* visit({ token: "bob" })
        yield* TestClock.adjust("2 seconds")
        yield* ask(visitor, subscribe(1))
        yield* commit("c")
        yield* settle
        expect(told(visitor)).toEqual(["fresh", "state b", "c"])
        expect(visitor.last("state")!.cursor).toBe(visitor.last("subscribed")!.cursor)
        // Recovered, the server sends nothing again.
        const { cursor } = visitor.last("events")!
        const back = yield* visit({ token: "eve" })
        yield* ask(back, subscribe(1, { cursor }))
        expect(told(back)).toEqual(["recovered"])
      })
    )
  )

  it.effect("begins with the last event that the node remembers of a live channel", () =>
    world(() =>
      Effect.gen(function* () {
        const first = yield* visit({ token: "ann" })
        const live = { channel: "live" }
        yield* ask(first, subscribe(1, live))
        yield* ask(first, { type: "publish", id: 2, ...live, key: "1", data: "a" })
        expect(told(first)).toEqual(["fresh", "state ", "a"])
        const visitor = yield* visit({ token: "bob" })
        yield* ask(visitor, subscribe(1, live))
        yield* ask(first, { type: "publish", id: 3, ...live, key: "2", data: "b" })
        expect(told(visitor)).toEqual(["fresh", "state a", "b"])
      })
    )
  )
})
