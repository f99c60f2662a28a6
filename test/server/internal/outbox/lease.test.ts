/** A lease over a session that the test answers for. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scheduler, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { PgLink } from "../../../../src/server/internal/link/pgLink.ts"
import { Leases } from "../../../../src/server/internal/outbox/lease.ts"
import { turns } from "../../../support/until.ts"

/** What a node asks of the database, and the leases of a node on it. */
const made = Effect.fnUntraced(function* (renewed: Effect.Effect<boolean> = Effect.succeed(true)) {
  let holder = false
  let takes = 0
  const link: PgLink = {
    processId: 1,
    listen: () => Effect.never,
    beat: Effect.never,
    destroy: () => undefined,
    query: (text, params) => {
      if (text.includes("renew_lease")) {
        return Effect.map(renewed, (mine) => [{ n: 1, mine }])
      }
      return Effect.sync(() => {
        holder = text.includes("take_lease")
        if (!holder) return []
        takes++
        const [names] = params as ReadonlyArray<string>
        return names!.split(",").map((_, at) => ({ n: at + 1, term: "1" }))
      })
    }
  }
  const leases = new Leases({ name: "node", incarnation: "i" }, Duration.seconds(2))
  yield* leases.on(link)
  return { leases, isHeld: () => holder, takes: () => takes }
})

describe("A lease", () => {
  it.effect("a node that stops as it gets it releases it", () =>
    Effect.forEach(
      Array.from({ length: 60 }, (_, turn) => turn),
      (turn) =>
        Effect.gen(function* () {
          const { isHeld, leases } = yield* made()
          const scope = yield* Scope.make()
          const taking = yield* Effect.forkChild(
            Scope.provide(leases.take("work"), scope).pipe(
              Effect.provideService(Scheduler.MaxOpsBeforeYield, 3)
            )
          )
          yield* turns(40)
          const time = yield* Effect.forkChild(TestClock.adjust(50))
          yield* turns(turn)
          yield* Fiber.interrupt(taking)
          yield* Scope.close(scope, Exit.void)
          yield* Fiber.join(time)
          yield* turns(20)
          expect([turn, isHeld()]).toEqual([turn, false])
        }).pipe(Effect.scoped),
      { discard: true }
    )
  )

  it.effect("a node that stops before it has asked for it stops at once, and does not ask", () =>
    Effect.gen(function* () {
      const { leases, takes } = yield* made()
      const scope = yield* Scope.make()
      const taking = yield* Effect.forkChild(Scope.provide(leases.take("work"), scope))
      yield* TestClock.adjust(40)
      yield* Fiber.interrupt(taking)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(1000)
      expect(takes()).toBe(0)
    }).pipe(Effect.scoped)
  )

  it.effect("200 of a node are asked for in one statement, also where the first is given up", () =>
    Effect.gen(function* () {
      const { leases, takes } = yield* made()
      const taking = yield* Effect.forEach(Array.from({ length: 200 }).keys(), (n) =>
        Effect.forkScoped(leases.take(`work ${n}`))
      )
      yield* TestClock.adjust(40)
      const [first, ...others] = taking
      yield* Fiber.interrupt(first!)
      yield* TestClock.adjust(10)
      yield* Effect.forEach(others, Fiber.join)
      expect(takes()).toBe(1)
    }).pipe(Effect.scoped)
  )

  it.effect("a node whose renewal fails in an unknown way loses it after 3 s", () =>
    Effect.gen(function* () {
      const { leases } = yield* made(Effect.die(new Error("a defect of the driver")))
      const taking = yield* Effect.forkScoped(leases.take("work"))
      yield* TestClock.adjust(50)
      const lease = yield* Fiber.join(taking)
      const lost = yield* Effect.forkScoped(lease.lost)
      yield* TestClock.adjust(4000)
      expect([lease.held(), lost.pollUnsafe() !== undefined]).toEqual([false, true])
    }).pipe(Effect.scoped)
  )
})
