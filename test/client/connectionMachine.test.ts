/**
 * The states of the connection under random events: a state that ends leaves no timer, no token
 * callback and no socket, and only `reconnect` leaves `Stopped`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Connection from "../../src/client/internal/connectionMachine.ts"
import * as Time from "../../src/client/internal/time.ts"
import type { ServerFrame } from "../../src/Frame.ts"
import { sleepy } from "./support/clock.ts"
import * as FakeSocket from "./support/FakeSocket.ts"
import { platform } from "./support/network.ts"

const channel = "a"
const frames = {
  welcome: FakeSocket.welcome,
  expiring: { ...FakeSocket.welcome, expires: 10_000 },
  ping: { type: "ping" },
  bye: { type: "bye", reconnectAfter: 3000 },
  status: { type: "status", source: "down" },
  complaint: { type: "error", code: "auth/expired", message: "old", retry: "refresh" },
  refusal: { type: "error", id: 1, code: "source/down", message: "not now", retry: "later" },
  authenticated: { type: "authenticated", id: 1, expires: 5000 },
  cursor: { type: "cursor", channel, cursor: "e:1" }
} satisfies Record<string, ServerFrame>

const tokens = {
  "at once": Effect.succeed("t"),
  later: Effect.delay(Effect.succeed("t"), 2000),
  promise: Effect.promise(async () => "t"),
  fails: Effect.fail("no session"),
  never: Effect.never
}

/** The events of a connection. */
const Event = Schema.Union([
  Schema.Struct({
    does: Schema.Literals([
      "hold",
      "release",
      "look",
      "signal",
      "reconnect",
      "open",
      "renew",
      "ask",
      "give up",
      "offline",
      "online"
    ])
  }),
  Schema.Struct({ adjust: Schema.Literals([1, 300, 1000, 5000, 12_000, 40_000]) }),
  Schema.Struct({ sleep: Schema.Literals([1000, 60_000, 600_000]) }),
  Schema.Struct({ drop: Schema.Literals([1000, 1006, 1009, 4000, 4100, 4101, 4202]) }),
  Schema.Struct({ say: Schema.Literals(Object.keys(frames) as Array<keyof typeof frames>) }),
  Schema.Struct({ welcome: Schema.Literals(["welcome", "expiring"]) }),
  Schema.Struct({
    token: Schema.Literals(["none", ...(Object.keys(tokens) as Array<keyof typeof tokens>)])
  })
])
type Event = typeof Event.Type

const attached = ({ sockets }: FakeSocket.FakeServer) =>
  sockets.filter(({ onclose }) => onclose !== null).length

/** A connection, its events, and counters of its timers, token callbacks, signals and sockets. */
const make = Effect.fnUntraced(function* (jump: (millis: number) => void) {
  const time = yield* Time.make
  const { says } = yield* platform
  const server = FakeSocket.make()
  const owned = { timers: 0, fetches: 0, signals: 0 }
  const told: Array<string> = []
  let users = 0
  let signal = () => {}
  let token: keyof typeof tokens | "none" = "none"

  const after: Time.Time["after"] = (delay, run) => {
    let live = 1
    owned.timers++
    const over = () => {
      owned.timers -= live
      live = 0
    }
    const cancel = time.after(delay, () => {
      over()
      run()
    })
    return () => {
      over()
      cancel()
    }
  }

  const connection = yield* Connection.make(
    {
      url: "ws://host/realtime",
      webSocket: class extends server.webSocket {
        constructor(url: string, protocols: Array<string>) {
          assert.strictEqual(attached(server), 0)
          super(url, protocols)
        }
      },
      signals: (check) => {
        owned.signals++
        signal = check
        return () => {
          owned.signals--
          signal = () => {}
        }
      },
      get token() {
        if (token === "none") return undefined
        const given = tokens[token]
        return () =>
          Effect.acquireUseRelease(
            Effect.sync(() => owned.fetches++),
            () => given,
            () => Effect.sync(() => owned.fetches--)
          )
      }
    },
    { ...time, after },
    () => [
      {
        needed: () => users > 0,
        open: () => told.push("open"),
        down: () => told.push("down"),
        end: () => {}
      }
    ]
  )

  const does = {
    hold: () => void users++,
    release: () => {
      users = 0
    },
    look: () => {},
    signal: () => signal(),
    reconnect: connection.reconnect,
    open: () => void server.last?.open(),
    renew: () =>
      void connection.refused(channel, { code: "auth/expired", message: "old", retry: "refresh" }),
    ask: () => connection.request({ type: "subscribe", channel }, () => {}),
    "give up": () => connection.giveUp("not answered"),
    offline: () => {
      says(false)
      signal()
    },
    online: () => {
      says(true)
      signal()
    }
  }
  const happen = Effect.fnUntraced(function* (event: Event) {
    if ("does" in event) does[event.does]()
    else if ("adjust" in event) yield* TestClock.adjust(event.adjust)
    else if ("sleep" in event) jump(event.sleep)
    else if ("drop" in event) server.last?.drop(event.drop)
    else if ("say" in event) {
      // A socket receives nothing before it is open.
      if (server.last?.readyState === 1) server.last.say(frames[event.say])
    } else if ("welcome" in event) server.last?.open().say(frames[event.welcome])
    else token = event.token
    connection.look()
    yield* TestClock.adjust(0)
  })
  return { connection, happen, owned, server, told }
})

/** The sockets, token callbacks, timers and signal listeners that each state owns. */
const check = ({
  connection,
  owned: { fetches, signals, timers },
  server,
  told
}: Effect.Success<ReturnType<typeof make>>) => {
  const { status } = connection.state.getSnapshot()
  const sockets = attached(server)
  const state = { status, sockets, fetches, timers, signals }
  const awake = { timers: 1, signals: 1 }
  const expected = {
    idle: { sockets: 0, fetches: 0, timers: 0, signals: 0 },
    stopped: { sockets: 0, fetches: 0, timers: 0, signals: 0 },
    waiting: { sockets: 0, fetches: 0, ...awake },
    connecting: { sockets: 1 - fetches, fetches, ...awake },
    open: { sockets: 1, fetches: Math.min(fetches, 1), ...awake }
  }[status]
  assert.deepStrictEqual(state, { status, ...expected })
  // The client closed each socket that it released.
  for (const { closedWith, onclose } of server.sockets) {
    assert.strictEqual(closedWith, onclose === null ? 1000 : undefined)
  }
  // The client reports each session once as open and once as down.
  assert.deepStrictEqual(
    told,
    told.map((_, index) => (index % 2 === 0 ? "open" : "down"))
  )
  assert.strictEqual(told.length % 2 === 1, status === "open")
}

describe("the states of a connection", () => {
  const seed = 13
  const seen = new Set<string>()
  it.effect.prop(
    `release their resources when they end, and only reconnect leaves Stopped (seed ${seed})`,
    {
      before: Schema.Array(Event).check(Schema.isMaxLength(60)),
      after: Schema.Array(Event).check(Schema.isMaxLength(10))
    },
    ({ after, before }) =>
      Effect.gen(function* () {
        const { clock, jump } = yield* sleepy
        yield* Effect.gen(function* () {
          const scope = yield* Scope.make()
          const made = yield* make(jump).pipe(Scope.provide(scope))
          const { connection, happen, server } = made
          const stopped = () => connection.state.getSnapshot().status === "stopped"
          yield* happen({ does: "hold" })
          for (const event of before) {
            const was = stopped()
            const sockets = server.sockets.length
            yield* happen(event)
            check(made)
            const { fetches } = made.owned
            seen.add(`${connection.state.getSnapshot().status} with ${fetches} token callbacks`)
            if (!was || ("does" in event && event.does === "reconnect")) continue
            assert.deepStrictEqual([stopped(), server.sockets.length], [true, sockets])
          }
          yield* Scope.close(scope, Exit.void)
          const sockets = server.sockets.length
          for (const event of [
            ...after,
            { does: "reconnect" } as const,
            { adjust: 40_000 } as const
          ]) {
            yield* happen(event)
            check(made)
            assert.deepStrictEqual([stopped(), server.sockets.length], [true, sockets])
          }
        }).pipe(Effect.provideService(Clock.Clock, clock))
      }),
    { arbitrary: { runs: 300, seed, size: 60 } }
  )

  it("are all reached by the random events", () => {
    assert.deepStrictEqual([...seen].toSorted(), [
      "connecting with 0 token callbacks",
      "connecting with 1 token callbacks",
      "idle with 0 token callbacks",
      "open with 0 token callbacks",
      "open with 1 token callbacks",
      "stopped with 0 token callbacks",
      "waiting with 0 token callbacks"
    ])
  })

  it.effect.each([
    { status: "connecting", token: "at once" },
    { status: "connecting", token: "never" },
    { status: "connecting", token: "none" },
    { status: "open", token: "at once" },
    { status: "waiting", token: "at once" }
  ] as const)(
    "release all resources when a listener closes the client at $status (token: $token)",
    ({ status, token }) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const made = yield* make(() => {}).pipe(Scope.provide(scope))
        const { connection, happen, owned, server } = made
        const closing: Array<string> = []
        connection.state.subscribe(() => {
          const now = connection.state.getSnapshot().status
          if (now !== status || closing.length > 0) return
          closing.push(now)
          Effect.runFork(Scope.close(scope, Exit.void))
        })
        yield* happen({ token })
        yield* happen({ does: "hold" })
        if (closing.length === 0) yield* happen({ welcome: "expiring" })
        if (closing.length === 0) yield* happen({ drop: 1006 })
        assert.deepStrictEqual(closing, [status])
        yield* happen({ adjust: 40_000 })
        assert.strictEqual(connection.state.getSnapshot().status, "stopped")
        assert.deepStrictEqual(owned, { timers: 0, fetches: 0, signals: 0 })
        assert.strictEqual(attached(server), 0)
      })
  )

  it.effect("release all resources when a listener closes the client at source up", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const made = yield* make(() => {}).pipe(Scope.provide(scope))
      const { connection, happen, owned, server } = made
      yield* happen({ does: "hold" })
      yield* happen({ welcome: "welcome" })
      yield* happen({ say: "status" })
      yield* happen({ drop: 4000 })
      connection.source.subscribe(() => Effect.runFork(Scope.close(scope, Exit.void)))
      yield* happen({ adjust: 5000 })
      yield* happen({ welcome: "welcome" })
      assert.strictEqual(connection.source.getSnapshot(), "up")
      assert.strictEqual(connection.state.getSnapshot().status, "stopped")
      assert.deepStrictEqual(owned, { timers: 0, fetches: 0, signals: 0 })
      assert.strictEqual(attached(server), 0)
    })
  )
})
