/** Results that arrive in parts: from the Stream on a node to each page, whenever it subscribes. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Ref, Schema, Scope, Stream } from "effect"
import { Channel } from "effect-realtime"
import { PlainClient, QueryStream, RealtimeClient } from "effect-realtime/client"
import { QueryResults, Realtime, RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"
import { vi } from "vitest"

const Answer = Channel.queryResults(Schema.String, { delivery: "durable", publish: true })
const Rows = Channel.family(
  "rows_",
  Schema.String,
  Channel.QueryResult(Schema.Array(Schema.Struct({ n: Schema.Int }))),
  { delivery: "durable" }
)

const system = QueryResults.layer.pipe(
  Layer.provideMerge(
    RealtimeTest.layer({ channels: [Answer, Rows], authorize: RealtimeServer.allowAll })
  )
)

/** Collects everything on the channel from the oldest event on. */
const watch = <A>(channel: Channel.Channel<A, boolean, string, "durable">) =>
  Effect.gen(function* () {
    const told = yield* Ref.make<ReadonlyArray<unknown>>([])
    yield* Realtime.events(channel, { from: "oldest" }).pipe(
      Stream.runForEach((event) =>
        Ref.update(told, (all) => [...all, event._tag === "Event" ? event.payload : event.reason])
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    return Ref.get(told)
  })

/** Work that says what the test offers, and ends when the queue does. */
const saying = Effect.gen(function* () {
  const queue = yield* Queue.unbounded<string, "over">()
  const ends = yield* Deferred.make<void>()
  yield* QueryResults.stream(
    Answer("1"),
    Stream.fromQueue(queue).pipe(
      Stream.catch(() => Stream.empty),
      Stream.ensuring(Deferred.succeed(ends, undefined))
    )
  )
  yield* step
  return { say: (text: string) => Queue.offer(queue, text), over: Queue.fail(queue, "over"), ends }
})

const step = Effect.flatMap(RealtimeTest.RealtimeTest, (test) => test.settle)
const pass = (millis: number) => Effect.andThen(TestClock.adjust(millis), step)

type Told = ReadonlyArray<Channel.QueryResult<string>>

/** Lets time pass until the work has ended, and gives everything. */
const ended = (told: Effect.Effect<ReadonlyArray<unknown>>) =>
  Effect.repeat(
    Effect.andThen(
      pass(1_000),
      Effect.map(told, (all) => all as Told)
    ),
    { until: (all) => ["completed", "error"].includes(all.at(-1)?.status ?? "") }
  )

/** A page that shows a result from now on. */
const page = Effect.gen(function* () {
  const client = yield* RealtimeClient.RealtimeClient
  const collector = QueryStream.make(PlainClient.fromClient(client), Answer("1"))
  yield* Effect.acquireRelease(
    Effect.sync(() => collector.subscribe(() => {})),
    (leave) => Effect.sync(leave)
  )
  yield* step
  /** What the page shows once the condition holds. */
  return (condition: (shown: QueryStream.Progress<string>) => boolean) =>
    Effect.promise(() =>
      vi.waitUntil(() => {
        const shown = collector.getSnapshot()
        return condition(shown.value) && shown
      })
    )
})

const whole = (text: string) => ({ status: "completed", data: text })

describe("QueryResults.stream", () => {
  it.effect("joins the parts of 100 ms into one chunk, and ends with the whole", () =>
    Effect.gen(function* () {
      const told = yield* watch(Answer("1"))
      const { over, say } = yield* saying
      yield* say("a")
      yield* say("b")
      yield* pass(99)
      expect(yield* told).toEqual([{ status: "running" }])
      yield* pass(1)
      yield* say("c")
      yield* pass(100)
      yield* say("d")
      yield* over
      yield* step
      expect(yield* told).toEqual([
        { status: "running" },
        { status: "running", chunk: "ab" },
        { status: "running", chunk: "c" },
        whole("abcd")
      ])
      expect(yield* QueryResults.QueryResults.use(({ running }) => running)).toBe(0)
    }).pipe(Effect.provide(system))
  )

  it.effect("joins lists, and the result of work without a part is empty", () =>
    Effect.gen(function* () {
      const rows = yield* watch(Rows("1"))
      const none = yield* watch(Rows("2"))
      const text = yield* watch(Answer("2"))
      yield* QueryResults.stream(Rows("1"), Stream.make([{ n: 1 }], [{ n: 2 }, { n: 3 }]))
      yield* QueryResults.stream(Rows("2"), Stream.empty)
      yield* QueryResults.stream(Answer("2"), Stream.empty)
      yield* step
      const began = { status: "running" }
      const data = [{ n: 1 }, { n: 2 }, { n: 3 }]
      expect(yield* rows).toEqual([began, { status: "completed", data }])
      expect(yield* none).toEqual([began, { status: "completed", data: [] }])
      expect(yield* text).toEqual([began, whole("")])
    }).pipe(Effect.provide(system))
  )

  it.effect("a page that subscribes while the work runs shows what was said, then the rest", () =>
    Effect.gen(function* () {
      const { over, say } = yield* saying
      yield* say("one ")
      yield* pass(100)
      const when = yield* page
      expect(
        yield* when((shown) => shown.value === "one " && shown.status === "running")
      ).toMatchObject({ status: "live" })
      yield* say("two")
      yield* pass(100)
      expect(
        yield* when((shown) => shown.value === "one two" && shown.status === "running")
      ).toMatchObject({ status: "live" })
      yield* over
      yield* step
      expect(
        yield* when((shown) => shown.value === "one two" && shown.status === "completed")
      ).toMatchObject({ status: "live" })
    }).pipe(Effect.provide(system))
  )

  it.effect("a second listener of a page receives everything, and the first nothing twice", () =>
    Effect.gen(function* () {
      const { over, say } = yield* saying
      yield* say("one ")
      yield* pass(100)
      const first = yield* page
      yield* say("two ")
      yield* pass(100)
      const second = yield* page
      yield* say("three")
      yield* pass(100)
      for (const when of [first, second]) {
        expect(
          yield* when((shown) => shown.value === "one two three" && shown.status === "running")
        ).toMatchObject({ status: "live" })
      }
      yield* over
      yield* step
      const late = yield* page
      for (const when of [first, second, late]) {
        expect(
          yield* when((shown) => shown.value === "one two three" && shown.status === "completed")
        ).toMatchObject({ status: "live" })
      }
    }).pipe(Effect.provide(system))
  )

  it.effect("a page's stop ends the work on the node that runs it, with what was said", () =>
    Effect.gen(function* () {
      const told = yield* watch(Answer("1"))
      const { ends, say } = yield* saying
      yield* say("a")
      yield* pass(100)
      yield* say("b")
      yield* step
      const client = yield* RealtimeClient.RealtimeClient
      yield* client.publish(Answer("1"), { status: "stop" })
      yield* Deferred.await(ends)
      yield* step
      expect(yield* told).toEqual([
        { status: "running" },
        { status: "running", chunk: "a" },
        { status: "stop" },
        { status: "stopped", data: "ab" }
      ])
    }).pipe(Effect.provide(system))
  )

  it.effect("a client cannot publish a result, only stop", () =>
    Effect.gen(function* () {
      const client = yield* RealtimeClient.RealtimeClient
      const told = yield* watch(Answer("1"))
      const error = yield* Effect.flip(client.publish(Answer("1"), whole("forged") as never))
      expect(error).toMatchObject({ code: "publish/invalid" })
      yield* client.publish(Answer("1"), { status: "stop", data: "forged" })
      yield* step
      expect(yield* told).toEqual([{ status: "stop" }])
    }).pipe(Effect.provide(system))
  )

  it.effect("a stop of before the work does not stop it", () =>
    Effect.gen(function* () {
      const told = yield* watch(Answer("1"))
      yield* Realtime.publish(Answer("1"), { status: "stop" })
      const { over, say } = yield* saying
      yield* say("a")
      yield* over
      yield* step
      expect((yield* told).at(-1)).toEqual(whole("a"))
    }).pipe(Effect.provide(system))
  )

  it.effect.each<readonly [string, Stream.Stream<never, unknown>, unknown]>([
    ["a failure", Stream.fail(new Error("select secret")), "The query failed."],
    ["a failure in words", Stream.fail({ words: "no rows" }), "no rows"],
    ["a defect", Stream.die(new Error("secret")), "The query failed."],
    ["a part that does not fit", Stream.make(7 as never), "The query failed."],
    ["an interruption", Stream.fromEffect(Effect.interrupt), expect.stringContaining("interrupted")]
  ])("%s ends the work with what was said and without its reason", ([, rest, error]) =>
    Effect.gen(function* () {
      const told = yield* watch(Answer("1"))
      const parts = Stream.concat(Stream.make("a"), rest)
      yield* QueryResults.stream(Answer("1"), parts, {
        describe: (error) => (error as { readonly words?: string }).words ?? "The query failed."
      })
      yield* step
      expect(yield* told).toEqual([{ status: "running" }, { status: "error", error, data: "a" }])
    }).pipe(Effect.provide(system))
  )

  it.effect(
    "a result above 3 MiB ends as an error that says so, and fits the replay of a page",
    () =>
      Effect.gen(function* () {
        const told = yield* watch(Answer("1"))
        const part = "x".repeat(60_000)
        yield* QueryResults.stream(Answer("1"), Stream.forever(Stream.make(part)))
        const all = yield* ended(told)
        expect(all.at(-1)!.error).toContain("3145728 bytes")
        expect(all.at(-1)!.data!.length).toBe(60_000 * 52)
        const when = yield* page
        expect(yield* when((shown) => shown.status === "error")).toMatchObject({ status: "live" })
      }).pipe(Effect.provide(system))
  )

  it.effect("the Stream waits while a chunk cannot be published, and loses nothing", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const pulled = yield* Ref.make(0)
      const part = "x".repeat(40_000)
      yield* QueryResults.stream(
        Answer("1"),
        Stream.range(1, 20).pipe(
          Stream.rechunk(1),
          Stream.tap((n) => Ref.set(pulled, n)),
          Stream.mapEffect((n) =>
            n === 3 ? Effect.as(test.database.stop, part) : Effect.succeed(part)
          )
        )
      )
      yield* pass(5_000)
      expect(yield* Ref.get(pulled)).toBeLessThan(8)
      yield* test.database.restore
      const all = yield* ended(yield* watch(Answer("1")))
      const chunks = all.map(({ chunk = "" }) => chunk).join("")
      expect(all.at(-1)!.data!.length).toBe(800_000)
      expect(all.at(-1)!.data!.startsWith(chunks)).toBe(true)
    }).pipe(Effect.provide(system))
  )

  it.effect("a node that closes publishes an error with what was said", () =>
    Effect.gen(function* () {
      const told = yield* watch(Answer("1"))
      const scope = yield* Scope.make()
      const context = yield* Layer.build(Layer.fresh(QueryResults.layer)).pipe(Scope.provide(scope))
      yield* QueryResults.stream(Answer("1"), Stream.concat(Stream.make("a"), Stream.never)).pipe(
        Effect.provideContext(context)
      )
      yield* pass(100)
      yield* Fiber.join(yield* Effect.forkChild(Scope.close(scope, Exit.void)))
      yield* step
      expect((yield* told).at(-1)).toEqual({
        status: "error",
        error: expect.stringContaining("shut down"),
        data: "a"
      })
    }).pipe(Effect.provide(system))
  )

  it.effect("a live channel is rejected", () =>
    Effect.gen(function* () {
      const Live = Channel.queryResults(Schema.String)
      const error = yield* Effect.flip(QueryResults.stream(Live("1") as never, Stream.empty))
      expect(error._tag).toBe("NotDurable")
    }).pipe(Effect.provide(system))
  )
})
