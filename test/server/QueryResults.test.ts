import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Queue, Schema, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as QueryResults from "../../src/server/QueryResults.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { listenTo } from "../support/listenTo.ts"

const Rows = Schema.Array(Schema.Struct({ n: Schema.Int }))
const Report = Channel.queryResults(Rows)
const DurableReport = Channel.queryResults(Rows, { delivery: "durable" })

const layer = QueryResults.layer.pipe(
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(MemorySource.layer)
)

const layerDurable = QueryResults.layer.pipe(
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(OutboxReader.layer()),
  Layer.provide(MemorySource.layer),
  Layer.provideMerge(layerInstalledDatabase)
)

/** Waits until no query runs. */
const ended = Effect.repeat(
  QueryResults.QueryResults.use((service) => service.running),
  { until: (running) => running === 0 }
)

/** The results on a channel from now on. */
const listen = Effect.gen(function* () {
  const queue = yield* Queue.unbounded<unknown>()
  yield* Realtime.subscribe(Report("1")).pipe(
    Stream.runForEach((result) => Queue.offer(queue, result)),
    Effect.forkScoped({ startImmediately: true })
  )
  yield* TestClock.adjust(0)
  return queue
})

/** A service that closes before the test ends, and the notifications of its results. */
const closing = Effect.gen(function* () {
  const told = yield* listenTo(yield* NotificationSource, "query_results_1")
  const scope = yield* Scope.make()
  const context = yield* Layer.build(Layer.fresh(QueryResults.layer)).pipe(Scope.provide(scope))
  return { context, told, close: Scope.close(scope, Exit.void) }
})

describe("QueryResults", () => {
  it.effect("run returns at once, and the result is sent when the query completes", () =>
    Effect.gen(function* () {
      const results = yield* listen
      yield* QueryResults.run(Report("1"), Effect.as(Effect.sleep("1 minute"), [{ n: 1 }]))
      expect(yield* QueryResults.QueryResults.use((service) => service.running)).toBe(1)
      yield* TestClock.adjust("1 minute")
      expect(yield* Queue.take(results)).toEqual({ status: "completed", data: [{ n: 1 }] })
      expect(yield* QueryResults.QueryResults.use((service) => service.running)).toBe(0)
    }).pipe(Effect.provide(layer))
  )

  it.effect.each([
    ["a failure", Effect.fail(new Error("select secret")), "The query failed."],
    ["a defect", Effect.die(new Error("secret")), "The query failed."],
    ["an interruption", Effect.interrupt, expect.stringContaining("interrupted")]
  ] as const)("the client gets %s as an error without its reason", ([, query, error]) =>
    Effect.gen(function* () {
      const results = yield* listen
      yield* QueryResults.run(Report("1"), query)
      expect(yield* Queue.take(results)).toEqual({ status: "error", error })
    }).pipe(Effect.provide(layer))
  )

  it.effect("a failure is sent in the words of the describe option", () =>
    Effect.gen(function* () {
      const results = yield* listen
      yield* QueryResults.run(Report("1"), Effect.fail({ rows: 0 }), {
        describe: ({ rows }) => `${rows} rows`
      })
      expect(yield* Queue.take(results)).toEqual({ status: "error", error: "0 rows" })
    }).pipe(Effect.provide(layer))
  )

  it.effect.each<readonly [string, () => unknown]>([
    [
      "throws",
      () => {
        throw new Error("of describe")
      }
    ],
    ["gives what is not JSON", () => 1n]
  ])("a failure is sent without words where the describe option %s", ([, describe]) =>
    Effect.gen(function* () {
      const results = yield* listen
      yield* QueryResults.run(Report("1"), Effect.fail({ rows: 0 }), { describe })
      expect(yield* Queue.take(results)).toEqual({ status: "error", error: "The query failed." })
    }).pipe(Effect.provide(layer))
  )

  it.effect("a result that does not fit its channel is sent as an error", () =>
    Effect.gen(function* () {
      const results = yield* listen
      yield* QueryResults.run(Report("1"), Effect.succeed([{ n: 1.5 }]))
      expect(yield* Queue.take(results)).toEqual({ status: "error", error: "The query failed." })
    }).pipe(Effect.provide(layer))
  )

  it.effect("a result is retried until the source is up again", () =>
    Effect.gen(function* () {
      const memory = yield* MemorySource.MemorySource
      const results = yield* listen
      yield* memory.lose
      yield* QueryResults.run(Report("1"), Effect.succeed([{ n: 1 }]))
      yield* TestClock.adjust("1 minute")
      yield* memory.restore
      const again = yield* Queue.unbounded<unknown>()
      yield* Realtime.events(Report("1")).pipe(
        Stream.filter((event) => event._tag === "Event"),
        Stream.runForEach((event) => Queue.offer(again, event.payload)),
        Effect.forkScoped({ startImmediately: true })
      )
      yield* TestClock.adjust("1 minute")
      expect(yield* Queue.take(again)).toEqual({ status: "completed", data: [{ n: 1 }] })
      expect(Queue.sizeUnsafe(results)).toBe(0)
    }).pipe(Effect.provide(layer))
  )

  it.effect("the end of a query that interrupts itself is sent when the source is up again", () =>
    Effect.gen(function* () {
      const memory = yield* MemorySource.MemorySource
      yield* memory.lose
      yield* QueryResults.run(Report("1"), Effect.interrupt)
      yield* TestClock.adjust("1 minute")
      expect(yield* QueryResults.QueryResults.use((service) => service.running)).toBe(1)
      yield* memory.restore
      const results = yield* listen
      yield* TestClock.adjust("1 minute")
      expect(Queue.sizeUnsafe(results)).toBe(1)
      expect(yield* Queue.take(results)).toMatchObject({ status: "error" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("a query that is started while the server closes is sent as interrupted", () =>
    Effect.gen(function* () {
      const { close, context, told } = yield* closing
      yield* close
      yield* QueryResults.run(Report("1"), Effect.succeed([{ n: 1 }])).pipe(
        Effect.provideContext(context)
      )
      expect(yield* Queue.take(told)).toContain("shut down")
    }).pipe(Effect.provide(layer))
  )

  it.effect("a running query is sent as interrupted when the server closes", () =>
    Effect.gen(function* () {
      const { close, context, told } = yield* closing
      const started = yield* Deferred.make<void>()
      yield* QueryResults.run(
        Report("1"),
        Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
      ).pipe(Effect.provideContext(context))
      yield* Deferred.await(started)
      yield* close
      expect(yield* Queue.take(told)).toContain("interrupted")
    }).pipe(Effect.provide(layer))
  )

  it.effect(
    "a result that does not fit its channel is sent as an error when the server closes",
    () =>
      Effect.gen(function* () {
        const memory = yield* MemorySource.MemorySource
        const { close, context, told } = yield* closing
        yield* memory.lose
        yield* QueryResults.run(Report("1"), Effect.succeed([{ n: 1.5 }])).pipe(
          Effect.provideContext(context)
        )
        yield* TestClock.adjust("1 minute")
        yield* memory.restore
        yield* Queue.clear(told)
        yield* close
        yield* TestClock.adjust(1)
        expect(yield* Queue.clear(told)).toEqual([expect.stringContaining("failed")])
      }).pipe(Effect.provide(layer))
  )

  it.live("a client that subscribes later still receives a durable result", () =>
    Effect.gen(function* () {
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      yield* QueryResults.run(DurableReport("7"), Effect.succeed([{ n: 7 }]))
      yield* ended
      const results = yield* Realtime.events(DurableReport("7"), { from: position }).pipe(
        Stream.take(1),
        Stream.runCollect
      )
      expect(results).toMatchObject([{ payload: { status: "completed", data: [{ n: 7 }] } }])
    }).pipe(Effect.provide(layerDurable))
  )

  it.live("a query never runs inside the transaction that starts it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      yield* sql`create table jobs (id text)`
      const query = sql<{ readonly n: number }>`select count(*)::int n from jobs`
      /** Starts a query that reads once the gate is open, beside a row not committed yet. */
      const job = (id: string, gate: Effect.Effect<unknown>) =>
        Effect.andThen(
          sql`insert into jobs values (${id})`,
          QueryResults.run(DurableReport(id), Effect.andThen(gate, query))
        )
      const over = yield* Deferred.make<void>()
      const later = Deferred.await(over)
      yield* sql.withTransaction(Effect.andThen(job("open", Effect.void), ended))
      yield* sql.withTransaction(job("committed", later))
      yield* sql
        .withTransaction(Effect.andThen(job("rolled", later), Effect.fail("back")))
        .pipe(Effect.ignore)
      yield* sql.withTransaction(
        Effect.andThen(
          sql.afterCommit(QueryResults.run(DurableReport("after"), query)),
          sql`insert into jobs values ('after')`
        )
      )
      yield* Deferred.succeed(over, undefined)
      for (const [id, n] of [
        ["open", 0],
        ["committed", 3],
        ["rolled", 3],
        ["after", 3]
      ] as const) {
        const results = yield* Realtime.events(DurableReport(id), { from: position }).pipe(
          Stream.take(1),
          Stream.runCollect
        )
        expect(results, id).toMatchObject([{ payload: { status: "completed", data: [{ n }] } }])
      }
    }).pipe(Effect.provide(layerDurable))
  )

  it("newId makes ids that belong to their owner and fit a channel name", () => {
    const id = QueryResults.newId("ada")
    expect(Report(id).fault).toBeUndefined()
    expect(QueryResults.newId("ada")).not.toBe(id)
    expect([QueryResults.isOwner("ada", id), QueryResults.isOwner("bob", id)]).toEqual([
      true,
      false
    ])
  })
})
