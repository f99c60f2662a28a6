/**
 * What an application calls in the middle of what the client tells it: it leaves, publishes, closes the client,
 * or connects again. And what it calls twice.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scheduler, Scope } from "effect"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { Backoff, Channel } from "effect-realtime"
import { Collector, History, type RealtimeClient } from "effect-realtime/client"
import { expect } from "vitest"
import { turns, untilAsync } from "../support/until.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Numbers = Channel.make("numbers", Schema.Finite, { publish: true })
const Others = Channel.make("others", Schema.Finite, { publish: true })
const Pointers = Channel.make(
  "pointers",
  Schema.Struct({ user: Schema.String, x: Schema.Finite }),
  {
    delivery: "volatile",
    publish: true,
    latestBy: "user"
  }
)

const make = (options?: Partial<RealtimeClient.Options>) => {
  const server = FakeSocket.make({ auto: true })
  const client = Client.plain(server, {
    backoff: { ...Backoff.client, first: 1, initial: 1, cap: 1 },
    linger: 1,
    onError: () => {},
    ...options
  })
  return { client, server }
}

describe("A client that is closed", () => {
  it.effect("by a listener that hears of a lost link opens nothing any more", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(Client.make(server), scope)
      client.sync.listen(Numbers, {
        onEvents: () => {},
        onInactive: () => void Effect.runFork(Scope.close(scope, Exit.void)),
        onEnd: () => {}
      })
      yield* TestClock.adjust(1)
      server.last.drop()
      yield* TestClock.adjust("2 minutes")
      assert.deepInclude(client.sync.connection.getSnapshot(), {
        status: "stopped",
        reason: "closed"
      })
      assert.lengthOf(server.sockets, 1)
    })
  )

  it("by a handler shows no live value to those that the event did not reach", async () => {
    const { client, server } = make()
    client.listen(Numbers, () => void client.close())
    const collector = Collector.make(client, Numbers, {
      initial: 0,
      reduce: (_, n) => n,
      onError: () => {}
    })
    collector.subscribe(() => {})
    await untilAsync(() => collector.getSnapshot().status === "live")
    server.last.say(FakeSocket.events("numbers", 1, 1))
    await untilAsync(() => collector.getSnapshot().status === "error")
    expect(collector.getSnapshot().value).toBe(0)
  })
})

describe("A client that a listener connects again when it hears of a stop", () => {
  it("tells a later listener nothing of the stop, and publishes what waits", async () => {
    const { client, server } = make()
    const heard: Array<unknown> = []
    const late: Array<unknown> = []
    client.listen(Numbers, () => {}, {
      onError: (error) => {
        heard.push(error)
        client.reconnect()
        client.listen(Others, () => {}, { onError: (error) => late.push(error) })
        sent = client.publish(Numbers, 1)
      }
    })
    let sent: Promise<void> | undefined
    await untilAsync(() => server.sent.some(({ type }) => type === "subscribe"))
    server.last.drop(4205)
    await sent
    expect(heard).toHaveLength(1)
    expect(late).toEqual([])
  })
})

describe("A publish", () => {
  it.effect("that begins when the link is lost was never sent", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      let publishing: Fiber.Fiber<void, unknown> | undefined
      client.sync.listen(Numbers, {
        onEvents: () => {},
        onInactive: () => {
          publishing ??= Effect.runFork(client.publish(Numbers, 1))
        },
        onEnd: () => {}
      })
      yield* TestClock.adjust(1)
      server.heard = () => {}
      server.last.drop()
      yield* TestClock.adjust("2 minutes")
      const error = yield* Effect.flip(Fiber.join(publishing!))
      assert.deepInclude(error, { _tag: "Expired", sent: false })
    })
  )

  it.effect("that is interrupted before it is sent is taken back, wherever its fiber stands", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make()
      const client = yield* Client.make(server)
      for (let count = 0; count < 30; count++) {
        const fiber = yield* client
          .publish(Numbers, 1)
          .pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, 3), Effect.forkChild)
        yield* turns(count)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(client.sync.queue.getSnapshot().messages, 0, `after ${count} turns`)
      }
    })
  )

  it.effect("on a volatile channel settles, also one that begins where another is dropped", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      yield* client.publish(Numbers, 0)
      const publish = (x: number) => client.publish(Pointers, { user: "ann", x })
      yield* publish(0)
      const again = yield* Effect.forkChild(
        Effect.flatMap(publish(1), (first) => Effect.map(publish(2), (second) => [first, second])),
        { startImmediately: true }
      )
      const other = yield* Effect.forkChild(publish(3), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(again.pollUnsafe(), Exit.succeed(["dropped", "published"]))
      assert.deepStrictEqual(other.pollUnsafe(), Exit.succeed("dropped"))
    })
  )
})

describe("A Collector", () => {
  it("goes on for its other subscribers where one leaves twice", async () => {
    const { client, server } = make()
    const collector = Collector.make(client, Numbers, { initial: 0, reduce: (_, n) => n })
    const leave = collector.subscribe(() => {})
    collector.subscribe(() => {})
    await untilAsync(() => collector.getSnapshot().status === "live")
    leave()
    leave()
    // The Collector stops in a microtask.
    await Promise.resolve()
    server.last.say(FakeSocket.events("numbers", 1, 7))
    await untilAsync(() => collector.getSnapshot().value === 7)
    expect(collector.getSnapshot().status).toBe("live")
  })
})

describe("A History", () => {
  it("reads its page after a stop that the client left at once", async () => {
    const { client, server } = make({ onError: () => client.reconnect() })
    server.heard = (socket, frame) => {
      if (frame.type !== "history" || server.sockets.length > 1) server.answer(socket, frame)
    }
    const history = History.make(client, Numbers, { onError: () => {} })
    history.subscribe(() => {})
    await untilAsync(() => server.sent.some(({ type }) => type === "history"))
    server.last.drop(4205)
    await untilAsync(() => history.getSnapshot().status === "live")
    expect(server.sockets).toHaveLength(2)
  })

  it("asks for its page again when it is subscribed again after a refusal", async () => {
    const { client, server } = make()
    let refuses = true
    server.heard = (socket, frame) => {
      if (frame.type !== "history" || !refuses) return server.answer(socket, frame)
      const { id } = frame
      socket.say({ type: "error", id, code: "channel/forbidden", message: "No.", retry: "never" })
    }
    const history = History.make(client, Numbers, { onError: () => {} })
    const leave = history.subscribe(() => {})
    await untilAsync(() => history.getSnapshot().status === "error")
    leave()
    await untilAsync(() => server.last.of("unsubscribe").length > 0)
    refuses = false
    history.subscribe(() => {})
    await untilAsync(() => history.getSnapshot().status === "live")
    expect(server.sent.filter(({ type }) => type === "history")).toHaveLength(2)
  })
})
