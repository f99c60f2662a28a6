/** Pages of a channel backwards in a program of the server: what they have, and where they end. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Metric, Queue, Redacted, Schema, Stream } from "effect"
import { Channel, type RealtimeEvent } from "effect-realtime"
import {
  MemoryOutbox,
  MemorySource,
  OutboxReader,
  PgInstaller,
  Realtime
} from "effect-realtime/server"
import { TestClock } from "effect/testing"
import * as Filter from "../../src/server/internal/filter.ts"
import { ofOutbox } from "../../src/server/internal/hub/history.ts"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { TestDatabase } from "../support/database.ts"
import { layerReader } from "./support/durable.ts"
import { random, seed } from "./support/random.ts"
import { until } from "../support/until.ts"

const Note = Schema.Struct({ n: Schema.Int })
const Notes = Channel.make("notes", Note, { delivery: "durable" })
const Live = Channel.make("live", Note)
const Pointer = Channel.make("pointer", Note, { delivery: "volatile" })

const layer = Realtime.layer({ maxMemoryEvents: 5 }).pipe(
  Layer.provideMerge(MemoryOutbox.layer()),
  Layer.provideMerge(MemorySource.layer)
)

const commit = (...texts: ReadonlyArray<string>) =>
  Effect.flatMap(MemoryOutbox.MemoryOutbox, ({ commit }) =>
    commit(...texts.map((text) => ({ channel: "notes", text })))
  )
const note = (n: number) => `{"n":${n}}`
const list = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index)
const numbers = ({ events }: RealtimeEvent.HistoryPage<{ readonly n: number }>) =>
  events.map(({ payload }) => payload.n)
/** A page short: its numbers, and `...` where there are more. */
const short = (page: RealtimeEvent.HistoryPage<{ readonly n: number }>) => [
  ...(page.more ? ["..."] : []),
  ...numbers(page)
]

describe("Realtime.history of a durable channel", () => {
  it.effect("pages from the newest event backwards, in order inside of a page", () =>
    Effect.gen(function* () {
      for (const n of list(1, 120)) yield* commit(note(n))
      const newest = yield* Realtime.history(Notes)
      expect(short(newest)).toEqual(["...", ...list(71, 120)])
      const { at, id, tx } = newest.events[0]!
      expect(newest.events[0]).toEqual({
        _tag: "Event",
        channel: "notes",
        id,
        at: new Date(0),
        payload: { n: 71 },
        cursor: undefined,
        tx
      })
      expect([at, typeof tx]).toEqual([new Date(0), "string"])
      const before = yield* Realtime.history(Notes, { before: id, limit: 60 })
      expect(short(before)).toEqual(["...", ...list(11, 70)])
      const first = yield* Realtime.history(Notes, { before: before.events[0]!.id, limit: 10 })
      expect(short(first)).toEqual(list(1, 10))
      expect(yield* Realtime.history(Notes, { before: first.events[0]!.id })).toEqual({
        events: [],
        more: false
      })
    }).pipe(Effect.provide(layer))
  )

  it.effect("has at most 1,000 events in a page and at least 1, whatever the limit", () =>
    Effect.gen(function* () {
      for (const n of list(1, 1001)) yield* commit(note(n))
      expect((yield* Realtime.history(Notes, { limit: 5000 })).events).toHaveLength(1000)
      expect(short(yield* Realtime.history(Notes, { limit: 0 }))).toEqual(["...", 1001])
    }).pipe(Effect.provide(layer))
  )

  it.effect("ends a page with the event that crosses 256 KiB", () =>
    Effect.gen(function* () {
      const large = Channel.make("notes", Schema.String, { delivery: "durable" })
      for (let n = 0; n < 6; n++) yield* commit(JSON.stringify(`${n}`.repeat(100_000)))
      const page = yield* Realtime.history(large)
      expect([page.events.map(({ payload }) => payload[0]), page.more]).toEqual([
        ["3", "4", "5"],
        true
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("leaves out gaps, and events that do not match, which it counts", () =>
    Effect.gen(function* () {
      const invalid = Effect.map(Metric.value(metrics.notificationsInvalid), ({ count }) => count)
      const before = yield* invalid
      yield* commit(note(1), note(2), "7", gapTexts.truncate, note(3), `{"n":"x"}`)
      expect(short(yield* Realtime.history(Notes, { limit: 3 }))).toEqual(["...", 3])
      expect(short(yield* Realtime.history(Notes, { limit: 6 }))).toEqual([1, 2, 3])
      expect((yield* invalid) - before).toBe(2)
    }).pipe(Effect.provide(layer))
  )

  it.effect("goes on behind events that are left out, since only the end is empty", () =>
    Effect.gen(function* () {
      yield* commit(note(1), note(2), note(3))
      for (let n = 0; n < 1200; n++) yield* commit("7")
      expect(short(yield* Realtime.history(Notes, { limit: 2 }))).toEqual(["...", 2, 3])
    }).pipe(Effect.provide(layer))
  )

  it.effect("does not end before an event, however many behind it are left out", () =>
    Effect.gen(function* () {
      yield* commit(note(1))
      yield* commit(...Array.from({ length: 11_000 }, () => "7"))
      expect(short(yield* Realtime.history(Notes))).toEqual([1])
    }).pipe(Effect.provide(layer))
  )

  it.effect.each(["x", "-1", "1.5", "", "9223372036854775808", "e:1"])(
    "rejects an id that no event has: %j",
    (before) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Realtime.history(Notes, { before }))
        expect(error).toMatchObject({ _tag: "NoHistory", channel: "notes", reason: "before" })
      }).pipe(Effect.provide(layer))
  )
})

describe("Realtime.history of other channels", () => {
  it.effect("has what this node remembers of a live channel", () =>
    Effect.gen(function* () {
      expect(short(yield* Realtime.history(Live))).toEqual([])
      const queue = yield* Stream.toQueue(Realtime.events(Live), { capacity: 100 })
      yield* TestClock.adjust(1)
      const send = (n: number) => Effect.andThen(Realtime.publish(Live, { n }), TestClock.adjust(1))
      for (const n of list(1, 7)) yield* send(n)
      // The ring keeps five.
      const page = yield* Realtime.history(Live, { limit: 3 })
      expect(short(page)).toEqual(["...", 5, 6, 7])
      expect((yield* Queue.takeN(queue, 7)).map((event) => "id" in event && event.id)).toContain(
        page.events[0]!.id
      )
      const older = yield* Realtime.history(Live, { limit: 3, before: page.events[0]!.id })
      expect(short(older)).toEqual([3, 4])
      // Of another epoch nothing is remembered.
      expect(short(yield* Realtime.history(Live, { before: "other:9" }))).toEqual([])
      expect(yield* Effect.flip(Realtime.history(Live, { before: "9" }))).toMatchObject({
        reason: "before"
      })
      yield* TestClock.adjust("3 minutes")
      expect(short(yield* Realtime.history(Live))).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.effect("fails on a volatile channel, which keeps nothing", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Realtime.history(Pointer))
      expect(error).toMatchObject({ _tag: "NoHistory", channel: "pointer", reason: "volatile" })
      expect((error as Error).message).toContain("volatile")
    }).pipe(Effect.provide(layer))
  )
})

describe("pages of a table for a subscriber that may see some of its rows", () => {
  const Order = Schema.Struct({ id: Schema.Int, team: Schema.String })
  const Orders = Channel.table("orders", Order, { key: "id", boundary: "team" })

  it.live("have its events behind any number of others, which are not read", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key, team text)`
      yield* PgInstaller.watch(Orders)
      yield* sql`insert into orders values (1, 'a'), (2, 'b'), (3, 'a'), (4, 'a''"\\%_')`
      // More than one page looks at.
      yield* sql`insert into orders select n, 'b' from generate_series(5, 9004) n`
      yield* sql`insert into orders values (10000, 'a'), (10001, 'b')`
      yield* sql`update orders set team = 'a' where id = 2`
      const reader = yield* OutboxReader.OutboxReader
      const walk = Effect.fnUntraced(function* (team: string, limit: number) {
        const pages: Array<ReadonlyArray<number>> = []
        let before: string | undefined
        let more = true
        while (more) {
          const filter = Filter.make({ team })
          const page = yield* reader.history!(Orders.name, { before, limit, bytes: 1e6, filter })
          pages.unshift(
            page.events.map(({ text }) => (JSON.parse(text) as { data: { id: number } }).data.id)
          )
          more = page.more
          before = page.before ?? page.events[0]?.id
        }
        return pages
      })
      for (const limit of [1, 2, 100]) {
        const pages = yield* walk("a", limit)
        expect(pages.flat()).toEqual([1, 3, 10_000, 2])
        expect(Math.max(...pages.map(({ length }) => length))).toBeLessThanOrEqual(limit)
      }
      expect((yield* walk("a'\"\\%_", 100)).flat()).toEqual([4])
      // As a socket reads them: an empty page is the end.
      const past = (before?: string) =>
        Effect.map(
          ofOutbox(reader)(Orders, { before, boundary: { team: "a" }, limit: 3, wire: true }),
          ({ events, more }) => ({
            oldest: events[0]?.id,
            seen: [events.map(({ json }) => JSON.parse(json!).key.id as number), more] as const
          })
        )
      const newest = yield* past()
      expect(newest.seen).toEqual([[10_000, 2], true])
      const oldest = yield* past(newest.oldest)
      expect(oldest.seen).toEqual([[1, 3], false])
      expect((yield* past(oldest.oldest)).seen).toEqual([[], false])
    }).pipe(Effect.provide(layerReader({ wake: "poll" })))
  )
})

describe("pages backwards beside the live end", () => {
  const inPostgres = Realtime.layerDurable().pipe(Layer.provideMerge(layerReader()))

  const roomOf = (round: number) => Channel.make(`room_${round}`, Note, { delivery: "durable" })
  type Room = ReturnType<typeof roomOf>
  /** Follows a channel from now on. Returns the ids so far, and an effect that waits for all commits. */
  const follow = Effect.fnUntraced(function* (room: Room) {
    const live: Array<string> = []
    const from = yield* OutboxReader.OutboxReader.use(({ position }) => position)
    yield* Realtime.events(room, { from }).pipe(
      Stream.runForEach((event) =>
        Effect.sync(() => void (event._tag === "Event" && live.push(event.id)))
      ),
      Effect.forkScoped
    )
    const settled = Effect.gen(function* () {
      yield* Realtime.publish(room, { n: 0 })
      const last = (yield* Realtime.history(room, { limit: 1 })).events[0]!.id
      yield* until(() => live.includes(last))
    })
    return { live, settled }
  })
  const sessions = (count: number) =>
    Effect.flatMap(TestDatabase, ({ url }) =>
      Effect.all(list(1, count).map(() => PgConnection.make({ url: Redacted.make(url) })))
    )
  const insert = (db: PgConnection.PgConnection, { name }: Room, n: number) =>
    db.query("select realtime.publish($1, $2::text)", [name, note(n)])
  const stored = ({ name }: Room) =>
    Effect.map(
      PgClient.PgClient.use(
        (sql) => sql<{ readonly id: string }>`select id::text from realtime.messages m
        where channel = ${name} order by m.id`
      ),
      (rows) => rows.map(({ id }) => id)
    )
  const sorted = (ids: Iterable<string>) =>
    [...new Set(ids)].toSorted((one, other) => Number(one) - Number(other))
  const page = (room: Room, before: string | undefined, limit: number) =>
    Effect.map(Realtime.history(room, { before, limit }), ({ events, more }) => ({
      ids: events.map(({ id }) => id),
      more
    }))

  it.live(`have every event, also those of late commits (REALTIME_TEST_SEED=${seed})`, () =>
    Effect.gen(function* () {
      const r = random(seed)
      for (let round = 0; round < 4; round++) {
        const room = roomOf(round)
        const open = new Set<PgConnection.PgConnection>()
        const all = yield* sessions(4)
        let written = 0
        const write = Effect.gen(function* () {
          const db = r.pick(all)
          if (!open.has(db)) yield* db.query("begin")
          open.add(db)
          yield* insert(db, room, ++written)
          if (r.chance(0.4)) return
          yield* db.query("commit")
          open.delete(db)
        })
        for (let n = 0; n < 12; n++) yield* write
        const { live, settled } = yield* follow(room)
        const inPages: Array<string> = []
        let before: string | undefined
        let more = true
        while (more) {
          for (let n = Math.min(r.int(4), 40 - written); n > 0; n--) yield* write
          const read = yield* page(room, before, 1 + r.int(4))
          before = read.ids[0]
          inPages.push(...read.ids)
          more = read.more
        }
        for (const db of open) yield* db.query("commit")
        yield* settled
        expect(sorted([...inPages, ...live]), `seed ${seed}`).toEqual(yield* stored(room))
        expect(new Set(inPages).size).toBe(inPages.length)
        expect(new Set(live).size).toBe(live.length)
      }
    }).pipe(Effect.scoped, Effect.provide(inPostgres))
  )

  it.live("lose events where the next page ends before the lowest id of all", () =>
    Effect.gen(function* () {
      const room = roomOf(0)
      const [late, other] = yield* sessions(2)
      yield* insert(other!, room, 1)
      yield* late!.query("begin")
      yield* insert(late!, room, 2)
      for (const n of list(3, 8)) yield* insert(other!, room, n)
      const { live, settled } = yield* follow(room)
      const first = yield* page(room, undefined, 2)
      yield* late!.query("commit")
      yield* until(() => live.length === 1)
      const right = yield* page(room, first.ids[0], 10)
      const naive = yield* page(room, sorted([...first.ids, ...live])[0], 10)
      yield* settled
      const all = yield* stored(room)
      expect(sorted([...first.ids, ...live, ...right.ids])).toEqual(all)
      expect(sorted([...first.ids, ...live, ...naive.ids])).toHaveLength(all.length - 4)
    }).pipe(Effect.scoped, Effect.provide(inPostgres))
  )
})
