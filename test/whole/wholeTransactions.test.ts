/**
 * A collection of rows shows no part of a transaction: each transaction gives all rows of a group one version and
 * one status, pages have three messages, and clients are away for long. Nothing is held back for long: after each
 * step, with all clients there, they have the rows of the table.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Scheduler, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { isDeepStrictEqual } from "node:util"
import { Channel } from "effect-realtime"
import { Realtime, RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { long, random, seed } from "../server/support/random.ts"

const Part = Schema.Struct({
  id: Schema.Int,
  group: Schema.Int,
  status: Schema.String,
  version: Schema.Int
})
type Part = typeof Part.Type
const Parts = Channel.table("parts", Part, { key: "id", filter: "status" })
const Others = Channel.table("others", Part, { key: "id" })

const groups = 3
const size = 4
const statuses = ["new", "sent"]
const wheres = [undefined, { status: "new" }, { status: "sent" }]

const text = (status: string, rows: ReadonlyArray<Part>) =>
  `${status}: ${rows
    .map(({ id, status, version }) => `${id} ${status} ${version}`)
    .toSorted()
    .join(", ")}`

/** The groups of which some rows are missing, or other than the others. */
const torn = (rows: ReadonlyArray<Part>) => {
  const found = new Map<number, Array<Part>>()
  for (const row of rows) found.set(row.group, [...(found.get(row.group) ?? []), row])
  return [...found.values()].filter(
    (all) => all.length < size || new Set(all.map(({ version }) => version)).size > 1
  )
}

interface Shown {
  readonly where: (typeof wheres)[number]
  rows: ReadonlyArray<Part>
  status: string
}

const run = (dice: number) =>
  Effect.gen(function* () {
    const r = random(dice)
    const test = yield* RealtimeTest.RealtimeTest
    const realtime = yield* Realtime.Realtime
    const wrong: Array<unknown> = []
    const shown: Array<Shown> = []
    const follow = <E, R>(
      where: Shown["where"],
      rows: Stream.Stream<{ readonly rows: ReadonlyArray<Part>; readonly status: string }, E, R>
    ) => {
      const one: Shown = { where, rows: [], status: "loading" }
      shown.push(one)
      return Effect.forkScoped(
        Stream.runForEach(rows, (now) =>
          Effect.sync(() => {
            Object.assign(one, now)
            wrong.push(...torn(now.rows))
          })
        )
      )
    }
    const clients: Array<RealtimeTest.Client> = []
    for (const where of wheres) {
      const options = where === undefined ? {} : { where }
      const client = yield* test.connect()
      clients.push(client)
      yield* follow(where, client.rows(Parts, options))
      yield* follow(where, realtime.rows(Parts, options))
    }
    const table = new Map<number, Part>()
    let version = 0
    /** Gives the rows of a group one version and one status. */
    const change = Effect.suspend(() => {
      const group = r.int(groups)
      const status = r.pick(statuses)
      version++
      const rows = Array.from({ length: size }, (_, index): Part => ({
        id: group * size + index,
        group,
        status,
        version
      }))
      return Effect.forEach(
        rows,
        (row) => {
          const isNew = !table.has(row.id)
          table.set(row.id, row)
          return isNew ? test.rows.insert(Parts, row) : test.rows.update(Parts, { id: row.id }, row)
        },
        { discard: true }
      )
    })
    const write = Effect.suspend(() =>
      test.transaction(
        Effect.gen(function* () {
          for (let n = r.int(3); n >= 0; n--) yield* change
          // The end of the transaction is of another channel.
          for (let n = r.int(5); n > 0; n--) {
            const id = version * 10 + n
            yield* test.rows.insert(Others, { id, group: 0, status: "new", version })
          }
        })
      )
    )
    for (let step = 0; step < 40; step++) {
      const away = clients.filter(() => r.chance(0.3))
      for (const { network } of away) {
        yield* network.refuse(true)
        yield* network.cut
      }
      for (let n = 1 + r.int(4); n > 0; n--) yield* write
      if (r.chance(0.5)) yield* test.settle
      for (const { network } of away) yield* network.refuse(false)
      const shownNow = () => shown.map(({ rows, status }) => text(status, rows))
      const wanted = shown.map(({ where }) => {
        const rows = [...table.values()]
        return text(
          "live",
          rows.filter((row) => where === undefined || row.status === where.status)
        )
      })
      for (let n = 0; n < 120 && !isDeepStrictEqual(shownNow(), wanted); n++) {
        yield* TestClock.adjust("1 second")
        yield* test.settle
      }
      expect(shownNow(), `REALTIME_TEST_SEED=${dice}, step ${step}`).toEqual(wanted)
    }
    expect(wrong, `REALTIME_TEST_SEED=${dice}`).toEqual([])
  })

describe("The rows of clients and Streams", () => {
  for (let index = 0; index < (long ? 50 : 4); index++) {
    // Effect lets a fiber yield between any two operations: here each of a node's and a client's fibers does.
    const yielding = index % 2 === 1 ? 3 : 2048
    const how = yielding < 2048 ? ", where fibers yield after each operation" : ""
    it.effect(
      `are those of whole transactions, and of all of them (seed ${seed + index})${how}`,
      () =>
        run(seed + index).pipe(
          Effect.scoped,
          Effect.provide(
            RealtimeTest.layer({
              channels: [Parts, Others],
              authorize: RealtimeServer.allowAll,
              outbox: { maxPageMessages: 3 }
            }).pipe(Layer.provide(Layer.succeed(Scheduler.MaxOpsBeforeYield, yielding)))
          )
        )
    )
  }
})
