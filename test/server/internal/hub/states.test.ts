/** The states of views: shared reads, frames, limits, pauses after gaps, and the memory that they keep. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Exit, Fiber, Logger, Scheduler, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import * as Cursor from "../../../../src/internal/cursorText.ts"
import { encode } from "../../../../src/Frame.ts"
import type { ServerFrame } from "../../../../src/Frame.ts"
import * as Durable from "../../../../src/server/internal/hub/durable.ts"
import type { Narrowing, ViewState } from "../../../../src/server/internal/hub/delivery.ts"
import { OpenChannels } from "../../../../src/server/internal/hub/openChannels.ts"
import {
  Lease,
  type OutboxReader,
  type ReplayError,
  type RowsRequest,
  StateTooLarge
} from "../../../../src/server/OutboxReader.ts"
import { narrowing, Orders, OrdersTable } from "../../support/filtered.ts"

/** A durable cursor after the transaction `tx`. */
const after = (tx: number, identity = "database") =>
  Cursor.formatDurable({
    identity,
    position: Cursor.whole({ xmax: BigInt(tx) + 1n, running: [] }),
    witness: { tx: BigInt(tx), id: BigInt(tx), at: 1n }
  })

const rowText = (id: number, note = "x") => JSON.stringify({ id, status: "new", owner: "a", note })

/** A delivery whose reader answers `rows` with these. */
const delivering = (
  rows: NonNullable<OutboxReader["Service"]["rows"]>,
  options: { readonly rows?: number; readonly bytes?: number } = {},
  reader: Partial<OutboxReader["Service"]> = {}
) =>
  Effect.gen(function* () {
    const channels = new OpenChannels({ linger: Duration.zero, maxChannels: 100 })
    const state = { rows: options.rows ?? 10_000, bytes: options.bytes ?? 1_000_000 }
    const delivery = yield* Durable.make(
      { ...new OrdersTable().reader(), rows, ...reader },
      channels,
      { maxFilters: 1000, state }
    )
    const open = (narrowing?: Narrowing, channel: Channel.Any = Orders) =>
      delivery.open(channel, narrowing)
    return { delivery, open, stateOf: delivery.stateOf! }
  })

/** A reader of rows that counts its reads. Each begins when the one before it is answered. */
const counting = (cursorOf: (read: number) => string = (read) => after(read)) => {
  const requests: Array<RowsRequest> = []
  const gate = { answer: Effect.void as Effect.Effect<void, ReplayError> }
  return {
    requests,
    gate,
    rows: (request: RowsRequest) =>
      Effect.suspend(() => {
        const read = requests.push(request)
        return Effect.as(gate.answer, {
          cursor: cursorOf(read),
          rows: [rowText(1), rowText(2)]
        })
      })
  }
}

const framesOf = ({ frames }: ViewState) =>
  frames.map(({ message }) => {
    const frame = JSON.parse(message.text) as ServerFrame
    expect(encode(frame)).toBe(message.text)
    return frame as Extract<ServerFrame, { readonly type: "state" }>
  })

const isNew = narrowing({ status: "new" })

describe("the state of a view", () => {
  it.effect("has the rows of the filter, the label, and a cursor from which the view resumes", () =>
    Effect.gen(function* () {
      const { requests, rows } = counting()
      const { open, stateOf } = yield* delivering(rows, { rows: 7, bytes: 999 })
      const [view, whole] = [yield* open(isNew), yield* open()]
      const state = yield* stateOf(view)
      expect(state.cursor).toBe(view.cursorOf(after(1)))
      expect(framesOf(state)).toEqual([
        {
          type: "state",
          channel: Orders.name,
          view: view.label,
          cursor: state.cursor,
          rows: [JSON.parse(rowText(1)), JSON.parse(rowText(2))],
          more: false
        }
      ])
      expect(state.frames[0]).toMatchObject({
        rows: 2,
        bytes: Buffer.byteLength(state.frames[0]!.message.text)
      })
      expect(requests[0]).toMatchObject({
        channel: Orders.name,
        table: Orders.table,
        filter: { text: '{"status":["new"]}' },
        limits: { rows: 7, bytes: 999 }
      })
      const all = yield* stateOf(whole)
      expect([all.cursor, framesOf(all)[0]!.view, requests[1]!.filter]).toEqual([
        after(2),
        undefined,
        undefined
      ])
    })
  )

  it.effect("is one frame also without rows, and frames of about 64 KiB with many", () =>
    Effect.gen(function* () {
      let texts: ReadonlyArray<string> = []
      const { open, stateOf } = yield* delivering(() =>
        Effect.sync(() => ({ cursor: after(1), rows: texts }))
      )
      const view = yield* open(isNew)
      const none = yield* stateOf(view)
      expect(framesOf(none)).toMatchObject([{ rows: [], more: false }])
      expect(none.frames[0]!.rows).toBe(0)
      yield* TestClock.adjust("1 second")
      texts = Array.from({ length: 1000 }, (_, id) => rowText(id, "n".repeat(200)))
      const { frames } = yield* stateOf(view)
      expect(frames.map(({ bytes }) => bytes < 70_000)).toEqual(frames.map(() => true))
      expect(frames.length).toBeLessThan(6)
      const parsed = framesOf({ cursor: "", frames })
      expect(parsed.map(({ more }) => more)).toEqual(frames.map((_, at) => at < frames.length - 1))
      expect(parsed.flatMap(({ rows }) => rows)).toEqual(texts.map((text) => JSON.parse(text)))
    })
  )

  it.effect("names at most 100 rows that do not match, keeps digits, and is logged once", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const bad = Array.from({ length: 150 }, (_, id) => `{"id":${9007199254740993n + BigInt(id)}}`)
      const { open, stateOf } = yield* delivering(() =>
        Effect.succeed({ cursor: after(1), rows: [...bad, rowText(7)] })
      )
      const view = yield* open(isNew)
      const read = stateOf(view).pipe(
        Effect.provide(
          Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
        )
      )
      const frames = framesOf(yield* read)
      expect(frames.flatMap(({ rows }) => rows)).toEqual([JSON.parse(rowText(7))])
      expect(frames.at(-1)!.invalid).toHaveLength(100)
      expect(frames.at(-1)!.invalid![0]).toEqual({ id: "9007199254740993" })
      yield* TestClock.adjust("1 second")
      yield* read
      expect(logged).toHaveLength(1)
      expect(logged[0]).toContain("leaves out 150 rows")
      expect(logged[0]).not.toContain("9007199254740993")
    })
  )

  it.effect("decodes and encodes a row as its events: dates, numbers, and unknown columns", () =>
    Effect.gen(function* () {
      const Paid = Channel.table(
        "payments",
        Schema.Struct({ id: Schema.BigInt, at: Schema.DateTimeUtcFromString }),
        { key: "id" }
      )
      const { open, stateOf } = yield* delivering(() =>
        Effect.succeed({
          cursor: after(1),
          rows: ['{"id":9007199254740993,"at":"2026-11-29T00:00:00Z","secret":"s"}']
        })
      )
      const state = yield* stateOf(yield* open(undefined, Paid))
      expect(framesOf(state)[0]!.rows).toEqual([
        { id: "9007199254740993", at: "2026-11-29T00:00:00.000Z" }
      ])
    })
  )

  it.effect("fails when it is too large, also for those that share the read", () =>
    Effect.gen(function* () {
      let reads = 0
      const large = new StateTooLarge({
        channel: Orders.name,
        limit: "maxStateRows",
        most: 5,
        found: 6
      })
      const { open, stateOf } = yield* delivering(() =>
        Effect.suspend(() => {
          reads++
          return Effect.fail(large)
        })
      )
      const view = yield* open(isNew)
      const exits = yield* Effect.forEach([1, 2, 3], () => Effect.exit(stateOf(view)), {
        concurrency: "unbounded"
      })
      expect(exits).toEqual(Array(3).fill(Exit.fail(large)))
      expect(reads).toBe(1)
    })
  )

  it.effect("is logged once for each table when it has 80 % of a limit", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const { rows } = counting()
      const warned = (limits: { readonly rows?: number; readonly bytes?: number }) =>
        Effect.gen(function* () {
          const Other = Channel.table("others", Orders.table.row as never, { key: "id" as never })
          const { open, stateOf } = yield* delivering(rows, limits)
          const view = yield* open(undefined, Other)
          yield* stateOf(view)
          yield* TestClock.adjust("1 second")
          yield* stateOf(view)
          return logged.splice(0)
        }).pipe(
          Effect.provide(
            Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
          )
        )
      expect(yield* warned({ rows: 3 })).toEqual([])
      expect(yield* warned({ rows: 2 })).toEqual([
        'The state of channel "table_updates_others" has 2 rows, and maxStateRows is 2. A larger state is rejected: filter it, or raise the limit.'
      ])
      const bytes = Buffer.byteLength(rowText(1)) * 2
      expect(yield* warned({ bytes: Math.floor(bytes / 0.8) + 2 })).toEqual([])
      expect((yield* warned({ bytes: Math.floor(bytes / 0.8) }))[0]).toContain("maxStateBytes")
    })
  )

  it.effect("needs a table, and a reader that reads tables", () =>
    Effect.gen(function* () {
      const Plain = Channel.make("plain", Schema.Int, { delivery: "durable" })
      const { open, stateOf } = yield* delivering(counting().rows)
      const view = yield* open(undefined, Plain)
      expect(yield* Effect.flip(stateOf(view))).toMatchObject({ _tag: "NoState" })
      const { rows: _, ...reader } = new OrdersTable().reader()
      const delivery = yield* Durable.make(
        reader,
        new OpenChannels({ linger: Duration.zero, maxChannels: 9 }),
        { maxFilters: 9, state: { rows: 1, bytes: 1 } }
      )
      expect(delivery.stateOf).toBe(undefined)
    })
  )
})

describe("subscribers of one view", () => {
  it.effect("share one read while it runs and for a second after it", () =>
    Effect.gen(function* () {
      const { gate, requests, rows } = counting()
      const { open, stateOf } = yield* delivering(rows)
      const view = yield* open(isNew)
      const answered = yield* Deferred.make<void>()
      gate.answer = Deferred.await(answered)
      const storm = yield* Effect.forkChild(
        Effect.forEach(Array(1000).fill(0), () => stateOf(view), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("3 seconds")
      expect(requests).toHaveLength(1)
      yield* Deferred.succeed(answered, undefined)
      const states = yield* Fiber.join(storm)
      expect(new Set(states).size).toBe(1)
      expect(new Set(states.flatMap(({ frames }) => frames)).size).toBe(1)
      yield* TestClock.adjust(999)
      expect(yield* stateOf(view)).toBe(states[0])
      yield* TestClock.adjust(1)
      expect(yield* stateOf(view)).not.toBe(states[0])
      expect(requests).toHaveLength(2)
    })
  )

  it.effect(
    "share it also with subscribers of an equal filter, and not with those of another",
    () =>
      Effect.gen(function* () {
        const { requests, rows } = counting()
        const { open, stateOf } = yield* delivering(rows)
        const one = yield* stateOf(yield* open(isNew))
        expect(yield* stateOf(yield* open(narrowing({ status: ["new"] })))).toBe(one)
        expect(yield* stateOf(yield* open(narrowing({ status: "sent" })))).not.toBe(one)
        expect(requests).toHaveLength(2)
      })
  )

  it.effect("go on with a read whose first subscriber left; the last one interrupts it", () =>
    Effect.gen(function* () {
      let interrupted = 0
      const { gate, requests, rows } = counting()
      const { open, stateOf } = yield* delivering(rows)
      const view = yield* open(isNew)
      gate.answer = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      const [one, two] = [
        yield* Effect.forkChild(stateOf(view), { startImmediately: true }),
        yield* Effect.forkChild(stateOf(view), { startImmediately: true })
      ]
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(one)
      expect([requests.length, interrupted]).toEqual([1, 0])
      yield* Fiber.interrupt(two)
      yield* TestClock.adjust(1)
      expect([requests.length, interrupted]).toEqual([1, 1])
      gate.answer = Effect.void
      yield* stateOf(view)
      expect(requests).toHaveLength(2)
    })
  )
})

describe("the state after a gap", () => {
  it.effect("is the shared one if that contains the gap", () =>
    Effect.gen(function* () {
      const { requests, rows } = counting(() => after(10))
      const { open, stateOf } = yield* delivering(rows)
      const view = yield* open(isNew)
      const state = yield* stateOf(view)
      expect(yield* stateOf(view, view.cursorOf(after(10)))).toBe(state)
      expect(yield* stateOf(view, after(9))).toBe(state)
      expect(requests).toHaveLength(1)
    })
  )

  it.effect("is read anew otherwise, once for all, after 5 s, 10 s and up to 60 s of gaps", () =>
    Effect.gen(function* () {
      const started: Array<number> = []
      const seconds = Effect.map(Clock.currentTimeMillis, (now) => Math.floor(now / 1000))
      const { open, stateOf } = yield* delivering(() =>
        Effect.map(seconds, (now) => {
          started.push(now)
          return { cursor: after(now + 1), rows: [] }
        })
      )
      const view = yield* open(isNew)
      const gapEachSecond = (times: number) =>
        Effect.gen(function* () {
          const gap = view.cursorOf(after((yield* seconds) + 1))
          yield* Effect.forkChild(
            Effect.forEach(Array(4).fill(0), () => stateOf(view, gap), {
              concurrency: "unbounded"
            }),
            { startImmediately: true }
          )
          yield* TestClock.adjust("1 second")
        }).pipe(Effect.repeat({ times: times - 1 }))
      yield* gapEachSecond(250)
      expect(started).toEqual([0, 5, 15, 35, 75, 135, 195])
      // The pause is short again when it was calm for as long.
      yield* TestClock.adjust("200 seconds")
      started.length = 0
      yield* gapEachSecond(12)
      expect(started.map((at) => at - started[0]!)).toEqual([0, 5])
    })
  )

  it.effect("is one that was read later, also when the database has lost the position since", () =>
    Effect.gen(function* () {
      const { requests, rows } = counting((read) => after(read + 1))
      const { open, stateOf } = yield* delivering(rows)
      const view = yield* open(isNew)
      const first = yield* stateOf(view)
      const lost = view.cursorOf(after(9))
      const later = yield* stateOf(view, lost)
      expect([first.cursor, later.cursor]).toEqual([after(2), after(3)].map(view.cursorOf, view))
      // Others share it, and a state that could not be joined is not received again.
      expect(yield* stateOf(view, lost)).toBe(later)
      expect(requests).toHaveLength(2)
      const again = yield* Effect.forkChild(stateOf(view, lost, undefined, later))
      yield* TestClock.adjust("5 seconds")
      expect((yield* Fiber.join(again)).cursor).toBe(view.cursorOf(after(4)))
      // The position of another database cannot be compared.
      const other = yield* Effect.forkChild(stateOf(view, after(9, "another_")))
      yield* TestClock.adjust("1 minute")
      expect((yield* Fiber.join(other)).cursor).toBe(view.cursorOf(after(5)))
      expect(requests).toHaveLength(4)
    })
  )
})

describe("the memory of states", () => {
  const big = Array.from({ length: 10 }, (_, id) => rowText(id, "n".repeat(900)))
  const reading = () => {
    const requests: Array<RowsRequest> = []
    return {
      requests,
      delivery: delivering(
        (request) =>
          Effect.sync(() => {
            requests.push(request)
            return { cursor: after(1), rows: big }
          }),
        { bytes: 10_000 }
      )
    }
  }
  const views = Array.from({ length: 12 }, (_, at) => narrowing({ status: `s${at}` }))

  it.effect("is bounded while states are leased, and frees them with the last lease", () =>
    Effect.gen(function* () {
      const { delivery, requests } = reading()
      const { open, stateOf } = yield* delivery
      const leases = views.map(() => new Lease())
      const all = yield* Effect.forEach(views, (one, at) =>
        Effect.forkChild(
          Effect.flatMap(open(one), (view) => stateOf(view, undefined, leases[at])),
          { startImmediately: true }
        )
      )
      yield* TestClock.adjust("1 minute")
      expect(requests).toHaveLength(8)
      for (const lease of leases.slice(0, 4)) lease.end()
      for (const one of all) yield* Fiber.await(one).pipe(Effect.timeoutOption(0))
      yield* TestClock.adjust("1 second")
      expect(requests).toHaveLength(12)
      yield* Effect.forEach(all, (one) => Fiber.join(one))
    })
  )

  it.effect("counts a state that is not leased for the second in which it is shared", () =>
    Effect.gen(function* () {
      const { delivery, requests } = reading()
      const { open, stateOf } = yield* delivery
      yield* Effect.forEach(views, (one) =>
        Effect.forkChild(
          Effect.flatMap(open(one), (view) => stateOf(view)),
          {
            startImmediately: true
          }
        )
      )
      yield* TestClock.adjust(500)
      expect(requests).toHaveLength(8)
      yield* TestClock.adjust(500)
      expect(requests).toHaveLength(12)
    })
  )
})

describe("a channel with a filter", () => {
  it.effect("is not opened where the filter cannot be applied, and the error says why", () =>
    Effect.gen(function* () {
      const Plain = Channel.make("plain", Schema.Int, { delivery: "durable" })
      const { open } = yield* delivering(counting().rows)
      const reasonOf = (narrowing: Narrowing, channel?: Channel.Any) =>
        Effect.map(Effect.flip(open(narrowing, channel)), String)
      expect(yield* reasonOf(isNew, Plain)).toContain("Channel.table does not define it")
      expect(yield* reasonOf(narrowing({ note: "x" }))).toContain('filter or boundary "note"')
      const { secret: _, ...reader } = new OrdersTable().reader()
      const delivery = yield* Durable.make(
        reader,
        new OpenChannels({ linger: Duration.zero, maxChannels: 9 }),
        { maxFilters: 1, state: { rows: 1, bytes: 1 } }
      )
      expect(String(yield* Effect.flip(delivery.open(Orders, isNew)))).toContain("has no secret")
      yield* delivery.open(Orders, narrowing({}, undefined))
    })
  )
})

describe("subscribers whose fibers yield after each operation", () => {
  it.effect("share one state after a gap, and none of them waits for the next", () =>
    Effect.gen(function* () {
      const { requests, rows } = counting(() => after(9))
      const { open, stateOf } = yield* delivering(rows)
      const view = yield* open()
      const fibers = yield* Effect.forEach(Array.from({ length: 20 }), () =>
        Effect.forkChild(
          stateOf(view, after(5)).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, 3))
        )
      )
      yield* Effect.repeat(Effect.yieldNow, { times: 300 })
      expect(fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length).toBe(0)
      expect(requests.length).toBe(1)
    })
  )
})
