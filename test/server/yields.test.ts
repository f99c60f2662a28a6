/**
 * What a session must do in one step is one step also where its fibers yield after each operation: Effect
 * lets a fiber yield between any two.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Scheduler } from "effect"
import { TestClock } from "effect/testing"
import * as Door from "../../src/server/internal/door/door.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { TestDoor, visit } from "../support/sessions.ts"

/** How often a token was checked. */
let asked = 0

const layer = Layer.effect(
  TestDoor,
  Door.make({
    channels: [],
    authenticate: ({ token = "" }) =>
      Effect.sync(() => {
        asked++
        return { identity: token }
      }),
    authorize: allowAll
  })
).pipe(
  Layer.provideMerge(Realtime.layerVolatile()),
  // Not for the test itself, which counts the turns.
  Layer.provide(Layer.succeed(Scheduler.MaxOpsBeforeYield, 3))
)

/** So many turns of the scheduler, and then everything else. */
const turns = (count: number) =>
  Effect.gen(function* () {
    for (let turn = 0; turn < count; turn++) yield* Effect.yieldNow
  })
const rest = Effect.repeat(TestClock.adjust(100), { times: 40 })

describe("A session whose fibers yield after each operation", () => {
  it.effect("is closed when its identity is revoked while its token is checked", () =>
    Effect.gen(function* () {
      const door = yield* TestDoor
      for (let count = 0; count < 30; count++) {
        const visitor = yield* visit({ hello: false })
        const before = asked
        visitor.send({ type: "hello", version: 1, token: "ann" })
        yield* Effect.repeat(Effect.yieldNow, { until: () => asked > before })
        yield* turns(count)
        door.revoke("ann")
        yield* rest
        expect(visitor.closeCode, `after ${count} turns`).toBe(4101)
      }
    }).pipe(Effect.scoped, Effect.provide(layer))
  )
})
