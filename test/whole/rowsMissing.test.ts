/**
 * The rows of a client and of `Realtime.rows` after events that do not bring the row: a row that does not
 * match the Schema, a row that is too large to travel, and a gap that the database has lost. Over the whole
 * system in memory.
 */
import { describe, expect, it } from "@effect/vitest"
import { Channel } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { Realtime, RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { Effect, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

const Doc = Schema.Struct({ id: Schema.Int, note: Schema.String, team: Schema.String })
const Docs = Channel.table("docs", Doc, { key: "id", filter: "team" })
/** It does not match rows with a longer note. */
const Short = Channel.table(
  "docs",
  Schema.Struct({ ...Doc.fields, note: Schema.String.check(Schema.isMaxLength(9)) }),
  { key: "id", filter: "team" }
)
/** It also matches rows without the other columns. */
const Loose = Channel.table(
  "docs",
  Schema.Struct({
    id: Schema.Int,
    note: Schema.optionalKey(Schema.String),
    team: Schema.optionalKey(Schema.String)
  }),
  { key: "id", filter: "team" }
)

const doc = (id: number, note = "", team = "a") => ({ id, note, team })

type Table = typeof Docs | typeof Loose

const layerOf = (table: Table, old = false) =>
  RealtimeTest.layer({
    channels: [table],
    authorize: RealtimeServer.allowAll,
    outbox: { watch: [{ channel: Docs, maxBytes: 500, old }] }
  })

interface Shown {
  readonly rows: ReadonlyArray<{ readonly id: number; readonly note?: string }>
  readonly status: string
  readonly invalid: ReadonlyArray<unknown>
}

/** What a client has from now on, and a program of the server. */
const follow = (table: Table, where?: { readonly team: string }, isServed = true) =>
  Effect.gen(function* () {
    const client = yield* RealtimeClient.RealtimeClient
    const lists: ReadonlyArray<Array<Shown>> = [[], []]
    const streams: ReadonlyArray<Stream.Stream<Shown, unknown>> = [
      client.rows(table, { where }) as never,
      (isServed ? Realtime.rows(table, { where }) : client.rows(table, { where })) as never
    ]
    for (const [index, stream] of streams.entries()) {
      yield* stream.pipe(
        Stream.runForEach((one) => Effect.sync(() => lists[index]!.push(one))),
        Effect.forkScoped
      )
    }
    yield* TestClock.adjust("2 seconds")
    return {
      /** The same on both sides, or what is not. */
      now: () => {
        const [ours, theirs] = lists.map((list) => {
          const { invalid, rows, status } = list.at(-1)!
          const notes = rows.map(({ id, note }) => [id, note?.length] as const)
          return { status, notes: notes.toSorted(([one], [other]) => one - other), invalid }
        })
        expect(ours).toEqual(theirs)
        return [ours!.status, ours!.notes, ours!.invalid]
      },
      /** How often each was not `live` any more. */
      breaks: () =>
        lists.map(
          (list) =>
            list.filter(({ status }, at) => status !== "live" && list[at - 1]?.status === "live")
              .length
        )
    }
  })

describe("Rows", () => {
  for (const where of [undefined, { team: "a" }]) {
    const of = where === undefined ? "" : " of a filter"

    it.effect(`${of} leave out and name one that does not match, and stay live`, () =>
      Effect.gen(function* () {
        const { rows } = yield* RealtimeTest.RealtimeTest
        yield* rows.insert(Docs, doc(1))
        const shown = yield* follow(Short, where)
        expect(shown.now()).toEqual(["live", [[1, 0]], []])
        yield* rows.insert(Docs, doc(9, "too long to match"))
        for (let n = 0; n < 30; n++) {
          yield* rows.update(Docs, { id: 9 }, { note: `too long to match ${n}` })
          yield* TestClock.adjust("1 second")
        }
        expect(shown.now()).toEqual(["live", [[1, 0]], [{ id: 9 }]])
        yield* rows.update(Docs, { id: 9 }, { note: "short" })
        yield* rows.update(Docs, { id: 1 }, { note: "too long to match" })
        yield* TestClock.adjust("1 second")
        expect(shown.now()).toEqual(["live", [[9, 5]], [{ id: 1 }]])
        yield* rows.delete(Docs, { id: 1 })
        yield* TestClock.adjust("1 second")
        expect(shown.now()).toEqual(["live", [[9, 5]], []])
        expect(shown.breaks()).toEqual([0, 0])
      }).pipe(Effect.scoped, Effect.provide(layerOf(Short)))
    )

    it.effect(`${of} have one that matches again, also if its event has what did not match`, () =>
      Effect.gen(function* () {
        const { rows } = yield* RealtimeTest.RealtimeTest
        yield* rows.insert(Docs, doc(1, "too long to match"))
        yield* rows.insert(Docs, doc(2, "too long to match", "b"))
        const shown = yield* follow(Short, where)
        yield* rows.update(Docs, { id: 1 }, { note: "short" })
        yield* rows.update(Docs, { id: 2 }, { note: "short", team: "a" })
        yield* TestClock.adjust("10 seconds")
        expect(shown.now()).toEqual([
          "live",
          [
            [1, 5],
            [2, 5]
          ],
          []
        ])
      }).pipe(Effect.scoped, Effect.provide(layerOf(Short, true)))
    )

    for (const [kind, table] of [
      ["needs", Docs],
      ["may lack", Loose]
    ] as const) {
      it.effect(
        `${of} whose Schema ${kind} them have the columns that are too large to travel`,
        () =>
          Effect.gen(function* () {
            const { rows } = yield* RealtimeTest.RealtimeTest
            yield* rows.insert(Docs, doc(1))
            const shown = yield* follow(table, where)
            for (const length of [10_000, 20_000]) {
              yield* rows.update(Docs, { id: 1 }, { note: "x".repeat(length) })
              yield* rows.insert(Docs, doc(length))
              yield* TestClock.adjust("10 seconds")
              expect(shown.now()).toEqual([
                "live",
                [[1, length], [10_000, 0], ...(length > 10_000 ? [[length, 0]] : [])],
                []
              ])
            }
            yield* rows.delete(Docs, { id: 1 })
            yield* TestClock.adjust("1 second")
            expect(shown.now()).toEqual([
              "live",
              [
                [10_000, 0],
                [20_000, 0]
              ],
              []
            ])
            // Once for each of the updates.
            expect(shown.breaks()).toEqual([2, 2])
          }).pipe(Effect.scoped, Effect.provide(layerOf(table)))
      )
    }
  }

  for (const cut of [false, true]) {
    const away = cut ? "that was away meanwhile" : "that is connected"

    it.effect(`of a client ${away} are live again after a gap that the database has lost`, () =>
      Effect.gen(function* () {
        const { database, rows, server } = yield* RealtimeTest.RealtimeTest
        yield* rows.insert(Docs, doc(1))
        // The Stream of a node ends with it.
        const shown = yield* follow(Docs, undefined, !cut)
        // The state of a gap is read at once, and that of the next one after 5 s.
        yield* rows.truncate(Docs)
        yield* rows.insert(Docs, doc(2))
        yield* TestClock.adjust("1 second")
        yield* rows.insert(Docs, doc(3))
        yield* rows.truncate(Docs)
        yield* TestClock.adjust("1 second")
        expect(shown.now()[0]).toBe("stale")
        if (cut) yield* server.stop
        yield* database.crash({ losing: 2 })
        yield* TestClock.adjust("500 millis")
        yield* database.restore
        if (cut) yield* server.start
        yield* TestClock.adjust("1 minute")
        expect(shown.now()).toEqual(["live", [[2, 0]], []])
      }).pipe(Effect.scoped, Effect.provide(layerOf(Docs)))
    )
  }
})
