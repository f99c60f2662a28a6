/**
 * The contract of `NotificationSource`: every implementation runs these tests.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, type Layer, Queue, Scope } from "effect"
import { type Heard, lost, NotificationSource } from "../../src/server/NotificationSource.ts"
import { listenTo } from "../support/listenTo.ts"
import { waitFor } from "../support/until.ts"

/** What a test does to the source from outside. */
export interface Outside {
  /** Sends a notification as another program would. */
  readonly send: (channel: string, payload: string) => Effect.Effect<void>
  /** Cuts the connection, which the source restores by itself or by `heal`. */
  readonly cut: Effect.Effect<void>
  readonly heal: Effect.Effect<void>
}

/**
 * Waits for down before it returns: a source that heals at once is down for a few milliseconds
 * only.
 */
const cutAndNotice = (hands: Outside) =>
  Effect.gen(function* () {
    const down = yield* Effect.forkChild(
      NotificationSource.use((source) => waitFor(source, "down")),
      { startImmediately: true }
    )
    yield* hands.cut
    yield* Fiber.join(down)
  })

/** Takes items until `count` are there. */
const take = (queue: Queue.Dequeue<Heard>, count: number) => Queue.takeN(queue, count)

export const suite = <E>(
  name: string,
  layer: Layer.Layer<NotificationSource, E>,
  outside: Effect.Effect<Outside, E, NotificationSource>
): void => {
  const test = (
    sentence: string,
    body: (outside: Outside) => Effect.Effect<void, unknown, NotificationSource | Scope.Scope>
  ) =>
    it.live(sentence, () =>
      Effect.gen(function* () {
        const hands = yield* outside
        yield* NotificationSource.use((source) => waitFor(source, "up"))
        yield* body(hands)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

  describe(`NotificationSource: ${name}`, () => {
    test("a listener receives in order every notification sent after it listens", ({ send }) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const queue = yield* listenTo(source, "orders")
        for (const payload of ["1", "2", "3"]) yield* send("orders", payload)
        expect(yield* take(queue, 3)).toEqual(["1", "2", "3"])
      }))

    test("a listener receives only its own channel, case-sensitively", ({ send }) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const orders = yield* listenTo(source, "orders")
        const Orders = yield* listenTo(source, "Orders")
        yield* send("Orders", "upper")
        yield* send("orders", "lower")
        expect([yield* take(orders, 1), yield* take(Orders, 1)]).toEqual([["lower"], ["upper"]])
      }))

    test("every listener of a channel receives each notification", ({ send }) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const first = yield* listenTo(source, "orders")
        const second = yield* listenTo(source, "orders")
        yield* send("orders", "x")
        expect([yield* take(first, 1), yield* take(second, 1)]).toEqual([["x"], ["x"]])
      }))

    test("a listener that throws receives lost, and goes on like the others", ({ send }) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const heard: Array<Heard> = []
        yield* source.listen("orders", (payload) => {
          if (payload === "bad") throw new Error("no such order")
          heard.push(payload)
        })
        const queue = yield* listenTo(source, "orders")
        for (const payload of ["one", "bad", "two"]) yield* send("orders", payload)
        expect(yield* take(queue, 3)).toEqual(["one", "bad", "two"])
        expect(heard).toEqual(["one", lost, "two"])
      }))

    test("a listener that throws at a loss keeps it from no other", (hands) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        yield* source.listen("orders", (heard) => {
          if (heard === lost) throw new Error("no loss is known here")
        })
        const queue = yield* listenTo(source, "orders")
        yield* cutAndNotice(hands)
        yield* hands.heal
        expect(yield* take(queue, 1)).toEqual([lost])
        yield* hands.send("orders", "after")
        expect(yield* take(queue, 1)).toEqual(["after"])
      }))

    test("a listener goes on receiving after another listener left", ({ send }) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const scope = yield* Scope.make()
        yield* Scope.provide(listenTo(source, "orders"), scope)
        const stays = yield* listenTo(source, "orders")
        yield* Scope.close(scope, Exit.void)
        yield* send("orders", "x")
        expect(yield* take(stays, 1)).toEqual(["x"])
      }))

    test("a channel is listened on again right after its last listener left", ({ send }) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        for (let round = 0; round < 20; round++) {
          const scope = yield* Scope.make()
          const queue = yield* Scope.provide(listenTo(source, "orders"), scope)
          yield* send("orders", `round ${round}`)
          expect(yield* take(queue, 1)).toEqual([`round ${round}`])
          yield* Scope.close(scope, Exit.void)
        }
      }))

    test("notify reaches the listeners of the same node", () =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const queue = yield* listenTo(source, "orders")
        yield* source.notify("orders", "é")
        expect(yield* take(queue, 1)).toEqual(["é"])
      }))

    test("every listener receives one loss once the source is back, then later notifications", (hands) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const orders = yield* listenTo(source, "orders")
        const notices = yield* listenTo(source, "notices")
        yield* hands.send("orders", "before")
        expect(yield* take(orders, 1)).toEqual(["before"])
        yield* cutAndNotice(hands)
        yield* hands.heal
        expect([yield* take(orders, 1), yield* take(notices, 1)]).toEqual([[lost], [lost]])
        yield* hands.send("orders", "after")
        yield* hands.send("notices", "after")
        expect([yield* take(orders, 1), yield* take(notices, 1)]).toEqual([["after"], ["after"]])
      }))

    test("a listener that joins while the source is down receives no loss", (hands) =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        yield* listenTo(source, "orders")
        yield* cutAndNotice(hands)
        const waiting = yield* Effect.forkChild(listenTo(source, "orders"), {
          startImmediately: true
        })
        yield* hands.heal
        const queue = yield* Fiber.join(waiting)
        yield* hands.send("orders", "x")
        expect(yield* take(queue, 1)).toEqual(["x"])
      }))
  })
}
