/**
 * Rules on durable channels: PostgreSQL keeps what the client sent beside what the rule made of it, so a
 * repeated publish is one event on every node, also after a restart.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Schema, type Scope, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { TestClock } from "effect/testing"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import { RealtimeClient } from "../../src/client/RealtimeClient.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { RuleRefused } from "../../src/server/Rule.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import * as RealtimeTest from "../../src/testing/RealtimeTest.ts"
import { Address, address } from "../support/app.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { greet, type Wire } from "../support/wire.ts"

const Room = Channel.family(
  "room_",
  Schema.String,
  Schema.Struct({ sender: Schema.String, text: Schema.String }),
  { delivery: "durable", publish: true }
)
type Payload = Channel.Payload<typeof Room>

/** One node of the database, with a rule of its own; its address. */
const node = (rule: (payload: Payload) => Payload | RuleRefused | Effect.Effect<Payload>) =>
  withDoor(
    RealtimeServer.layer({
      channels: [Room],
      rules: ({ onPublish, onSubscribe }) => [
        onSubscribe(Room, () => true),
        onPublish(Room, ({ payload }) => rule(payload))
      ]
    })
  )

const withDoor = <E>(
  door: Layer.Layer<
    RealtimeServer.RealtimeServer,
    E,
    HttpRouter.HttpRouter | Realtime.Realtime | OutboxReader.OutboxReader
  >
) =>
  Effect.map(
    Layer.build(
      Layer.fresh(
        Layer.merge(
          HttpRouter.serve(door, { disableListenLog: true, disableLogger: true }),
          address
        ).pipe(
          Layer.provide(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
          Layer.provide(
            Realtime.layer().pipe(
              Layer.provideMerge(OutboxReader.layer()),
              Layer.provide(MemorySource.layer)
            )
          )
        )
      )
    ),
    (services) => Context.get(services, Address).ws
  )

const publish = (wire: Wire, id: number, text: string) =>
  Effect.suspend(() => {
    const data = { sender: "somebody else", text }
    wire.send({ type: "publish", id, channel: "room_a", key: "k", data })
    return Effect.map(wire.next("published", "error"), (answer) =>
      answer.type === "error" ? answer.code : answer.type
    )
  })

const stored = PgClient.PgClient.use(
  (sql) => sql<{ readonly sender: string }>`
    select payload::json->>'sender' as sender from realtime.messages order by id`
).pipe(Effect.map((rows) => rows.map(({ sender }) => sender)))

const run = <A, E>(body: Effect.Effect<A, E, PgClient.PgClient | Scope.Scope>) =>
  body.pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))

describe("A rule for publishing to a durable channel", () => {
  it.live("runs once for a key, whichever node the client asks again", () =>
    run(
      Effect.gen(function* () {
        let runs = 0
        const stamp = (by: string) => (payload: Payload) => ({
          ...payload,
          sender: `${by} ${++runs}`
        })
        const one = yield* greet(yield* node(stamp("one")))
        const two = yield* greet(yield* node(stamp("two")))
        const muting = yield* greet(
          yield* node(() => {
            runs++
            return new RuleRefused({ message: "You are muted." })
          })
        )
        expect(yield* publish(one, 1, "hi")).toBe("published")
        expect(yield* publish(two, 2, "hi")).toBe("published")
        expect(yield* publish(muting, 3, "hi")).toBe("published")
        expect(yield* publish(two, 4, "ho")).toBe("publish/invalid")
        expect(yield* publish(muting, 5, "ho")).toBe("publish/invalid")
        expect(yield* stored).toEqual(["one 1"])
        expect(runs).toBe(1)
      })
    )
  )

  it.live("makes one event of a publish that two nodes decide about at the same time", () =>
    run(
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        let waiting = 0
        const both = yield* Deferred.make<void>()
        const stamp = (by: string) => (payload: Payload) =>
          Effect.gen(function* () {
            if (++waiting === 3) yield* Deferred.succeed(both, undefined)
            yield* Deferred.await(gate)
            return { ...payload, sender: by }
          })
        const wires = yield* Effect.forEach(["one", "two", "three"], (by) =>
          Effect.flatMap(node(stamp(by)), greet)
        )
        const texts = ["hi", "hi", "ho"]
        const answers = yield* Effect.forEach(wires, (wire, n) =>
          Effect.forkChild(publish(wire, 1, texts[n]!))
        )
        yield* Deferred.await(both)
        yield* Deferred.succeed(gate, undefined)
        const told = yield* Effect.forEach(answers, (fiber) => Fiber.join(fiber))
        const [sender] = yield* stored
        expect(yield* stored).toHaveLength(1)
        expect(told).toEqual(
          sender === "three"
            ? ["publish/invalid", "publish/invalid", "published"]
            : ["published", "published", "publish/invalid"]
        )
      })
    )
  )

  it.live("knows the key of a publish from before the server had rules", () =>
    run(
      Effect.gen(function* () {
        const open = yield* greet(
          yield* withDoor(RealtimeServer.layer({ channels: [Room], authorize: allowAll }))
        )
        const ruled = yield* greet(yield* node((payload) => ({ ...payload, sender: "ruled" })))
        expect(yield* publish(open, 1, "hi")).toBe("published")
        expect(yield* publish(ruled, 2, "hi")).toBe("published")
        expect(yield* publish(ruled, 3, "ho")).toBe("publish/invalid")
        expect(yield* stored).toEqual(["somebody else"])
      })
    )
  )

  it.effect("runs once for a publish whose answer a crash of the server lost", () => {
    let runs = 0
    return Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* RealtimeClient
      const heard: Array<string> = []
      yield* client.events(Room("a")).pipe(
        Stream.runForEach((event) =>
          Effect.sync(() => heard.push(event._tag === "Event" ? event.payload.sender : "gap"))
        ),
        Effect.forkChild({ startImmediately: true })
      )
      yield* test.settle
      yield* test.loseFrame("published")
      const published = yield* Effect.forkChild(
        client.publish(Room("a"), { sender: "me", text: "hi" })
      )
      yield* test.settle
      yield* test.server.kill
      yield* TestClock.adjust("30 seconds")
      yield* test.settle
      expect(published.pollUnsafe()).toMatchObject({ _tag: "Success" })
      expect([runs, heard]).toEqual([1, ["run 1"]])
    }).pipe(
      Effect.provide(
        RealtimeTest.layer({
          channels: [Room],
          rules: ({ onPublish, onSubscribe }) => [
            onSubscribe(Room, () => true),
            onPublish(Room, ({ payload }) => ({ ...payload, sender: `run ${++runs}` }))
          ]
        })
      )
    )
  })
})
