/** What a client has given up by the time the server gets to it: `within` of a publish. */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Schema, type Scope } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { TestClock } from "effect/testing"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { allowAll, type IdentityOptions } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { layerDoor, settle, type TestDoor, visit, type Visitor } from "../support/sessions.ts"
import { greet } from "../support/wire.ts"

const Moves = Channel.make("moves", Schema.Struct({ id: Schema.Int }), { publish: true })

const Log = Channel.make("log", Schema.Unknown, { delivery: "durable", publish: true })

/** A door over a database. */
const durable = Layer.merge(
  HttpRouter.serve(RealtimeServer.layer({ channels: [Log], authorize: allowAll }), {
    disableListenLog: true,
    disableLogger: true
  }),
  address
).pipe(
  Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
  Layer.provide(Realtime.layerDurable()),
  Layer.provide(OutboxReader.layer()),
  Layer.provideMerge(layerInstalledDatabase)
)

const options: IdentityOptions<string> = {
  channels: [Moves],
  authenticate: () => Effect.succeed({ identity: "ann" }),
  authorize: allowAll
}

const withDoor = <A, E>(
  body: Effect.Effect<A, E, TestDoor | Scope.Scope>,
  more?: Partial<IdentityOptions<string>>
): Effect.Effect<A, unknown> =>
  Effect.provide(Effect.scoped(body), layerDoor({ ...options, ...more }))

const publish = (visitor: Visitor, id: number, key: string, within?: number) =>
  Effect.sync(() =>
    visitor.send({
      type: "publish",
      id,
      channel: "moves",
      ...(within === undefined ? {} : { within }),
      key,
      data: { id }
    })
  ).pipe(Effect.andThen(settle))

const delivered = (visitor: Visitor) =>
  visitor
    .of("events")
    .flatMap(({ events }) => events.map(({ data }) => (data as { readonly id: number }).id))

const expired = {
  type: "error",
  code: "publish/expired",
  message: "The publish came later than the client gave it time.",
  retry: "never"
}

describe("a publish that the client has given up", () => {
  it.effect("while its rights are looked at is dropped, and those with more time are not", () => {
    let slow = false
    return withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        visitor.send({ type: "subscribe", id: 100, channel: "moves" })
        yield* settle
        slow = true
        yield* publish(visitor, 1, "a", 1999)
        yield* publish(visitor, 2, "b", 10_000)
        yield* publish(visitor, 3, "c")
        yield* TestClock.adjust(2000)
        yield* settle
        expect(visitor.answer(1)).toEqual({ ...expired, id: 1 })
        yield* TestClock.adjust(4000)
        yield* settle
        expect(visitor.of("published").map(({ id }) => id)).toEqual([2, 3])
        expect(delivered(visitor)).toEqual([2, 3])
      }),
      { authorize: () => (slow ? Effect.delay(Effect.succeed(true), 2000) : Effect.succeed(true)) }
    )
  })

  it.effect("counts from its receipt also while the token is checked", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ hello: false })
        visitor.send({ type: "hello", version: 1 })
        yield* publish(visitor, 1, "a", 2500)
        yield* publish(visitor, 2, "b", 4000)
        yield* TestClock.adjust(3000)
        yield* settle
        expect(visitor.answer(1)).toEqual({ ...expired, id: 1 })
        expect(visitor.answer(2)).toEqual({ type: "published", id: 2 })
      }),
      { authenticate: () => Effect.delay(Effect.succeed({ identity: "ann" }), 3000) }
    )
  )

  it.effect(
    "and that happened before is answered as before; its key is not used up otherwise",
    () =>
      withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit()
          visitor.send({ type: "subscribe", id: 100, channel: "moves" })
          yield* settle
          yield* publish(visitor, 1, "a", 1000)
          // The same data under the same key, out of time.
          visitor.send({
            type: "publish",
            id: 2,
            channel: "moves",
            within: 0,
            key: "a",
            data: { id: 1 }
          })
          yield* settle
          expect(visitor.answer(2)).toEqual({ type: "published", id: 2 })
          yield* publish(visitor, 3, "b", 0)
          expect(visitor.answer(3)).toEqual({ ...expired, id: 3 })
          visitor.send({ type: "publish", id: 4, channel: "moves", key: "b", data: { id: 4 } })
          yield* settle
          expect(visitor.answer(4)).toEqual({ type: "published", id: 4 })
          expect(delivered(visitor)).toEqual([1, 4])
        })
      )
  )

  it.effect("is still answered with what is wrong with it", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        visitor.send({ type: "publish", id: 1, channel: "moves", within: 0, key: "a", data: "no" })
        visitor.send({
          type: "publish",
          id: 2,
          channel: "moves",
          within: -1,
          key: "a",
          data: { id: 1 }
        })
        yield* settle
        expect(visitor.errors).toEqual(["publish/invalid", "frame/malformed"])
      })
    )
  )

  it.live("while the database is held up is taken back, and never commits", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const wire = yield* greet((yield* Address).ws)
      const send = (id: number, within: number) =>
        wire.send({ type: "publish", id, channel: "log", within, key: `k${id}`, data: id })
      const held = yield* Deferred.make<void>()
      const locked = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(
        sql.withTransaction(
          sql`lock table realtime.messages in access exclusive mode`.pipe(
            Effect.andThen(Deferred.succeed(locked, undefined)),
            Effect.andThen(Deferred.await(held))
          )
        )
      )
      yield* Deferred.await(locked)
      send(1, 200)
      expect(yield* wire.next("error")).toEqual({ ...expired, id: 1 })
      send(2, 60_000)
      yield* Deferred.succeed(held, undefined)
      yield* Fiber.join(holder)
      expect(yield* wire.next("published")).toEqual({ type: "published", id: 2 })
      const rows = yield* sql`select payload from realtime.messages where channel = 'log'`
      expect(rows).toHaveLength(1)
    }).pipe(Effect.provide(durable))
  )

  it.effect("a sign of life is answered before requests that wait", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        yield* publish(visitor, 1, "a")
        visitor.send({ type: "ping" })
        expect(visitor.of("pong")).toHaveLength(1)
        expect(visitor.of("published")).toHaveLength(0)
      }),
      { authorize: () => Effect.never }
    )
  )
})
