/**
 * Durable channels deliver exactly once, whatever writers and readers do: all else rests on this
 * property.
 *
 * A naive reader runs beside them and asks for `id > last`: it must lose a message, or the test
 * could not fail.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Queue, Redacted, Ref, Schema, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import * as Cursor from "../../src/internal/cursorText.ts"
import type { ServerFrame } from "../../src/Frame.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { TestDatabase } from "../support/database.ts"
import { greet } from "../support/wire.ts"
import { layerInstalled, quick } from "./support/durable.ts"
import { long, type Random, random, seed } from "./support/random.ts"
import { channel, type Note, schema, type Tally, watched, writer } from "./support/writers.ts"

const writing = long ? 30_000 : 5000
/** Small pages, so that many positions lie in the middle of a page. */
const pages = long ? [25, 40] : [7, 11]
const writers = 16
const subscribers = 16

interface Event {
  readonly id: string
  readonly tx: string
  readonly data: unknown
}

/** The events of a subscriber and its cursor, which always change together. */
interface Log {
  cursor: string
  readonly events: Array<Event>
  /** The counts of its events at whole positions. */
  readonly wholes: Set<number>
  resumes: number
  midway: number
  readonly gaps: Array<string>
}

const move = (log: Log, cursor: string): void => {
  log.cursor = cursor
  if (Cursor.parseDurable(cursor)!.position.next === undefined) log.wholes.add(log.events.length)
}

const take = (log: Log, item: OutboxReader.Item): void => {
  if (item._tag === "Gap") log.gaps.push(item.reason)
  if (item._tag === "Batch") {
    for (const { id, text, tx } of item.events) log.events.push({ id, tx, data: JSON.parse(text) })
  }
  move(log, item.cursor)
}

const takeFrame = (log: Log, frame: ServerFrame): void => {
  if (frame.type === "gap") log.gaps.push(frame.reason)
  if (frame.type === "subscribed" && frame.state !== "recovered") log.gaps.push(frame.state)
  if (frame.type === "events") {
    for (const { data, id, tx } of frame.events) log.events.push({ id, tx: tx!, data })
    move(log, frame.cursor!)
  }
}

interface Node {
  readonly reader: OutboxReader.OutboxReader["Service"]
  /** The URL of its server. */
  readonly ws: string
}

/** A reader, and a server over it. */
const makeNode = (options: OutboxReader.Options) =>
  Layer.build(
    Layer.fresh(
      HttpRouter.serve(
        RealtimeServer.layer({
          channels: [Channel.make(channel, Schema.Unknown, { delivery: "durable" })],
          authorize: allowAll
        }),
        { disableListenLog: true, disableLogger: true }
      ).pipe(
        Layer.provideMerge(address),
        Layer.provideMerge(
          NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })
        ),
        Layer.provide(Realtime.layer()),
        Layer.provideMerge(OutboxReader.layer({ ...quick, heartbeatTimeout: 100, ...options })),
        Layer.provide(MemorySource.layer)
      )
    )
  ).pipe(
    Effect.map((context): Node => ({
      reader: Context.get(context, OutboxReader.OutboxReader),
      ws: Context.get(context, Address).ws
    }))
  )

/** A server-side Stream that stops after a while. */
const asStream = ({ reader }: Node, log: Log, r: Random) =>
  reader.batches(channel, { from: log.cursor }).pipe(
    Stream.tap((item) =>
      Effect.andThen(
        Effect.sync(() => take(log, item)),
        r.chance(0.3) ? Effect.sleep(r.int(30)) : Effect.void
      )
    ),
    Stream.take(1 + r.int(40)),
    Stream.runDrain,
    Effect.timeoutOption(200 + r.int(800))
  )

/**
 * A WebSocket that is cut after a while, whose frames are kept up to a random one, as by a page
 * that crashed.
 */
const asSocket = ({ ws }: Node, log: Log, r: Random) =>
  Effect.gen(function* () {
    const wire = yield* greet(ws)
    wire.send({ type: "subscribe", id: 1, channel, cursor: log.cursor })
    // While database sessions are terminated, the answer may be an error.
    yield* Effect.raceFirst(wire.next("subscribed"), wire.next("error"))
    yield* Effect.sleep(r.int(600))
    const cut = r.chance(0.5) ? r.int(wire.frames.length) : wire.frames.length
    for (const frame of wire.frames.slice(0, cut)) takeFrame(log, frame)
  }).pipe(Effect.scoped, Effect.ignore)

/** Does what a session does: follows, joins, holds few items, and joins again when it overflows. */
const asSession = ({ reader }: Node, log: Log, r: Random) =>
  Effect.gen(function* () {
    const queue = yield* reader.follow(channel)
    const end = performance.now() + 200 + r.int(800)
    while (performance.now() < end) {
      const join = yield* reader.join(channel, log.cursor)
      if (join.state !== "recovered") {
        log.gaps.push(join.reason ?? join.state)
        return
      }
      const cut = r.chance(0.3) ? r.int(join.replay.length) : join.replay.length
      for (const batch of join.replay.slice(0, cut)) take(log, batch)
      if (cut < join.replay.length) return
      while (performance.now() < end && Queue.sizeUnsafe(queue) < 6) {
        // Not raced with a timeout, which may win after the items were taken.
        if (Queue.sizeUnsafe(queue) === 0) {
          yield* Effect.sleep(5)
          continue
        }
        for (const item of yield* Queue.takeAll(queue)) {
          if (item.tick > join.tick) take(log, item)
        }
        if (r.chance(0.3)) yield* Effect.sleep(r.int(20))
      }
      // Overflow: the held items are dropped and the cursor stays.
      yield* Queue.clear(queue)
    }
  }).pipe(
    Effect.scoped,
    Effect.catchTag("ReplayError", () => Effect.sleep(5))
  )

describe("Durable channels with 16 concurrent writers", () => {
  it.live(
    "subscribers lose and double no event, and keep the order of rows, writers, causes and transactions",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const sql = yield* PgClient.PgClient
        for (const statement of schema) yield* sql.unsafe(statement)
        for (const table of watched)
          yield* PgInstaller.watch({ channel, table, delivery: "durable", shared: true })
        const connect = PgConnection.make({ url: Redacted.make(url), applicationName: "test" })

        const nodes = [
          yield* makeNode({ busyInterval: 3, idleInterval: 50, maxPageMessages: pages[0] }),
          yield* makeNode({
            busyInterval: 30,
            idleInterval: 300,
            maxPageMessages: pages[1],
            maxBacklog: 2
          })
        ]
        const start = yield* nodes[0]!.reader.position

        const tally: Tally = { commits: 0, prepared: 0, rollbacks: 0, savepoints: 0, conflicts: 0 }
        const newest = yield* Ref.make<string | undefined>(undefined)
        const until = performance.now() + writing
        const over = () => performance.now() >= until
        const working = yield* Effect.forEach(
          Array.from({ length: writers }, (_, id) => id),
          (id) => writer({ connect, id, random: random(seed + id), over, tally, newest }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkChild({ startImmediately: true }))

        // The naive reader.
        const naive = new Set<string>()
        const asking = yield* Effect.gen(function* () {
          const db = yield* connect
          let last = "0"
          while (true) {
            const found = yield* db.query(
              "select id::text from realtime.messages m where m.id > $1::bigint order by m.id",
              [last]
            )
            for (const row of found.rows) naive.add((last = row["id"] as string))
            yield* Effect.sleep(5)
          }
        }).pipe(Effect.scoped, Effect.forkChild)

        // Sessions of readers and of the pool are terminated at random moments.
        const faults = random(seed + 1000)
        let killed = 0
        const killing = yield* Effect.gen(function* () {
          const killer = yield* connect
          while (true) {
            yield* Effect.sleep(50 + faults.int(200))
            const { rows } = yield* killer.query(
              `select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name like $1 order by random() limit 1`,
              [faults.chance(0.7) ? "effect-realtime reader" : "@effect/sql-pg"]
            )
            killed += rows.length
          }
        }).pipe(Effect.scoped, Effect.forkChild)

        const logs = Array.from({ length: subscribers }, (): Log => ({
          cursor: start,
          events: [],
          wholes: new Set([0]),
          resumes: 0,
          midway: 0,
          gaps: []
        }))
        let total = Number.POSITIVE_INFINITY
        const subscribing = yield* Effect.forEach(
          logs,
          (log, index) =>
            Effect.gen(function* () {
              const r = random(seed + 2000 + index)
              while (log.events.length < total && log.gaps.length === 0) {
                const at = r.pick(nodes)
                log.resumes++
                if (Cursor.parseDurable(log.cursor)!.position.next !== undefined) log.midway++
                yield* [asStream, asSession, asSocket][index % 3]!(at, log, r)
                if (r.chance(0.3)) yield* Effect.sleep(r.int(150))
              }
            }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkChild({ startImmediately: true }))

        yield* Fiber.join(working)
        yield* Fiber.interrupt(killing)
        const committed = (yield* Effect.scoped(
          Effect.flatMap(connect, (db) =>
            db.query("select id::text, txid::text tx from realtime.messages m order by m.id")
          )
        )).rows as unknown as ReadonlyArray<{ readonly id: string; readonly tx: string }>
        total = committed.length
        // Waits until every subscriber has all events, or no subscriber has received more for 10 s.
        let had = -1
        for (let have = 0; have !== had && subscribing.pollUnsafe() === undefined;) {
          had = have
          yield* Fiber.await(subscribing).pipe(Effect.timeoutOption(10_000))
          have = logs.reduce((sum, log) => sum + log.events.length, 1)
        }
        yield* Fiber.interrupt(subscribing)
        yield* Effect.sleep(20)
        yield* Fiber.interrupt(asking)

        const expected = committed.map(({ id }) => id)
        const sizes = new Map<string, number>()
        for (const { tx } of committed) sizes.set(tx, (sizes.get(tx) ?? 0) + 1)
        const wrong = logs
          .map((log, index) => ({ index, ...problems(log, expected, sizes) }))
          .filter((found) => Object.values(found).some((n, key) => key > 0 && n !== 0))
        const resumes = logs.reduce((sum, log) => sum + log.resumes, 0)
        const midway = logs.reduce((sum, log) => sum + log.midway, 0)
        console.log(
          JSON.stringify({
            seed,
            ...tally,
            total,
            killed,
            resumes,
            midway,
            naive: total - naive.size
          })
        )
        expect(wrong, `REALTIME_TEST_SEED=${seed}`).toEqual([])
        // The naive reader loses a message, so the test would notice a loss.
        expect(naive.size).toBeLessThan(total)
        expect(midway).toBeGreaterThan(0)
      }).pipe(Effect.scoped, Effect.provide(layerInstalled({ wake: "poll" }))),
    10 * writing + 60_000
  )
})

interface Row {
  readonly id: number
  readonly version: number
}

const problems = (
  log: Log,
  expected: ReadonlyArray<string>,
  sizes: ReadonlyMap<string, number>
) => {
  const ids = new Set(log.events.map(({ id }) => id))
  const versions = new Map<number, number>()
  const last = new Map<number, number>()
  const noted = new Set<string>()
  const open = new Map<string, number>()
  let rows = 0
  let writers = 0
  let causes = 0
  let torn = 0
  for (const [index, { data: change, tx }] of log.events.entries()) {
    const left = (open.get(tx) ?? sizes.get(tx) ?? 0) - 1
    if (left === 0) open.delete(tx)
    else open.set(tx, left)
    if (log.wholes.has(index + 1) && open.size > 0) torn++
    const { data } = change as { readonly data: Row | { readonly note: Note } }
    if ("note" in data) {
      const { after, n, name, prepared, writer } = data.note
      if (after !== undefined && !noted.has(after)) causes++
      noted.add(name)
      if (!prepared) {
        if (n < (last.get(writer) ?? 0)) writers++
        last.set(writer, n)
      }
    } else {
      if (data.version !== (versions.get(data.id) ?? 0) + 1) rows++
      versions.set(data.id, data.version)
    }
  }
  return {
    gaps: log.gaps.length,
    lost: expected.filter((id) => !ids.has(id)).length,
    doubled: log.events.length - ids.size,
    rows,
    writers,
    causes,
    torn
  }
}
