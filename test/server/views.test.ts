/**
 * Subscriptions of a table with a filter, a boundary or a state, from a socket's side: which rows it
 * receives, when, and which it never receives.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as PgType from "../../src/PgType.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import type { IdentityOptions, Limits, Request } from "../../src/server/ServerOptions.ts"
import { Replica } from "../support/replica.ts"
import { settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Order = Schema.Struct({
  id: Schema.Int,
  status: Schema.String,
  team: Schema.NullOr(Schema.String),
  note: Schema.String
})
const Orders = Channel.table("orders", Order, {
  key: "id",
  filter: ["status"],
  boundary: ["team"]
})
const Day = Schema.Struct({ id: Schema.Int, n: Schema.Int, day: Schema.NullOr(PgType.date) })
const Days = Channel.table("days", Day, { key: "id", filter: ["n", "day"] })
const Notes = Channel.make("notes", Schema.String, { delivery: "durable", publish: true })
const Moves = Channel.make("moves", Schema.String, { delivery: "volatile", publish: true })
const channel = "table_updates_orders"

const order = (id: number, status = "new", team: string | null = "a", note = "") => ({
  id,
  status,
  team,
  note
})

/** What `authorize` answers, by name of the client. */
type Answers = Record<string, unknown>

interface World {
  readonly outbox: MemoryOutbox.MemoryOutbox["Service"]
  readonly door: Door.Door
  readonly answers: Answers
  readonly lines: ReadonlyArray<string>
  readonly asked: Array<Request<string>>
}

const world = <A, E>(
  body: (world: World) => Effect.Effect<A, E, TestDoor | Scope.Scope>,
  options: { readonly limits?: Limits; readonly realtime?: Realtime.Options } = {}
) => {
  const answers: Answers = {}
  const lines: Array<string> = []
  const asked: Array<Request<string>> = []
  const server: IdentityOptions<string> = {
    channels: [Orders, Days, Notes, Moves],
    authenticate: ({ token = "" }) => Effect.succeed({ identity: token }),
    authorize: (request) =>
      Effect.sync(() => {
        asked.push(request)
        return (answers[request.identity] ?? true) as boolean
      }),
    ...(options.limits === undefined ? {} : { limits: options.limits })
  }
  const logger = Logger.make(({ cause, message }) => {
    lines.push(`${String(message)} ${String(cause)}`)
  })
  return Effect.gen(function* () {
    const outbox = yield* MemoryOutbox.MemoryOutbox
    const door = yield* TestDoor
    return yield* body({ outbox, door, answers, lines, asked })
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.effect(TestDoor, Door.make(server)).pipe(
        Layer.provideMerge(Realtime.layer(options.realtime)),
        Layer.provide(MemorySource.layer),
        Layer.provideMerge(MemoryOutbox.layer()),
        Layer.provideMerge(Logger.layer([logger]))
      )
    )
  )
}

const ask = (visitor: Visitor, ...frames: ReadonlyArray<object>) =>
  Effect.suspend(() => {
    for (const frame of frames) visitor.send(frame)
    return settle
  })

const subscribe = (id: number, more: object = {}) => ({ type: "subscribe", id, channel, ...more })

/** A client that subscribed, and what it has. */
const follow = (token: string, more: object = { state: true }) =>
  Effect.gen(function* () {
    const visitor = yield* visit({ token })
    yield* ask(visitor, subscribe(1, more))
    const answer = visitor.answer(1)
    const view = answer?.type === "subscribed" ? answer.view : undefined
    const replica = new Replica(channel, view)
    return { visitor, replica, view, list: () => replica.take(visitor.frames).list }
  })

describe("A subscription with state", () => {
  it.effect("begins with the rows as of the cursor from which the events follow", () =>
    world(({ outbox: { rows } }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, order(1))
        const { list, replica, visitor } = yield* follow("ann")
        yield* rows.insert(Orders, order(2))
        yield* rows.update(Orders, { id: 1 }, { note: "x" })
        yield* settle
        expect(list()).toEqual([order(1, "new", "a", "x"), order(2)])
        expect(replica.told).toEqual(["subscribed", "state", "events", "events"])
        const [subscribed] = visitor.of("subscribed")
        const [state] = visitor.of("state")
        expect(subscribed).toMatchObject({ state: "fresh", cursor: state!.cursor })
        expect(state).toMatchObject({ more: false })
        expect(state).not.toHaveProperty("id")
      })
    )
  )

  it.effect("resumes from its cursor without the state, and gets it after a reset", () =>
    world(({ outbox: { prune, rows } }) =>
      Effect.gen(function* () {
        const first = yield* follow("ann")
        first.list()
        const { cursor } = first.replica
        yield* rows.insert(Orders, order(1))
        const again = yield* follow("bob", { state: true, cursor })
        expect(again.replica.take(again.visitor.frames).told).toEqual(["subscribed", "events"])
        const other = yield* follow("cid", { state: true, cursor: "1:1" })
        expect(other.list()).toEqual([order(1)])
        expect(other.visitor.of("subscribed")).toMatchObject([{ state: "reset" }])
        yield* prune
      })
    )
  )

  it.effect("is refused for good when the state is too large, and nothing else is", () =>
    world(
      ({ lines, outbox: { rows } }) =>
        Effect.gen(function* () {
          for (const id of [1, 2, 3]) yield* rows.insert(Orders, order(id))
          yield* rows.insert(Orders, order(4, "sent"))
          const { visitor } = yield* follow("ann")
          const refused = { type: "error", code: "state/too-large", retry: "never" }
          expect(visitor.answer(1)).toMatchObject(refused)
          expect(visitor.answer(1)).toMatchObject({
            message: expect.stringContaining("maxStateRows")
          })
          yield* ask(
            visitor,
            subscribe(2, { state: true, where: { status: "sent" } }),
            subscribe(3),
            { type: "state", id: 4, channel }
          )
          expect(visitor.answer(2)).toMatchObject({ type: "subscribed" })
          expect(visitor.answer(3)).toMatchObject({ type: "subscribed" })
          expect(visitor.answer(4)).toMatchObject(refused)
          // The log names the limit.
          expect(lines.filter((line) => line.includes("maxStateRows")).length).toBeGreaterThan(0)
        }),
      { realtime: { maxStateRows: 2 } }
    )
  )

  it.effect("gets a state that contains the gap, after a gap", () =>
    world(({ outbox: { rows, ...outbox } }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, order(1))
        const { list, replica } = yield* follow("ann")
        expect(list()).toEqual([order(1)])
        yield* rows.truncate(Orders)
        yield* rows.insert(Orders, order(2))
        yield* settle
        expect(list()).toEqual([order(2)])
        expect(replica.told).toEqual(["subscribed", "state", "gap truncate", "events", "state"])
        // The next state for a gap waits its time, and events go on until then.
        yield* outbox.commit({ channel, text: `{"operation":"INSERT","data":{}}` })
        yield* rows.insert(Orders, order(3))
        yield* settle
        expect([list(), replica.stale]).toEqual([[order(2), order(3)], true])
        yield* TestClock.adjust("6 seconds")
        yield* settle
        expect([list(), replica.stale]).toEqual([[order(2), order(3)], false])
        expect(replica.told.slice(5)).toEqual(["gap invalid", "events", "state"])
      })
    )
  )
})

describe("A request for the state", () => {
  it.effect("is answered by the first frame of a state, and requests at once share one", () =>
    world(({ outbox: { rows } }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, order(1))
        const { list, replica, visitor } = yield* follow("ann", {})
        yield* rows.insert(Orders, order(2))
        yield* ask(
          visitor,
          { type: "state", id: 2, channel },
          { type: "state", id: 3, channel },
          { type: "state", id: 4, channel, view: "none" },
          { type: "state", id: 5, channel: "notes" },
          { type: "state", id: 6, channel: "moves" }
        )
        expect(list()).toEqual([order(1), order(2)])
        expect(visitor.of("state").map(({ id, more, rows }) => [id, rows.length, more])).toEqual([
          [2, 0, true],
          [3, 2, false]
        ])
        expect(replica.stale).toBe(false)
        expect([4, 5, 6].map((id) => visitor.answer(id))).toMatchObject([
          { code: "channel/unknown" },
          // Its state is its last event, and the session has no subscription of it.
          { code: "channel/unknown" },
          { code: "frame/malformed" }
        ])
        yield* rows.insert(Orders, order(3))
        yield* ask(visitor, { type: "state", id: 7, channel })
        expect(list()).toEqual([order(1), order(2), order(3)])
        expect(visitor.answer(7)).toMatchObject({ type: "state" })
      })
    )
  )

  it.effect("is answered with an error when the subscription ends first", () =>
    world(({ outbox: { rows } }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, order(1))
        const { visitor } = yield* follow("ann", {})
        yield* ask(
          visitor,
          { type: "state", id: 2, channel },
          { type: "unsubscribe", id: 3, channel }
        )
        expect(visitor.answer(2)).toMatchObject({ type: "error", code: "channel/unknown" })
        expect(visitor.answer(3)).toMatchObject({ type: "unsubscribed" })
        expect(visitor.of("state")).toEqual([])
      })
    )
  )
})

describe("A filter", () => {
  it.effect("tells rows that enter, stay and leave, beside another filter of the same socket", () =>
    world(({ outbox: { rows } }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, order(1))
        yield* rows.insert(Orders, order(2, "sent"))
        const fresh = yield* follow("ann", { state: true, where: { status: "new" } })
        const { visitor } = fresh
        yield* ask(visitor, subscribe(2, { state: true, where: { status: ["sent", "done"] } }))
        const { view } = visitor.answer(2) as { readonly view: string }
        const sent = new Replica(channel, view)
        yield* rows.update(Orders, { id: 1 }, { status: "sent" })
        yield* rows.update(Orders, { id: 2 }, { note: "x" })
        yield* rows.insert(Orders, order(3))
        yield* settle
        expect(fresh.list()).toEqual([order(3)])
        expect(sent.take(visitor.frames).list).toEqual([
          order(1, "sent"),
          order(2, "sent", "a", "x")
        ])
        expect(view).not.toBe(fresh.view)
        // One of two views ends.
        yield* ask(visitor, { type: "unsubscribe", id: 3, channel, view: fresh.view })
        yield* rows.update(Orders, { id: 3 }, { status: "done" })
        yield* settle
        expect(fresh.list()).toEqual([order(3)])
        expect(sent.take(visitor.frames).list).toHaveLength(3)
        // Its place is free, and the other one's is not.
        yield* ask(
          visitor,
          subscribe(4, { where: { status: ["new"] } }),
          subscribe(5, { where: { status: ["done", "sent", "done"] } })
        )
        expect([visitor.answer(4), visitor.answer(5)]).toMatchObject([
          { type: "subscribed", view: fresh.view },
          { code: "subscribe/duplicate" }
        ])
      })
    )
  )

  it.effect("that the boundary makes equal in meaning is a subscription of its own", () =>
    world(({ answers, outbox: { rows } }) =>
      Effect.gen(function* () {
        answers["ann"] = { where: { status: "new" } }
        const { visitor } = yield* follow("ann", {})
        yield* ask(visitor, subscribe(2, { where: { status: "new" } }))
        const views = visitor.of("subscribed").map(({ view }) => view)
        expect(new Set(views).size).toBe(2)
        yield* rows.insert(Orders, order(1))
        yield* settle
        expect(visitor.of("events").map(({ view }) => view)).toEqual(expect.arrayContaining(views))
        yield* ask(visitor, { type: "unsubscribe", id: 3, channel })
        yield* rows.insert(Orders, order(2))
        yield* settle
        expect(visitor.of("events").map(({ view }) => view)).toHaveLength(3)
      })
    )
  )

  it.effect("is refused when the channel lacks it, with the columns that it has", () =>
    world(({ answers, asked }) =>
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* ask(
          visitor,
          subscribe(1, { where: { team: "a" } }),
          subscribe(2, { where: { status: Array.from({ length: 101 }, (_, n) => `s${n}`) } }),
          { type: "subscribe", id: 3, channel: "notes", where: { status: "new" } },
          { type: "subscribe", id: 4, channel: "moves", where: { status: "new" } },
          subscribe(5, { where: { status: { in: ["new"] } } })
        )
        const refused = { type: "error", code: "subscribe/invalid-where", retry: "never" }
        expect([1, 2, 3, 4].map((id) => visitor.answer(id))).toMatchObject([
          { ...refused, message: "This channel filters by status and by no other column." },
          { ...refused, message: expect.stringContaining("100 values") },
          refused,
          refused
        ])
        expect(visitor.answer(5)).toMatchObject({ code: "frame/malformed" })
        // The rights come first, so a client without them learns no columns.
        answers["ann"] = false
        yield* ask(visitor, subscribe(6, { where: { team: "a" } }))
        expect(visitor.answer(6)).toMatchObject({ code: "channel/forbidden" })
        expect(asked).toHaveLength(5)
        // Places are free again: nothing is a duplicate.
        answers["ann"] = true
        yield* ask(
          visitor,
          subscribe(7, { where: {} }),
          { type: "subscribe", id: 8, channel: "notes", where: {}, state: true },
          { type: "subscribe", id: 9, channel: "moves", state: true }
        )
        expect([7, 8, 9].map((id) => visitor.answer(id)?.type)).toEqual(
          Array.from({ length: 3 }, () => "subscribed")
        )
        expect(visitor.of("state")).toMatchObject([{ channel: "notes", rows: [] }])
      })
    )
  )

  it.effect("is refused with a value that its column cannot have, with a state and without", () =>
    world(() =>
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        let id = 0
        const answer = Effect.fnUntraced(function* (where: Record<string, unknown>, state?: true) {
          id++
          yield* ask(visitor, { type: "subscribe", id, channel: Days.name, where, state })
          return visitor.answer(id) as { readonly type: string; readonly message?: string }
        })
        for (const where of [{ day: "2026-11-8" }, { n: 1.5 }, { n: [1, "x"] }, { n: null }]) {
          for (const state of [undefined, true] as const) {
            const refused = yield* answer(where, state)
            expect([where, refused]).toMatchObject([
              where,
              { type: "error", code: "subscribe/invalid-where", retry: "never" }
            ])
            expect(refused.message).toContain(Object.keys(where)[0])
          }
        }
        // A number may be written as a string, as the large ones are.
        for (const where of [{ day: "2026-11-28" }, { day: null }, { n: 1 }, { n: ["2", 3] }]) {
          expect([where, (yield* answer(where)).type]).toEqual([where, "subscribed"])
        }
      })
    )
  )

  it.effect("counts in maxSubscriptions as each other subscription does", () =>
    world(
      () =>
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann" })
          yield* ask(
            visitor,
            subscribe(1),
            subscribe(2, { where: { status: "a" } }),
            subscribe(3, { where: { status: "b" } })
          )
          expect([1, 2, 3].map((id) => visitor.answer(id))).toMatchObject([
            { type: "subscribed" },
            { type: "subscribed" },
            { code: "subscribe/limit" }
          ])
        }),
      { limits: { maxSubscriptions: 2 } }
    )
  )
})

describe("A boundary", () => {
  it.effect("limits the state and the events of a client that cannot see it", () =>
    world(({ answers, outbox: { rows } }) =>
      Effect.gen(function* () {
        answers["ann"] = { where: { team: ["a", "b"] } }
        yield* rows.insert(Orders, order(1, "new", "a"))
        yield* rows.insert(Orders, order(2, "new", "c"))
        const { list, visitor } = yield* follow("ann", {
          state: true,
          where: { status: "new" }
        })
        yield* rows.insert(Orders, order(3, "new", "b"))
        yield* rows.insert(Orders, order(4, "new", null))
        yield* rows.update(Orders, { id: 1 }, { team: "c" })
        yield* rows.update(Orders, { id: 2 }, { team: "a" })
        yield* settle
        expect(list()).toEqual([order(2, "new", "a"), order(3, "new", "b")])
        const all = JSON.stringify(visitor.frames)
        expect(all).not.toContain(`"team":"c"`)
        expect(all).not.toContain(`"team":null`)
      })
    )
  )

  for (const [what, answer] of Object.entries({
    "has no column": { where: {} },
    "has a value that is missing": { where: { team: undefined } },
    "has a column that the definition lacks": { where: { owner: "ann" } },
    "has a value that the Schema lacks": { where: { team: 7 } },
    "is a list": { where: ["a"] },
    "is null": { where: null }
  })) {
    it.effect(`that ${what} is a fault, which closes one subscription`, () =>
      world(({ answers, door, lines }) =>
        Effect.gen(function* () {
          answers["ann"] = answer
          const { visitor } = yield* follow("ann")
          expect(visitor.answer(1)).toMatchObject({ type: "error", code: "server/internal" })
          expect(lines.join()).toContain(channel)
          expect(lines.join()).not.toContain("7")
          const bob = yield* follow("bob")
          yield* ask(bob.visitor, { type: "subscribe", id: 2, channel: "notes" })
          answers["bob"] = answer
          yield* Effect.forkScoped(door.reauthorize("bob"))
          yield* settle
          expect(bob.visitor.of("ended")).toMatchObject([
            { channel, code: "server/overloaded", retry: "later" },
            { channel: "notes" }
          ])
          expect(bob.visitor.closeCode).toBe(undefined)
        })
      )
    )
  }

  it.effect("on a channel of no table is a fault", () =>
    world(({ answers }) =>
      Effect.gen(function* () {
        answers["ann"] = { where: { team: "a" } }
        const visitor = yield* visit({ token: "ann" })
        yield* ask(
          visitor,
          { type: "subscribe", id: 1, channel: "notes" },
          { type: "publish", id: 2, channel: "notes", key: "k", data: "x" }
        )
        expect([visitor.answer(1), visitor.answer(2)]).toMatchObject([
          { code: "server/internal" },
          { code: "server/internal" }
        ])
      })
    )
  )
})

describe("A change of rights", () => {
  const reauthorize = (door: Door.Door, identity: string) =>
    Effect.andThen(Effect.forkScoped(door.reauthorize(identity)), settle)

  it.effect("moves a subscription to its new rows, with a gap and their state", () =>
    world(({ answers, door, outbox: { rows } }) =>
      Effect.gen(function* () {
        answers["ann"] = { where: { team: "a" } }
        yield* rows.insert(Orders, order(1, "new", "a"))
        yield* rows.insert(Orders, order(2, "new", "b"))
        const { list, replica, view, visitor } = yield* follow("ann")
        expect(list()).toEqual([order(1, "new", "a")])
        answers["ann"] = { where: { team: "b" } }
        yield* reauthorize(door, "ann")
        yield* rows.insert(Orders, order(3, "new", "a"))
        yield* rows.insert(Orders, order(4, "new", "b"))
        yield* settle
        expect(list()).toEqual([order(2, "new", "b"), order(4, "new", "b")])
        expect(replica.told).toEqual(["subscribed", "state", "gap rights", "state", "events"])
        const [gap] = visitor.of("gap")
        expect(gap).toMatchObject({ view, now: replica.view })
        // All rows: the view has no text.
        answers["ann"] = true
        yield* reauthorize(door, "ann")
        expect(visitor.of("gap").at(-1)).not.toHaveProperty("now")
        expect(list()).toHaveLength(4)
        // It is found by its earlier views.
        yield* ask(visitor, { type: "state", id: 5, channel, view })
        expect(visitor.answer(5)).toMatchObject({ type: "state" })
        yield* ask(visitor, { type: "unsubscribe", id: 6, channel, view })
        yield* rows.insert(Orders, order(5))
        yield* settle
        expect(list()).toHaveLength(4)
      })
    )
  )

  it.effect("brings the rows at once, however many others moved there before", () =>
    world(({ answers, door, outbox: { rows } }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, order(1, "new", "a"))
        yield* rows.insert(Orders, order(2, "new", "b"))
        const names = ["ann", "bob", "cat", "dan", "eve"]
        const clients = yield* Effect.forEach(names, (name) => {
          answers[name] = { where: { team: "a" } }
          return follow(name)
        })
        for (const [index, name] of names.entries()) {
          yield* rows.insert(Orders, order(10 + index, "new", "b"))
          yield* TestClock.adjust("1500 millis")
          answers[name] = { where: { team: "b" } }
          yield* reauthorize(door, name)
          const { list, replica } = clients[index]!
          expect([list().length, replica.stale]).toEqual([2 + index, false])
        }
      })
    )
  )

  it.effect("that leaves the rows as they are changes nothing", () =>
    world(({ answers, door }) =>
      Effect.gen(function* () {
        answers["ann"] = { where: { team: ["a", "b"] } }
        const { visitor } = yield* follow("ann")
        const before = visitor.frames.length
        answers["ann"] = { where: { team: ["b", "a", "b"] } }
        yield* reauthorize(door, "ann")
        yield* ask(visitor, { type: "authenticate", id: 2, token: "ann" })
        expect(visitor.frames.slice(before).map(({ type }) => type)).toEqual(["authenticated"])
      })
    )
  )

  it.effect("drops the events and the state of the old rows that wait for the socket", () =>
    world(({ answers, door, outbox: { rows } }) =>
      Effect.gen(function* () {
        answers["ann"] = { where: { team: "a" } }
        const note = "x".repeat(50_000)
        for (const id of [1, 2, 3, 4]) yield* rows.insert(Orders, order(id, "new", "a", note))
        const { list, replica, visitor } = yield* follow("ann")
        visitor.reading = false
        yield* rows.insert(Orders, order(5, "new", "a", "secret 5"))
        yield* rows.insert(Orders, order(6, "new", "a", "secret 6"))
        yield* ask(visitor, { type: "state", id: 2, channel, view: replica.view })
        answers["ann"] = { where: { team: "b" } }
        yield* reauthorize(door, "ann")
        yield* rows.insert(Orders, order(7, "new", "b"))
        visitor.read()
        yield* settle
        expect(list()).toEqual([order(7, "new", "b")])
        // The socket took one message before the change.
        expect(JSON.stringify(visitor.frames)).not.toContain("secret 6")
        expect(visitor.answer(2)).toMatchObject({ type: "state" })
      })
    )
  )
})

describe("A state for a slow socket", () => {
  it.effect("waits for the socket between its frames, and no other subscription waits for it", () =>
    world(
      ({ outbox: { rows } }) =>
        Effect.gen(function* () {
          const note = "x".repeat(60_000)
          for (let id = 1; id <= 20; id++) yield* rows.insert(Orders, order(id, "new", "a", note))
          const visitor = yield* visit({ token: "ann" })
          yield* ask(visitor, { type: "subscribe", id: 1, channel: "notes" })
          visitor.reading = false
          yield* ask(visitor, subscribe(2, { state: true }))
          const other = yield* visit({ token: "bob" })
          const publish = (id: number) =>
            ask(other, { type: "publish", id, channel: "notes", key: `k${id}`, data: `n${id}` })
          const replica = new Replica(channel)
          let sips = 0
          while (visitor.of("state").at(-1)?.more !== false) {
            // Of what waits, the socket takes one message at a time.
            if (++sips % 2 === 0) yield* publish(sips)
            yield* rows.update(Orders, { id: 1 }, { note: `${sips}` })
            visitor.sip()
            yield* settle
            expect(sips).toBeLessThan(60)
            expect(visitor.of("events").some(({ channel }) => channel !== "notes")).toBe(false)
          }
          expect(sips).toBeGreaterThan(15)
          // The other channel goes on while the state is on its way.
          expect(visitor.of("events").length).toBeGreaterThan(sips / 2 - 2)
          visitor.read()
          yield* settle
          replica.take(visitor.frames)
          expect(replica.list).toHaveLength(20)
          expect(replica.list[0]).toEqual(order(1, "new", "a", `${sips}`))
          expect(replica.told.includes("gap slow")).toBe(false)
          expect(visitor.of("events").filter(({ channel }) => channel === "notes")).toHaveLength(
            Math.floor(sips / 2)
          )
          expect(visitor.closeCode).toBe(undefined)
        }),
      { limits: { maxMailboxBytes: 100_000 } }
    )
  )

  it.effect("closes with 4001 when the socket takes nothing", () =>
    world(({ outbox: { rows } }) =>
      Effect.gen(function* () {
        const note = "x".repeat(60_000)
        for (let id = 1; id <= 4; id++) yield* rows.insert(Orders, order(id, "new", "a", note))
        const visitor = yield* visit({ token: "ann" })
        visitor.reading = false
        yield* ask(visitor, subscribe(2, { state: true }))
        yield* TestClock.adjust("31 seconds")
        expect(visitor.closeCode).toBe(4001)
      })
    )
  )
})
