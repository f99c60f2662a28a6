/** The class RealtimeServer as a consumer: exactly once, retries, and its end. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Schema } from "effect"
import { expectTypeOf, onTestFinished } from "vitest"
import * as Channel from "../../src/Channel.ts"
import { TransactionError } from "../../src/node/index.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import type { RealtimeEvent } from "../../src/RealtimeEvent.ts"
import { execute, installedDatabase } from "../support/database.ts"
import { httpServer } from "../support/httpServer.ts"

const Job = Schema.Struct({ n: Schema.Int })
const Jobs = Channel.make("jobs", Job, { delivery: "durable" })
const Others = Channel.make("others", Job, { delivery: "durable" })
const Live = Channel.make("live", Job)
type Events = ReadonlyArray<RealtimeEvent<typeof Job.Type>>

const serverOn = (url: string, options: RealtimeServer.Options = {}) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    return yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new RealtimeServer(http, url, {
            channels: [Jobs, Others, Live],
            authorize: () => true,
            ...options
          })
      ),
      (server) => Effect.promise(() => server.close())
    )
  })

const start = Effect.gen(function* () {
  const { url } = yield* installedDatabase
  yield* execute(url, "create table done (n int)")
  const server = yield* serverOn(url)
  yield* Effect.promise(() => server.ready)
  const done = execute(url, "select n from done order by ctid").pipe(
    Effect.map((rows) => rows.map(({ n }) => n))
  )
  return { url, server, done }
})

const numbers = (events: Events) =>
  events.map((event) => (event._tag === "Event" ? event.payload.n : event.reason))

const insert = async (events: Events, transaction: RealtimeServer.Transaction) => {
  for (const n of numbers(events)) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await transaction.query("insert into done values ($1)", [n])
  }
}

const publish = (server: RealtimeServer, n: number) =>
  Effect.promise(() => server.publish(Jobs, { n }))

const named = (name: string) => `select cursor from realtime.consumers where name = '${name}'`

const error = (promise: Promise<unknown>) =>
  Effect.map(Effect.flip(Effect.tryPromise(() => promise)), ({ cause }) => cause)

/** The reasons of rejections without a handler, until the test ends. */
const rejections = () => {
  const reasons: Array<unknown> = []
  const add = (reason: unknown) => void reasons.push(reason)
  process.on("unhandledRejection", add)
  onTestFinished(() => void process.off("unhandledRejection", add))
  return reasons
}

/** Asks until the answer is yes. */
const holds = <E>(condition: Effect.Effect<boolean, E>) =>
  condition.pipe(
    Effect.delay(20),
    Effect.repeat({ until: (yes) => yes }),
    Effect.timeout("10 seconds")
  )

/** Runs until the consumer has its cursor. */
const begun = (url: string, name: string) =>
  holds(Effect.map(execute(url, named(name)), (rows) => rows.length === 1))

describe("consume of the class", () => {
  it.live("two servers of one name handle each event exactly once, in order", () =>
    Effect.gen(function* () {
      const { done, server, url } = yield* start
      const other = yield* serverOn(url)
      for (const each of [server, other]) each.consume(Jobs, { name: "two", onEvents: insert })
      yield* begun(url, "two")
      const all = Array.from({ length: 20 }, (_, n) => n)
      for (const n of all) yield* publish(n % 2 === 0 ? server : other, n)
      yield* holds(Effect.map(done, ({ length }) => length >= all.length))
      expect(yield* done).toEqual(all)
    })
  )

  it.live(
    "onEvents that throws rolls its batch back, calls onError, and receives the batch again",
    () =>
      Effect.gen(function* () {
        const { done, server, url } = yield* start
        const errors: Array<unknown> = []
        let tries = 0
        const consumer = server.consume(Jobs, {
          name: "failing",
          start: "oldest",
          onEvents: async (events, transaction) => {
            await insert(events, transaction)
            tries++
            if (tries === 1) throw new Error("first")
            if (tries === 2) throw "second"
            if (tries === 3) await transaction.query("select 1 / 0")
            // An error that is caught leaves the transaction refused all the same.
            if (tries === 4) await transaction.query("select from nowhere").catch(() => undefined)
            // So does one that is not awaited.
            if (tries === 5) void transaction.query("insert into done values ('six')")
          },
          onError: (failure) => {
            errors.push(failure)
            if (errors.length === 1) throw new Error("of onError")
          }
        })
        yield* publish(server, 7)
        yield* holds(Effect.map(done, ({ length }) => length > 0))
        expect(yield* done).toEqual([7])
        expect(
          errors.map((failure) => (failure instanceof Error ? failure.message : failure))
        ).toEqual([
          "first",
          "second",
          "A query failed, and PostgreSQL rolls its transaction back: division by zero (22012).",
          `A query failed, and PostgreSQL rolls its transaction back: relation "nowhere" does not exist (42P01).`,
          `A query failed, and PostgreSQL rolls its transaction back: invalid input syntax for type integer: "six" (22P02).`
        ])
        expect(errors[2]).toBeInstanceOf(TransactionError)
        expect(errors[2]).toMatchObject({ reason: "query", code: "22012" })
        yield* Effect.promise(() => consumer.stop())
        yield* Effect.promise(() => consumer.done)
        expect(
          yield* execute(url, "select from pg_stat_activity where state like 'idle in tr%'")
        ).toEqual([])
      })
  )

  it.live("stop waits until the batch in hand is committed, and takes no other", () =>
    Effect.gen(function* () {
      const { done, server, url } = yield* start
      const entered = Promise.withResolvers<void>()
      const leave = Promise.withResolvers<void>()
      const consumer = server.consume(Jobs, {
        name: "stopping",
        onEvents: async (events, transaction) => {
          entered.resolve()
          await leave.promise
          await insert(events, transaction)
        }
      })
      yield* begun(url, "stopping")
      yield* publish(server, 1)
      yield* Effect.promise(() => entered.promise)
      const stopped = consumer.stop()
      yield* publish(server, 2)
      leave.resolve()
      yield* Effect.promise(() => stopped)
      expect(yield* done).toEqual([1])
      // The next one of that name goes on behind it.
      server.consume(Jobs, { name: "stopping", onEvents: insert })
      yield* holds(Effect.map(done, ({ length }) => length === 2))
      expect(yield* done).toEqual([1, 2])
    })
  )

  it.live("close rolls back a batch that takes too long, and its transaction takes no query", () =>
    Effect.gen(function* () {
      const { done, server, url } = yield* start
      const errors: Array<unknown> = []
      const entered = Promise.withResolvers<RealtimeServer.Transaction>()
      const consumer = server.consume(Jobs, {
        name: "endless",
        onEvents: async (events, transaction) => {
          await insert(events, transaction)
          entered.resolve(transaction)
          await new Promise(() => undefined)
        },
        onError: (failure) => errors.push(failure)
      })
      yield* begun(url, "endless")
      yield* publish(server, 1)
      const transaction = yield* Effect.promise(() => entered.promise)
      const before = performance.now()
      yield* Effect.promise(() => server.close())
      expect(performance.now() - before).toBeLessThan(3000)
      yield* Effect.promise(() => consumer.done)
      expect(errors).toEqual([])
      expect(yield* done).toEqual([])
      const failed = yield* error(transaction.query("insert into done values (2)"))
      expect(failed).toMatchObject({ _tag: "TransactionError", reason: "ended" })
    })
  )

  it.live("close interrupts an onEvents that is an Effect", () =>
    Effect.gen(function* () {
      const { server } = yield* start
      const entered = yield* Deferred.make<void>()
      const released = yield* Deferred.make<void>()
      server.consume(Jobs, {
        name: "effectful",
        start: "oldest",
        onEvents: () =>
          Deferred.succeed(entered, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.ensuring(Deferred.succeed(released, undefined))
          )
      })
      yield* publish(server, 1)
      yield* Deferred.await(entered)
      yield* Effect.promise(() => server.close())
      yield* Effect.timeout(Deferred.await(released), "1 second")
    })
  )

  it.live("a transaction takes no query after onEvents has settled", () =>
    Effect.gen(function* () {
      const { server, url } = yield* start
      const kept = Promise.withResolvers<RealtimeServer.Transaction>()
      server.consume(Jobs, {
        name: "keeping",
        onEvents: (_, transaction) => kept.resolve(transaction)
      })
      yield* begun(url, "keeping")
      yield* publish(server, 1)
      const transaction = yield* Effect.promise(() => kept.promise)
      // It is open until the cursor has moved.
      const open = Effect.isSuccess(Effect.tryPromise(() => transaction.query("select 1")))
      yield* holds(Effect.map(open, (yes) => !yes))
      expect(yield* error(transaction.query("select 1"))).toMatchObject({ reason: "ended" })
    })
  )

  it.live("a consumer goes on after the sessions of its database are terminated", () =>
    Effect.gen(function* () {
      const { done, server, url } = yield* start
      const consumer = server.consume(Jobs, { name: "going", onEvents: insert })
      yield* begun(url, "going")
      yield* publish(server, 1)
      yield* holds(Effect.map(done, ({ length }) => length === 1))
      yield* execute(
        url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
      )
      yield* execute(url, `select realtime.publish('jobs', '{"n":2}')`)
      yield* holds(Effect.map(done, ({ length }) => length === 2))
      expect(yield* done).toEqual([1, 2])
      yield* Effect.promise(() => consumer.stop())
    })
  )

  it.live("done rejects when the name belongs to another channel, and nothing is unhandled", () =>
    Effect.gen(function* () {
      const { server, url } = yield* start
      const unhandled = rejections()
      server.consume(Others, { name: "taken", onEvents: insert })
      yield* begun(url, "taken")
      server.consume(Jobs, { name: "taken", onEvents: insert })
      const { done, stop } = server.consume(Jobs, { name: "taken", onEvents: insert })
      expect(yield* error(done)).toMatchObject({ _tag: "ConsumerConflict", other: "others" })
      yield* Effect.promise(stop)
      expect(unhandled).toEqual([])
    })
  )

  it.live("an onError that rejects later ends neither its consumer nor the process", () =>
    Effect.gen(function* () {
      const { done, server } = yield* start
      const unhandled = rejections()
      let tries = 0
      server.consume(Jobs, {
        name: "reporting",
        start: "oldest",
        onEvents: async (events, transaction) => {
          if (++tries === 1) throw new Error("first")
          await insert(events, transaction)
        },
        onError: async (failure) => {
          await Promise.resolve()
          throw failure
        }
      })
      yield* publish(server, 7)
      yield* holds(Effect.map(done, ({ length }) => length > 0))
      expect(unhandled).toEqual([])
    })
  )

  it.live("a consumer of a closed server ends with ServerClosed", () =>
    Effect.gen(function* () {
      const { server } = yield* start
      yield* Effect.promise(() => server.close())
      const { done } = server.consume(Jobs, { name: "late", onEvents: insert })
      expect(yield* error(done)).toMatchObject({
        _tag: "ServerClosed",
        message: expect.stringContaining("before the consumer began")
      })
    })
  )

  it.live("consume throws at once what its arguments show", () =>
    Effect.gen(function* () {
      const http = yield* httpServer
      const url = "postgres://u@127.0.0.1:1/x"
      const server = new RealtimeServer(http, url, { channels: [Jobs], authorize: () => true })
      const plain = new RealtimeServer(http, url, {
        channels: [Live],
        path: "/plain",
        authorize: () => true
      })
      const onEvents = () => undefined
      const name = "x"
      const attempts: ReadonlyArray<readonly [() => unknown, string]> = [
        // @ts-expect-error a live channel keeps no events
        [() => server.consume(Live, { name, onEvents }), "NotDurable"],
        [() => plain.consume(Jobs, { name, onEvents }), "NoOutbox"],
        // @ts-expect-error a channel, not its name
        [() => server.consume("jobs", { name, onEvents }), "InvalidOption"],
        [() => server.consume(Jobs, { name: "", onEvents }), "InvalidOption"],
        [() => server.consume(Jobs, { name: "é".repeat(101), onEvents }), "InvalidOption"],
        // @ts-expect-error onEvents is required
        [() => server.consume(Jobs, { name }), "InvalidOption"],
        // @ts-expect-error no place to begin
        [() => server.consume(Jobs, { name, onEvents, start: "newest" }), "InvalidOption"]
      ]
      for (const [attempt, tag] of attempts) {
        expect(attempt).toThrow(expect.objectContaining({ _tag: tag }))
      }
      yield* Effect.promise(() => Promise.all([server.close(), plain.close()]))
    })
  )

  it("onEvents gets the events of its channel", () => {
    const typed = (server: RealtimeServer) =>
      server.consume(Jobs, {
        name: "typed",
        onEvents: (events, { query }) => {
          expectTypeOf(events).toEqualTypeOf<Events>()
          expectTypeOf(query("select 1")).resolves.toEqualTypeOf<
            ReadonlyArray<Readonly<Record<string, unknown>>>
          >()
        }
      })
    expectTypeOf(typed).returns.toEqualTypeOf<RealtimeServer.Consumer>()
  })
})
