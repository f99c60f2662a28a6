/**
 * The identity of a session from its first frame to its last: proofs, fresh tokens, revocation,
 * rights.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Schema, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as RealtimeClient from "../../src/client/RealtimeClient.ts"
import { type NotificationSource } from "../../src/server/NotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeTest from "../../src/testing/RealtimeTest.ts"
import {
  allowAll,
  type Authenticate,
  AuthRefused,
  type IdentityOptions
} from "../../src/server/ServerOptions.ts"
import { layerDoor, settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }))
const Moves = Channel.make("moves", Schema.Struct({ id: Schema.Int }), { publish: true })
const Room = Channel.family("room_", Schema.String, Schema.Unknown, { publish: true })

interface Person {
  readonly name: string
  readonly role: string
}

const refuse = (code: AuthRefused["code"]) => Effect.fail(new AuthRefused({ code }))

/** A token is `name`, `name role` or `name role expires`, the last in milliseconds of the test's time. */
const authenticate: Authenticate<Person> = ({ headers, token = headers.cookie }) => {
  if (token === undefined) return refuse("auth/required")
  const [name = "", role = "user", expires] = token.split(" ")
  if (name === "nobody") return refuse("auth/invalid")
  if (name === "late") return refuse("auth/expired")
  return Effect.succeed({
    identity: { name, role },
    expires: expires === undefined ? undefined : new Date(Number(expires))
  })
}

const options: IdentityOptions<Person> = {
  channels: [Orders, Moves, Room],
  authenticate,
  authorize: allowAll,
  identityKey: ({ name }) => name
}

type Needs =
  | TestDoor
  | Realtime.Realtime
  | MemorySource.MemorySource
  | NotificationSource
  | Scope.Scope

const withDoor = <A, E>(
  body: Effect.Effect<A, E, Needs>,
  more?: Partial<IdentityOptions<Person>>
): Effect.Effect<A, unknown> =>
  Effect.provide(Effect.scoped(body), layerDoor({ ...options, ...more }))

const ask = (visitor: Visitor, frame: object) =>
  Effect.sync(() => visitor.send(frame)).pipe(Effect.andThen(settle))

const subscribe = (visitor: Visitor, id: number, channel: string, cursor?: string) =>
  ask(visitor, { type: "subscribe", id, channel, ...(cursor === undefined ? {} : { cursor }) })

const ids = (visitor: Visitor) =>
  visitor
    .of("events")
    .flatMap(({ events }) => events.map(({ data }) => (data as { id: number }).id))

describe("Authentication at hello", () => {
  it.effect("the welcome frame has the remaining life of the token", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann user 60000" })
        expect(visitor.last("welcome")?.expires).toBe(60_000)
        expect((yield* visit({ token: "ann" })).last("welcome")).not.toHaveProperty("expires")
      })
    )
  )

  it.effect("a cookie or any header of the upgrade may prove the identity", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ headers: { cookie: "ann" } })
        expect(visitor.of("welcome")).toHaveLength(1)
      })
    )
  )

  it.effect(
    "an identity without a key, which only untyped code returns, is rejected with server/internal",
    () =>
      withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann" })
          expect(visitor.frames).toMatchObject([{ type: "error", code: "server/internal" }])
          expect(visitor.closeCode).toBeDefined()
        }),
        { identityKey: undefined }
      )
  )

  it.effect("authenticate gets the token, the headers and the address", () => {
    const seen: Array<unknown> = []
    return withDoor(
      Effect.gen(function* () {
        const headers = { authorization: "Bearer x" }
        yield* visit({ token: "ann", headers, address: "198.51.100.9" })
        expect(seen).toEqual([{ token: "ann", headers, address: "198.51.100.9" }])
      }),
      {
        authenticate: (credentials) => {
          seen.push(credentials)
          return authenticate(credentials)
        }
      }
    )
  })

  const refused = [
    ["no token", undefined, "auth/required", "never", 4202],
    ["a token that is not valid", "nobody", "auth/invalid", "never", 4202],
    ["an expired token", "late", "auth/expired", "refresh", 4100],
    ["a proof that ended in the past", "ann user -1", "auth/expired", "refresh", 4100],
    ["a proof that ends now", "ann user 0", "auth/expired", "refresh", 4100],
    ["a proof whose end is an invalid date", "ann user never", "server/internal", "later", 1011]
  ] as const
  it.effect.each(refused)("the server rejects and closes %s", ([, token, code, retry, close]) =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit(token === undefined ? {} : { token })
        expect(visitor.frames).toMatchObject([{ type: "error", code, retry }])
        expect(visitor.frames[0]).not.toHaveProperty("id")
        expect(visitor.closeCode).toBe(close)
      })
    )
  )

  const broken = [
    ["dies", () => Effect.die(new Error("password=hunter2"))],
    [
      "throws",
      () => {
        throw new Error("password=hunter2")
      }
    ],
    ["is interrupted", () => Effect.interrupt],
    [
      "fails with something else",
      () => Effect.fail({ _tag: "SqlError", code: "auth/invalid", message: "hunter2" })
    ],
    ["returns nothing", () => Effect.undefined]
  ] as const
  it.effect.each(broken)(
    "a session is rejected with server/internal and closed with 1011 when authenticate %s",
    ([, authenticate]) =>
      withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann" })
          expect(visitor.errors).toEqual(["server/internal"])
          expect(JSON.stringify(visitor.frames)).not.toContain("hunter2")
          expect([visitor.closeCode, visitor.closeReason]).toEqual([
            1011,
            "The server failed: authenticate failed"
          ])
        }),
        { authenticate: authenticate as unknown as Authenticate<Person> }
      )
  )

  it.effect("requests sent while the token is checked are answered in order after it", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann" })
          yield* subscribe(visitor, 1, "orders")
          yield* ask(visitor, { type: "dance", id: 2 })
          expect(visitor.frames).toEqual([])
          yield* Deferred.succeed(gate, undefined)
          yield* settle
          expect(visitor.frames.map(({ type }) => type)).toEqual(["welcome", "subscribed", "error"])
        }),
        {
          authenticate: (credentials) =>
            Effect.andThen(Deferred.await(gate), authenticate(credentials))
        }
      )
    })
  )

  it.effect("a second hello closes the session with 4200, even while the token is checked", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* ask(visitor, { type: "hello", version: 1 })
        expect(visitor.closeCode).toBe(4200)
      }),
      { authenticate: () => Effect.never }
    )
  )
})

describe("A fresh token", () => {
  it.effect("a fresh token extends the session on the same socket", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann user 10000" })
        yield* subscribe(visitor, 1, "orders")
        yield* TestClock.adjust(8000)
        yield* ask(visitor, { type: "authenticate", id: 2, token: "ann user 30000" })
        expect(visitor.answer(2)).toEqual({ type: "authenticated", id: 2, expires: 22_000 })
        yield* TestClock.adjust(4000)
        yield* Realtime.publish(Orders, { id: 1 })
        yield* settle
        expect(ids(visitor)).toEqual([1])
        visitor.send({ type: "pong" })
        yield* TestClock.adjust(17_000)
        expect(visitor.closeCode).toBeUndefined()
        yield* TestClock.adjust(1000)
        expect(visitor.closeCode).toBe(4100)
      })
    )
  )

  it.effect.each([
    ["subscribe", { channel: "orders" }],
    ["publish", { channel: "moves", key: "k", data: { id: 1 } }],
    ["authenticate", { token: "ann user 60000" }]
  ] as const)(
    "a session with an expired token is closed at its next request: %s",
    ([type, rest]) => {
      const asked: Array<string> = []
      return withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann user 5500" })
          yield* TestClock.adjust(5499)
          yield* ask(visitor, { id: 1, type, ...rest })
          expect(visitor.answer(1)?.type).toMatch(/ed$/)
          const late = yield* visit({ token: "ann user 5500" })
          asked.length = 0
          // The heartbeat that closes sessions with expired tokens runs once per second.
          yield* TestClock.adjust(1)
          expect(late.closeCode).toBeUndefined()
          yield* ask(late, { id: 2, type, ...rest })
          expect([late.closeCode, late.answer(2), asked]).toEqual([4100, undefined, []])
        }),
        {
          authenticate: (credentials) => {
            asked.push("authenticate")
            return authenticate(credentials)
          },
          authorize: () => {
            asked.push("authorize")
            return Effect.succeed(true)
          }
        }
      )
    }
  )

  it.effect("a request that waits while the token expires is not authorized", () => {
    const asked: Array<string> = []
    return withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann user 5500" })
        yield* TestClock.adjust(5400)
        for (const id of [1, 2]) {
          visitor.send({ type: "publish", id, channel: "moves", key: `${id}`, data: { id } })
        }
        yield* settle
        expect([visitor.closeCode, asked]).toEqual([undefined, ["moves"]])
        yield* TestClock.adjust(400)
        expect([visitor.closeCode, visitor.answer(2), asked]).toEqual([4100, undefined, ["moves"]])
      }),
      {
        authorize: ({ channel }) =>
          Effect.suspend(() => {
            asked.push(channel)
            return Effect.delay(Effect.succeed(true), 400)
          })
      }
    )
  })

  it.effect("a subscription allowed before the token expires does not begin after it", () =>
    withDoor(
      Effect.gen(function* () {
        const source = yield* MemorySource.MemorySource
        const visitor = yield* visit({ token: "ann user 5500" })
        yield* TestClock.adjust(5400)
        yield* source.lose
        yield* subscribe(visitor, 1, "moves")
        expect([visitor.closeCode, visitor.answer(1)]).toEqual([undefined, undefined])
        yield* TestClock.adjust(100)
        yield* source.restore
        yield* settle
        expect([visitor.closeCode, visitor.answer(1)]).toEqual([4100, undefined])
      })
    )
  )

  it.effect("a session without a fresh token is closed with 4100, and resumes without loss", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann user 5000" })
        yield* subscribe(visitor, 1, "orders")
        yield* Realtime.publish(Orders, { id: 1 })
        yield* TestClock.adjust(5000)
        expect(visitor.closeCode).toBe(4100)
        yield* Realtime.publish(Orders, { id: 2 })
        const again = yield* visit({ token: "ann user 60000" })
        yield* subscribe(again, 1, "orders", visitor.last("events")!.cursor)
        yield* Realtime.publish(Orders, { id: 3 })
        yield* settle
        expect(again.last("subscribed")?.state).toBe("recovered")
        expect([...ids(visitor), ...ids(again)]).toEqual([1, 2, 3])
      })
    )
  )

  it.effect("a fresh token may change the role of the identity", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann user" })
        yield* subscribe(visitor, 1, "orders")
        expect(visitor.answer(1)).toMatchObject({ code: "channel/forbidden" })
        yield* ask(visitor, { type: "authenticate", id: 2, token: "ann admin" })
        expect(visitor.answer(2)?.type).toBe("authenticated")
        yield* subscribe(visitor, 3, "orders")
        expect(visitor.answer(3)?.type).toBe("subscribed")
      }),
      { authorize: ({ identity }) => Effect.succeed(identity.role === "admin") }
    )
  )

  it.effect("a fresh token of another identity closes the session with 4202", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* ask(visitor, { type: "authenticate", id: 1, token: "bob" })
        expect(visitor.closeCode).toBe(4202)
        expect(visitor.of("authenticated")).toEqual([])
      })
    )
  )

  const refused = [
    ["nobody", "auth/invalid", "never"],
    ["late", "auth/expired", "refresh"]
  ] as const
  it.effect.each(refused)(
    "a rejected fresh token (%s) leaves the session its old token until that expires",
    ([token, code, retry]) =>
      withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann user 10000" })
          yield* ask(visitor, { type: "authenticate", id: 1, token })
          expect(visitor.answer(1)).toMatchObject({ type: "error", code, retry })
          yield* subscribe(visitor, 2, "orders")
          expect(visitor.answer(2)?.type).toBe("subscribed")
          yield* TestClock.adjust(9000)
          expect(visitor.closeCode).toBeUndefined()
          yield* TestClock.adjust(1000)
          expect(visitor.closeCode).toBe(4100)
        })
      )
  )

  it.effect("requests after a fresh token wait until it is checked, and use its rights", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        visitor.send({ type: "authenticate", id: 1, token: "ann admin" })
        visitor.send({ type: "subscribe", id: 2, channel: "orders" })
        yield* TestClock.adjust(3000)
        expect(visitor.of("subscribed").concat()).toHaveLength(1)
        expect(visitor.frames.map((frame) => ("id" in frame ? frame.id : 0))).toEqual([0, 1, 2])
      }),
      {
        authenticate: (credentials) =>
          Effect.delay(authenticate(credentials), credentials.token === "ann" ? 0 : 2000),
        authorize: ({ identity }) => Effect.succeed(identity.role === "admin")
      }
    )
  )

  it.effect("fresh tokens apply in the order in which the client sent them", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann user 10000" })
        visitor.send({ type: "authenticate", id: 1, token: "ann user 20000" })
        visitor.send({ type: "authenticate", id: 2, token: "ann user 30000" })
        yield* TestClock.adjust(4000)
        const answered = visitor.of("authenticated")
        expect(answered.map(({ id }) => id)).toEqual([1, 2])
        visitor.send({ type: "pong" })
        yield* TestClock.adjust(21_000)
        expect(visitor.closeCode).toBeUndefined()
      }),
      {
        authenticate: (credentials) =>
          Effect.delay(
            authenticate(credentials),
            credentials.token?.endsWith("20000") === true ? 3000 : 0
          )
      }
    )
  )

  it.effect("a fresh token ends subscriptions that it does not allow, and keeps others", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann admin" })
        yield* subscribe(visitor, 1, "orders")
        yield* subscribe(visitor, 2, "room_lobby")
        yield* ask(visitor, { type: "authenticate", id: 3, token: "ann user" })
        expect(visitor.of("ended")).toMatchObject([
          { channel: "orders", code: "channel/forbidden", retry: "never" }
        ])
        yield* Realtime.publish(Orders, { id: 1 })
        yield* Realtime.publish(Room("lobby"), { id: 2 })
        yield* settle
        expect(visitor.of("events").map(({ channel }) => channel)).toEqual(["room_lobby"])
        yield* subscribe(visitor, 4, "orders")
        expect(visitor.answer(4)).toMatchObject({ code: "channel/forbidden" })
      }),
      {
        authorize: ({ channel, identity }) =>
          Effect.succeed(channel !== "orders" || identity.role === "admin")
      }
    )
  )

  it.effect("a server without authenticate rejects fresh tokens with auth/invalid", () =>
    Effect.provide(
      Effect.scoped(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "whatever" })
          expect(visitor.of("welcome")).toHaveLength(1)
          yield* ask(visitor, { type: "authenticate", id: 1, token: "x" })
          expect(visitor.answer(1)).toMatchObject({ type: "error", code: "auth/invalid" })
        })
      ),
      layerDoor({ channels: [Orders], authorize: allowAll })
    )
  )
})

describe("Revoking an identity", () => {
  const revoke = (key: string) =>
    Effect.andThen(
      TestDoor.use((door) => Effect.sync(() => door.revoke(key))),
      settle
    )

  it.effect("revoke closes every session of the identity with 4101, and no other session", () =>
    withDoor(
      Effect.gen(function* () {
        const [one, two, bob] = [
          yield* visit({ token: "ann" }),
          yield* visit({ token: "ann admin" }),
          yield* visit({ token: "bob" })
        ]
        yield* revoke("ann")
        expect([one.closeCode, two.closeCode, bob.closeCode]).toEqual([4101, 4101, undefined])
      })
    )
  )

  it.effect("a revoked identity may connect again if authenticate accepts it", () =>
    withDoor(
      Effect.gen(function* () {
        yield* visit({ token: "ann" })
        yield* revoke("ann")
        expect((yield* visit({ token: "ann" })).of("welcome")).toHaveLength(1)
      })
    )
  )

  it.effect("revoke closes a session with its authentication still under way", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann" })
          const bob = yield* visit({ token: "bob" })
          yield* revoke("ann")
          yield* Deferred.succeed(gate, undefined)
          yield* settle
          expect(visitor.closeCode).toBe(4101)
          expect(visitor.of("welcome")).toEqual([])
          expect(bob.of("welcome")).toHaveLength(1)
        }),
        {
          authenticate: (credentials) => Effect.tap(authenticate(credentials), Deferred.await(gate))
        }
      )
    })
  )

  it.effect("revoke drops the requests of its sessions that are still being authorized", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<boolean>()
      yield* withDoor(
        Effect.gen(function* () {
          const bob = yield* visit({ token: "bob" })
          yield* subscribe(bob, 1, "moves")
          const ann = yield* visit({ token: "ann" })
          yield* ask(ann, { type: "publish", id: 1, channel: "moves", key: "k", data: { id: 1 } })
          yield* revoke("ann")
          yield* Deferred.succeed(gate, true)
          yield* settle
          expect(bob.of("events")).toEqual([])
        }),
        {
          authorize: ({ identity }) =>
            identity.name === "bob" ? Effect.succeed(true) : Deferred.await(gate)
        }
      )
    })
  )

  it.effect("revoke cuts a session with a full socket", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann", polite: false })
        yield* subscribe(visitor, 1, "orders")
        visitor.reading = false
        yield* Realtime.publish(Orders, { id: 1 })
        yield* settle
        yield* revoke("ann")
        expect(visitor.terminated).toBe(true)
      })
    )
  )
})

describe("Reauthorizing an identity", () => {
  const reauthorize = (key: string) =>
    Effect.andThen(
      TestDoor.use((door) => door.reauthorize(key)),
      settle
    )

  it.effect("reauthorize ends forbidden subscriptions in every session of the identity", () => {
    const allowed = new Set(["orders", "room_a"])
    return withDoor(
      Effect.gen(function* () {
        const visitors = [yield* visit({ token: "ann" }), yield* visit({ token: "ann" })]
        const bob = yield* visit({ token: "bob" })
        for (const visitor of [...visitors, bob]) {
          yield* subscribe(visitor, 1, "orders")
          yield* subscribe(visitor, 2, "room_a")
        }
        allowed.delete("orders")
        yield* reauthorize("ann")
        for (const visitor of visitors) {
          expect(visitor.of("ended").map(({ channel }) => channel)).toEqual(["orders"])
        }
        expect(bob.of("ended")).toEqual([])
        yield* Realtime.publish(Orders, { id: 1 })
        yield* Realtime.publish(Room("a"), 1)
        yield* settle
        expect(visitors.map((visitor) => visitor.of("events").length)).toEqual([1, 1])
        expect(bob.of("events")).toHaveLength(2)
      }),
      { authorize: ({ channel }) => Effect.succeed(allowed.has(channel)) }
    )
  })

  it.effect("reauthorize asks again about a subscription that was allowed and still waits", () => {
    let allowed = true
    return withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        const source = yield* MemorySource.MemorySource
        yield* source.lose
        yield* subscribe(visitor, 1, "orders")
        yield* ask(visitor, { type: "unsubscribe", id: 2, channel: "room_a" })
        allowed = false
        yield* reauthorize("ann")
        yield* source.restore
        yield* settle
        expect(visitor.answer(1)).toMatchObject({ type: "error", code: "channel/forbidden" })
        yield* Realtime.publish(Orders, { id: 1 })
        yield* settle
        expect(visitor.of("events")).toEqual([])
        allowed = true
        yield* subscribe(visitor, 3, "orders")
        expect(visitor.answer(3)?.type).toBe("subscribed")
      }),
      { authorize: () => Effect.sync(() => allowed) }
    )
  })

  it.effect("reauthorize ends a subscription when authorize fails, and allows a retry", () => {
    let verdict: Effect.Effect<boolean> = Effect.succeed(true)
    return withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* subscribe(visitor, 1, "orders")
        verdict = Effect.die(new Error("the database is away: hunter2"))
        yield* reauthorize("ann")
        expect(visitor.of("ended")).toMatchObject([
          // One of the codes that may end a subscription.
          {
            code: "server/overloaded",
            message: "The server failed to decide: try again later.",
            retry: "later"
          }
        ])
        expect(JSON.stringify(visitor.frames)).not.toContain("hunter2")
        verdict = Effect.succeed(true)
        yield* subscribe(visitor, 2, "orders")
        expect(visitor.answer(2)?.type).toBe("subscribed")
      }),
      { authorize: () => Effect.suspend(() => verdict) }
    )
  })

  it.effect(
    "reauthorize checks 16 subscriptions at once, and all calls made meanwhile share one more check",
    () => {
      let [asked, at, most] = [0, 0, 0]
      let slow = false
      return withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann" })
          for (let id = 0; id < 40; id++) yield* subscribe(visitor, id, `room_${id}`)
          asked = 0
          slow = true
          for (let id = 50; id < 55; id++) {
            visitor.send({ type: "authenticate", id, token: "ann" })
          }
          const door = yield* TestDoor
          const calls = yield* Effect.forEach([1, 2, 3], () =>
            Effect.forkChild(door.reauthorize("ann"), { startImmediately: true })
          )
          yield* TestClock.adjust("5 seconds")
          expect(calls.map((call) => call.pollUnsafe())).toEqual([undefined, undefined, undefined])
          yield* TestClock.adjust("1 second")
          expect(calls.every((call) => call.pollUnsafe() !== undefined)).toBe(true)
          // The calls made while it checked share one more check.
          expect([most, asked]).toEqual([16, 80])
          expect(visitor.of("ended")).toEqual([])
        }),
        {
          authorize: () =>
            Effect.suspend(() => {
              asked++
              if (!slow) return Effect.succeed(true)
              most = Math.max(most, ++at)
              return Effect.delay(
                Effect.sync(() => {
                  at--
                  return true
                }),
                1000
              )
            })
        }
      )
    }
  )

  it.effect("reauthorize takes 5 s at most, and ends subscriptions it has not checked", () => {
    let verdict: Effect.Effect<boolean> = Effect.succeed(true)
    let asked = 0
    return withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        for (let id = 0; id < 40; id++) yield* subscribe(visitor, id, `room_${id}`)
        const door = yield* TestDoor
        const look = Effect.forkChild(door.reauthorize("ann"), { startImmediately: true })

        verdict = Effect.delay(Effect.succeed(true), "2 seconds")
        const slow = yield* look
        yield* TestClock.adjust(4999)
        expect(visitor.of("ended")).toEqual([])
        yield* TestClock.adjust(1)
        expect(slow.pollUnsafe()).toBeDefined()
        const ended = visitor.of("ended")
        expect(ended.map(({ channel }) => channel)).toEqual(
          Array.from({ length: 8 }, (_, n) => `room_${32 + n}`)
        )
        expect(ended.every(({ code }) => code === "server/overloaded")).toBe(true)

        asked = 0
        verdict = Effect.never
        const stuck = yield* look
        yield* TestClock.adjust("5 seconds")
        expect(stuck.pollUnsafe()).toBeDefined()
        expect(visitor.of("ended")).toHaveLength(40)
        // No authorize begins after the time for the answer is over.
        expect(asked).toBe(16)
      }),
      {
        authorize: () =>
          Effect.suspend(() => {
            asked++
            return verdict
          })
      }
    )
  })

  it.effect("reauthorize completes at once for a session that left", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* subscribe(visitor, 1, "orders")
        const door = yield* TestDoor
        const call = yield* Effect.forkChild(door.reauthorize("ann"), { startImmediately: true })
        visitor.leave()
        yield* settle
        expect(call.pollUnsafe()).toBeDefined()
        yield* door.reauthorize("ann")
      }),
      { authorize: ({ action }) => (action === "subscribe" ? Effect.never : Effect.succeed(true)) }
    )
  )

  it.effect("reauthorize does not end a subscription that was renewed meanwhile", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<boolean>()
      let verdict: Effect.Effect<boolean> = Effect.succeed(true)
      yield* withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "ann" })
          yield* subscribe(visitor, 1, "orders")
          verdict = Deferred.await(gate)
          const door = yield* TestDoor
          const asking = yield* Effect.forkChild(door.reauthorize("ann"), {
            startImmediately: true
          })
          verdict = Effect.succeed(true)
          yield* ask(visitor, { type: "unsubscribe", id: 2, channel: "orders" })
          yield* subscribe(visitor, 3, "orders")
          yield* Deferred.succeed(gate, false)
          yield* settle
          expect(asking.pollUnsafe()).toBeDefined()
          expect(visitor.of("ended")).toEqual([])
          yield* subscribe(visitor, 4, "orders")
          expect(visitor.answer(4)).toMatchObject({ code: "subscribe/duplicate" })
        }),
        { authorize: () => Effect.suspend(() => verdict) }
      )
    })
  )
})

describe("The verdicts of authorize", () => {
  const verdicts = [
    ["undefined", Effect.undefined],
    ["text", Effect.succeed("yes")],
    ["1", Effect.succeed(1)],
    ["an object", Effect.succeed({})]
  ] as const
  it.effect.each(verdicts)("an authorize that returns %s rejects the client", ([, verdict]) =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* subscribe(visitor, 1, "orders")
        expect(visitor.answer(1)).toMatchObject({ code: "channel/forbidden" })
      }),
      { authorize: () => verdict as unknown as Effect.Effect<boolean> }
    )
  )

  it.effect("authorize gets identity, channel, parameter, definition and action", () => {
    const seen: Array<unknown> = []
    return withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann admin" })
        yield* subscribe(visitor, 1, "room_7")
        yield* ask(visitor, { type: "publish", id: 2, channel: "moves", key: "k", data: { id: 1 } })
        const identity = { name: "ann", role: "admin" }
        expect(seen).toEqual([
          { identity, channel: "room_7", definition: Room, params: "7", action: "subscribe" },
          { identity, channel: "moves", definition: Moves, params: undefined, action: "publish" }
        ])
      }),
      {
        authorize: (request) => {
          seen.push(request)
          return Effect.succeed(true)
        }
      }
    )
  })

  it.effect("authorize is not asked about a publish that the channel forbids to clients", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        yield* ask(visitor, {
          type: "publish",
          id: 1,
          channel: "orders",
          key: "k",
          data: { id: 1 }
        })
        expect(visitor.answer(1)).toMatchObject({ code: "publish/forbidden" })
      }),
      { authorize: () => Effect.die(new Error("asked")) }
    )
  )
})

describe("A client and its tokens", () => {
  /** A token that expires in `seconds`, as an app's own endpoint would make it. */
  const tokenFor = (seconds: number) =>
    Effect.map(Clock.currentTimeMillis, (now) => `ann user ${now + seconds * 1000}`)

  const withClient = <A, E>(
    token: Effect.Effect<string>,
    body: Effect.Effect<
      A,
      E,
      RealtimeTest.RealtimeTest | RealtimeClient.RealtimeClient | Scope.Scope
    >
  ): Effect.Effect<A, unknown> =>
    Effect.provide(
      Effect.scoped(body),
      RealtimeTest.layer({
        channels: [Orders],
        authenticate,
        authorize: allowAll,
        identityKey: ({ name }) => name,
        client: { token: () => token }
      })
    )

  /** The orders that a client receives, and every state of its connection. */
  const watch = Effect.gen(function* () {
    const client = yield* RealtimeClient.RealtimeClient
    const seen: Array<number | string> = []
    const states: Array<string> = []
    yield* client.events(Orders).pipe(
      Stream.runForEach((event) =>
        Effect.sync(() => seen.push(event._tag === "Gap" ? event.reason : event.payload.id))
      ),
      Effect.forkScoped
    )
    yield* client.connection.pipe(
      Stream.runForEach(({ status }) => Effect.sync(() => states.push(status))),
      Effect.forkScoped
    )
    yield* (yield* RealtimeTest.RealtimeTest).settle
    return { seen, states }
  })

  it.effect("a client renews its token at 80 % of its life, on the same socket", () => {
    let asked = 0
    const token = Effect.suspend(() => {
      asked++
      return tokenFor(100)
    })
    return withClient(
      token,
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const { seen, states } = yield* watch
        yield* TestClock.adjust("79 seconds")
        yield* test.settle
        expect(asked).toBe(1)
        yield* TestClock.adjust("1 second")
        yield* test.settle
        expect(asked).toBe(2)
        for (let minute = 0; minute < 10; minute++) {
          yield* TestClock.adjust("1 minute")
          yield* test.publish(Orders, { id: minute })
          yield* test.settle
        }
        expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        expect(states.filter((status) => status === "open")).toHaveLength(1)
        expect(asked).toBeGreaterThan(7)
      })
    )
  })

  it.effect("a client whose token expired reconnects, and misses no event", () => {
    let lives = 100
    return withClient(
      // The second time the endpoint fails, so that the first token expires.
      Effect.suspend(() => (lives === 0 ? Effect.die("away") : tokenFor(lives))),
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const { seen, states } = yield* watch
        lives = 0
        yield* TestClock.adjust("99 seconds")
        yield* test.publish(Orders, { id: 1 })
        yield* TestClock.adjust("1 second")
        yield* test.settle
        expect(states.at(-1)).not.toBe("open")
        yield* test.publish(Orders, { id: 2 })
        lives = 100
        yield* TestClock.adjust("30 seconds")
        yield* test.publish(Orders, { id: 3 })
        yield* test.settle
        expect(states.at(-1)).toBe("open")
        expect(seen).toEqual([1, 2, 3])
      })
    )
  })

  it.effect(
    "a client that slept beyond its token fetches a fresh one first, and misses no event at all",
    () => {
      let asked = 0
      return withClient(
        Effect.suspend(() => {
          asked++
          return tokenFor(60)
        }),
        Effect.gen(function* () {
          const test = yield* RealtimeTest.RealtimeTest
          const { seen, states } = yield* watch
          yield* test.publish(Orders, { id: 1 })
          yield* test.settle
          yield* test.jump("90 seconds")
          yield* test.publish(Orders, { id: 2 })
          yield* TestClock.adjust("10 seconds")
          yield* test.settle
          yield* test.publish(Orders, { id: 3 })
          yield* test.settle
          expect(asked).toBeGreaterThan(1)
          expect(states.at(-1)).toBe("open")
          expect(seen).toEqual([1, 2, 3])
        })
      )
    }
  )

  it.effect("a client with an expired token at hello fetches another at once", () => {
    let first = true
    return withClient(
      Effect.suspend(() => {
        const seconds = first ? -1 : 100
        first = false
        return tokenFor(seconds)
      }),
      Effect.gen(function* () {
        const { states } = yield* watch
        yield* (yield* RealtimeTest.RealtimeTest).settle
        yield* TestClock.adjust(1)
        expect(states.at(-1)).toBe("open")
      })
    )
  })

  it.effect("a client with an invalid token stops", () =>
    withClient(
      Effect.succeed("nobody"),
      Effect.gen(function* () {
        const { states } = yield* watch
        expect(states.at(-1)).toBe("stopped")
      })
    )
  )
})
