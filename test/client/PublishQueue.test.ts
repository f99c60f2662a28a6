import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { PublishQueue } from "effect-realtime/client"
import { sleepy } from "./support/clock.ts"

const message = (key: string, bytes = 10) => ({ channel: "room", key, json: `"${key}"`, bytes })

const make = (options?: PublishQueue.Options) =>
  Effect.map(PublishQueue.make(options), (queue) => ({
    queue,
    add: (key: string, bytes?: number) => {
      const done = Deferred.makeUnsafe<void, PublishQueue.Failure>()
      const added = queue.add(message(key, bytes), (exit) => Deferred.doneUnsafe(done, exit))
      if (Exit.isFailure(added)) return assert.fail(`${key} was not taken`)
      const { cancel } = added.value
      const outcome = Effect.onInterrupt(Deferred.await(done), () => Effect.sync(cancel))
      return { ...added.value, outcome }
    },
    /** The messages that a client would send now. */
    drain: () => {
      const keys: Array<string> = []
      for (let next = queue.next(); next !== undefined; next = queue.next()) keys.push(next.key)
      return keys
    }
  }))

describe("PublishQueue", () => {
  it.effect("returns each message once, in the order of arrival", () =>
    Effect.gen(function* () {
      const { add, drain } = yield* make()
      for (const key of ["a", "b", "c"]) add(key)
      assert.deepStrictEqual(drain(), ["a", "b", "c"])
      add("d")
      assert.deepStrictEqual(drain(), ["d"])
    })
  )

  it.effect("returns unanswered messages again, in order, after the connection is lost", () =>
    Effect.gen(function* () {
      const { add, drain, queue } = yield* make()
      const [first] = ["a", "b", "c", "d"].map((key) => add(key))
      queue.next()
      queue.next()
      queue.next()
      first!.settle(Exit.void)
      queue.rewind()
      assert.deepStrictEqual(drain(), ["b", "c", "d"])
    })
  )

  it.effect("returns a retried message before the messages behind it", () =>
    Effect.gen(function* () {
      const { add, drain } = yield* make()
      const [first] = ["a", "b"].map((key) => add(key))
      drain()
      add("c")
      first!.retry()
      assert.deepStrictEqual(drain(), ["a", "c"])
    })
  )

  it.effect("takes at most 1,000 messages, then fails with QueueFull", () =>
    Effect.gen(function* () {
      const { add, queue } = yield* make()
      const [first] = Array.from({ length: 1000 }, (_, index) => add(`${index}`))
      const full = new PublishQueue.QueueFull({ channel: "room", unit: "messages", limit: 1000 })
      assert.deepStrictEqual(
        queue.add(message("x"), () => {}),
        Exit.fail(full)
      )
      assert.include(full.message, "at most 1000 messages")
      first!.settle(Exit.void)
      assert.isTrue(Exit.isSuccess(queue.add(message("x"), () => {})))
    })
  )

  it.effect("takes at most 1 MiB, counting unanswered messages, then fails with QueueFull", () =>
    Effect.gen(function* () {
      const { add, drain, queue } = yield* make()
      add("a", 1_048_570)
      drain()
      const full = new PublishQueue.QueueFull({ channel: "room", unit: "bytes", limit: 1_048_576 })
      assert.deepStrictEqual(
        queue.add(message("b", 7), () => {}),
        Exit.fail(full)
      )
      add("b", 6)
      assert.deepStrictEqual(queue.size(), { messages: 2, bytes: 1_048_576 })
    })
  )

  it.effect("fails a message with Expired after 60 s", () =>
    Effect.gen(function* () {
      const { add, drain, queue } = yield* make()
      const first = yield* Effect.forkChild(Effect.exit(add("a").outcome))
      drain()
      yield* TestClock.adjust("30 seconds")
      const second = yield* Effect.forkChild(Effect.exit(add("b").outcome))
      yield* TestClock.adjust(29_999)
      assert.strictEqual(queue.size().messages, 2)
      yield* TestClock.adjust(1)
      const expired = { channel: "room", millis: 60_000 }
      assert.deepStrictEqual(
        yield* Fiber.join(first),
        Exit.fail(new PublishQueue.Expired({ ...expired, sent: true }))
      )
      assert.strictEqual(queue.size().messages, 1)
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(
        yield* Fiber.join(second),
        Exit.fail(new PublishQueue.Expired({ ...expired, sent: false }))
      )
    })
  )

  it.effect("does not return a message that expired while the machine slept", () =>
    Effect.gen(function* () {
      const { clock, jump } = yield* sleepy
      yield* Effect.gen(function* () {
        const { add, drain } = yield* make()
        add("a")
        jump(60_000)
        add("b")
        assert.deepStrictEqual(drain(), ["b"])
      }).pipe(Effect.provideService(Clock.Clock, clock))
    })
  )

  it.effect("drops a message whose publisher was interrupted before the client sent it", () =>
    Effect.gen(function* () {
      const { add, drain } = yield* make()
      const waiting = yield* Effect.forkChild(add("a").outcome, { startImmediately: true })
      const sent = yield* Effect.forkChild(add("b").outcome, { startImmediately: true })
      yield* Fiber.interrupt(waiting)
      assert.deepStrictEqual(drain(), ["b"])
      yield* Fiber.interrupt(sent)
      assert.deepStrictEqual(drain(), [])
    })
  )

  it.effect("takes other bounds as options", () =>
    Effect.gen(function* () {
      const { add, drain, queue } = yield* make({ maxMessages: 1, maxAge: "1 second" })
      add("a")
      assert.isTrue(Exit.isFailure(queue.add(message("b"), () => {})))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(drain(), [])
    })
  )
})
