/** Tables of the system in memory: their rows, transactions and faults, and what clients make of them. */
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Ref, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import * as PgType from "effect-realtime/pg-type"
import { RealtimeClient } from "effect-realtime/client"
import { type MemoryOutbox, OutboxReader, Realtime, RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"

const Order = Schema.Struct({ id: PgType.int8, status: Schema.String, total: PgType.numeric })
const Orders = Channel.table("orders", Order, { key: "id", filter: "status" })

class Line extends Schema.Class<Line>("Line")({
  order_id: Schema.Int,
  line: Schema.Int,
  room: Schema.NullOr(Schema.String),
  note: Schema.optionalKey(Schema.String)
}) {}
const Lines = Channel.table("lines", Line, { key: ["order_id", "line"], by: "room" })

const Live = Channel.table("lives", Order, { key: "id", delivery: "live" })

const system = RealtimeTest.layer({
  channels: [Orders, Lines],
  authorize: RealtimeServer.allowAll
})

const order = (id: bigint, status = "new", total = "1") => ({ id, status, total })

/** The texts of the messages on some channels, in order, from the beginning. */
const messages = (...channels: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const reader = yield* OutboxReader.OutboxReader
    const all = yield* Effect.forEach(channels, (channel) =>
      Effect.map(reader.join(channel, start), ({ replay }) =>
        replay.flatMap(({ events }) => events.map((event) => ({ ...event, channel })))
      )
    )
    return all
      .flat()
      .toSorted((one, other) => Number(one.id) - Number(other.id))
      .map(({ channel, text, tx }) => ({ channel, text, tx }))
  })
let start = ""

/** Runs a test in a system of its own, with the cursor before all of its messages. */
const test = (
  sentence: string,
  body: (
    test: RealtimeTest.RealtimeTest["Service"]
  ) => Effect.Effect<
    void,
    unknown,
    RealtimeClient.RealtimeClient | OutboxReader.OutboxReader | RealtimeTest.RealtimeTest
  >
) =>
  it.effect(sentence, () =>
    Effect.gen(function* () {
      const one = yield* RealtimeTest.RealtimeTest
      start = yield* one.database.position
      yield* body(one)
    }).pipe(Effect.provide(system))
  )

describe("RealtimeTest with rows", () => {
  test("changes of a row write the events of its trigger", ({ rows }) =>
    Effect.gen(function* () {
      yield* rows.insert(Orders, order(9007199254740993n, "new", "12345678901234567890.5"))
      expect(yield* rows.update(Orders, { id: 9007199254740993n }, { status: "sent" })).toBe(true)
      expect(yield* rows.update(Orders, { id: 9007199254740993n }, { status: "sent" })).toBe(true)
      expect(yield* rows.update(Orders, { id: 1n }, { status: "sent" })).toBe(false)
      expect(yield* rows.delete(Orders, { id: 1n })).toBe(false)
      expect(yield* rows.all(Orders)).toEqual([
        order(9007199254740993n, "sent", "12345678901234567890.5")
      ])
      expect(yield* rows.delete(Orders, { id: 9007199254740993n })).toBe(true)
      yield* rows.truncate(Orders)
      const data = (status: string) =>
        `{"id":9007199254740993,"status":"${status}","total":12345678901234567890.5}`
      const key = `"key":{"id":9007199254740993}`
      expect((yield* messages("table_updates_orders")).map(({ text }) => text)).toEqual([
        `{"operation":"INSERT","data":${data("new")},${key}}`,
        `{"operation":"UPDATE","data":${data("sent")},${key}}`,
        `{"operation":"DELETE","data":${data("sent")},${key}}`,
        ' {"operation":"TRUNCATE"}'
      ])
    }))

  test("a row with a route moves as a DELETE there and an INSERT here, in one transaction", ({
    rows
  }) =>
    Effect.gen(function* () {
      const line = { order_id: 1, line: 2 }
      yield* rows.insert(Lines, new Line({ ...line, room: "a" }))
      yield* rows.insert(Lines, new Line({ order_id: 1, line: 1, room: null, note: "n" }))
      yield* rows.update(Lines, line, { room: "b" })
      yield* rows.update(Lines, line, { room: "no route" })
      const [a, b] = [Lines("a").name, Lines("b").name]
      const told = yield* messages(a, b)
      expect(told.map(({ channel, text }) => [channel, text.slice(14, 20)])).toEqual([
        [a, "INSERT"],
        [a, "DELETE"],
        [b, "INSERT"],
        [b, "DELETE"]
      ])
      expect(told[1]!.tx).toBe(told[2]!.tx)
      expect(told[2]!.text).toContain('"data":{"order_id":1,"line":2,"room":"b","note":null}')
      expect(yield* rows.unrouted(Lines)).toBe(2)
      const all = yield* rows.all(Lines)
      expect(all).toEqual([
        new Line({ order_id: 1, line: 1, room: null, note: "n" }),
        new Line({ ...line, room: "no route" })
      ])
    }))

  test("a transaction commits everything in it together, or nothing", ({
    commit,
    publish,
    rows,
    transaction
  }) =>
    Effect.gen(function* () {
      yield* transaction(
        Effect.gen(function* () {
          yield* rows.insert(Orders, order(1n))
          yield* commit({ channel: "elsewhere", text: "1" })
          // It sees its own changes, and others do not.
          expect(yield* rows.all(Orders)).toHaveLength(1)
          expect(yield* messages("table_updates_orders", "elsewhere")).toEqual([])
          yield* publish(Orders, { operation: "DELETE", data: order(0n) })
          yield* rows.update(Orders, { id: 1n }, { status: "sent" })
        })
      )
      const committed = yield* messages("table_updates_orders", "elsewhere")
      expect(committed.map(({ channel, text }) => [channel, text.slice(14, 20)])).toEqual([
        ["table_updates_orders", "INSERT"],
        ["elsewhere", ""],
        ["table_updates_orders", "DELETE"],
        ["table_updates_orders", "UPDATE"]
      ])
      expect(new Set(committed.map(({ tx }) => tx)).size).toBe(1)
      const undone = Effect.gen(function* () {
        yield* rows.update(Orders, { id: 1n }, { status: "lost" })
        yield* rows.insert(Orders, order(2n))
        return yield* Effect.fail("undone" as const)
      })
      expect(yield* Effect.flip(transaction(undone))).toBe("undone")
      expect(yield* rows.all(Orders)).toEqual([order(1n, "sent")])
      // Within a transaction it is a savepoint.
      yield* transaction(
        Effect.gen(function* () {
          yield* rows.insert(Orders, order(3n))
          expect(yield* Effect.flip(transaction(undone))).toBe("undone")
          yield* transaction(rows.delete(Orders, { id: 1n }))
        })
      )
      expect(yield* rows.all(Orders)).toEqual([order(3n)])
      expect(yield* messages("table_updates_orders")).toHaveLength(5)
    }))

  test("a transaction fails when a row has its key, or another one has changed its row", ({
    rows,
    transaction
  }) =>
    Effect.gen(function* () {
      yield* rows.insert(Orders, order(1n))
      yield* rows.insert(Orders, order(2n))
      const channel = "table_updates_orders"
      const conflict = (key: string, reason: string) => ({
        _tag: "RowConflict",
        channel,
        key,
        reason
      })
      expect(yield* Effect.flip(rows.insert(Orders, order(1n, "other")))).toMatchObject(
        conflict('{"id":1}', "exists")
      )
      expect(yield* Effect.flip(rows.update(Orders, { id: 1n }, { id: 2n }))).toMatchObject(
        conflict(`{"id":2}`, "exists")
      )
      const [begun, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const slow = yield* Effect.forkChild(
        transaction(
          Effect.gen(function* () {
            yield* rows.update(Orders, { id: 1n }, { status: "slow" })
            yield* rows.insert(Orders, order(3n))
            yield* Deferred.succeed(begun, undefined)
            yield* Deferred.await(go)
          })
        )
      )
      yield* Deferred.await(begun)
      yield* rows.update(Orders, { id: 2n }, { status: "sent" })
      yield* rows.update(Orders, { id: 1n }, { status: "first" })
      yield* Deferred.succeed(go, undefined)
      expect(yield* Effect.flip(Fiber.join(slow))).toMatchObject(conflict('{"id":1}', "changed"))
      expect(yield* rows.all(Orders)).toEqual([order(1n, "first"), order(2n, "sent")])
    }))

  test("a row that its Schema does not have is rejected, with its column", ({ rows }) =>
    Effect.gen(function* () {
      const wrong = [
        rows.insert(Orders, { ...order(1n), total: "much" }),
        rows.update(Orders, {}, { status: "sent" }),
        rows.update(Orders, order(1n), { id: 2n ** 63n })
      ]
      yield* rows.insert(Orders, order(1n))
      for (const [index, column] of ["total", "id", "id"].entries()) {
        const error = yield* Effect.flip(wrong[index]!)
        expect(error).toMatchObject({ _tag: "InvalidPayload", direction: "encode" })
        expect(error.message).toContain(`column "${column}"`)
      }
    }))

  test("a crash that loses transactions loses their rows, and the events that are left give the others", ({
    database,
    rows,
    transaction
  }) =>
    Effect.gen(function* () {
      yield* rows.insert(Orders, order(1n))
      yield* rows.insert(Orders, order(2n))
      yield* rows.update(Orders, { id: 1n }, { status: "sent" })
      yield* transaction(
        Effect.all([rows.delete(Orders, { id: 2n }), rows.update(Orders, { id: 1n }, { id: 5n })])
      )
      yield* rows.truncate(Orders)
      yield* rows.insert(Orders, order(1n, "again"))
      yield* database.crash({ losing: 3 })
      expect(yield* Effect.flip(rows.insert(Orders, order(7n)))).toMatchObject({
        _tag: "SourceError"
      })
      yield* database.restore
      expect(yield* rows.all(Orders)).toEqual([order(1n, "sent"), order(2n)])
      expect(yield* messages("table_updates_orders")).toHaveLength(3)
      // A transaction that was open in a crash is over.
      const open = transaction(
        Effect.gen(function* () {
          yield* rows.insert(Orders, order(8n))
          yield* database.crash()
          yield* database.restore
        })
      )
      expect(yield* Effect.flip(open)).toMatchObject({ _tag: "SourceError" })
      // What was pruned is on disk, and the rows stay.
      yield* database.prune
      yield* database.crash({ losing: 10 })
      yield* database.restore
      expect(yield* rows.all(Orders)).toEqual([order(1n, "sent"), order(2n)])
    }))

  test("a client sees the rows of its filter through an outage, a crash and a TRUNCATE", ({
    cut,
    database,
    rows,
    server,
    settle,
    transaction
  }) =>
    Effect.gen(function* () {
      const client = yield* RealtimeClient.RealtimeClient
      yield* rows.insert(Orders, order(1n))
      yield* rows.insert(Orders, order(2n, "sent"))
      const seen = yield* Ref.make<ReadonlyArray<bigint>>([])
      const fiber = yield* client.rows(Orders, { where: { status: "new" } }).pipe(
        Stream.filter(({ status }) => status === "live"),
        Stream.runForEach(({ rows }) =>
          Ref.set(
            seen,
            rows.map(({ id }) => id).toSorted((one, other) => Number(one - other))
          )
        ),
        Effect.forkChild
      )
      const shown = (...ids: ReadonlyArray<bigint>) =>
        Effect.gen(function* () {
          yield* settle
          yield* TestClock.adjust("1 minute")
          expect(yield* Ref.get(seen)).toEqual(ids)
          expect(
            (yield* rows.all(Orders)).flatMap(({ id, status }) => (status === "new" ? [id] : []))
          ).toEqual(ids)
        })
      yield* shown(1n)
      yield* rows.update(Orders, { id: 2n }, { status: "new" })
      yield* shown(1n, 2n)
      yield* cut
      yield* server.stop
      yield* transaction(
        Effect.all([
          rows.update(Orders, { id: 1n }, { status: "sent" }),
          rows.insert(Orders, order(3n)),
          rows.update(Orders, { id: 2n }, { id: 4n })
        ])
      )
      yield* server.start
      yield* shown(3n, 4n)
      yield* rows.delete(Orders, { id: 3n })
      yield* shown(4n)
      yield* database.crash({ losing: 1 })
      yield* database.restore
      yield* shown(3n, 4n)
      yield* rows.truncate(Orders)
      yield* shown()
      yield* rows.insert(Orders, order(9n))
      yield* shown(9n)
      yield* Fiber.interrupt(fiber)
    }))

  it.effect("an option says that an UPDATE has the old row, and how large an event may be", () =>
    Effect.gen(function* () {
      const { database, rows } = yield* RealtimeTest.RealtimeTest
      start = yield* database.position
      yield* rows.insert(Orders, order(1n))
      yield* rows.update(Orders, { id: 1n }, { status: "sent" })
      yield* rows.update(Orders, { id: 1n }, { status: "x".repeat(10_000) })
      expect((yield* messages("table_updates_orders")).slice(1).map(({ text }) => text)).toEqual([
        '{"operation":"UPDATE","data":{"id":1,"status":"sent","total":1},"old":{"id":1,"status":"new","total":1},"key":{"id":1}}',
        '{"operation":"UPDATE","data":{"id":1},"key":{"id":1},"truncated":true}'
      ])
    }).pipe(
      Effect.provide(
        RealtimeTest.layer({
          channels: [Orders],
          authorize: RealtimeServer.allowAll,
          outbox: { watch: [{ channel: Orders, old: true, maxBytes: 9000 }] }
        })
      )
    )
  )

  it("rows, keys and changes have the types of the definition", () => {
    const rows = {} as MemoryOutbox.RowWriter
    const all = () => rows.all(Orders)
    const allLines = () => rows.all(Lines)
    expectTypeOf<Effect.Success<ReturnType<typeof all>>[number]>().toEqualTypeOf<
      typeof Order.Type
    >()
    expectTypeOf<Effect.Success<ReturnType<typeof allLines>>[number]>().toEqualTypeOf<Line>()
    const never = () => {
      // @ts-expect-error -- the row has no total
      void rows.insert(Orders, { id: 1n, status: "new" })
      // @ts-expect-error -- an id is a bigint
      void rows.update(Orders, { id: 1 }, {})
      // @ts-expect-error -- an order has no room
      void rows.update(Orders, { id: 1n }, { room: "a" })
      // @ts-expect-error -- a live table has no rows
      void rows.truncate(Live)
    }
    expect(never).toBeTypeOf("function")
  })
})

describe("RealtimeTest with rows that are read in small pages", () => {
  it.effect("shows no part of a transaction that ends with a gap, to a client or a program", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const { rows } = test
      const client = yield* test.connect()
      const seen = { client: new Set<string>(), program: new Set<string>() }
      const follow = <E, R>(
        shown: Set<string>,
        notices: Stream.Stream<{ readonly rows: ReadonlyArray<typeof Order.Type> }, E, R>
      ) =>
        Stream.runForEach(notices, (notice) =>
          Effect.sync(() => shown.add(notice.rows.map(({ status }) => status).join(" ")))
        ).pipe(Effect.forkScoped)
      yield* follow(seen.program, Realtime.rows(Orders))
      yield* follow(seen.client, client.rows(Orders))
      yield* test.settle
      const ids = [1n, 2n, 3n, 4n]
      yield* test.transaction(Effect.forEach(ids, (id) => rows.insert(Orders, order(id))))
      yield* test.settle
      yield* TestClock.adjust("2 seconds")
      yield* test.settle
      yield* test.transaction(
        Effect.andThen(
          Effect.forEach(ids.slice(1), (id) => rows.update(Orders, { id }, { status: "sent" })),
          rows.truncate(Orders)
        )
      )
      const whole = new Set(["", "new new new new"])
      const isRead = () => [seen.program, seen.client].every((shown) => shown.has(""))
      seen.program.delete("")
      seen.client.delete("")
      while (!isRead()) {
        yield* test.settle
        yield* TestClock.adjust("1 second")
      }
      expect(seen).toEqual({ client: whole, program: whole })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        RealtimeTest.layer({
          channels: [Orders],
          authorize: RealtimeServer.allowAll,
          outbox: { maxPageMessages: 3 }
        })
      )
    )
  )
})
