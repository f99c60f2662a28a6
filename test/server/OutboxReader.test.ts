import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer, Queue, Stream, SubscriptionRef } from "effect"
import * as Cursor from "../../src/internal/cursorText.ts"
import { lookQueries, parseLook } from "../../src/server/internal/outbox/look.ts"
import * as Outbox from "../../src/server/internal/outbox/outbox.ts"
import { formatPosition, whole } from "../../src/server/internal/outbox/position.ts"
import { type Join, OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { sleepy } from "../client/support/clock.ts"
import * as Support from "./support/durable.ts"
import { layerDatabase } from "../support/database.ts"
import { until } from "../support/until.ts"

const { layerInstalled, layerReader, payloads, publish, session } = Support

describe("OutboxReader", () => {
  it.live("the reader delivers committed messages and never those rolled back", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const sql = yield* PgClient.PgClient
      const queue = yield* reader.follow("room")
      yield* sql
        .withTransaction(Effect.andThen(publish("room", "rolled back"), Effect.fail("no")))
        .pipe(Effect.ignore)
      yield* publish("elsewhere", "not followed")
      yield* publish("room", { n: 1 })
      const item = yield* Queue.take(queue)
      expect(item).toMatchObject({ _tag: "Batch", channel: "room", events: [{ text: '{"n":1}' }] })
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("a Stream that resumes from a cursor receives each message exactly once", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const start = yield* reader.position
      for (let n = 0; n < 10; n++) yield* publish("room", n)
      const first = yield* reader.batches("room", { from: start }).pipe(
        Stream.filter((item) => item._tag === "Batch"),
        Stream.take(1),
        Stream.runCollect
      )
      const got = first[0]!.events.map(({ text }) => Number(text))
      const rest = yield* Effect.forkChild(
        payloads(reader.batches("room", { from: first[0]!.cursor }), 15 - got.length),
        { startImmediately: true }
      )
      for (let n = 10; n < 15; n++) yield* publish("room", n)
      expect([...got, ...(yield* Fiber.join(rest))]).toEqual(
        Array.from({ length: 15 }, (_, n) => n)
      )
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("a join returns the whole replay, and the followed batches continue after it", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const start = yield* reader.position
      for (let n = 0; n < 3; n++) yield* publish("room", n)
      const queue = yield* reader.follow("room")
      const join = yield* reader.join("room", start, { events: 100, bytes: 1e6 })
      expect(join).toMatchObject({ state: "recovered", cursor: start })
      for (let n = 3; n < 6; n++) yield* publish("room", n)
      const texts = join.replay.flatMap(({ events }) => events.map(({ text }) => text))
      while (texts.length < 6) {
        const item = yield* Queue.take(queue)
        if (item._tag === "Batch" && item.tick > join.tick) {
          texts.push(...item.events.map(({ text }) => text))
        }
      }
      expect(texts).toEqual(["0", "1", "2", "3", "4", "5"])
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live(
    "a client that missed a message a moment ago receives it from memory, not from the table",
    () =>
      Effect.gen(function* () {
        const reader = yield* OutboxReader
        const sql = yield* PgClient.PgClient
        const queue = yield* reader.follow("room")
        const next = Queue.take(queue).pipe(
          Effect.repeat({ until: (item) => item._tag === "Batch" }),
          Effect.map(({ cursor }) => cursor)
        )
        yield* publish("room", "seen")
        const cursor = yield* next
        yield* publish("room", "missed")
        yield* next
        // The message is no longer in the table.
        yield* sql`delete from realtime.messages`
        const join = yield* Effect.repeat(reader.join("room", cursor), {
          // The memory is asked only between two looks of the reader.
          until: ({ replay }) => replay.length > 0
        })
        expect(join).toMatchObject({ state: "recovered", cursor, replay: [{ events: [{}] }] })
        expect(join.replay[0]!.events[0]!.text).toBe('"missed"')
      }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live(
    "changes of a row arrive in their order, even if an older transaction makes the later change",
    () =>
      Effect.gen(function* () {
        const reader = yield* OutboxReader
        const sql = yield* PgClient.PgClient
        yield* sql`create table parts (id int primary key, version int not null)`
        yield* sql`create table elsewhere (n int)`
        yield* sql`insert into parts values (1, 0)`
        yield* PgInstaller.watch({ channel: "table_updates_parts", delivery: "durable" })
        const start = yield* reader.position
        const early = yield* session
        yield* early.query("begin")
        // This transaction takes its number now.
        yield* early.query("insert into elsewhere values (1)")
        yield* sql`update parts set version = 1`
        yield* early.query("update parts set version = 2")
        yield* early.query("commit")
        yield* sql`update parts set version = 3`
        const stream = reader.batches("table_updates_parts", { from: start })
        expect(yield* payloads(stream, 3)).toMatchObject([
          { data: { version: 1 } },
          { data: { version: 2 } },
          { data: { version: 3 } }
        ])
        const [first, second] = yield* sql<{ readonly tx: string }>`
        select txid::text tx from realtime.messages m order by m.id`
        // The order of transaction numbers would have been the other way round.
        expect(BigInt(first!.tx)).toBeGreaterThan(BigInt(second!.tx))
      }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("a late commit follows later messages, and a cursor before it replays it", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const late = yield* session
      const queue = yield* reader.follow("room")
      yield* late.query("begin")
      yield* late.query("select realtime.publish('room', '0'::text)")
      yield* publish("room", 1)
      const before = yield* Queue.take(queue)
      yield* publish("room", 2)
      yield* Queue.take(queue)
      yield* late.query("commit")
      const item = yield* Queue.take(queue)
      expect([before, item]).toMatchObject([
        { events: [{ text: "1" }] },
        { events: [{ text: "0" }] }
      ])
      // A cursor from before the commit replays the late message too.
      const join = yield* reader.join("room", before.cursor)
      const texts = join.replay.flatMap(({ events }) => events.map(({ text }) => text))
      expect(texts.toSorted()).toEqual(["0", "2"])
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("the last id drawn is read under the lock that a writer holds while it draws", () =>
    Effect.gen(function* () {
      // As a table the sequence is read without it, and shows up to 32 ids more than are drawn.
      const db = yield* session
      const before = yield* Support.takeOn(db)
      expect(before.drawn).toBe(0n)
      yield* publish("room", 1)
      const look = lookQueries({ messages: 1, bytes: 1 })(before, 0n, "all")
      for (const { args, statement } of [{ args: [], statement: Outbox.takeStatement }, look]) {
        yield* db.query("begin")
        const { rows: taken } = yield* db.query(statement, args)
        expect(taken).toMatchObject([{ l: "1" }])
        const { rows } = yield* db.query(
          "select mode from pg_locks where relation = 'realtime.messages_id_seq'::regclass and pid = pg_backend_pid()"
        )
        // That of a table is AccessShareLock.
        expect(rows).toEqual([{ mode: "RowExclusiveLock" }])
        yield* db.query("rollback")
      }
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("reading stays fast while an open writer holds back 100,000 messages", () =>
    Effect.gen(function* () {
      const db = yield* session
      const old = yield* session
      yield* old.query("begin")
      yield* old.query("select realtime.publish('room', '0'::text)")
      const floors = new Outbox.Floors()
      let at = yield* Support.takeOn(db)
      const look = (floor = floors.of(at.snapshot)) => {
        const { args, statement } = lookQueries({ messages: 1000, bytes: 1e6 })(at, floor, "all")
        return Effect.map(db.query(statement, args), ({ rows }) => {
          const { end, look } = parseLook(rows, whole(at), at, "all")
          floors.add(end.next, end.drawn)
          return { end, messages: look === "retention" ? [] : look.messages }
        })
      }
      yield* db.query("set jit = off")
      yield* db.query(
        "insert into realtime.messages (channel, payload) select 'room', n::text from generate_series(1, 100000) n"
      )
      const times: Array<number> = []
      const walks: Array<number> = []
      at = (yield* look()).end
      for (let n = 0; n < 41; n++) {
        yield* db.query("select realtime.publish('room', '1'::text)")
        const start = performance.now()
        const { end, messages } = yield* look()
        times.push(performance.now() - start)
        expect(messages).toMatchObject([{ text: "1" }])
        const begin = performance.now()
        yield* look(0n)
        walks.push(performance.now() - begin)
        at = end
      }
      const median = (list: Array<number>) => list.toSorted((a, b) => a - b)[list.length >> 1]!
      // On a busy machine everything is slow: then a look takes a fraction of a walk over all messages.
      expect(median(times)).toBeLessThan(Math.max(5, median(walks) / 5))
      yield* old.query("commit")
      expect((yield* look()).messages).toMatchObject([{ text: "0" }])
    }).pipe(Effect.scoped, Effect.provide(Support.layerInstalled()))
  )

  it.live("a message of 5 MB is delivered, and publishing more than 8 MiB is rejected", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      const large = "é".repeat(2_500_000)
      yield* publish("room", large)
      const item = yield* Queue.take(queue)
      expect(item._tag === "Batch" && JSON.parse(item.events[0]!.text) === large).toBe(true)
      const sql = yield* PgClient.PgClient
      const error = yield* Effect.flip(
        sql`select realtime.publish('room', to_jsonb(repeat('x', 8388608)))`
      )
      expect(String(error.reason.cause)).toContain("8388610 bytes")
      // The follower receives later messages.
      yield* publish("room", 1)
      expect(yield* Queue.take(queue)).toMatchObject({ events: [{ text: "1" }] })
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live(
    "a cursor that is malformed, foreign, without its witness or too far behind gets the state reset",
    () =>
      Effect.gen(function* () {
        const reader = yield* OutboxReader
        const cursor = Cursor.parseDurable(yield* reader.position)!
        const { base } = cursor.position
        const future = Cursor.whole({ ...base, xmax: base.xmax + 1000n })
        const start = Cursor.formatDurable(cursor)
        for (let n = 0; n < 5; n++) yield* publish("room", n)
        // A replay ends where the reader stands, which is behind all five messages.
        yield* reader.position
        const reasons = yield* Effect.forEach(
          [
            "nonsense",
            Cursor.formatDurable({ ...cursor, identity: "AAAAAAAA" }),
            Cursor.formatDurable({ ...cursor, position: future })
          ],
          (from) => reader.join("room", from)
        )
        const bound = yield* reader.join("room", start, { events: 4, bytes: 1e6 })
        expect(
          [...reasons, bound].map(({ reason, replay, state }) => ({ reason, state, replay }))
        ).toEqual(
          ["malformed", "identity", "witness", "bounds"].map((reason) => ({
            reason,
            state: "reset",
            replay: []
          }))
        )
        // The cursor of a reset is valid.
        expect(yield* reader.join("room", bound.cursor)).toMatchObject({
          state: "recovered",
          replay: []
        })
        // A Stream gets a gap instead, and goes on.
        const items = yield* reader
          .batches("room", { from: "nonsense" })
          .pipe(Stream.toQueue({ capacity: "unbounded" }))
        expect(yield* Queue.take(items)).toMatchObject({ _tag: "Gap", reason: "source" })
        yield* publish("room", "on")
        expect(yield* Queue.take(items)).toMatchObject({
          _tag: "Batch",
          events: [{ text: '"on"' }]
        })
      }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("each subscriber gets a loss exactly once, at whatever moment it joins", () =>
    Effect.gen(function* () {
      const { clock, jump } = yield* sleepy
      yield* Effect.gen(function* () {
        const reader = yield* OutboxReader
        const sql = yield* PgClient.PgClient
        const queue = yield* reader.follow("room")
        yield* publish("room", 1)
        yield* reader.position
        const { cursor } = yield* Queue.take(queue)
        // As after a restore; every 10 s the reader checks whether the database is the same.
        yield* sql`delete from realtime.messages`
        jump(10_000)
        yield* Effect.forkChild(reader.position)
        // A subscriber joins whenever the reader yields.
        const joins: Array<Join> = []
        while (joins.at(-1)?.state !== "reset") {
          joins.push(yield* reader.join("room", cursor))
          yield* Effect.yieldNow
        }
        const gap = yield* Queue.take(queue)
        expect(gap).toMatchObject({ _tag: "Gap", reason: "source" })
        expect(yield* Queue.clear(queue)).toEqual([])
        const told = joins.map(
          ({ state, tick }) => (state === "reset" ? 1 : 0) + (gap.tick > tick ? 1 : 0)
        )
        expect(new Set(told)).toEqual(new Set([1]))
        expect(joins.length).toBeGreaterThan(1)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          layerReader({ wake: "poll" }, { busyInterval: "5 minutes", idleInterval: "5 minutes" })
        ),
        Effect.provideService(Clock.Clock, clock)
      )
    })
  )

  it.live("a cursor ahead of the reader's position is accepted", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const sql = yield* PgClient.PgClient
      yield* reader.position
      // The reader of another node would have read this message; this reader sleeps for minutes.
      const rows = yield* sql<{ readonly s: string; readonly i: string }>`
        select (select realtime.publish('room', '1'::text)), realtime.identity() i, ''::text s`
      const [now] = yield* sql.unsafe<{ readonly s: string }>(Outbox.stateStatement("1 one"))
      const ahead = formatPosition(rows[0]!.i, whole(Outbox.parsePlace(now)!))
      const join = yield* reader.join("room", ahead)
      expect(join).toMatchObject({ state: "recovered", cursor: ahead, replay: [] })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerReader({ wake: "poll" }, { idleInterval: "5 minutes", busyInterval: "5 minutes" })
      )
    )
  )

  it.live("a join in a repeatable read transaction sees messages committed after it began", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const sql = yield* PgClient.PgClient
      const start = yield* reader.position
      const join = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`set transaction isolation level repeatable read`
          yield* sql`select 1`
          yield* Effect.scoped(
            Effect.flatMap(session, (db) => db.query("select realtime.publish('room', '1'::text)"))
          )
          yield* reader.position
          return yield* reader.join("room", start)
        })
      )
      expect(join.replay.flatMap(({ events }) => events)).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("duplicate messages of one transaction arrive, each on its case-sensitive channel", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const sql = yield* PgClient.PgClient
      // Few channels and many channels are read by different statements.
      for (const more of [0, 100]) {
        const names = ["Room", "room", "ROOM", ...Array.from({ length: more }, (_, n) => `c${n}`)]
        const queues = yield* Effect.forEach(names, reader.follow)
        yield* reader.position
        yield* sql`select realtime.publish(name, to_jsonb(name)) from unnest(${names}::text[]) name, generate_series(1, 2)`
        for (const [index, name] of names.entries()) {
          const texts: Array<string> = []
          while (texts.length < 2) {
            const item = yield* Queue.take(queues[index]!)
            if (item._tag === "Batch") texts.push(...item.events.map(({ text }) => text))
          }
          expect(texts).toEqual([JSON.stringify(name), JSON.stringify(name)])
        }
      }
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("500 subscribers that resume from one position share one read of the table", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const start = yield* reader.position
      for (let n = 0; n < 10; n++) yield* publish("room", n)
      yield* reader.position
      const joins = yield* Effect.forEach(
        Array.from({ length: 500 }),
        () => reader.join("room", start),
        { concurrency: "unbounded" }
      )
      // A new tick would start another read.
      expect(new Set(joins.map(({ replay }) => replay)).size).toBe(1)
      expect(joins[0]!.replay.flatMap(({ events }) => events)).toHaveLength(10)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerReader({ wake: "poll" }, { busyInterval: "5 minutes", idleInterval: "5 minutes" })
      )
    )
  )

  it.live(
    "a Stream receives 50,000 events exactly once while its database sessions are terminated",
    () =>
      Effect.gen(function* () {
        const reader = yield* OutboxReader
        const sql = yield* PgClient.PgClient
        const db = yield* session
        const stream = yield* reader.batches("room").pipe(
          Stream.flatMap((item) => Stream.fromIterable(item._tag === "Batch" ? item.events : [])),
          Stream.map(({ text }) => Number(text)),
          Stream.take(50_000),
          Stream.runCollect,
          Effect.forkChild({ startImmediately: true })
        )
        yield* reader.position
        for (let n = 0; n < 100; n++) {
          yield* db.query(
            `select count(realtime.publish('room', n::text)) from generate_series($1::int, $1::int + 499) n`,
            [n * 500]
          )
          if (n % 10 === 5) {
            yield* db.query(
              `select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()`
            )
          }
        }
        expect(yield* Fiber.join(stream)).toEqual(Array.from({ length: 50_000 }, (_, n) => n))
        expect(yield* sql`select 1 n`).toEqual([{ n: 1 }])
      }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("a reader that was healthy reconnects at once after a loss, despite its backoff", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const db = yield* session
      yield* reader.position
      let losses = 0
      yield* SubscriptionRef.changes(reader.state).pipe(
        Stream.filter((state) => state === "down"),
        Stream.runForEach(() => Effect.sync(() => losses++)),
        Effect.forkChild({ startImmediately: true })
      )
      for (let loss = 0; loss < 3; loss++) {
        const healthy = performance.now() + 50
        yield* Effect.repeat(reader.position, { until: () => performance.now() > healthy })
        yield* db.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and application_name = 'effect-realtime reader'`
        )
        yield* until(() => losses > loss)
        yield* Effect.timeout(reader.position, "10 seconds")
      }
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerReader(undefined, {
          backoff: { initial: "1 hour", cap: "1 hour", resetAfter: 20, atOnceAfter: 20 }
        })
      )
    )
  )

  it.live("a reader without an install fails with NotInstalled until it is installed", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      expect(yield* Effect.flip(reader.position)).toMatchObject({ _tag: "NotInstalled" })
      expect(yield* Effect.flip(Effect.scoped(reader.follow("room")))).toMatchObject({
        message: expect.stringContaining("npx effect-realtime sql")
      })
      yield* PgInstaller.install()
      yield* SubscriptionRef.changes(reader.state).pipe(
        Stream.filter((state) => state === "up"),
        Stream.runHead
      )
      yield* reader.position
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.fresh(Support.layerReaderOnly()).pipe(Layer.provideMerge(layerDatabase)))
    )
  )
})
