/**
 * When a reader looks. Its own timers are minutes here, so that only the tested wake can wake it.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue, Redacted } from "effect"
import * as Reader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { TestDatabase } from "../support/database.ts"
import { databaseHop } from "../support/hop.ts"
import { statementsOf } from "../../bench/lib/statements.ts"
import { layerInstalled, layerReader, publish, quick, session } from "./support/durable.ts"
import { random, seed } from "./support/random.ts"
import {
  nextWakes,
  silentMillis,
  spareMillis,
  wakeMillis
} from "../../src/server/internal/sql/wake.ts"

const { OutboxReader } = Reader
type Item = Reader.Item

const asleep = { busyInterval: "5 minutes", idleInterval: "5 minutes" } as const

const texts = (item: Item) =>
  item._tag === "Batch" ? item.events.map(({ text }) => text) : [item._tag]

/** Waits until the wakes are at their full number again, by the clock of the database. */
const quiet = Effect.gen(function* () {
  const db = yield* session
  yield* Effect.repeat(
    db.query(
      "select extract(epoch from clock_timestamp()) * 1000 > last_value passed from realtime.last_wake"
    ),
    { until: ({ rows }) => rows[0]!["passed"] === true }
  )
}).pipe(Effect.scoped)

/** Makes the next wake the last one, or the commits of the next 20 ms silent. */
const setWakes = (to: "last" | "silent") =>
  `select setval('realtime.last_wake', (extract(epoch from clock_timestamp()) * 1000)::bigint + ${to === "last" ? spareMillis : spareMillis + silentMillis})`

describe("The wakes of a reader", () => {
  it.live.each(["hybrid", "notify"] as const)("a commit wakes the reader with wake: %s", (wake) =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      yield* publish("room", 1)
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
      yield* quiet
      yield* publish("room", 2)
      expect(texts(yield* Queue.take(queue))).toEqual(["2"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake }, asleep)))
  )

  it.live("a commit wakes the reader although another wake was sent during its transaction", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      const late = yield* session
      yield* publish("room", 1)
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
      // Within the 20 ms after a last wake, so that a wake decided here would not be sent.
      yield* late.query("begin")
      yield* late.query(setWakes("silent"))
      yield* late.query("select realtime.publish('room', '2'::text)")
      yield* quiet
      yield* late.query("commit")
      expect(texts(yield* Queue.take(queue))).toEqual(["2"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "hybrid" }, asleep)))
  )

  it.live("a reader that lost its session looks at once, because it missed the wakes", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const db = yield* session
      const queue = yield* reader.follow("room")
      yield* reader.position
      yield* db.query("set realtime.wake = off")
      yield* db.query(
        `select realtime.publish('room', '1'::text), pg_terminate_backend(pid)
         from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime reader'`
      )
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "hybrid" }, asleep)))
  )

  it.live("a reader finds messages without a wake at its idle interval", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const db = yield* session
      const queue = yield* reader.follow("room")
      yield* reader.position
      yield* db.query("set realtime.wake = off")
      yield* db.query("select realtime.publish('room', '1'::text)")
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "hybrid" }, { idleInterval: 200 })))
  )
})

/** Makes each commit of "room" send a last wake, and those of "slow" visible 150 ms after they decided. */
const slowCommits = Effect.gen(function* () {
  const db = yield* session
  const triggers = [
    ["aa", "room", setWakes("last")],
    ["zz", "slow", "select pg_sleep(0.15)"]
  ] as const
  yield* Effect.forEach(triggers, ([name, channel, statement]) =>
    Effect.andThen(
      db.query(
        `create function ${name}() returns trigger language plpgsql as $$ begin ${statement.replace("select", "perform")}; return null; end $$`,
        [],
        false
      ),
      // Triggers fire in the order of their names: before "wake", and after it.
      db.query(
        `create constraint trigger ${name} after insert on realtime.messages deferrable initially deferred for each row when (new.channel = '${channel}') execute function ${name}()`,
        [],
        false
      )
    )
  )
}).pipe(Effect.scoped)

describe("A commit whose wake is held back", () => {
  it.live("is found although it becomes visible 150 ms after the other one", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("slow")
      const room = yield* reader.follow("room")
      yield* reader.position
      yield* slowCommits
      const fast = yield* session
      const late = yield* session
      let n = 0
      /** The milliseconds from the commit of the slow one to its delivery. */
      const measured = Effect.gen(function* () {
        const text = String(++n)
        yield* quiet
        yield* fast.query("begin")
        yield* fast.query("select realtime.publish('room', '1'::text)")
        yield* late.query("begin")
        // No snapshot names this transaction: it has the highest number.
        yield* late.query("select realtime.publish('slow', $1)", [text])
        yield* fast.query("commit")
        const begun = performance.now()
        yield* late.query(setWakes("silent"))
        yield* late.query("commit")
        yield* Queue.take(room)
        // The reader's own timer is minutes: without further looks it never arrives.
        yield* Effect.repeat(Queue.take(queue), { until: (item) => texts(item).includes(text) })
        return performance.now() - begun
      }).pipe(
        Effect.timeoutOrElse({ duration: "2 seconds", orElse: () => Effect.succeed(Infinity) })
      )
      // A busy machine is late for its own reasons, but not each time.
      const best = yield* Effect.repeat(measured, { until: (millis) => millis <= 250, times: 20 })
      expect(best).toBeLessThanOrEqual(250)
    }).pipe(
      Effect.scoped,
      Effect.provide(layerReader({ wake: "hybrid" }, { idleInterval: "5 minutes" }))
    )
  )
})

describe("The looks of a reader", () => {
  it.live("a channel that is followed while a look is on its way has every later message", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const db = yield* session
      const other = yield* session
      const room = yield* reader.follow("room")
      yield* publish("room", 1)
      expect(texts(yield* Queue.take(room))).toEqual(["1"])
      yield* db.query("begin")
      yield* db.query("lock realtime.messages in access exclusive mode")
      yield* other.query("select pg_notify('realtime', '')")
      yield* Effect.repeat(
        other.query(
          "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime reader' and wait_event_type = 'Lock') waits"
        ),
        { until: ({ rows }) => rows[0]!["waits"] === true }
      )
      const hall = yield* reader.follow("hall")
      yield* db.query(
        "select realtime.publish('hall', '2'::text), realtime.publish('room', '3'::text)"
      )
      yield* db.query("commit")
      expect(texts(yield* Queue.take(hall))).toEqual(["2"])
      expect(texts(yield* Queue.take(room))).toEqual(["3"])
    }).pipe(
      Effect.scoped,
      Effect.provide(layerReader({ wake: "hybrid" }, { ...asleep, heartbeatTimeout: "1 minute" }))
    )
  )

  it.live(
    `50 commits a second cost at most 60 statements a second (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        let statements = 0
        const through = yield* databaseHop(
          url,
          statementsOf(() => statements++)
        )
        const reader = yield* Reader.make({ ...quick, readUrl: Redacted.make(through.url) })
        const room = yield* reader.follow("room")
        const db = yield* session
        const r = random(seed)
        const commits = 75
        /** The statements of the reader in a second. */
        const measured = Effect.gen(function* () {
          yield* reader.position
          const before = statements
          const begun = performance.now()
          let due = begun
          for (let n = 0; n < commits; n++) {
            due += -20 * Math.log(1 - r.next())
            yield* Effect.sleep(Math.max(0, due - performance.now()))
            yield* db.query("select realtime.publish('room', '1'::text)")
          }
          for (let left = commits; left > 0;) {
            const item = yield* Queue.take(room)
            if (item._tag === "Batch") left -= item.events.length
          }
          return ((statements - before) * 1000) / (performance.now() - begun)
        })
        const best = yield* Effect.repeat(measured, { until: (each) => each <= 60, times: 5 })
        expect(best).toBeGreaterThan(0)
        expect(best).toBeLessThanOrEqual(60)
      }).pipe(Effect.scoped, Effect.provide(layerInstalled({ wake: "hybrid" })))
  )
})

/** The texts of all wakes so far. Notifications arrive in the order of the commits. */
const textsOf = (
  db: PgConnection.PgConnection,
  heard: Queue.Dequeue<{ readonly payload: string }, unknown>
) =>
  Effect.gen(function* () {
    yield* db.query("select pg_notify('realtime', 'end')")
    const texts: Array<string> = []
    for (let text = ""; text !== "end"; texts.push(text)) text = (yield* Queue.take(heard)).payload
    return texts.slice(0, -1)
  })

describe("The wakes by the database", () => {
  it.live("commits wake always, at most every 5 ms, or never, by the setting wake", () =>
    Effect.gen(function* () {
      const listener = yield* session
      const db = yield* session
      const heard = yield* listener.listen("realtime")
      const told: Record<string, number> = {}
      let most = 1
      for (const wake of ["notify", "hybrid", "poll"] as const) {
        yield* PgInstaller.install({ wake })
        yield* quiet
        yield* Queue.clear(heard)
        const begun = performance.now()
        // Each is a transaction of its own, as fast as the server can.
        yield* db.query(
          `do $$ begin for n in 1..100 loop perform realtime.publish('room', '1'::text); commit; end loop; end $$`,
          [],
          false
        )
        if (wake === "hybrid") {
          most = 1 + (performance.now() - begun + spareMillis) / wakeMillis
        }
        told[wake] = (yield* textsOf(db, heard)).length
      }
      expect(told).toMatchObject({ notify: 100, poll: 0 })
      expect(told["hybrid"]).toBeGreaterThan(0)
      expect(told["hybrid"]).toBeLessThanOrEqual(most)
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("a few commits wake each, once, and the last one says that the next are silent", () =>
    Effect.gen(function* () {
      const listener = yield* session
      const db = yield* session
      const heard = yield* listener.listen("realtime")
      /** The wakes of a commit, this long before they are at their full number. */
      const wakesOf = (millis: number, messages = 1) =>
        Effect.gen(function* () {
          yield* db.query(
            `do $$ begin
                perform setval('realtime.last_wake', (extract(epoch from clock_timestamp()) * 1000)::bigint + ${millis});
                for n in 1..${messages} loop perform realtime.publish('room', '1'::text); end loop;
                commit;
              end $$`,
            [],
            false
          )
          return yield* textsOf(db, heard)
        })
      /** A busy server is late, and then has more wakes. */
      const retried = (millis: number, wakes: ReadonlyArray<string>) =>
        Effect.repeat(wakesOf(millis), {
          until: (each) => each.join() === wakes.join() && each.length === wakes.length,
          times: 50
        })
      expect(yield* wakesOf(0)).toEqual([nextWakes])
      expect(yield* wakesOf(0, 20)).toEqual([nextWakes])
      expect(yield* wakesOf(spareMillis - wakeMillis - 1)).toEqual([nextWakes])
      expect(yield* retried(spareMillis, [""])).toEqual([""])
      expect(yield* retried(spareMillis + silentMillis, [])).toEqual([])
      yield* db.query(
        "select setval('realtime.last_wake', (extract(epoch from clock_timestamp()) * 1000)::bigint)::text"
      )
      // A savepoint that is rolled back takes its wake with it.
      for (const statement of [
        "begin",
        "set constraints all immediate",
        "savepoint one",
        "select realtime.publish('room', '1'::text)",
        "rollback to one",
        "select realtime.publish('room', '2'::text)",
        "commit"
      ]) {
        yield* db.query(statement)
      }
      expect(yield* textsOf(db, heard)).toHaveLength(1)
      // A clock that was set back.
      expect(yield* wakesOf(60_000)).toEqual([nextWakes])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled({ wake: "hybrid" })))
  )
})
