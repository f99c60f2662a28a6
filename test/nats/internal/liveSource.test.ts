/** Listeners of live channels that come together, over plain objects. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scheduler, Scope, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as LiveSource from "../../../src/nats/internal/liveSource.ts"
import { bridgeName, numberedText } from "../../../src/nats/internal/liveFrames.ts"
import type { Sealed } from "../../../src/nats/internal/sealed.ts"
import {
  type Heard,
  type Listener,
  lost,
  type NotificationSource,
  SourceError,
  type SourceState
} from "../../../src/server/NotificationSource.ts"
import { turns } from "../../support/until.ts"

/** A node, what it listens to on its own link, the failures of its next LISTENs, and what it hears over NATS. */
const made = Effect.fnUntraced(function* (nats: "up" | "down") {
  const own: Array<Listener> = []
  const marks: Array<Listener> = []
  const faults: Array<SourceError> = []
  const inner: NotificationSource["Service"] = {
    state: yield* SubscriptionRef.make<SourceState>("up"),
    notify: () => Effect.void,
    checkTable: () => Effect.void,
    refused: Effect.never,
    listen: (name, hear) =>
      Effect.suspend(() => {
        const fault = faults.pop()
        if (fault !== undefined) return Effect.fail(fault)
        const to = name.startsWith("realtime_mark_") ? marks : own
        return Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => to.push(hear)),
            () => Effect.sync(() => to.splice(to.indexOf(hear), 1))
          )
        )
      })
  }
  const subjects = new Map<string, (text: string) => void>()
  let asked = false
  let flushing = Effect.succeed(true)
  let at = "at"
  const sealed: Sealed = {
    state: yield* SubscriptionRef.make<"up" | "down">(nats),
    identity: () => "database",
    prefix: () => at,
    maxBytes: () => 65_536,
    again: Effect.void,
    flush: () => Effect.suspend(() => flushing),
    publish: (subject) => {
      asked ||= subject === `${at}.live.ask`
      return false
    },
    subscribe: (subject, hear) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => subjects.set(subject, hear)),
          () => Effect.sync(() => subjects.delete(subject))
        )
      )
  }
  const source = yield* LiveSource.make({ inner, sealed, lease: undefined }).pipe(
    Effect.provideService(Scheduler.MaxOpsBeforeYield, 3)
  )
  /** The node receives a message on the one live subject that begins so, if it is subscribed. */
  const receive = (start: string, text: string) =>
    [...subjects].find(([subject]) => subject.startsWith(`${at}.live.${start}`))?.[1](text)
  /** What a bridge sends. */
  const bridge = (b: string) => ({
    beat: () => receive("beat", JSON.stringify({ b, s: {}, u: true })),
    answer: (number = 0) =>
      receive("answer.", JSON.stringify({ b, k: 99, s: { orders: [1, number] } })),
    send: (number: number, payload: string) =>
      receive("c.", numberedText({ b, listen: 1, number, payload }))
  })
  /** The objects of the database are installed anew. */
  const move = () => void (at = "elsewhere")
  /** So long NATS takes to confirm a subscription. */
  const slow = (millis: number) => void (flushing = Effect.as(Effect.sleep(millis), true))
  return { source, own, marks, faults, bridge, move, slow, asked: () => asked }
})

const settle = Effect.andThen(TestClock.adjust(1), turns(40))

/** A node whose one listener is fed by a bridge, what the listener hears, and another bridge. */
const fed = Effect.gen(function* () {
  const node = yield* made("up")
  const heard: Array<Heard> = []
  yield* Effect.forkScoped(node.source.listen("orders", (one) => heard.push(one)))
  yield* settle
  const [one, two] = [node.bridge(bridgeName(1n, "a")), node.bridge(bridgeName(2n, "b"))]
  one.beat()
  yield* TestClock.adjust(200)
  one.answer()
  yield* settle
  return { ...node, heard, one, two }
})

describe("The source of live channels", () => {
  it.effect("the node listens once for two listeners that come together", () =>
    Effect.gen(function* () {
      const { own, source } = yield* made("down")
      yield* Effect.forEach([1, 2], () => source.listen("orders", () => undefined), {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, 3))
      yield* settle
      expect(own.length).toBe(1)
    }).pipe(Effect.scoped)
  )

  it.effect("the node listens again for a listener after a failure", () =>
    Effect.gen(function* () {
      const { faults, own, source } = yield* made("down")
      faults.push(new SourceError({ operation: "listen", channel: "orders", cause: "no" }))
      // Its scope stays open.
      const scope = yield* Scope.make()
      const listen = source.listen("orders", () => undefined)
      expect(Exit.isFailure(yield* Effect.exit(Scope.provide(listen, scope)))).toBe(true)
      yield* Effect.forkChild(listen)
      yield* settle
      expect(own.length).toBe(1)
    }).pipe(Effect.scoped)
  )

  it.effect(
    "a listener receives lost where another bridge has its channel while the node leaves one",
    () =>
      Effect.gen(function* () {
        const { heard, one, own, two } = yield* fed
        one.send(1, "1")
        expect(heard).toEqual(["1"])
        // No beat for more than a second: the node leaves, and its own link does not catch up.
        yield* TestClock.adjust(1500)
        yield* settle
        expect(own.length).toBeGreaterThan(0)
        two.beat()
        two.answer()
        two.send(1, "2")
        expect(heard).toEqual(["1", lost, "2"])
      }).pipe(Effect.scoped)
  )

  it.effect("a listener receives what follows where the bridge answers as it is refused", () =>
    Effect.forEach(
      Array.from({ length: 80 }, (_, turn) => turn),
      (turn) =>
        Effect.gen(function* () {
          const { asked, bridge, marks, own, source } = yield* made("up")
          const heard: Array<Heard> = []
          const one = bridge(bridgeName(1n, "a"))
          /** Time with a beat before it. */
          const pass = (millis: number) =>
            Effect.andThen(Effect.sync(one.beat), TestClock.adjust(millis))
          const listens = turn % 2 === 0
          if (!listens) yield* pass(100)
          yield* source
            .listen("orders", (one) => heard.push(one))
            .pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, 3), Effect.forkScoped)
          yield* turns(40)
          // Without a bridge the node listens by itself after a second.
          if (listens) yield* TestClock.adjust(1500)
          expect(own.length).toBe(listens ? 1 : 0)
          while (!asked()) yield* pass(100)
          for (const millis of [500, 500, 500, 400]) yield* pass(millis)
          // The node refuses the bridge now, 2 s after it has asked.
          const refusing = yield* Effect.forkScoped(pass(100))
          yield* turns(10 + turn)
          one.answer()
          yield* Fiber.join(refusing)
          for (const mark of marks) mark("")
          yield* turns(40)
          // The database sends it to both, and the bridge to the nodes.
          for (const hear of own) hear("1")
          one.send(1, "1")
          expect(heard.filter((one) => one !== lost)).toEqual(["1"])
        }).pipe(Effect.scoped),
      { discard: true }
    )
  )

  it.effect("a listener goes on to receive where the subjects of its database change", () =>
    Effect.gen(function* () {
      const { heard, marks, move, one, two } = yield* fed
      one.send(1, "1")
      expect(heard).toEqual(["1"])
      move()
      yield* TestClock.adjust(200)
      for (let beat = 0; beat < 20; beat++) {
        two.beat()
        two.answer()
        for (const mark of marks) mark("")
        yield* TestClock.adjust(100)
      }
      two.send(1, "2")
      expect(heard.filter((one) => one !== lost)).toEqual(["1", "2"])
      expect(heard[1]).toBe(lost)
    }).pipe(Effect.scoped)
  )

  it.effect("a listener is not fed on subjects that change while NATS confirms them", () =>
    Effect.gen(function* () {
      const { bridge, move, own, slow, source } = yield* made("up")
      const heard: Array<Heard> = []
      const [one, two] = [bridge(bridgeName(1n, "a")), bridge(bridgeName(2n, "b"))]
      one.beat()
      yield* TestClock.adjust(100)
      slow(1800)
      yield* Effect.forkScoped(source.listen("orders", (one) => heard.push(one)))
      yield* settle
      move()
      yield* TestClock.adjust(200)
      for (let beat = 0; beat < 20; beat++) {
        two.beat()
        two.answer()
        yield* TestClock.adjust(100)
      }
      // The database sends it to both, and the bridge to the nodes.
      for (const hear of own) hear("1")
      two.send(1, "1")
      expect(heard).toEqual(["1"])
    }).pipe(Effect.scoped)
  )

  it.effect("a listener receives nothing twice where the node leaves two bridges at once", () =>
    Effect.gen(function* () {
      const { heard, marks, own, two } = yield* fed
      // No beat for more than a second: the node leaves, and sends a mark through the database.
      yield* TestClock.adjust(1500)
      yield* settle
      expect([own.length, marks.length]).toEqual([1, 1])
      two.beat()
      two.answer()
      // The own link is behind: it has the mark, and not what was sent after it.
      two.send(1, "1")
      marks[0]!("")
      yield* settle
      for (const hear of own) hear("1")
      two.send(2, "2")
      for (const mark of marks) mark("")
      yield* settle
      for (const hear of own) hear("3")
      expect(heard).toEqual([lost, "1", lost, "3"])
    }).pipe(Effect.scoped)
  )
})
