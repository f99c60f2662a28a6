/** A client without a network: how soon it shows that, what waits meanwhile, and when it reconnects. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import type { ClientFrame } from "../../src/Frame.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"
import { platform } from "./support/network.ts"

const Room = Channel.make("room", Schema.Struct({ n: Schema.Finite }), { publish: true })

const always: (frame: ClientFrame) => boolean = () => true

type Options = NonNullable<Parameters<typeof Client.make>[1]>

/**
 * A client that listens to a server over a network that swallows everything while it is down, and that the
 * platform may know of. `effects` is what the server did, by key.
 */
const make = Effect.fnUntraced(function* (options?: Options) {
  const { says } = yield* platform
  const server = FakeSocket.make()
  const network = { up: true, answering: always }
  const effects = new Map<string, unknown>()
  let signal = () => {}
  const webSocket = class extends server.webSocket {
    constructor(url: string, protocols: Array<string>) {
      super(url, protocols)
      queueMicrotask(() => network.up && this.open())
    }
  }
  /** A socket that was there while the network was down hears nothing any more. */
  const dead = new Set<unknown>()
  server.heard = (socket, frame) => {
    if (dead.has(socket) || !network.up) return
    if (frame.type === "publish") effects.set(frame.key!, frame.data)
    if (network.answering(frame)) server.answer(socket, frame)
  }
  const client = yield* Client.make(server, {
    webSocket,
    signals: (check) => {
      signal = check
      return () => {}
    },
    ...options
  })
  client.sync.listen(Room, { onEvents: () => {}, onEnd: () => {} })
  yield* TestClock.adjust(10)
  const state = () => client.sync.connection.getSnapshot()
  assert.strictEqual(options?.token ? "open" : state().status, "open")
  return {
    client,
    server,
    network,
    effects,
    state,
    attempts: () => server.sockets.length,
    /** The network goes down, and the platform says so. */
    offline: () => {
      network.up = false
      for (const socket of server.sockets) dead.add(socket)
      says(false)
      signal()
    },
    online: () => {
      network.up = true
      says(true)
      signal()
    },
    /** The same, and the platform does not know. */
    silence: () => {
      network.up = false
      for (const socket of server.sockets) dead.add(socket)
    },
    heal: () => {
      network.up = true
    },
    says,
    signal: () => signal(),
    publish: (n: number, key?: string) =>
      Effect.forkChild(Effect.exit(client.publish(Room, { n }, { key })), {
        startImmediately: true
      })
  }
})

const sent = (frames: ReadonlyArray<ClientFrame>, type: ClientFrame["type"]) =>
  frames.filter((frame) => frame.type === type).length

describe("a client that is offline for 12.5 s", () => {
  it.effect("sees it within 3 s of `offline`; what it published meanwhile happens once", () =>
    Effect.gen(function* () {
      const { effects, offline, online, publish, server, state } = yield* make()
      offline()
      const first = yield* publish(1)
      yield* TestClock.adjust(2999)
      assert.strictEqual(state().status, "waiting")
      assert.strictEqual(state().reason, "silent")
      const second = yield* publish(2)
      yield* TestClock.adjust(12_500 - 2999)
      assert.strictEqual(first.pollUnsafe(), undefined)
      online()
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(yield* Fiber.joinAll([first, second]), [Exit.void, Exit.void])
      assert.deepStrictEqual([...effects.values()], [{ n: 1 }, { n: 2 }])
      assert.strictEqual(state().status, "open")
      // Nothing was tried while the platform knew that it was in vain.
      assert.strictEqual(server.sockets.length, 2)
    })
  )

  it.effect("sees it within 4 s of a publish where the platform says nothing", () =>
    Effect.gen(function* () {
      const { effects, heal, publish, silence, state } = yield* make()
      silence()
      const fiber = yield* publish(1)
      yield* TestClock.adjust(3999)
      assert.strictEqual(state().status, "open")
      // And what its bytes take.
      yield* TestClock.adjust(20)
      assert.notStrictEqual(state().status, "open")
      yield* TestClock.adjust(8500)
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      heal()
      yield* TestClock.adjust(40_000)
      assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.void)
      assert.deepStrictEqual([...effects.values()], [{ n: 1 }])
    })
  )

  it.effect("a publish of which only the answer was lost happens once", () =>
    Effect.gen(function* () {
      const { effects, network, publish, server, silence, heal } = yield* make()
      network.answering = (frame) => {
        if (frame.type === "publish") silence()
        return frame.type !== "publish"
      }
      const fiber = yield* publish(1, "mine")
      assert.deepStrictEqual([...effects.values()], [{ n: 1 }])
      heal()
      network.answering = () => true
      yield* TestClock.adjust(6000)
      assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.void)
      assert.deepStrictEqual([...effects.keys()], ["mine"])
      const keys = server.sockets.flatMap((socket) => socket.of("publish").map(({ key }) => key))
      assert.deepStrictEqual(keys, ["mine", "mine"])
    })
  )

  it.effect("a publish that has failed after maxAge is not sent by the time it is online", () =>
    Effect.gen(function* () {
      const { effects, offline, online, publish } = yield* make({ queue: { maxAge: "10 seconds" } })
      offline()
      yield* TestClock.adjust(3000)
      const fiber = yield* publish(1)
      yield* TestClock.adjust(10_000)
      const exit = yield* Fiber.join(fiber)
      assert.isTrue(Exit.isFailure(exit))
      assert.deepInclude(Exit.isFailure(exit) && exit.cause.reasons[0], { _tag: "Fail" })
      online()
      yield* TestClock.adjust(60_000)
      assert.deepStrictEqual([...effects.values()], [])
    })
  )
})

describe("a client without a network", () => {
  it.effect("that the platform knows of is tried every 30 s", () =>
    Effect.gen(function* () {
      const { attempts, offline, online, server, state } = yield* make()
      offline()
      yield* TestClock.adjust(2000)
      const before = attempts()
      const from = state()
      assert.isTrue(from.status === "waiting" && from.until === 32_010)
      const at: Array<number> = []
      for (let second = 3; second <= 122; second++) {
        yield* TestClock.adjust(1000)
        if (state().status === "connecting") {
          at.push(second)
          server.last.drop(1006)
          yield* TestClock.adjust(0)
        }
      }
      assert.deepStrictEqual(at, [32, 62, 92, 122])
      assert.strictEqual(attempts(), before + 4)
      online()
      yield* TestClock.adjust(10)
      assert.strictEqual(state().status, "open")
      assert.strictEqual(attempts(), before + 5)
    })
  )

  it.effect("is tried at once when its user asks, and then again after 30 s", () =>
    Effect.gen(function* () {
      const { attempts, client, offline, server, signal, state } = yield* make()
      offline()
      yield* TestClock.adjust(5000)
      const before = attempts()
      // The page is shown, and its user has not asked.
      signal()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([state().status, attempts()], ["waiting", before])
      yield* client.reconnect
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([state().status, attempts()], ["connecting", before + 1])
      server.last.drop(1006)
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual([state().status, attempts()], ["waiting", before + 1])
      yield* TestClock.adjust(1)
      assert.strictEqual(attempts(), before + 2)
    })
  )

  it.effect("reconnects within 30 s where the platform is wrong", () =>
    Effect.gen(function* () {
      const { attempts, says, server, state } = yield* make()
      says(false)
      server.last.drop(1006)
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual([state().status, attempts()], ["waiting", 1])
      yield* TestClock.adjust(10)
      assert.strictEqual(state().status, "open")
    })
  )

  it.effect("that goes while a wait is on is not tried when the wait would end", () =>
    Effect.gen(function* () {
      const { attempts, offline, online, server, state } = yield* make()
      server.last.say({ type: "bye", reconnectAfter: 1000 }).drop(4000)
      yield* TestClock.adjust(10)
      offline()
      yield* TestClock.adjust(20_000)
      assert.deepStrictEqual([state().status, attempts()], ["waiting", 1])
      online()
      yield* TestClock.adjust(10)
      assert.deepStrictEqual([state().status, attempts()], ["open", 2])
    })
  )

  it.effect(
    "reports a token callback that fails offline once, and asks again when it is online",
    () =>
      Effect.gen(function* () {
        const errors: Array<string> = []
        let fetches = 0
        let reachable = true
        const made = yield* make({
          token: () =>
            Effect.delay(
              Effect.suspend(() => {
                fetches++
                return reachable ? Effect.succeed("t") : Effect.fail(new Error("no route"))
              }),
              500
            ),
          onError: (error) => errors.push(error.message)
        })
        assert.strictEqual(made.state().status, "connecting")
        reachable = false
        made.offline()
        yield* TestClock.adjust(61_000)
        assert.strictEqual(made.state().status, "waiting")
        assert.deepInclude(made.state(), {
          reason: "token",
          message: "The token callback failed: Error: no route"
        })
        assert.deepStrictEqual(errors, ["The token callback failed: Error: no route"])
        assert.strictEqual(fetches, 3)
        reachable = true
        made.online()
        yield* TestClock.adjust(510)
        assert.strictEqual(made.state().status, "open")
        made.offline()
        yield* TestClock.adjust(40_000)
        // The token is still good, so the client did not ask for another.
        assert.strictEqual(fetches, 4)
      })
  )
})

describe("a request that waits", () => {
  it.effect("on a link that lives is waited for, with a sign of life every 2 s", () =>
    Effect.gen(function* () {
      const { client, network, server, state } = yield* make()
      network.answering = (frame) => frame.type !== "subscribe"
      const Other = Channel.make("other", Schema.Unknown)
      client.sync.listen(Other, { onEvents: () => {}, onEnd: () => {} })
      yield* TestClock.adjust(9500)
      assert.deepStrictEqual([state().status, server.sockets.length], ["open", 1])
      assert.strictEqual(sent(server.sent, "ping"), 4)
      const { id } = server.last.of("subscribe").at(-1)!
      server.last.say({ type: "subscribed", id, channel: "other", state: "fresh", cursor: "e:0" })
      yield* TestClock.adjust(20_000)
      assert.strictEqual(sent(server.sent, "ping"), 4)
    })
  )

  it.effect("is not missed while others are heard", () =>
    Effect.gen(function* () {
      const { network, publish, server, state } = yield* make()
      network.answering = (frame) => frame.type !== "publish" && frame.type !== "ping"
      const fiber = yield* publish(1)
      for (let n = 0; n < 9; n++) {
        yield* TestClock.adjust(1000)
        server.last.say(FakeSocket.events("room", n, { n }))
      }
      assert.strictEqual(sent(server.sent, "ping"), 0)
      server.last.say({ type: "published", id: server.last.of("publish")[0]!.id })
      assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.void)
      assert.strictEqual(state().status, "open")
    })
  )

  it.effect("is given the time that its bytes take on a slow link", () =>
    Effect.gen(function* () {
      const { client, network, server, state } = yield* make()
      network.answering = () => false
      const large = Channel.make("large", Schema.String, { publish: true })
      for (let n = 0; n < 4; n++) {
        yield* Effect.forkChild(Effect.exit(client.publish(large, `${n}`.repeat(60_000))))
      }
      // 240 kB at 16 bytes a millisecond, then the probe.
      yield* TestClock.adjust(9500)
      assert.deepStrictEqual([state().status, sent(server.sent, "ping")], ["open", 0])
    })
  )
})

describe("a key of one's own", () => {
  it.effect.each([
    { title: "64 characters", key: "k".repeat(64), fits: true },
    { title: "65 characters", key: "k".repeat(65), fits: false },
    { title: "none", key: "", fits: false },
    { title: "NUL", key: "a\0b", fits: false },
    { title: "half of a pair", key: "a\ud83d", fits: false },
    { title: "a whole pair and a line feed", key: "a\ud83d\ude00\n", fits: true }
  ])("of $title", ({ fits, key }) =>
    Effect.gen(function* () {
      const { effects, publish } = yield* make()
      const exit = yield* Fiber.join(yield* publish(1, key))
      assert.deepStrictEqual([...effects.keys()], fits ? [key] : [])
      if (Exit.isFailure(exit)) {
        const [reason] = exit.cause.reasons
        assert.deepInclude(reason?._tag === "Fail" && reason.error, { _tag: "InvalidKey", key })
      } else assert.isTrue(fits)
    })
  )
})

describe("the time that a publish has on the server", () => {
  it.effect(
    "a publish that the server drops is Expired, and the client does not send it again",
    () =>
      Effect.gen(function* () {
        const { effects, network, publish, server } = yield* make()
        network.answering = (frame) => frame.type !== "publish"
        const fiber = yield* publish(1)
        const [frame] = server.last.of("publish")
        effects.clear()
        const message = "The publish came later than the client gave it time."
        server.last.say({
          type: "error",
          id: frame!.id,
          code: "publish/expired",
          message,
          retry: "never"
        })
        const exit = yield* Fiber.join(fiber)
        const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
        assert.deepInclude(reason?._tag === "Fail" && reason.error, {
          _tag: "Expired",
          channel: "room",
          millis: 60_000,
          sent: true
        })
        network.answering = () => true
        yield* TestClock.adjust(60_000)
        assert.strictEqual(effects.size, 0)
      })
  )

  it.effect("is what is left of its time, and at most 10 minutes", () =>
    Effect.gen(function* () {
      const { offline, online, publish, server } = yield* make({ queue: { maxAge: "1 hour" } })
      offline()
      yield* publish(1)
      yield* TestClock.adjust(20_000)
      yield* publish(2)
      online()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(
        server.last.of("publish").map(({ within }) => within),
        [580_000, 600_000]
      )
    })
  )
})

describe("the option onError of a client", () => {
  it.effect("receives one error per stopped connection, however many listen", () =>
    Effect.gen(function* () {
      const errors: Array<object> = []
      const { client, server } = yield* make({ onError: (error) => errors.push(error) })
      for (let n = 0; n < 20; n++) {
        client.sync.listen(Room, { onEvents: () => {}, onEnd: () => {} })
      }
      server.last.drop(4205, "The operator removed the session")
      yield* TestClock.adjust(1000)
      assert.deepInclude(errors[0], { _tag: "ConnectionStopped", code: 4205, reason: "server" })
      assert.strictEqual(errors.length, 1)
      yield* client.reconnect
      yield* TestClock.adjust(10)
      server.last.drop(4205)
      yield* TestClock.adjust(10)
      assert.strictEqual(errors.length, 2)
    })
  )

  it.effect("receives one error per token callback that fails in a row, with its cause", () =>
    Effect.gen(function* () {
      const errors: Array<{ readonly _tag: string; readonly cause?: unknown }> = []
      let works = false
      const cause = new Error("no session")
      const { client, server, state } = yield* make({
        token: () => (works ? "t" : Promise.reject(cause)),
        onError: (error) => errors.push(error)
      })
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(
        errors.map((error) => [error._tag, error.cause]),
        [["TokenFailed", cause]]
      )
      works = true
      yield* client.reconnect
      yield* TestClock.adjust(10)
      assert.strictEqual(state().status, "open")
      works = false
      server.last.drop(4101)
      yield* TestClock.adjust(20_000)
      assert.deepStrictEqual(
        errors.map(({ _tag }) => _tag),
        ["TokenFailed", "TokenFailed"]
      )
    })
  )

  it.effect("receives nothing when the client is closed", () =>
    Effect.gen(function* () {
      const errors: Array<unknown> = []
      yield* Effect.scoped(make({ onError: (error) => errors.push(error) }))
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(errors, [])
    })
  )
})
