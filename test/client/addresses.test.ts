/**
 * Which address each attempt has: a list that is shuffled for each client, and a function that is asked before
 * each attempt.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Layer, Random, Scope } from "effect"
import { ClientError, createRealtimeClient, RealtimeClient } from "effect-realtime/client"
import { TestClock } from "effect/testing"
import type { Options } from "../../src/client/Connection.ts"
import * as Connection from "../../src/client/internal/connectionMachine.ts"
import * as Time from "../../src/client/internal/time.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const abc = ["ws://a/", "ws://b/", "ws://c/"]

const make = Effect.fnUntraced(function* (options: Partial<Options> = {}) {
  const server = FakeSocket.make()
  const told: Array<string> = []
  const users = new Set([1])
  const connection = yield* Connection.make(
    {
      url: abc,
      webSocket: server.webSocket,
      signals: () => () => {},
      onError: (error) => told.push(`${error._tag}: ${error.message}`),
      ...options
    },
    yield* Time.make,
    () => [{ needed: () => users.size > 0, open: () => {}, down: () => {}, end: () => {} }]
  )
  connection.look()
  yield* TestClock.adjust(0)
  const urls = () => server.sockets.map(({ url }) => url)
  /** Waits for the next socket, and returns how long, in milliseconds. */
  const next = Effect.gen(function* () {
    const before = server.sockets.length
    const start = yield* Clock.currentTimeMillis
    yield* TestClock.adjust(0)
    while (server.sockets.length === before) {
      const state = connection.state.getSnapshot()
      const now = yield* Clock.currentTimeMillis
      yield* TestClock.adjust(state.status === "waiting" ? state.until - now : 10)
    }
    return (yield* Clock.currentTimeMillis) - start
  })
  const fail = (message?: string) =>
    Effect.suspend(() => {
      const { onerror } = server.last as { onerror: ((event: object) => void) | null }
      onerror?.({ message })
      server.last.drop()
      return next
    })
  const welcome = Effect.suspend(() => {
    server.last.open().say(FakeSocket.welcome)
    return TestClock.adjust(0)
  })
  return { connection, fail, next, server, told, urls, users, welcome }
})

/** The letters of the addresses of all attempts. */
const letters = (urls: ReadonlyArray<string>) => urls.map((url) => url.at(5)).join("")

/** Random numbers that are all the same, so that lists stay in their order and delays are half of theirs. */
const even = Effect.provideService(Random.Random, {
  nextIntUnsafe: () => 0,
  nextDoubleUnsafe: () => 0.5
})

describe("a list of addresses", () => {
  it.effect("goes on to the next one after two failures in a row, and around", () =>
    Effect.gen(function* () {
      const { fail, urls } = yield* make()
      for (let i = 0; i < 7; i++) yield* fail()
      assert.strictEqual(letters(urls()), "aabbccaa")
    }).pipe(even)
  )

  it.effect("makes its attempts at the same times as one address", () =>
    Effect.gen(function* () {
      const delays = Effect.fnUntraced(function* (url: Options["url"], message?: string) {
        const { fail } = yield* make({ url })
        const all: Array<number> = []
        for (let i = 0; i < 12; i++) all.push(yield* fail(message))
        return all
      })
      const one = yield* delays("ws://a/")
      assert.deepStrictEqual(one.slice(0, 4), [1000, 125, 250, 500])
      assert.strictEqual(one.at(-1), 15_000)
      assert.deepStrictEqual(yield* delays(abc), one)
      assert.deepStrictEqual(yield* delays(abc, "Unexpected server response: 503"), one)
    }).pipe(even)
  )

  it.effect("goes on after one failure where the class of the socket shows a 503", () =>
    Effect.gen(function* () {
      const { fail, urls } = yield* make()
      yield* fail("Unexpected server response: 503")
      yield* fail("Unexpected server response: 502")
      yield* fail("connect ECONNREFUSED 127.0.0.1:503")
      yield* fail("Unexpected server response: 503")
      assert.strictEqual(letters(urls()), "abbca")
    }).pipe(even)
  )

  it.effect("keeps its address while that works: after a loss, and for a new listener", () =>
    Effect.gen(function* () {
      const { connection, fail, server, urls, users, welcome } = yield* make()
      for (let i = 0; i < 4; i++) {
        yield* welcome
        yield* TestClock.adjust("11 seconds")
        yield* fail()
      }
      // A failure before the healthy session does not count.
      yield* fail()
      assert.strictEqual(letters(urls()), "aaaaab")
      yield* welcome
      users.clear()
      connection.look()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(connection.state.getSnapshot().status, "idle")
      users.add(1)
      connection.look()
      yield* TestClock.adjust(0)
      assert.strictEqual(letters(urls()), "aaaaabb")
      assert.strictEqual(server.last.readyState, 0)
    }).pipe(even)
  )

  it.effect("leaves a node that lets the client in and drops it at once, twice", () =>
    Effect.gen(function* () {
      const { fail, urls, welcome } = yield* make()
      for (let i = 0; i < 2; i++) {
        yield* welcome
        yield* fail()
      }
      assert.strictEqual(letters(urls()), "aab")
    }).pipe(even)
  )

  it.effect("spreads clients over the nodes, and those of a lost node over the others", () =>
    Effect.gen(function* () {
      const pairs: Record<string, number> = {}
      for (let i = 0; i < 300; i++) {
        const pair = yield* Effect.gen(function* () {
          const { fail, urls } = yield* make()
          yield* fail("Unexpected server response: 503")
          return letters(urls())
        }).pipe(Effect.scoped)
        pairs[pair] = (pairs[pair] ?? 0) + 1
      }
      assert.deepStrictEqual(Object.keys(pairs).toSorted(), ["ab", "ac", "ba", "bc", "ca", "cb"])
      for (const [pair, count] of Object.entries(pairs)) {
        assert.isAbove(count, 25, pair)
        assert.isBelow(count, 80, pair)
      }
    }).pipe(Random.withSeed("nodes"))
  )
})

describe("a bye of the server", () => {
  const bye = { type: "bye", reconnectAfter: 4000 } as const

  it.effect("sends a client to the next address at once, and keeps it there", () =>
    Effect.gen(function* () {
      const { next, server, urls, welcome } = yield* make()
      yield* welcome
      server.last.say(bye).drop(4000)
      assert.strictEqual(yield* next, 0)
      assert.strictEqual(letters(urls()), "ab")
      yield* welcome
      yield* TestClock.adjust("11 seconds")
      server.last.drop()
      yield* next
      assert.strictEqual(letters(urls()), "abb")
    }).pipe(even)
  )

  it.effect("is waited out where the next server says it too, so that none is hammered", () =>
    Effect.gen(function* () {
      const { next, server, urls, welcome } = yield* make()
      const waits: Array<number> = []
      for (let i = 0; i < 4; i++) {
        yield* welcome
        server.last.say(bye).drop(4000)
        waits.push(yield* next)
      }
      assert.deepStrictEqual(waits, [0, 4000, 4000, 4000])
      assert.strictEqual(letters(urls()), "abcab")
    }).pipe(even)
  )

  it.effect.each(["ws://a/", ["ws://a/"], ["ws://a/", "ws://a/"]])(
    "is waited out where there is no other address: %s",
    (url) =>
      Effect.gen(function* () {
        const { next, server, welcome } = yield* make({ url })
        yield* welcome
        server.last.say(bye).drop(4000)
        assert.strictEqual(yield* next, 4000)
      })
  )
})

describe("a function of addresses", () => {
  it.effect.each([
    ["a text", () => "ws://a/"],
    ["a list", () => ["ws://a/"]],
    ["a promise", async () => "ws://a/"],
    ["a promise of a list", async () => ["ws://a/"]],
    ["an Effect", () => Effect.delay(Effect.succeed("ws://a/"), 10)],
    ["an Effect of a list", () => Effect.succeed(["ws://a/"])]
  ] as ReadonlyArray<readonly [string, Extract<Options["url"], Function>]>)(
    "is called before each attempt, and may give %s",
    ([, url]) =>
      Effect.gen(function* () {
        let calls = 0
        const { fail, next, urls } = yield* make({
          url: () => {
            calls++
            return url()
          }
        })
        if (urls().length === 0) yield* next
        yield* fail()
        yield* fail()
        assert.deepStrictEqual([letters(urls()), calls], ["aaa", 3])
      })
  )

  it.effect("that gives a list keeps its order, and counts failures, over all its answers", () =>
    Effect.gen(function* () {
      const { fail, urls } = yield* make({ url: async () => [...abc] })
      for (let i = 0; i < 7; i++) yield* fail()
      const all = letters(urls())
      assert.match(all, /^(.)\1(.)\2(.)\3\1\1$/)
      assert.strictEqual(new Set(all).size, 3)
    })
  )

  it.effect("gives the addresses of now", () =>
    Effect.gen(function* () {
      let nodes = ["ws://a/", "ws://b/"]
      const { fail, urls } = yield* make({ url: () => nodes })
      yield* fail()
      nodes = ["ws://c/"]
      yield* fail()
      assert.strictEqual(letters(urls()), "aac")
    }).pipe(even)
  )

  it.effect("is called after the token callback", () =>
    Effect.gen(function* () {
      const calls: Array<string> = []
      const { server, welcome } = yield* make({
        token: () =>
          Effect.delay(
            Effect.sync(() => (calls.push("token"), "t")),
            100
          ),
        url: () =>
          Effect.delay(
            Effect.sync(() => (calls.push("url"), "ws://a/")),
            100
          )
      })
      yield* TestClock.adjust(200)
      yield* welcome
      assert.deepStrictEqual(calls, ["token", "url"])
      assert.deepStrictEqual(server.last.of("hello")[0]?.token, "t")
    })
  )

  const failing: ReadonlyArray<readonly [string, Extract<Options["url"], Function>, string]> = [
    [
      "throws",
      () => {
        throw new Error("no nodes")
      },
      "Error: no nodes"
    ],
    ["rejects", () => Promise.reject(new Error("no nodes")), "Error: no nodes"],
    ["fails", () => Effect.fail("no nodes"), "no nodes"],
    ["never answers", () => Effect.never, "nothing within 10000 ms"],
    ["gives no address", () => [], "undefined is no ws, wss, http, https or relative address"],
    [
      "gives one that cannot be used",
      () => ["ws://a/", "host:80"],
      `"host:80" is no ws, wss, http, https or relative address`
    ]
  ]
  it.effect.each(failing)(
    "that %s is called again after the backoff, and reported once until it works",
    ([, url, cause]) =>
      Effect.gen(function* () {
        let answer: typeof url = url
        const { connection, fail, next, server, told, urls } = yield* make({
          url: () => answer()
        })
        yield* TestClock.adjust("10 seconds")
        const message = `The option url failed: ${cause}`
        assert.deepStrictEqual(told, [`UrlFailed: ${message}`])
        const shown = connection.state.getSnapshot()
        assert.deepStrictEqual([shown.reason, shown.message], ["address", message])
        yield* TestClock.adjust("2 minutes")
        assert.strictEqual(told.length, 1)
        answer = () => "ws://a/"
        yield* next
        assert.deepStrictEqual(urls(), ["ws://a/"])
        answer = url
        server.last.drop()
        yield* TestClock.adjust("2 minutes")
        assert.deepStrictEqual(told, [`UrlFailed: ${message}`, `UrlFailed: ${message}`])
        answer = () => "ws://a/"
        yield* next
        assert.strictEqual(urls().length, 2)
        yield* fail()
        assert.strictEqual(told.length, 2)
      })
  )

  it.effect("is interrupted when nothing needs the connection any more, and at close", () =>
    Effect.gen(function* () {
      let running = 0
      const url = () =>
        Effect.acquireUseRelease(
          Effect.sync(() => running++),
          () => Effect.never,
          () => Effect.sync(() => running--)
        )
      const scope = yield* Scope.make()
      const { connection, users } = yield* make({ url }).pipe(Scope.provide(scope))
      assert.strictEqual(running, 1)
      users.clear()
      connection.look()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([running, connection.state.getSnapshot().status], [0, "idle"])
      users.add(1)
      connection.look()
      yield* TestClock.adjust(0)
      assert.strictEqual(running, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(running, 0)
    })
  )
})

describe("an address that cannot be used", () => {
  const invalid: ReadonlyArray<readonly [Options["url"], string]> = [
    ["localhost:3000/realtime", `"localhost:3000/realtime"`],
    ["ftp://a/", `"ftp://a/"`],
    ["ws://", `"ws://"`],
    [["wss://a/", "http://a:port/", "x:1"], `"http://a:port/"`],
    [[], "undefined"]
  ]

  it.effect.each(invalid)(
    "is an error when the client is made, which names it: %j",
    ([url, name]) =>
      Effect.gen(function* () {
        const failed = yield* Effect.flip(Layer.build(RealtimeClient.layer({ url })))
        assert.strictEqual(failed._tag, "UrlFailed")
        const message = `The option url failed: ${name} is no ws, wss, http, https or relative address`
        assert.strictEqual(failed.message, message)
        assert.throws(() => createRealtimeClient({ url }), ClientError.UrlFailed, message)
        // One that is made later, as by a provider of React, when it is used.
        const later = createRealtimeClient(() => ({ url }))
        assert.throws(() => later.sync(), ClientError.UrlFailed, message)
      })
  )

  it.effect.each(["/realtime", "realtime", "//host/realtime", "https://a", "WSS://A/"])(
    "is not %s, also without a page",
    (url) => Effect.asVoid(Layer.build(RealtimeClient.layer({ url: [url] })))
  )
})
