/** Listeners of live channels that come together, over plain objects. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Scheduler, Scope, SubscriptionRef } from "effect"
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
  const faults: Array<SourceError> = []
  const inner: NotificationSource["Service"] = {
    state: yield* SubscriptionRef.make<SourceState>("up"),
    notify: () => Effect.void,
    checkTable: () => Effect.void,
    refused: Effect.never,
    listen: (_, hear) =>
      Effect.suspend(() => {
        const fault = faults.pop()
        if (fault !== undefined) return Effect.fail(fault)
        return Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => own.push(hear)),
            () => Effect.sync(() => own.splice(own.indexOf(hear), 1))
          )
        )
      })
  }
  const subjects = new Map<string, (text: string) => void>()
  const sealed: Sealed = {
    state: yield* SubscriptionRef.make<"up" | "down">(nats),
    identity: () => "database",
    prefix: () => "at",
    maxBytes: () => 65_536,
    again: Effect.void,
    flush: () => Effect.succeed(true),
    publish: () => false,
    subscribe: (subject, hear) => Effect.sync(() => void subjects.set(subject, hear))
  }
  const source = yield* LiveSource.make({ inner, sealed, lease: undefined }).pipe(
    Effect.provideService(Scheduler.MaxOpsBeforeYield, 3)
  )
  /** The node receives a message on the one subject that begins so. */
  const receive = (start: string, text: string) =>
    [...subjects].find(([subject]) => subject.startsWith(start))![1](text)
  return { source, own, faults, receive }
})

const settle = Effect.andThen(TestClock.adjust(1), turns(40))

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
        const { own, receive, source } = yield* made("up")
        const heard: Array<Heard> = []
        yield* Effect.forkScoped(source.listen("orders", (one) => heard.push(one)))
        yield* settle
        const beat = (b: string) => receive("at.live.beat", JSON.stringify({ b, s: {}, u: true }))
        const answer = (b: string) =>
          receive("at.live.answer.", JSON.stringify({ b, k: 99, s: { orders: [1, 0] } }))
        const notification = (b: string, payload: string) =>
          receive("at.live.c.", numberedText({ b, listen: 1, number: 1, payload }))
        const [one, two] = [bridgeName(1n, "a"), bridgeName(2n, "b")]
        beat(one)
        yield* TestClock.adjust(200)
        answer(one)
        yield* settle
        notification(one, "1")
        expect(heard).toEqual(["1"])
        // No beat for more than a second: the node leaves, and its own link does not catch up.
        yield* TestClock.adjust(1500)
        yield* settle
        expect(own.length).toBeGreaterThan(0)
        beat(two)
        answer(two)
        notification(two, "2")
        expect(heard).toEqual(["1", lost, "2"])
      }).pipe(Effect.scoped)
  )
})
