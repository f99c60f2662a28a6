/** The rows of a table as a Stream of the server, over the outbox in memory. */
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import { readDurable } from "../../src/internal/cursorText.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { long, type Random, random, seed } from "./support/random.ts"

const Order = Schema.Struct({ id: Schema.Int, status: Schema.String, total: Schema.Int })
type Order = typeof Order.Type
const Orders = Channel.table("orders", Order, { key: "id", filter: "status" })
const Routed = Channel.table("routed", Order, { key: "id", by: "status", filter: "total" })

const layerOf = (options?: Realtime.Options) =>
  Realtime.layer(options).pipe(
    Layer.provideMerge(MemoryOutbox.layer()),
    Layer.provideMerge(MemorySource.layer)
  )
const layer = layerOf()

/** A state arrives a while after it was read. */
const layerSlow = Realtime.layer().pipe(
  Layer.provideMerge(
    Layer.effect(
      OutboxReader.OutboxReader,
      OutboxReader.OutboxReader.useSync((reader) => ({
        ...reader,
        rows: (request: OutboxReader.RowsRequest) =>
          Effect.tap(reader.rows!(request), Effect.sleep("30 seconds"))
      }))
    )
  ),
  Layer.provideMerge(MemoryOutbox.layer()),
  Layer.provideMerge(MemorySource.layer)
)

const order = (id: number, status = "new", total = 0): Order => ({ id, status, total })

/** Turns in which the fibers of the Stream react to a change. */
const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

/** What a consumer receives, from now on. */
const followed = <D extends Realtime.RowsTable>(table: D, options?: Realtime.RowsOptions<D>) =>
  Effect.gen(function* () {
    const received: Array<Realtime.Rows<Channel.RowOf<D>>> = []
    yield* Realtime.rows(table, options).pipe(
      Stream.runForEach((rows) => Effect.sync(() => received.push(rows))),
      Effect.forkScoped
    )
    yield* settle
    return received
  })

const ids = ({ rows }: { readonly rows: ReadonlyArray<Order> }) => rows.map(({ id }) => id)
const last = <A>(items: ReadonlyArray<A>): A => items.at(-1)!

describe("Realtime.rows", () => {
  it.effect("gives the rows, then each change, with the same objects for unchanged rows", () =>
    Effect.gen(function* () {
      const { rows } = yield* MemoryOutbox.MemoryOutbox
      yield* rows.insert(Orders, order(2))
      yield* rows.insert(Orders, order(1))
      const received = yield* followed(Orders)
      expect(received[0]).toEqual({
        rows: [],
        status: "loading",
        invalid: [],
        cursor: undefined
      })
      const reader = yield* OutboxReader.OutboxReader
      expect(last(received)).toEqual({
        rows: [order(1), order(2)],
        status: "live",
        invalid: [],
        cursor: yield* reader.position
      })
      const before = last(received)
      yield* rows.update(Orders, { id: 2 }, { total: 5 })
      yield* settle
      const after = last(received)
      expect(after).toEqual({
        rows: [order(1), order(2, "new", 5)],
        status: "live",
        invalid: [],
        cursor: yield* reader.position
      })
      expect(after.rows[0]).toBe(before.rows[0])
      yield* rows.update(Orders, { id: 1 }, { id: 7 })
      yield* rows.delete(Orders, { id: 2 })
      yield* settle
      expect(ids(last(received))).toEqual([7])
      // What a program keeps of an earlier collection never changes.
      expect(before.rows).toEqual([order(1), order(2)])
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("has what was committed after its state was read, and before it arrived", () =>
    Effect.gen(function* () {
      const { rows } = yield* MemoryOutbox.MemoryOutbox
      yield* rows.insert(Orders, order(1))
      yield* rows.insert(Orders, order(2))
      const received = yield* followed(Orders)
      yield* rows.delete(Orders, { id: 1 })
      yield* rows.insert(Orders, order(3))
      yield* TestClock.adjust("30 seconds")
      yield* settle
      expect(ids(last(received))).toEqual([2, 3])
    }).pipe(Effect.scoped, Effect.provide(layerSlow))
  )

  it.effect("with a filter it has the rows that enter, until they leave", () =>
    Effect.gen(function* () {
      const { rows, transaction } = yield* MemoryOutbox.MemoryOutbox
      yield* rows.insert(Orders, order(1))
      yield* rows.insert(Orders, order(2, "sent"))
      const received = yield* followed(Orders, { where: { status: ["new", "packed"] } })
      expect(ids(last(received))).toEqual([1])
      const count = received.length
      yield* rows.update(Orders, { id: 2 }, { total: 1 })
      yield* settle
      // A change outside of the filter is no news.
      expect(received).toHaveLength(count)
      yield* rows.update(Orders, { id: 2 }, { status: "packed" })
      yield* settle
      expect(ids(last(received))).toEqual([1, 2])
      yield* transaction(
        Effect.andThen(
          rows.update(Orders, { id: 1 }, { status: "sent" }),
          rows.delete(Orders, { id: 2 })
        )
      )
      yield* settle
      expect(last(received)).toMatchObject({ rows: [], status: "live" })
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect(
    "of a route it has the rows that move there, until they move away or are truncated",
    () =>
      Effect.gen(function* () {
        const { rows } = yield* MemoryOutbox.MemoryOutbox
        yield* rows.insert(Routed, order(1, "a"))
        yield* rows.insert(Routed, order(2, "b"))
        const received = yield* followed(Routed("a"))
        expect(ids(last(received))).toEqual([1])
        yield* rows.update(Routed, { id: 2 }, { status: "a" })
        yield* rows.update(Routed, { id: 1 }, { status: "b" })
        yield* settle
        expect(ids(last(received))).toEqual([2])
        yield* rows.truncate(Routed)
        yield* settle
        expect(last(received)).toMatchObject({ rows: [], status: "live" })
      }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("is stale while the database is away, and has what was committed meanwhile", () =>
    Effect.gen(function* () {
      const { lose, restore, rows } = yield* MemoryOutbox.MemoryOutbox
      yield* rows.insert(Orders, order(1))
      const received = yield* followed(Orders)
      yield* lose
      yield* rows.insert(Orders, order(2))
      yield* settle
      expect(last(received)).toMatchObject({ rows: [order(1)], status: "stale" })
      yield* restore
      yield* settle
      expect(last(received)).toMatchObject({ rows: [order(1), order(2)], status: "live" })
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("reads the rows again when the database has lost what it had committed", () =>
    Effect.gen(function* () {
      const { crash, restore, rows } = yield* MemoryOutbox.MemoryOutbox
      yield* rows.insert(Orders, order(1))
      const received = yield* followed(Orders)
      yield* rows.update(Orders, { id: 1 }, { total: 9 })
      yield* settle
      expect(last(received).rows).toEqual([order(1, "new", 9)])
      yield* crash({ losing: 1 })
      yield* restore
      yield* settle
      expect(last(received)).toMatchObject({ rows: [order(1)], status: "live" })
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("after gaps that go on it reads after 5 s, then after twice as long each time", () =>
    Effect.gen(function* () {
      const { rows } = yield* MemoryOutbox.MemoryOutbox
      const received = yield* followed(Orders)
      /** Seconds until the rows are live again after a TRUNCATE and an INSERT. */
      const gap = Effect.gen(function* () {
        yield* rows.insert(Orders, order(1))
        yield* rows.truncate(Orders)
        yield* rows.insert(Orders, order(2))
        yield* settle
        for (let seconds = 0; ; seconds++) {
          if (last(received).status === "live") return seconds
          // The rows of the last position, complete as they were.
          expect(ids(last(received))).toEqual([1])
          yield* TestClock.adjust("1 second")
          yield* settle
        }
      })
      const emptied = Effect.andThen(rows.delete(Orders, { id: 2 }), settle)
      const waits: Array<number> = []
      for (let times = 0; times < 6; times++) {
        waits.push(yield* gap)
        yield* emptied
      }
      expect(waits).toEqual([0, 5, 10, 20, 40, 60])
      yield* TestClock.adjust("3 minutes")
      expect(yield* gap).toBe(0)
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("leaves out and logs a row that does not match, until it does", () =>
    Effect.gen(function* () {
      const logged: Array<unknown> = []
      const logger = Logger.make(({ message }) => void logged.push(message))
      yield* Effect.gen(function* () {
        const { rows } = yield* MemoryOutbox.MemoryOutbox
        const Strict = Channel.table(
          "orders",
          Schema.Struct({
            ...Order.fields,
            total: Schema.Int.check(Schema.isLessThan(100))
          }),
          { key: "id", filter: "status" }
        )
        yield* rows.insert(Orders, order(1))
        yield* rows.insert(Orders, order(2, "new", 100))
        const received = yield* followed(Strict)
        expect(ids(last(received))).toEqual([1])
        yield* rows.update(Orders, { id: 1 }, { total: 1000 })
        yield* settle
        expect(last(received)).toMatchObject({ rows: [], status: "live" })
        yield* rows.update(Orders, { id: 1 }, { total: 3 })
        yield* settle
        expect(last(received)).toMatchObject({ rows: [order(1, "new", 3)], status: "live" })
      }).pipe(Effect.scoped, Effect.provide(layer), Effect.provide(Logger.layer([logger])))
      expect(logged.flat()).toEqual([
        expect.stringContaining(`The state of channel "table_updates_orders" leaves out 1 row`),
        expect.stringContaining("does not match its schema and is left out of the rows")
      ])
      expect(logged.join()).not.toContain("1000")
    })
  )

  it.effect("hands a slow consumer the newest collection only", () =>
    Effect.gen(function* () {
      const { rows } = yield* MemoryOutbox.MemoryOutbox
      const received: Array<Realtime.Rows<Order>> = []
      yield* Realtime.rows(Orders).pipe(
        Stream.runForEach((one) =>
          Effect.andThen(
            Effect.sync(() => received.push(one)),
            Effect.sleep("1 second")
          )
        ),
        Effect.forkScoped
      )
      yield* settle
      for (let id = 0; id < 20; id++) {
        yield* rows.insert(Orders, order(id))
        yield* settle
      }
      yield* TestClock.adjust("10 seconds")
      expect(received.map((one) => one.rows.length)).toEqual([0, 20])
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("fails with what no waiting helps", () =>
    Effect.gen(function* () {
      const { rows } = yield* MemoryOutbox.MemoryOutbox
      const fault = <D extends Realtime.RowsTable>(table: D, options?: Realtime.RowsOptions<D>) =>
        Effect.flip(Stream.runDrain(Realtime.rows(table, options)))
      yield* rows.insert(Orders, order(1))
      const received = yield* followed(Orders)
      yield* rows.insert(Orders, order(2))
      yield* rows.insert(Orders, order(3))
      yield* settle
      // The limit is for states.
      expect(ids(last(received))).toEqual([1, 2, 3])
      expect(yield* fault(Orders)).toMatchObject({
        _tag: "StateTooLarge",
        limit: "maxStateRows",
        most: 2
      })
      expect(yield* fault(Orders, { where: { total: 1 } as never })).toMatchObject({
        _tag: "InvalidWhere",
        column: "total"
      })
      expect(yield* fault(Routed("a b"))).toMatchObject({ _tag: "InvalidChannelName" })
      const Plain = Channel.make("plain", Order, { delivery: "durable" })
      expect(yield* fault(Plain as never)).toMatchObject({ _tag: "NoState", channel: "plain" })
    }).pipe(Effect.scoped, Effect.provide(layerOf({ maxStateRows: 2 })))
  )

  it.effect("fails with NoOutbox on a node that reads no outbox", () =>
    Effect.gen(function* () {
      const alone = yield* Realtime.make()
      const fault = Effect.flip(Stream.runDrain(alone.rows(Orders)))
      expect(yield* Effect.provide(fault, MemoryOutbox.layer())).toMatchObject({ _tag: "NoOutbox" })
    }).pipe(Effect.scoped)
  )

  it("takes durable tables only, and filters by the columns of the definition", () => {
    const Live = Channel.table("live", Order, { key: "id", delivery: "live" })
    // @ts-expect-error a live table has no state
    void Realtime.rows(Live)
    // @ts-expect-error a family is no channel
    void Realtime.rows(Routed)
    // @ts-expect-error not a column of `filter`
    void Realtime.rows(Orders, { where: { total: 1 } })
    // @ts-expect-error not a value of the column
    void Realtime.rows(Orders, { where: { status: 1 } })
    expectTypeOf(Realtime.rows(Routed("a"), { where: { total: [1, 2] } })).toEqualTypeOf<
      Stream.Stream<
        Realtime.Rows<Order>,
        Realtime.RowsError,
        Realtime.Realtime | OutboxReader.OutboxReader
      >
    >()
  })
})

/** Payloads of no change. */
const garbage = ["[]", "null", `{"operation":"X"}`, `{"operation":"INSERT","data":1}`]

const statuses = ["new", "packed", "sent"]

/** One transaction, or a fault of the database. */
const step = (dice: Random, outbox: MemoryOutbox.MemoryOutbox["Service"]) => {
  const { rows, transaction } = outbox
  const one = () => order(dice.int(12), dice.pick(statuses), dice.int(3))
  const change: Effect.Effect<unknown, MemoryOutbox.ChangeError> = Effect.suspend(() =>
    dice.pick<() => Effect.Effect<unknown, MemoryOutbox.ChangeError>>([
      () => rows.insert(Orders, one()),
      () => rows.update(Orders, { id: dice.int(12) }, { status: dice.pick(statuses) }),
      () => rows.update(Orders, { id: dice.int(12) }, { total: dice.int(9) }),
      () => rows.update(Orders, { id: dice.int(12) }, { id: dice.int(12) }),
      () => rows.delete(Orders, { id: dice.int(12) })
    ])()
  )
  const tries = Effect.repeat(Effect.ignore(change), { times: 1 + dice.int(4) })
  const commit = transaction(
    dice.chance(0.1) ? Effect.andThen(tries, Effect.fail("undone" as const)) : tries
  )
  if (dice.chance(0.8)) return Effect.ignore(commit)
  return dice.pick<Effect.Effect<unknown, MemoryOutbox.TransactionError>>([
    rows.truncate(Orders),
    Effect.andThen(outbox.lose, Effect.andThen(Effect.ignore(commit), outbox.restore)),
    Effect.andThen(outbox.crash({ losing: dice.int(3) }), outbox.restore),
    outbox.prune,
    Effect.orDie(outbox.commit({ channel: Orders.name, text: dice.pick(garbage) }))
  ])
}

describe("The rows of Realtime.rows", () => {
  it.effect(
    "are those of the table at their cursor, whatever happens",
    () =>
      Effect.gen(function* () {
        for (let run = 0; run < (long ? 500 : 15); run++) {
          // The first run is one in which the database loses the message that was the gap.
          const drawn = run === 0 ? 104_600_870 : seed + run
          const dice = random(drawn)
          const failed = `REALTIME_TEST_SEED=${drawn}`
          yield* Effect.gen(function* () {
            const outbox = yield* MemoryOutbox.MemoryOutbox
            const reader = yield* OutboxReader.OutboxReader
            /** The rows of the table at each position. */
            const tables = new Map<string, ReadonlyArray<Order>>()
            const note = Effect.gen(function* () {
              tables.set(yield* reader.position, yield* outbox.rows.all(Orders))
            })
            yield* note
            const wheres = [undefined, { status: "new" }, { status: ["packed", "sent"] }] as const
            const all = [yield* followed(Orders, { where: wheres[0] })]
            for (let steps = 0; steps < 40; steps++) {
              if (steps === 7) all.push(yield* followed(Orders, { where: wheres[1] }))
              if (steps === 20) all.push(yield* followed(Orders, { where: wheres[2] }))
              // So that no transaction after a crash is like one before it.
              yield* TestClock.adjust(dice.chance(0.2) ? "20 seconds" : 1)
              yield* step(dice, outbox)
              yield* note
              if (dice.chance(0.7)) yield* settle
            }
            yield* TestClock.adjust("2 minutes")
            yield* settle
            for (const [index, received] of all.entries()) {
              const where = wheres[index]
              const inside = ({ status }: Order) =>
                where === undefined || [where.status].flat().some((one) => one === status)
              const told = received.filter(({ cursor }) => cursor !== undefined)
              expect(last(told).status, failed).toBe("live")
              const sorted = (rows: ReadonlyArray<Order>) => rows.toSorted((a, b) => a.id - b.id)
              for (const { cursor, rows } of told) {
                // A gap between changes that were replayed together.
                if (readDurable(cursor!)?.position.next !== undefined) continue
                expect(sorted(rows), failed).toEqual(tables.get(cursor!)?.filter(inside))
              }
              const present = yield* outbox.rows.all(Orders)
              expect(sorted(last(told).rows), failed).toEqual(present.filter(inside))
            }
          }).pipe(
            Effect.scoped,
            Effect.provide(dice.chance(0.5) ? layer : layerSlow),
            Effect.provide(Logger.layer([]))
          )
        }
      }),
    long ? 600_000 : 60_000
  )
})
