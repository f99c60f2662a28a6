import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Schema, Scope } from "effect"
import * as Channel from "../../src/Channel.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { allowAll, type AnonymousOptions } from "../../src/server/ServerOptions.ts"
import { Address, layer, layerAround } from "../support/app.ts"
import { connect, greet, type UpgradeRefused } from "../support/wire.ts"

const Order = Schema.Struct({ id: Schema.Int })
const Orders = Channel.make("orders", Order)
const Moves = Channel.make("moves", Order, { publish: true })
const Room = Channel.family("room_", Schema.String, Schema.Unknown, { publish: true })
const options: AnonymousOptions = { channels: [Orders, Moves, Room], authorize: allowAll }

/** Starts a server with `more` options and runs the test beside it. */
const open = <A, E, R>(
  body: Effect.Effect<A, E, R>,
  more?: Partial<AnonymousOptions>
): Effect.Effect<
  A,
  E | unknown,
  Exclude<Exclude<R, Scope.Scope>, Layer.Success<ReturnType<typeof layer>>>
> => body.pipe(Effect.scoped, Effect.provide(layer({ ...options, ...more })))

const here = Effect.map(Address, ({ ws }) => ws)
const greeted = Effect.flatMap(here, (url) => greet(url))

describe("RealtimeServer", () => {
  it.live("the server answers hello with welcome and its limits", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* connect(yield* here)
        wire.send({ type: "hello", version: 1 })
        const welcome = yield* wire.next("welcome")
        expect(welcome).toEqual({
          type: "welcome",
          version: 1,
          session: welcome.session,
          ping: 25_000,
          slack: 10_000,
          limits: {
            subscriptions: 100,
            frameBytes: 65_536,
            publishPerSecond: 20,
            volatilePerSecond: 60
          }
        })
        expect(wire.socket.protocol).toBe("effect-realtime.v1")
      })
    )
  )

  it.live("all subscribers receive a published event, in the same bytes", () =>
    open(
      Effect.gen(function* () {
        const first = yield* greeted
        const second = yield* greeted
        for (const wire of [first, second]) {
          wire.send({ type: "subscribe", id: 1, channel: "orders" })
          expect((yield* wire.next("subscribed")).state).toBe("fresh")
        }
        yield* Realtime.publish(Orders, { id: 7 })
        const events = yield* first.next("events")
        expect(events.events.map(({ data }) => data)).toEqual([{ id: 7 }])
        expect(events.cursor).toBe(events.events[0]!.id)
        yield* second.next("events")
        expect(second.messages.at(-1)).toBe(first.messages.at(-1))
      })
    )
  )

  it.live("revoke and reauthorize find sessions by the key of an identity", () => {
    let allowed = true
    const door = RealtimeServer.layer({
      ...options,
      authenticate: ({ token = "" }) => Effect.succeed({ identity: { id: token, role: "user" } }),
      authorize: () => Effect.sync(() => allowed),
      identityKey: ({ id }) => id
    })
    return Effect.gen(function* () {
      const wire = yield* connect(yield* here)
      wire.send({ type: "hello", version: 1, token: "ann" })
      yield* wire.next("welcome")
      wire.send({ type: "subscribe", id: 1, channel: "orders" })
      yield* wire.next("subscribed")
      const server = yield* RealtimeServer.RealtimeServer
      allowed = false
      yield* server.reauthorize("ann")
      expect((yield* wire.next("ended")).code).toBe("channel/forbidden")
      yield* server.revoke("ann")
      expect(yield* wire.closed).toBe(4101)
    }).pipe(Effect.scoped, Effect.provide(layerAround(door)))
  })

  it.live("a subscriber misses no commit made at once after subscribed", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* greeted
        const source = yield* NotificationSource
        for (let round = 0; round < 200; round++) {
          wire.send({ type: "subscribe", id: round, channel: `room_${round % 7}` })
          const { channel } = yield* wire.next("subscribed")
          yield* source.notify(channel, String(round))
          const { events } = yield* wire.next("events")
          expect(events.map(({ data }) => data)).toEqual([round])
          wire.send({ type: "unsubscribe", id: round, channel })
          yield* wire.next("unsubscribed")
        }
      }),
      { limits: { subscribeRate: { perSecond: 10_000, burst: 10_000 } } }
    )
  )

  it.live("the server sends no event of a channel after unsubscribed", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* greeted
        wire.send({ type: "subscribe", id: 1, channel: "orders" })
        wire.send({ type: "subscribe", id: 2, channel: "moves" })
        wire.send({ type: "unsubscribe", id: 3, channel: "orders" })
        yield* wire.next("unsubscribed")
        yield* Realtime.publish(Orders, { id: 1 })
        yield* Realtime.publish(Moves, { id: 2 })
        expect((yield* wire.next("events")).channel).toBe("moves")
      })
    )
  )

  it.live("the server answers unsubscribe also without a subscription", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* greeted
        wire.send({ type: "unsubscribe", id: 9, channel: "orders" })
        expect(yield* wire.next("unsubscribed")).toMatchObject({ id: 9, channel: "orders" })
      })
    )
  )

  it.live("a client that publishes gets published, and receives its own event", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* greeted
        wire.send({ type: "subscribe", id: 1, channel: "moves" })
        yield* wire.next("subscribed")
        wire.send({ type: "publish", id: 2, channel: "moves", key: "k", data: { id: 5, x: 1 } })
        expect((yield* wire.next("published")).id).toBe(2)
        expect((yield* wire.next("events")).events[0]!.data).toEqual({ id: 5 })
      })
    )
  )

  it.live("a lost source sends status and gap, and later events are delivered", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* greeted
        wire.send({ type: "subscribe", id: 1, channel: "orders" })
        const { cursor } = yield* wire.next("subscribed")
        const memory = yield* MemorySource.MemorySource
        yield* memory.lose
        expect((yield* wire.next("status")).source).toBe("down")
        yield* memory.restore
        expect((yield* wire.next("status")).source).toBe("up")
        const gap = yield* wire.next("gap")
        expect(gap).toMatchObject({ channel: "orders", reason: "source" })
        expect(gap.cursor).not.toBe(cursor)
        yield* Realtime.publish(Orders, { id: 1 })
        expect((yield* wire.next("events")).channel).toBe("orders")
      })
    )
  )

  it.live("a new client gets status down, and its subscribe fails after sourceWait", () =>
    open(
      Effect.gen(function* () {
        yield* (yield* MemorySource.MemorySource).lose
        const wire = yield* greeted
        expect((yield* wire.next("status")).source).toBe("down")
        wire.send({ type: "subscribe", id: 1, channel: "orders" })
        expect(yield* wire.next("error")).toMatchObject({
          id: 1,
          code: "source/down",
          retry: "later"
        })
      }),
      { limits: { sourceTimeout: "50 millis" } }
    )
  )

  it.live("an invalid notification is a gap for subscribers, and later events arrive", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* greeted
        wire.send({ type: "subscribe", id: 1, channel: "orders" })
        yield* wire.next("subscribed")
        const source = yield* NotificationSource
        yield* source.notify("orders", "not json")
        yield* source.notify("orders", `{"id":1}`)
        expect((yield* wire.next("gap")).reason).toBe("invalid")
        expect((yield* wire.next("events")).events[0]!.data).toEqual({ id: 1 })
      })
    )
  )

  describe("Resuming from a cursor", () => {
    it.live("a client that resumes receives what it missed, then live events", () =>
      open(
        Effect.gen(function* () {
          const first = yield* greeted
          first.send({ type: "subscribe", id: 1, channel: "orders" })
          const { cursor } = yield* first.next("subscribed")
          first.socket.close()
          yield* first.closed
          for (const id of [1, 2, 3]) yield* Realtime.publish(Orders, { id })
          const wire = yield* greeted
          wire.send({ type: "subscribe", id: 1, channel: "orders", cursor })
          expect(yield* wire.next("subscribed")).toMatchObject({ state: "recovered", cursor })
          yield* Realtime.publish(Orders, { id: 4 })
          const seen: Array<unknown> = []
          while (seen.length < 4) {
            for (const { data } of (yield* wire.next("events")).events) seen.push(data)
          }
          expect(seen).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }, { id: 4 }])
        })
      )
    )

    it.live("a cursor from before a lost link gets the state reset", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send({ type: "subscribe", id: 1, channel: "orders" })
          const { cursor } = yield* wire.next("subscribed")
          const memory = yield* MemorySource.MemorySource
          yield* memory.lose
          yield* memory.restore
          yield* wire.next("gap")
          wire.send({ type: "unsubscribe", id: 2, channel: "orders" })
          wire.send({ type: "subscribe", id: 3, channel: "orders", cursor })
          const answer = yield* wire.next("subscribed")
          expect(answer.state).toBe("reset")
          expect(answer.cursor).not.toBe(cursor)
        })
      )
    )
  })

  describe("Rejected requests", () => {
    const refused = [
      [{ type: "subscribe", id: 1, channel: "x".repeat(64) }, "channel/invalid-name", 1],
      [{ type: "subscribe", id: 1, channel: "realtime" }, "channel/invalid-name", 1],
      [{ type: "subscribe", id: 1, channel: "nowhere" }, "channel/unknown", 1],
      [{ type: "subscribe", id: 1, channel: "moves" }, "subscribe/duplicate", 1],
      [{ type: "publish", id: 1, channel: "orders", key: "k", data: {} }, "publish/forbidden", 1],
      [{ type: "publish", id: 1, channel: "moves", key: "k", data: {} }, "publish/invalid", 1],
      [
        { type: "publish", id: 1, channel: "room_a", key: "k", data: "x".repeat(8000) },
        "publish/too-large",
        1
      ],
      [{ type: "dance", id: 1 }, "frame/unknown", 1],
      [{ type: "subscribe", id: -1, channel: "orders" }, "frame/malformed", undefined],
      ["not json", "frame/malformed", undefined],
      [
        `{"type":"publish","id":1,"channel":"moves","key":"k","data":{"__proto__":1}}`,
        "frame/malformed",
        1
      ],
      [Buffer.from("binary"), "frame/malformed", undefined]
    ] as const
    it.live.each(refused)("%j is rejected with %s", ([frame, code, id]) =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send({ type: "subscribe", id: 0, channel: "moves" })
          yield* wire.next("subscribed")
          wire.send(frame)
          const error = yield* wire.next("error")
          expect({ code: error.code, id: error.id }).toEqual({ code, id })
          yield* Realtime.publish(Moves, { id: 1 })
          expect((yield* wire.next("events")).events[0]!.data).toEqual({ id: 1 })
        })
      )
    )

    it.live("a subscription over the limit is rejected with subscribe/limit", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send({ type: "subscribe", id: 1, channel: "orders" })
          yield* wire.next("subscribed")
          wire.send({ type: "subscribe", id: 2, channel: "moves" })
          expect(yield* wire.next("error")).toMatchObject({ id: 2, code: "subscribe/limit" })
        }),
        { limits: { maxSubscriptions: 1 } }
      )
    )

    it.live("an id that is not answered yet is rejected", () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<boolean>()
        yield* open(
          Effect.gen(function* () {
            const wire = yield* greeted
            wire.send({ type: "subscribe", id: 1, channel: "orders" })
            wire.send({ type: "subscribe", id: 1, channel: "moves" })
            const error = yield* wire.next("error")
            expect(error).toMatchObject({ code: "frame/malformed" })
            expect(error.id).toBeUndefined()
            yield* Deferred.succeed(gate, true)
            expect((yield* wire.next("subscribed")).channel).toBe("orders")
          }),
          { authorize: () => Deferred.await(gate) }
        )
      })
    )
  })

  describe("The option authorize", () => {
    it.live("authorize decides by channel, parameter and action", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send({ type: "subscribe", id: 1, channel: "room_mine" })
          expect((yield* wire.next("subscribed")).id).toBe(1)
          wire.send({ type: "subscribe", id: 2, channel: "room_yours" })
          expect(yield* wire.next("error")).toMatchObject({ id: 2, code: "channel/forbidden" })
          wire.send({ type: "publish", id: 3, channel: "room_mine", key: "k", data: 1 })
          expect(yield* wire.next("error")).toMatchObject({ id: 3, code: "publish/forbidden" })
        }),
        {
          authorize: ({ action, definition, params }) =>
            Effect.succeed(definition === Room && action === "subscribe" && params === "mine")
        }
      )
    )

    it.live.each([
      ["dies", Effect.die(new Error("secret"))],
      ["takes too long", Effect.never]
    ] as const)("an authorize that %s gives server/internal and hides its reason", ([, verdict]) =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send({ type: "subscribe", id: 1, channel: "orders" })
          const error = yield* wire.next("error")
          expect(error).toMatchObject({ id: 1, code: "server/internal", retry: "later" })
          expect(JSON.stringify(error)).not.toContain("secret")
        }),
        { authorize: () => verdict, limits: { authorizeTimeout: "20 millis" } }
      )
    )

    it.live("requests of one channel stay in order while authorize decides", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send({ type: "subscribe", id: 1, channel: "orders" })
          wire.send({ type: "unsubscribe", id: 2, channel: "orders" })
          wire.send({ type: "subscribe", id: 3, channel: "orders" })
          yield* wire.next("subscribed")
          yield* wire.next("unsubscribed")
          expect((yield* wire.next("subscribed")).id).toBe(3)
        }),
        { authorize: () => Effect.as(Effect.sleep("5 millis"), true) }
      )
    )
  })

  describe("The close codes of the server", () => {
    it.live.each([
      [`{"type":"subscribe","id":1,"channel":"orders"}`, 4200],
      ["not json", 4200],
      [Buffer.from("x"), 4200],
      [`{"type":"hello","version":2}`, 4201],
      [`{"type":"hello"}`, 4200]
    ] as const)("the first message %s closes the session", ([first, code]) =>
      open(
        Effect.gen(function* () {
          const wire = yield* connect(yield* here)
          wire.send(first)
          expect(yield* wire.closed).toBe(code)
          expect(wire.frames).toEqual([])
        })
      )
    )

    it.live("a second hello closes the session with 4200", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send({ type: "hello", version: 1 })
          expect(yield* wire.closed).toBe(4200)
        })
      )
    )

    it.live("a session without hello in time is closed with 4005", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* connect(yield* here)
          expect(yield* wire.closed).toBe(4005)
        }),
        { limits: { helloTimeout: "10 millis" } }
      )
    )

    it.live("a session that answers no ping in time is closed with 4002", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          yield* wire.next("ping")
          expect(yield* wire.closed).toBe(4002)
        }),
        { limits: { pingInterval: "500 millis", pingTimeout: "500 millis" } }
      )
    )

    it.live("a session that answers its pings stays open", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          for (let ping = 0; ping < 3; ping++) {
            yield* wire.next("ping")
            wire.send({ type: "pong" })
          }
          expect(wire.socket.readyState).toBe(wire.socket.OPEN)
        }),
        { limits: { pingInterval: "900 millis", pingTimeout: "500 millis" } }
      )
    )

    it.live("a message over maxFrameBytes closes the session with 1009", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          wire.send("x".repeat(2000))
          expect(yield* wire.closed).toBe(1009)
        }),
        { limits: { maxFrameBytes: 1000 } }
      )
    )

    it.live("a session with too many unanswered requests is closed with 4003", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          for (let id = 0; id < 4; id++) wire.send({ type: "subscribe", id, channel: `room_${id}` })
          expect(yield* wire.closed).toBe(4003)
        }),
        { authorize: () => Effect.never, limits: { maxUnanswered: 3 } }
      )
    )

    it.live("a drain sends bye, closes with 4000, and rejects new clients with 503", () =>
      open(
        Effect.gen(function* () {
          const wire = yield* greeted
          const server = yield* RealtimeServer.RealtimeServer
          yield* server.drain
          expect((yield* wire.next("bye")).reconnectAfter).toBeLessThanOrEqual(1000)
          expect(yield* wire.closed).toBe(4000)
          const refused = yield* Effect.flip(connect(yield* here))
          expect(refused.status).toBe(503)
          expect(refused.headers["retry-after"]).toBe("1")
        })
      )
    )
  })

  describe("The upgrade of the server", () => {
    const status = (attempt: Parameters<typeof connect>[1], more?: Partial<AnonymousOptions>) =>
      open(
        Effect.gen(function* () {
          const { http, ws } = yield* Address
          const headers = Object.fromEntries(
            Object.entries(attempt?.headers ?? {}).map(([name, value]) => [
              name,
              value.replace("SELF", new URL(http).host)
            ])
          )
          const result = yield* Effect.result(connect(ws, { ...attempt, headers }))
          return result._tag === "Failure" ? (result.failure as UpgradeRefused).status : 101
        }),
        more
      )
    it.live.each([
      ["no Origin", {}, undefined, 101],
      ["the same origin", { origin: "http://SELF" }, undefined, 101],
      ["another host", { origin: "http://evil.example" }, undefined, 403],
      ["another port", { origin: "http://127.0.0.1:1" }, undefined, 403],
      ["null", { origin: "null" }, undefined, 403],
      ["rubbish", { origin: "http://[" }, undefined, 403],
      ["a listed origin", { origin: "https://app.example" }, ["https://app.example"], 101],
      ["an unlisted one", { origin: "https://evil.example" }, ["https://app.example"], 403],
      ["any origin, with origins any", { origin: "https://evil.example" }, "any", 101]
    ] as const)("the origin decides the upgrade's status: %s", ([, headers, origins, expected]) =>
      Effect.gen(function* () {
        expect(yield* status({ headers }, origins === undefined ? {} : { origins })).toBe(expected)
      })
    )

    it.live("the upgrade accepts no subprotocol or ours, and rejects only others with 400", () =>
      Effect.gen(function* () {
        expect(yield* status({ protocols: [] })).toBe(101)
        expect(yield* status({ protocols: ["other", "effect-realtime.v1"] })).toBe(101)
        expect(yield* status({ protocols: ["other"] })).toBe(400)
      })
    )

    it.live("an upgrade is rejected with 503 at the limit of sessions", () =>
      open(
        Effect.gen(function* () {
          yield* greeted
          expect((yield* Effect.flip(connect(yield* here))).status).toBe(503)
        }),
        { limits: { maxSessions: 1 } }
      )
    )

    it.live("a plain GET gets 426, and the app keeps its other routes", () =>
      open(
        Effect.gen(function* () {
          const { http } = yield* Address
          const get = (path: string) => Effect.promise(() => fetch(`${http}${path}`))
          expect((yield* get("/realtime")).status).toBe(426)
          const root = yield* get("/")
          expect(yield* Effect.promise(() => root.text())).toBe("hello")
        })
      )
    )

    it.live("a query string in the URL of the upgrade is ignored", () =>
      open(
        Effect.gen(function* () {
          yield* greet(`${yield* here}?token=no`)
        })
      )
    )
  })

  it.live("the server fails at start when two families match one name", () =>
    Effect.gen(function* () {
      const clash = Channel.family("room_big_", Schema.String, Schema.Unknown)
      const error = yield* Effect.flip(
        Layer.build(layer({ ...options, channels: [Room, clash] })).pipe(Effect.scoped)
      )
      expect(error).toMatchObject({ _tag: "ChannelConflict", first: "room_", second: "room_big_" })
    })
  )

  it.live("an exact channel takes precedence over a family that matches its name", () =>
    open(
      Effect.gen(function* () {
        const wire = yield* greeted
        wire.send({ type: "publish", id: 1, channel: "room_1", key: "k", data: "text" })
        expect((yield* wire.next("error")).code).toBe("publish/invalid")
      }),
      { channels: [Room, Channel.make("room_1", Order, { publish: true })] }
    )
  )

  it.live("the server closes its open sockets faster than its HTTP server would", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.build(layer(options)).pipe(Scope.provide(scope))
      const wire = yield* Effect.provideContext(greeted, context)
      const before = performance.now()
      yield* Scope.close(scope, Exit.void)
      expect(yield* wire.closed).toBe(4000)
      // The HTTP server by itself waits 20 s for open sockets.
      expect(performance.now() - before).toBeLessThan(3000)
    }).pipe(Effect.scoped)
  )
})
