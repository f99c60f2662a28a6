import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Random, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { Options as ConnectionOptions } from "../../src/client/Connection.ts"
import * as Connection from "../../src/client/internal/connectionMachine.ts"
import * as Time from "../../src/client/internal/time.ts"
import type { ServerFrame } from "../../src/Frame.ts"
import { sleepy } from "./support/clock.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

interface Options extends Partial<ConnectionOptions> {
  readonly server?: FakeSocket.FakeServer
}

const make = Effect.fnUntraced(function* (options?: Options) {
  const server = options?.server ?? FakeSocket.make()
  const told: Array<string> = []
  const frames: Array<ServerFrame> = []
  const users = new Set<object>()
  let signal: (() => void) | undefined
  const connection = yield* Connection.make(
    {
      url: "ws://host/realtime",
      webSocket: server.webSocket,
      signals: (check) => {
        signal = check
        return () => {
          signal = undefined
        }
      },
      ...options
    },
    yield* Time.make,
    () => [
      {
        needed: () => users.size > 0,
        open: () => told.push("open"),
        receive: (frame) => frames.push(frame),
        down: () => told.push("down"),
        end: ({ code }) => told.push(`stop ${code}`)
      }
    ]
  )
  /** Holds the connection until the test calls the result. */
  const hold = () => {
    const user = {}
    users.add(user)
    connection.look()
    return () => {
      users.delete(user)
      connection.look()
    }
  }
  const status = () => connection.state.getSnapshot().status
  /** Opens the newest socket and welcomes the client. */
  const welcome = (extra?: Partial<typeof FakeSocket.welcome & { expires: number }>) =>
    server.last.open().say({ ...FakeSocket.welcome, ...extra })
  return { connection, hold, server, told, frames, status, welcome, signal: () => signal?.() }
})

/** Holds a connection and, unless told otherwise, welcomes it. */
const opened = Effect.fnUntraced(function* (options?: Options) {
  const made = yield* make(options)
  const release = made.hold()
  yield* TestClock.adjust(0)
  made.welcome()
  yield* TestClock.adjust(0)
  return { ...made, release }
})

const codes = (after: string, ...codes: Array<number>) => codes.map((code) => ({ code, after }))

describe("connection", () => {
  describe("when it is needed", () => {
    it.effect("opens no socket until it is held", () =>
      Effect.gen(function* () {
        const { hold, server, status } = yield* make()
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(server.sockets.length, 0)
        assert.strictEqual(status(), "idle")
        hold()
        yield* TestClock.adjust(0)
        assert.strictEqual(server.sockets.length, 1)
        assert.strictEqual(status(), "connecting")
      })
    )

    it.effect("sends hello first, over effect-realtime.v1, and is open after welcome", () =>
      Effect.gen(function* () {
        const { connection, server, told, welcome } = yield* opened({ token: () => "t1" })
        assert.deepStrictEqual(server.last.protocols, ["effect-realtime.v1"])
        assert.deepStrictEqual(server.last.sent, [{ type: "hello", version: 1, token: "t1" }])
        assert.deepStrictEqual(connection.state.getSnapshot(), {
          status: "open",
          reason: "welcome",
          message: "The server said welcome",
          session: "s1"
        })
        welcome()
        assert.deepStrictEqual(told, ["open"])
      })
    )

    it.effect("closes an unused socket after linger and is idle again", () =>
      Effect.gen(function* () {
        const { release, server, status, told } = yield* opened()
        release()
        release()
        yield* TestClock.adjust(999)
        assert.strictEqual(status(), "open")
        yield* TestClock.adjust(1)
        assert.strictEqual(status(), "idle")
        assert.strictEqual(server.last.closedWith, 1000)
        assert.deepStrictEqual(told, ["open", "down"])
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(server.sockets.length, 1)
      })
    )

    it.effect("opens one socket for 50 holds and releases in turn", () =>
      Effect.gen(function* () {
        const { hold, server, welcome } = yield* make()
        for (let i = 0; i < 50; i++) {
          const release = hold()
          yield* TestClock.adjust(10)
          if (i === 0) welcome()
          release()
          yield* TestClock.adjust(10)
        }
        assert.strictEqual(server.sockets.length, 1)
        yield* TestClock.adjust(1000)
        assert.strictEqual(server.last.closedWith, 1000)
      })
    )

    it.effect("finishes its wait before it reconnects for a new holder", () =>
      Effect.gen(function* () {
        const { hold, release, server, status } = yield* opened()
        server.last.say({ type: "bye", reconnectAfter: 5000 }).drop(4000)
        release()
        yield* TestClock.adjust(10)
        assert.strictEqual(status(), "idle")
        hold()
        yield* TestClock.adjust(4000)
        assert.strictEqual(status(), "waiting")
        yield* TestClock.adjust(1000)
        assert.strictEqual(server.sockets.length, 2)
      })
    )
  })

  describe("a close code stops the connection only if the protocol says so", () => {
    it.effect.each([
      ...codes("waiting", 1000, 1001, 1005, 1006, 1011, 1012, 1013, 3000, 4999),
      ...codes("waiting", 4000, 4001, 4002, 4003, 4004, 4005),
      ...codes("stopped", 1009, 4200, 4201, 4202, 4205, 4299),
      ...codes("stopped", 4100, 4101)
    ])("without a token callback, is $after after $code", ({ after, code }) =>
      Effect.gen(function* () {
        const { connection, server, status, told } = yield* opened()
        server.last.drop(code, "why")
        yield* TestClock.adjust(0)
        assert.strictEqual(status(), after)
        assert.strictEqual(connection.state.getSnapshot().message, "why")
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual(server.sockets.length > 1, after === "waiting")
        assert.strictEqual(told.includes(`stop ${code}`), after === "stopped")
      })
    )

    it.effect.each(codes("connecting", 4100, 4101, 4199))(
      "with a token callback, gets a fresh token at once after $code",
      ({ code }) =>
        Effect.gen(function* () {
          let asked = 0
          const { server, status, welcome } = yield* opened({ token: () => `t${++asked}` })
          server.last.drop(code)
          yield* TestClock.adjust(0)
          assert.strictEqual(status(), "connecting")
          welcome()
          assert.deepStrictEqual(
            server.sockets.map(({ sent }) => sent[0]),
            [
              { type: "hello", version: 1, token: "t1" },
              { type: "hello", version: 1, token: "t2" }
            ]
          )
        })
    )

    it.effect("stops after the server rejects 3 fresh tokens in a row", () =>
      Effect.gen(function* () {
        const { server, status, told, welcome } = yield* opened({ token: () => "same" })
        for (let i = 0; i < 3; i++) {
          server.last.drop(4100)
          yield* TestClock.adjust(5000)
          if (i < 2) welcome()
        }
        assert.strictEqual(status(), "stopped")
        assert.strictEqual(server.sockets.length, 3)
        assert.deepStrictEqual(told.at(-1), "stop 4100")
      })
    )

    it.effect("counts rejected tokens from zero after a healthy session", () =>
      Effect.gen(function* () {
        const { server, status, welcome } = yield* opened({ token: () => "same" })
        for (let i = 0; i < 6; i++) {
          yield* TestClock.adjust(11_000)
          server.last.drop(4100)
          yield* TestClock.adjust(0)
          assert.strictEqual(status(), "connecting")
          welcome()
        }
      })
    )

    it.effect("has the server's error as reason after a refusal", () =>
      Effect.gen(function* () {
        const { connection, hold, server } = yield* make()
        hold()
        yield* TestClock.adjust(0)
        const message = "The token is not valid."
        server.last.open().say({ type: "error", code: "auth/invalid", message, retry: "never" })
        server.last.drop(4202)
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(connection.state.getSnapshot(), {
          status: "stopped",
          code: 4202,
          reason: "server",
          message: "auth/invalid: The token is not valid."
        })
      })
    )

    it.effect("reconnects after a stop when reconnect is called", () =>
      Effect.gen(function* () {
        const { connection, server, status, welcome } = yield* opened()
        server.last.drop(4202)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(status(), "stopped")
        connection.reconnect()
        yield* TestClock.adjust(0)
        welcome()
        assert.strictEqual(status(), "open")
      })
    )
  })

  describe("waiting", () => {
    it.effect("has full jitter between 0 and a doubling ceiling", () =>
      Effect.gen(function* () {
        const { connection, hold, server } = yield* make()
        hold()
        yield* TestClock.adjust(0)
        const ceilings = [2000, 250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        const delays: Array<number> = []
        for (const [index, ceiling] of ceilings.entries()) {
          server.last.drop()
          yield* TestClock.adjust(0)
          const state = connection.state.getSnapshot()
          if (state.status !== "waiting") return assert.fail(`${state.status}, not waiting`)
          assert.strictEqual(state.attempt, index + 1)
          const delay = state.until - (yield* Clock.currentTimeMillis)
          assert.isAtLeast(delay, 0)
          assert.isAtMost(delay, ceiling)
          delays.push(delay / ceiling)
          yield* TestClock.adjust(delay)
          assert.strictEqual(server.sockets.length, index + 2)
        }
        assert.isAbove(new Set(delays).size, 8)
      })
    )

    it.effect("starts at the first delay again after 10 s open, not before", () =>
      Effect.gen(function* () {
        const { connection, server, welcome } = yield* opened()
        const dropped = Effect.fnUntraced(function* () {
          const before = server.sockets.length
          server.last.drop()
          yield* TestClock.adjust(0)
          const state = connection.state.getSnapshot()
          while (server.sockets.length === before) yield* TestClock.adjust(10)
          welcome()
          yield* TestClock.adjust(0)
          return state.status === "waiting" ? state.attempt : undefined
        })
        assert.strictEqual(yield* dropped(), 1)
        yield* TestClock.adjust(9000)
        assert.strictEqual(yield* dropped(), 2)
        yield* TestClock.adjust(10_000)
        assert.strictEqual(yield* dropped(), 1)
      })
    )

    it.effect("spreads the reconnects of 1,000 clients that lose one server at once", () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        for (let i = 0; i < 1000; i++) (yield* make({ server })).hold()
        yield* TestClock.adjust(1)
        assert.strictEqual(server.sockets.length, 1000)
        for (const socket of server.sockets.slice()) socket.drop(1006)
        let before = server.sockets.length
        for (let bucket = 0; bucket < 20; bucket++) {
          yield* TestClock.adjust(100)
          assert.isAtMost(server.sockets.length - before, 80)
          before = server.sockets.length
        }
        assert.strictEqual(before, 2000)
      })
    )

    it.effect("lasts for the reconnectAfter of the server's bye", () =>
      Effect.gen(function* () {
        const { server } = yield* opened()
        server.last.say({ type: "bye", reconnectAfter: 7300 }).drop(4000)
        yield* TestClock.adjust(7299)
        assert.strictEqual(server.sockets.length, 1)
        yield* TestClock.adjust(1)
        assert.strictEqual(server.sockets.length, 2)
      })
    )

    it.effect("ends when the page is shown or goes online", () =>
      Effect.gen(function* () {
        const { server, signal, status } = yield* opened()
        server.last.say({ type: "bye", reconnectAfter: 60_000 }).drop(4000)
        yield* TestClock.adjust(100)
        assert.strictEqual(status(), "waiting")
        signal()
        yield* TestClock.adjust(0)
        assert.strictEqual(status(), "connecting")
        assert.strictEqual(server.sockets.length, 2)
      })
    )

    it.effect("ends by absolute time after a sleep without timers", () =>
      Effect.gen(function* () {
        const { clock, jump } = yield* sleepy
        yield* Effect.gen(function* () {
          const { server } = yield* opened()
          server.last.say({ type: "bye", reconnectAfter: 600_000 }).drop(4000)
          yield* TestClock.adjust(100)
          jump(600_000)
          yield* TestClock.adjust(5000)
          assert.strictEqual(server.sockets.length, 2)
        }).pipe(Effect.provideService(Clock.Clock, clock))
      })
    )
  })

  describe("while connecting", () => {
    /** Waits half of the ceiling. */
    const halfway = Effect.provideService(Random.Random, {
      nextIntUnsafe: () => 0,
      nextDoubleUnsafe: () => 0.5
    })

    /** Fails until the next wait may last 30 s, and is connecting again. */
    const failed = Effect.fnUntraced(function* (options?: Options) {
      const made = yield* make(options)
      made.hold()
      yield* TestClock.adjust(0)
      for (let failure = 0; failure < 12; failure++) {
        made.server.last.drop(1006)
        do yield* TestClock.adjust("1 second")
        while (made.status() === "waiting")
      }
      return { ...made, attempts: made.server.sockets.length }
    })

    it.effect(
      "opens another socket when the page is shown after 10 minutes of sleep without timers",
      () =>
        Effect.gen(function* () {
          const { clock, jump } = yield* sleepy
          yield* Effect.gen(function* () {
            const { attempts, server, signal } = yield* failed()
            jump(600_000)
            signal()
            yield* TestClock.adjust(100)
            assert.strictEqual(server.sockets.length, attempts + 1)
          }).pipe(Effect.provideService(Clock.Clock, clock))
        })
    )

    it.effect("gives an attempt 5 s after a signal, and then reconnects without a wait", () =>
      Effect.gen(function* () {
        const { attempts, server, signal, status } = yield* failed()
        yield* TestClock.adjust("2 seconds")
        signal()
        yield* TestClock.adjust(4999)
        assert.deepStrictEqual([status(), server.sockets.length], ["connecting", attempts])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual([status(), server.sockets.length], ["connecting", attempts + 1])
        signal()
        server.last.drop(1006)
        yield* TestClock.adjust(1)
        assert.strictEqual(server.sockets.length, attempts + 2)
        // One signal ends one wait.
        server.last.drop(1006)
        yield* TestClock.adjust(1)
        assert.deepStrictEqual([status(), server.sockets.length], ["waiting", attempts + 2])
      }).pipe(halfway)
    )

    it.effect(
      "calls a token callback that fails once more after a signal of the page, then waits",
      () =>
        Effect.gen(function* () {
          let asked = 0
          const { hold, signal, status } = yield* make({
            token: () => (asked++, Effect.delay(Effect.fail(new Error("offline")), "2 seconds"))
          })
          hold()
          yield* TestClock.adjust("1 second")
          signal()
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual([status(), asked], ["connecting", 2])
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual([status(), asked], ["waiting", 2])
        }).pipe(halfway)
    )
  })

  describe("a clock that is set back by an hour", () => {
    it.effect("does not extend a wait, and `until` follows the clock", () =>
      Effect.gen(function* () {
        const { clock, jump } = yield* sleepy
        yield* Effect.gen(function* () {
          const { connection, server } = yield* opened()
          const wait = () => server.last.say({ type: "bye", reconnectAfter: 60_000 }).drop(4000)
          wait()
          yield* TestClock.adjust("5 seconds")
          jump(-3_600_000)
          yield* TestClock.adjust("1 minute")
          assert.strictEqual(server.sockets.length, 2)
          server.last.open().say(FakeSocket.welcome)
          wait()
          yield* TestClock.adjust(0)
          const state = connection.state.getSnapshot()
          assert.strictEqual(
            state.status === "waiting" && state.until,
            clock.currentTimeMillisUnsafe() + 60_000
          )
        }).pipe(Effect.provideService(Clock.Clock, clock))
      })
    )

    it.effect("does not hide a dead connection", () =>
      Effect.gen(function* () {
        const { clock, jump } = yield* sleepy
        yield* Effect.gen(function* () {
          const { status } = yield* opened()
          jump(-3_600_000)
          yield* TestClock.adjust("41 seconds")
          assert.notStrictEqual(status(), "open")
        }).pipe(Effect.provideService(Clock.Clock, clock))
      })
    )

    it.effect("counts as sleep when the clock is set forward again", () =>
      Effect.gen(function* () {
        const { clock, jump } = yield* sleepy
        yield* Effect.gen(function* () {
          const { status } = yield* opened()
          jump(-3_600_000)
          yield* TestClock.adjust("5 seconds")
          assert.strictEqual(status(), "open")
          jump(3_600_000)
          yield* TestClock.adjust("5 seconds")
          assert.notStrictEqual(status(), "open")
        }).pipe(Effect.provideService(Clock.Clock, clock))
      })
    )
  })

  describe("liveness", () => {
    it.effect("answers ping with pong within the same turn", () =>
      Effect.gen(function* () {
        const { server } = yield* opened()
        server.last.say({ type: "ping" })
        assert.deepStrictEqual(server.last.sent.at(-1), { type: "pong" })
      })
    )

    it.effect("closes a socket that is not open after 10 s, or has no welcome 10 s later", () =>
      Effect.gen(function* () {
        const { hold, server, status } = yield* make()
        hold()
        yield* TestClock.adjust(9999)
        assert.strictEqual(status(), "connecting")
        yield* TestClock.adjust(1)
        assert.deepStrictEqual([status(), server.last.closedWith], ["waiting", 1000])
        yield* TestClock.adjust(2000)
        server.last.open()
        yield* TestClock.adjust(9999)
        assert.strictEqual(status(), "connecting")
        yield* TestClock.adjust(1)
        assert.deepStrictEqual([status(), server.last.closedWith], ["waiting", 1000])
      })
    )

    it.effect(
      "treats a socket as dead after ping + slack without a frame, whatever the frame's type",
      () =>
        Effect.gen(function* () {
          const { server, status, told } = yield* opened()
          yield* TestClock.adjust(34_000)
          server.last.text(`{"type":"of the future"}`)
          yield* TestClock.adjust(34_999)
          assert.strictEqual(status(), "open")
          yield* TestClock.adjust(1)
          // A half-open socket never fires `close`, so the connection does not wait for it.
          assert.strictEqual(status(), "waiting")
          assert.deepStrictEqual(told, ["open", "down"])
          assert.strictEqual(server.last.onmessage, null)
        })
    )

    it.effect(
      "opens another socket after 10 minutes of sleep without timers when the page is shown",
      () =>
        Effect.gen(function* () {
          const { clock, jump } = yield* sleepy
          yield* Effect.gen(function* () {
            const { server, signal, welcome } = yield* opened({ token: () => "t" })
            welcome({ expires: 120_000 })
            jump(600_000)
            yield* TestClock.adjust(0)
            assert.strictEqual(server.sockets.length, 1)
            signal()
            yield* TestClock.adjust(0)
            assert.strictEqual(server.sockets.length, 2)
          }).pipe(Effect.provideService(Clock.Clock, clock))
        })
    )

    it.effect("detects a sleep within 5 s", () =>
      Effect.gen(function* () {
        const { clock, jump } = yield* sleepy
        yield* Effect.gen(function* () {
          const { status } = yield* opened()
          jump(600_000)
          yield* TestClock.adjust(5000)
          assert.notStrictEqual(status(), "open")
        }).pipe(Effect.provideService(Clock.Clock, clock))
      })
    )

    it.effect("probes an open socket after a signal, and reconnects 5 s later if unanswered", () =>
      Effect.gen(function* () {
        const { frames, server, signal, status } = yield* opened()
        yield* TestClock.adjust(10)
        signal()
        signal()
        assert.deepStrictEqual(server.last.sent.slice(1), [{ type: "ping" }])
        server.last.say({ type: "pong" })
        yield* TestClock.adjust(10_000)
        assert.strictEqual(status(), "open")
        // The connection does not wait for this answer.
        assert.strictEqual(frames.length, 0)
        signal()
        yield* TestClock.adjust(5000)
        // The page is visible, so there is no jitter.
        assert.deepStrictEqual([status(), server.sockets.length], ["connecting", 2])
      })
    )
  })

  describe("token", () => {
    /** The token is valid for 100 s, and the socket may be silent for as long. */
    const lives = { expires: 100_000, ping: 1_000_000 }

    it.effect("is reused on reconnect while it is valid", () =>
      Effect.gen(function* () {
        let asked = 0
        const { server, welcome } = yield* opened({ token: () => `t${++asked}` })
        server.last.drop(1006)
        yield* TestClock.adjust(2000)
        welcome({ expires: 100_000 })
        assert.strictEqual(asked, 1)
      })
    )

    it.effect("is renewed on the same socket at 80 % of its lifetime", () =>
      Effect.gen(function* () {
        let asked = 0
        const token = () => Effect.sync(() => `t${++asked}`)
        const { hold, server, status, welcome } = yield* make({ token })
        hold()
        yield* TestClock.adjust(0)
        welcome({ expires: 20_000 })
        yield* TestClock.adjust(15_999)
        assert.strictEqual(asked, 1)
        yield* TestClock.adjust(1)
        const renewal = server.last.of("authenticate")
        assert.deepStrictEqual(
          renewal.map((frame) => frame.token),
          ["t2"]
        )
        server.last.say({ type: "authenticated", id: renewal[0]!.id, expires: 10_000 })
        yield* TestClock.adjust(8000)
        assert.strictEqual(asked, 3)
        assert.strictEqual(status(), "open")
        assert.strictEqual(server.sockets.length, 1)
      })
    )

    it.effect("is requested again after a failed renewal, while the old one is valid", () =>
      Effect.gen(function* () {
        let working = true
        let asked = 0
        const { hold, server, status, welcome } = yield* make({
          token: () => (asked++, working ? `t${asked}` : Promise.reject(new Error("no session")))
        })
        hold()
        yield* TestClock.adjust(0)
        server.heard = (socket, frame) => {
          if (frame.type === "ping") server.answer(socket, frame)
        }
        welcome(lives)
        working = false
        yield* TestClock.adjust(80_000)
        assert.strictEqual(asked, 2)
        yield* TestClock.adjust(10_000)
        assert.isAbove(asked, 4)
        // With a backoff whose ceilings double.
        assert.isBelow(asked, 40)
        working = true
        yield* TestClock.adjust(30_000)
        assert.deepStrictEqual(
          server.last.of("authenticate").map(({ token }) => token),
          [`t${asked}`]
        )
        assert.deepStrictEqual([status(), server.sockets.length], ["open", 1])
      })
    )

    it.effect("is used in the next session when its renewal failed", () =>
      Effect.gen(function* () {
        let asked = 0
        const { hold, server, welcome } = yield* make({
          token: () => (++asked === 1 ? "t1" : Promise.reject(new Error("no session")))
        })
        hold()
        yield* TestClock.adjust(0)
        welcome(lives)
        yield* TestClock.adjust(81_000)
        assert.isAbove(asked, 1)
        server.last.drop(1006)
        yield* TestClock.adjust(2000)
        server.last.open()
        assert.deepStrictEqual(server.last.sent, [{ type: "hello", version: 1, token: "t1" }])
      })
    )

    it.effect("is requested again when the server rejects it, no sooner than retryAfter", () =>
      Effect.gen(function* () {
        let asked = 0
        const { hold, server, status, welcome } = yield* make({ token: () => `t${++asked}` })
        hold()
        yield* TestClock.adjust(0)
        welcome(lives)
        const refuse = (retryAfter?: number) => {
          const { id } = server.last.of("authenticate").at(-1)!
          const refusal = { code: "auth/invalid", message: "no", retry: "never" } as const
          server.last.say({ type: "error", id, ...refusal, ...(retryAfter && { retryAfter }) })
        }
        yield* TestClock.adjust(80_000)
        refuse(7000)
        yield* TestClock.adjust(6999)
        assert.strictEqual(asked, 2)
        yield* TestClock.adjust(1)
        assert.strictEqual(asked, 3)
        refuse()
        // Within the ceiling after a second failure.
        yield* TestClock.adjust(2000)
        assert.strictEqual(asked, 4)
        assert.strictEqual(status(), "open")
        // The next session does not use a rejected token.
        refuse(60_000)
        server.last.drop(1006)
        yield* TestClock.adjust(2000)
        server.last.open()
        assert.deepStrictEqual(server.last.sent, [{ type: "hello", version: 1, token: "t5" }])
      })
    )

    it.effect("is not used again after it expired during a sleep", () =>
      Effect.gen(function* () {
        let asked = 0
        const { hold, server, welcome } = yield* make({ token: () => `t${++asked}` })
        hold()
        yield* TestClock.adjust(0)
        welcome({ expires: 3000 })
        server.last.drop(1006)
        yield* TestClock.adjust(3000)
        server.last.drop(1006)
        yield* TestClock.adjust(3000)
        assert.isAtLeast(asked, 2)
      })
    )

    it.effect.each([
      { name: "rejects", token: () => Promise.reject(new Error("no session")) },
      {
        name: "throws",
        token: () => {
          throw new Error("no session")
        }
      },
      { name: "fails", token: () => Effect.fail("no session") },
      { name: "never answers", token: () => new Promise<string>(() => {}) }
    ])("callback that $name costs one attempt, not the client", ({ token }) =>
      Effect.gen(function* () {
        let broken = true
        const { hold, server, status } = yield* make({
          token: () => (broken ? token() : "t")
        })
        hold()
        yield* TestClock.adjust(0)
        yield* Effect.promise(() => Promise.resolve())
        yield* TestClock.adjust(10_000)
        assert.strictEqual(server.sockets.length, 0)
        broken = false
        while (server.sockets.length === 0) yield* TestClock.adjust(100)
        assert.strictEqual(status(), "connecting")
      })
    )
  })

  describe("address", () => {
    it.effect.each([
      { url: "wss://a.example/realtime", to: "wss://a.example/realtime" },
      { url: "http://a.example:8080/x", to: "ws://a.example:8080/x" },
      { url: "https://a.example/x", to: "wss://a.example/x" },
      { url: () => "ws://made.example/", to: "ws://made.example/" }
    ])("$to", ({ to, url }) =>
      Effect.gen(function* () {
        const { hold, server } = yield* make({ url })
        hold()
        yield* TestClock.adjust(0)
        assert.strictEqual(server.last.url, to)
      })
    )

    it.effect("stops the connection with a reason when it is relative and there is no page", () =>
      Effect.gen(function* () {
        const { connection, hold, status } = yield* make({ url: "/realtime" })
        hold()
        yield* TestClock.adjust(0)
        assert.strictEqual(status(), "stopped")
        const { message, reason } = connection.state.getSnapshot()
        assert.strictEqual(reason, "address")
        assert.include(message, "/realtime")
      })
    )
  })

  describe("closing its scope", () => {
    it.effect("closes the socket and never reconnects, even after a signal of the page", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const { server, signal, status, told } = yield* opened().pipe(Scope.provide(scope))
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(server.last.closedWith, 1000)
        signal()
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(server.sockets.length, 1)
        assert.strictEqual(status(), "stopped")
        assert.deepStrictEqual(told, ["open", "down", "stop 1000"])
      })
    )

    it.effect("ends a wait, and the connection never reconnects", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const { server, signal } = yield* opened().pipe(Scope.provide(scope))
        server.last.drop()
        yield* TestClock.adjust(0)
        yield* Scope.close(scope, Exit.void)
        signal()
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(server.sockets.length, 1)
      })
    )
  })
})
