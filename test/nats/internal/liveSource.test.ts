/** Listeners of live channels that come together, over plain objects. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Scheduler, Scope, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as LiveSource from "../../../src/nats/internal/liveSource.ts"
import type { Sealed } from "../../../src/nats/internal/sealed.ts"
import {
  type Listener,
  type NotificationSource,
  SourceError,
  type SourceState
} from "../../../src/server/NotificationSource.ts"
import { turns } from "../../support/until.ts"

/** A node without NATS, what it listens to on its own link, and the failures of its next LISTENs. */
const made = Effect.gen(function* () {
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
  const sealed: Sealed = {
    state: yield* SubscriptionRef.make<"up" | "down">("down"),
    identity: () => "database",
    prefix: () => "at",
    maxBytes: () => 65_536,
    again: Effect.void,
    flush: () => Effect.succeed(true),
    publish: () => false,
    subscribe: () => Effect.void
  }
  const source = yield* LiveSource.make({ inner, sealed, lease: undefined }).pipe(
    Effect.provideService(Scheduler.MaxOpsBeforeYield, 3)
  )
  return { source, own, faults }
})

const settle = Effect.andThen(TestClock.adjust(1), turns(40))

describe("The source of live channels", () => {
  it.effect("the node listens once for two listeners that come together", () =>
    Effect.gen(function* () {
      const { own, source } = yield* made
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
      const { faults, own, source } = yield* made
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
})
