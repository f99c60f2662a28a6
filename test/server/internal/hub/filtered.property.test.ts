/**
 * A view with a filter is the filter of the table: the events that it receives, applied to a state, give
 * the rows of the filter at each of its cursors, and no frame has a byte of another row.
 *
 * Two naive ways run on the same changes, and each must fail: a filter that looks at the new row only, and
 * one that hands an event on as it is.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, References } from "effect"
import { type Filter, includes, make } from "../../../../src/server/internal/filter.ts"
import type { Batch } from "../../../../src/server/internal/hub/batch.ts"
import type { DurableChannel } from "../../../../src/server/internal/hub/durableChannel.ts"
import type { Narrowing } from "../../../../src/server/internal/hub/delivery.ts"
import type { Sink, View } from "../../../../src/server/internal/hub/view.ts"
import type { JoinError } from "../../../../src/server/OutboxReader.ts"
import {
  apply,
  type Frame,
  frameOf,
  narrowed,
  narrowing,
  type OrderRow,
  Orders,
  OrdersTable,
  textsOf
} from "../../support/filtered.ts"
import { long, type Random, random, seed } from "../../support/random.ts"
import { outboxCursor } from "../../../../src/server/internal/hub/viewCursor.ts"

const statuses = ["new", "packed", "sent", null]
const owners = ["a", "b", "c"]

const narrowings: ReadonlyArray<Narrowing> = [
  narrowing({ status: "new" }),
  narrowing({ status: null }),
  narrowing({ status: ["new", "packed"] }, { owner: "a" }),
  narrowing(undefined, { owner: ["b", "c"] }),
  narrowing({ status: "sent" }, { owner: "c" }),
  narrowing({ status: "sent" }, { status: "new" })
]

/** What a subscriber does with a frame of events. */
type Naive = (frame: Frame, filter: Filter) => Frame

/** Takes the events whose new row the filter includes. */
const byNewRow: Naive = (frame, filter) => ({
  ...frame,
  events: (frame.events ?? []).filter(
    ({ data: { data, operation } }) =>
      operation === "DELETE" || includes(filter, textsOf(data!)) === true
  )
})

/** A subscriber of one view: its rows, and what is wrong with them. */
class Reader implements Sink {
  readonly faults: Array<string> = []
  readonly #table: OrdersTable
  readonly #narrowing: Narrowing
  readonly #filter: Filter
  readonly #view: View<JoinError>
  readonly #naive: Naive | undefined
  #rows: Map<string, OrderRow>
  #cursor: string
  #after: number
  gaps = 0

  constructor(
    table: OrdersTable,
    channel: DurableChannel,
    narrowing: Narrowing,
    naive: Naive | undefined
  ) {
    this.#table = table
    this.#narrowing = narrowing
    this.#filter = make(narrowing.where, narrowing.boundary)!
    this.#naive = naive
    this.#view = channel.view(Orders, naive === undefined ? narrowed(narrowing) : undefined)
    this.#view.subscribe(this)
    this.#rows = table.select(narrowing)
    this.#cursor = this.#view.cursorOf(table.cursor)
    this.#after = table.tick
  }

  offer(batch: Batch): void {
    if (batch.tick > this.#after) this.#take(batch)
  }

  #take(batch: Batch): void {
    const frame = frameOf(batch)
    const cursor = outboxCursor(frame.cursor)
    if (frame.type === "gap") {
      this.gaps++
      this.#rows = this.#table.select(this.#narrowing, cursor)
    } else {
      this.#leaks(batch.text)
      apply(this.#rows, this.#naive?.(frame, this.#filter) ?? frame)
    }
    this.#cursor = frame.cursor
    this.check(cursor)
  }

  check(cursor = this.#table.cursor): void {
    const wanted = this.#table.select(this.#narrowing, cursor)
    const sorted = (rows: ReadonlyMap<string, OrderRow>) => JSON.stringify([...rows].toSorted())
    if (sorted(this.#rows) !== sorted(wanted)) {
      this.faults.push(`at ${cursor}: ${sorted(this.#rows)} instead of ${sorted(wanted)}`)
    }
  }

  /** Each version of a row has a note of its own. */
  #leaks(text: string): void {
    for (const [note] of text.matchAll(/note-\d+/g)) {
      const row = this.#table.versions.get(note)!
      if (includes(this.#filter, textsOf(row)) !== true)
        this.faults.push(`a frame has ${note}, which is outside`)
    }
  }

  leave(): void {
    this.#view.unsubscribe(this)
  }

  /** Resumes from its cursor. */
  resume(): Effect.Effect<void, JoinError> {
    return Effect.gen({ self: this }, function* () {
      this.#after = Infinity
      this.#view.subscribe(this)
      const join = yield* this.#view.join(this.#cursor)
      if (join.state !== "recovered") this.faults.push(`the join is ${join.state}`)
      for (const { open } of join.replay) for (const batch of yield* open) this.#take(batch)
      this.#after = join.tick
      this.check()
    })
  }
}

/** Changes one to three rows, in one commit. */
const change = (table: OrdersTable, { chance, int, pick }: Random): void => {
  for (let left = 1 + int(3); left > 0; left--) {
    const written = {
      truncated: chance(0.1),
      old: chance(0.4),
      unmatched: chance(0.03)
    }
    const version = (): OrderRow => ({
      id: 1 + int(8),
      status: pick(statuses),
      owner: pick(owners),
      note: `note-${table.log.length}`
    })
    const before = table.rows.size === 0 ? undefined : pick([...table.rows.values()])
    if (chance(0.02)) table.truncate()
    else if (before === undefined || chance(0.25)) {
      const row = version()
      if (!table.rows.has(row.id)) table.write(undefined, row, written)
    } else if (chance(0.2)) table.write(before, undefined, written)
    else {
      const after = { ...before, ...version() }
      const moves = chance(0.2) && !table.rows.has(after.id)
      table.write(before, moves ? after : { ...after, id: before.id }, written)
    }
  }
}

/** The faults of readers of all narrowings. */
const run = (seed: number, naive?: Naive) =>
  Effect.gen(function* () {
    const one = random(seed)
    const table = new OrdersTable()
    const channel = table.channel()
    const readers = narrowings.map((one) => new Reader(table, channel, one, naive))
    const away = new Set<Reader>()
    for (let step = 0; step < 60; step++) {
      for (const reader of readers) {
        if (away.delete(reader)) yield* reader.resume()
        else if (one.chance(0.1)) {
          reader.leave()
          away.add(reader)
        }
      }
      change(table, one)
      channel.receive([table.commit()])
      if (one.chance(0.1)) {
        channel.receive([{ _tag: "Position", cursor: table.cursor, tick: table.tick }])
      }
      for (const reader of readers) if (!away.has(reader)) reader.check()
    }
    return {
      faults: readers.flatMap(({ faults }) => faults),
      gaps: readers.reduce((sum, { gaps }) => sum + gaps, 0)
    }
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

const seeds = Array.from({ length: long ? 400 : 12 }, (_, index) => seed + index)

describe("views with filters", () => {
  it.effect("are the filter of the table at each cursor, whatever rows do", () =>
    Effect.gen(function* () {
      let gaps = 0
      for (const seed of seeds) {
        const found = yield* run(seed)
        gaps += found.gaps
        expect(found.faults.slice(0, 1), `seed ${seed}`).toEqual([])
      }
      expect(gaps).toBeGreaterThan(0)
    })
  )

  it.effect.each([
    { name: "a filter of the new row only leaves rows in", naive: byNewRow, fault: "instead of" },
    {
      name: "an event that is handed on as it is leaks",
      naive: (frame: Frame) => frame,
      fault: "outside"
    }
  ])("$name", ({ fault, naive }) =>
    Effect.gen(function* () {
      const found = yield* Effect.forEach(seeds.slice(0, 5), (seed) => run(seed, naive))
      const faults = found.flatMap(({ faults }) => faults)
      expect(faults.some((one) => one.includes(fault))).toBe(true)
    })
  )
})
