/**
 * What a session must do in one step is one step also where its fibers yield after each operation: Effect
 * lets a fiber yield between any two.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Schema, Scheduler, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import type { Delivery } from "../../src/server/internal/hub/delivery.ts"
import { membersOf } from "../../src/server/internal/hub/members.ts"
import * as Presence from "../../src/server/internal/presence/onBus.ts"
import { ReplayAdmission } from "../../src/server/internal/outbox/replayAdmission.ts"
import { Histories } from "../../src/server/internal/session/history.ts"
import type { Port } from "../../src/server/internal/session/port.ts"
import type { Match } from "../../src/server/internal/session/registry.ts"
import { Replays, Turn } from "../../src/server/internal/session/replays.ts"
import type { Grant, Rights, Wish } from "../../src/server/internal/session/rights.ts"
import type { SubscribeBudget } from "../../src/server/internal/session/subscribeBudget.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { layerBus, Network } from "../support/nodeBus.ts"
import { TestDoor, visit } from "../support/sessions.ts"
import { turns } from "../support/until.ts"

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

/** Everything else. */
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

/** Runs an effect whose fiber yields after each operation; `meanwhile` after so many of its turns. */
const during = <A, E, R>(effect: Effect.Effect<A, E, R>, count: number, meanwhile: () => void) =>
  Effect.gen(function* () {
    const fiber = yield* effect.pipe(
      Effect.provideService(Scheduler.MaxOpsBeforeYield, 3),
      Effect.forkScoped({ startImmediately: true })
    )
    yield* turns(count)
    meanwhile()
    yield* turns(40)
    return fiber.pollUnsafe()
  })

const most = 15

describe("A fiber that yields between its look and its wait", () => {
  it.effect("gets the turn of a replay that leaves then", () =>
    Effect.gen(function* () {
      for (let count = 0; count < most; count++) {
        const replays = new Replays()
        const match = { delivery: { resumes: true } } as Match
        const [first, second] = [new Turn(), new Turn()]
        yield* replays.enter(match, first)
        const exit = yield* during(replays.enter(match, second), count, () => replays.leave(first))
        expect(exit, `after ${count} turns`).toEqual(Exit.void)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("is admitted where another replay leaves then", () =>
    Effect.gen(function* () {
      for (let count = 0; count < most; count++) {
        const admission = new ReplayAdmission({ atOnce: 1, queue: 9, bytes: 100 })
        let leave: () => void = () => undefined
        yield* admission.enter(1, (one) => {
          leave = one.leave
        })
        const exit = yield* during(
          admission.enter(1, () => undefined),
          count,
          () => leave()
        )
        expect(exit, `after ${count} turns`).toEqual(Exit.void)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("answers a request for history where the socket takes bytes then", () =>
    Effect.gen(function* () {
      for (let count = 0; count < most; count++) {
        const answered: Array<number> = []
        const free = new Set<() => void>()
        const mailbox = {
          blocked: true,
          onFree: (wake: () => void) => {
            free.add(wake)
            return () => void free.delete(wake)
          }
        }
        const port = {
          mailbox,
          answerWith: (id: number) => void answered.push(id),
          context: { limits: { sourceTimeout: 1000 } }
        } as unknown as Port
        const rights = {
          hold: (_: Wish, grant: Grant, begin: (grant: Grant) => Effect.Effect<undefined>) =>
            begin(grant)
        } as unknown as Rights
        const budget = { debt: undefined, charge: () => undefined } as unknown as SubscribeBudget
        const delivery = {
          resumes: false,
          history: () => Effect.succeed({ events: [], more: false, bytes: 0 })
        }
        const histories = new Histories(port, rights, budget, new Replays())
        const answer = histories.answer(
          { type: "history", id: 7, channel: "orders", limit: 1 },
          { channel: "orders", action: "subscribe", match: { delivery } as unknown as Match },
          { mark: 0, json: undefined, boundary: undefined }
        )
        yield* during(answer, count, () => {
          mailbox.blocked = false
          for (const wake of free) wake()
          free.clear()
        })
        expect(answered, `after ${count} turns`).toEqual([7])
      }
    }).pipe(Effect.scoped)
  )

  it.effect("follows the members of a channel where its last other follower leaves then", () =>
    Effect.gen(function* () {
      const presence = yield* Presence.make({ grace: 0, named: 9, rate: 5 })
      yield* TestClock.adjust(5000)
      const hub = { deliveryOf: () => ({ presence }) as unknown as Delivery }
      const holder = { session: "s", identity: "ann", counts: "persons" } as const
      for (let count = 0; count < 40; count++) {
        const channel = Channel.presence(`in_lobby_${count}`, Schema.String)
        const seen: Array<number> = []
        const following = membersOf(hub, channel).pipe(
          Stream.runForEach((list) => Effect.sync(() => seen.push(list.count)))
        )
        yield* during(following, count, () => {
          const room = presence.room(channel.name)
          const other = { member: undefined, offer: () => undefined }
          room.watch(other)
          room.unwatch(other)
          presence.leaveRoom(room)
        })
        presence.sit(channel.name, holder, `"Ann"`)
        yield* TestClock.adjust(1000)
        expect(seen.at(-1), `after ${count} turns`).toBe(1)
      }
    }).pipe(Effect.scoped, Effect.provide(layerBus(new Network(), "one")))
  )
})
