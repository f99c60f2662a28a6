/**
 * Hostile messages over real sockets at a real node over a real database. Whatever they are: the node
 * lives, holds no more than before, its link to the database is the same one, a witness receives
 * everything, and every answer is one that the protocol knows.
 *
 * REALTIME_TEST_SEED=<seed> repeats a run; REALTIME_TEST_LONG=1 sends ten times as much.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import { connect as tcp } from "node:net"
import { decodeServerFrame, type ServerFrame } from "../../src/Frame.ts"
import { errorCodes } from "../../src/Protocol.ts"
import { long, random, type Random, seed } from "../server/support/random.ts"
import { execute, installedDatabase } from "../support/database.ts"
import { greet, type Wire } from "../support/wire.ts"
import { garbage, handshake, message, readBack } from "./support/hostile.ts"
import { node, type Node } from "./support/node.ts"

const MiB = 1024 * 1024
const plenty = { perSecond: 1e6, burst: 1e6 }
/** So high that what is sent is decoded, not turned away at the rate limit. */
const raised = {
  frameRate: plenty,
  subscribeRate: plenty,
  publishRate: plenty,
  authenticateRate: plenty,
  channelOpenRate: plenty,
  authorizeRate: plenty,
  upgradeRate: plenty,
  maxUnanswered: 1_000_000
}

/** What a WebSocket may be closed with: the protocol's codes, and those of RFC 6455 that `ws` sends. */
const closeCodes = new Set([
  4000, 4001, 4002, 4003, 4004, 4005, 4100, 4101, 4200, 4201, 4202, 1002, 1005, 1007, 1008, 1009
])

const codes: ReadonlySet<string> = new Set(Object.keys(errorCodes))

/** What came back must be something that the protocol knows. */
const judgeFrame = (frame: ServerFrame): void => {
  if (frame.type === "error" && !codes.has(frame.code)) throw new Error(`no code: ${frame.code}`)
  if (frame.type === "status" || frame.type === "bye") throw new Error(`told ${frame.type}`)
}

/** Judges what came since, and keeps the cursors that were given. */
const judge = (wire: Wire, from: number, real: Map<string, string>): number => {
  for (const frame of wire.frames.slice(from)) {
    judgeFrame(frame)
    if ("cursor" in frame) real.set(frame.channel, frame.cursor)
  }
  return wire.frames.length
}

/** How often each error code was answered, each state of a subscription, and each close code. */
interface Seen {
  readonly errors: Map<string, number>
  readonly states: Map<string, number>
  readonly closes: Map<number, number>
}

const count = <Key>(map: Map<Key, number>, key: Key) => map.set(key, (map.get(key) ?? 0) + 1)

/** Subscribes, and again when the node has too many replays of the others to read. */
const stored = (wire: Wire, cursor: string | undefined): Effect.Effect<string> =>
  Effect.gen(function* () {
    wire.send({ type: "subscribe", id: 1_000_000, channel: "stored", cursor })
    const answer = yield* wire.next("subscribed", "error")
    if (answer.type === "subscribed") return answer.state
    expect(answer).toMatchObject({ id: 1_000_000, code: "server/overloaded" })
    yield* Effect.sleep(answer.retryAfter!)
    return yield* stored(wire, cursor)
  })

/** Sends messages over one socket until it closes, or so many are sent; gives how many. */
const session = (url: string, most: number, dice: Random, seen: Seen, real: Map<string, string>) =>
  Effect.gen(function* () {
    const wire = yield* greet(url)
    // A cursor that is right is honoured, whatever the others were.
    const cursor = real.get("stored")
    const state = yield* Effect.raceFirst(stored(wire, cursor), wire.closed)
    expect(state).toBe(cursor === undefined ? "fresh" : "recovered")
    let sent = 0
    let judged = 0
    for (let fence = 0; sent < most && wire.socket.readyState === wire.socket.OPEN; fence++) {
      const burst = 1 + dice.int(400)
      for (let index = 0; index < burst; index++) wire.send(message(dice, real))
      sent += burst
      // An answer to this one shows that everything before it was taken; or the socket closes.
      const id = 1_000_001 + fence
      wire.send({ type: "unsubscribe", id, channel: "witness" })
      yield* Effect.raceFirst(answered(wire, id), wire.closed)
      judged = judge(wire, judged, real)
    }
    for (const frame of wire.frames) {
      if (frame.type === "error") count(seen.errors, frame.code)
      if (frame.type === "subscribed") {
        count(seen.states, `${frame.state} ${frame.cursor.startsWith("2.") ? "durable" : "live"}`)
      }
    }
    if (wire.socket.readyState !== wire.socket.OPEN) {
      const code = yield* wire.closed
      expect(closeCodes, `closed with ${code}`).toContain(code)
      count(seen.closes, code)
    }
    return sent
  }).pipe(Effect.scoped)

/** Sends so many messages over one socket after the other, at least four, reading everything that comes back. */
const attack = (url: string, messages: number, dice: Random) =>
  Effect.gen(function* () {
    const seen: Seen = { errors: new Map(), states: new Map(), closes: new Map() }
    const real = new Map<string, string>()
    let sent = 0
    while (sent < messages) {
      const most = Math.min(messages - sent, Math.ceil(messages / 4))
      sent += yield* session(url, most, dice, seen, real)
    }
    return seen
  })

const answered = (wire: Wire, id: number): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(wire.next("unsubscribed"), { until: (frame) => frame.id === id }))

/** So many messages at once that no slow machine spreads them below the limit. */
const flood = (url: string) =>
  Effect.gen(function* () {
    const wire = yield* greet(url)
    for (let n = 0; n < 5000; n++) wire.send(`{"type":"pong"}`)
    return yield* wire.closed
  }).pipe(Effect.scoped)

/** One socket after the other that speaks no WebSocket, or not for long. */
const vandal = (port: number, path: string, most: number, dice: Random) =>
  Effect.gen(function* () {
    let sent = 0
    const closes = new Map<number, number>()
    const kinds = [...garbage(dice)]
    while (sent < most) {
      // Each kind once, to its end; then whatever comes.
      const once = kinds.shift()
      const { bytes, messages } = (once ?? dice.pick(garbage(dice)))()
      sent += messages
      const piecemeal = once === undefined && dice.chance(0.1)
      const abrupt = once === undefined && dice.chance(0.2)
      const received: Array<Buffer> = []
      yield* Effect.callback<void>((resume) => {
        const socket = tcp(port, "127.0.0.1", () => {
          socket.write(handshake(path))
          if (piecemeal)
            for (const byte of bytes.subarray(0, 200)) socket.write(Buffer.from([byte]))
          else socket.write(bytes)
          if (abrupt) socket.resetAndDestroy()
          else socket.end()
        })
        socket.on("data", (data: Buffer) => received.push(data))
        socket.on("error", () => {})
        socket.on("close", () => resume(Effect.void))
        return Effect.sync(() => socket.destroy())
      })
      const { code, texts } = readBack(Buffer.concat(received))
      for (const text of texts) {
        for (const line of text.split("\n")) {
          const frame = decodeServerFrame(line)
          if (frame === undefined) throw new Error(`not a frame: ${line}`)
          judgeFrame(frame)
        }
      }
      if (code === undefined) continue
      expect(closeCodes, `closed with ${code}`).toContain(code)
      count(closes, code)
    }
    return closes
  })

/** The sessions of the node that listen and that read, one of each for each door. */
const links = (url: string) =>
  Effect.map(
    execute(
      url,
      `select pid from pg_stat_activity where datname = current_database()
        and application_name in ('effect-realtime link', 'effect-realtime reader') order by pid`
    ),
    (rows) => rows.map((row) => row["pid"])
  )

/** Tells the witness on a live and on a durable channel as long as it runs; gives how often. */
const notifyWitness = (url: string, sent: { count: number }) =>
  Effect.forever(
    Effect.andThen(
      Effect.suspend(() => {
        const data = `'{"n":${sent.count + 1}}'`
        return execute(
          url,
          `select pg_notify('witness', ${data}), realtime.publish('stored', ${data}::text)`
        )
      }),
      Effect.sync(() => {
        sent.count++
      })
    ).pipe(Effect.delay("20 millis"))
  )

const subscribed = (url: string): Effect.Effect<Wire, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const wire = yield* greet(url)
    for (const [id, channel] of witnessed.entries()) {
      wire.send({ type: "subscribe", id, channel })
      yield* wire.next("subscribed")
    }
    return wire
  })

const witnessed = ["witness", "stored"]

const numbers = (wire: Wire, channel: string) =>
  wire.frames.flatMap((frame) =>
    frame.type === "events" && frame.channel === channel
      ? frame.events.map(({ data }) => (data as { readonly n: number }).n)
      : []
  )

/** A real witness keeps up with pings. */
const answerPings = (wire: Wire) =>
  Effect.forever(Effect.map(wire.next("ping"), () => wire.send({ type: "pong" })))

/** Runs an attack beside a witness on each door, and judges what is left of the node. */
const besides = <A, E>(
  attacks: (node: Node) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, unknown> =>
  Effect.gen(function* () {
    const { url } = yield* installedDatabase
    const server = yield* node({
      databaseUrl: url,
      durable: true,
      doors: { "/raised": { limits: raised }, "/default": {} }
    })
    const at = (path: string) => `ws://127.0.0.1:${server.port}${path}`
    const witnesses = [yield* subscribed(at("/raised")), yield* subscribed(at("/default"))]
    for (const wire of witnesses) yield* Effect.forkScoped(answerPings(wire))
    const sent = { count: 0 }
    const notifying = yield* Effect.forkScoped(notifyWitness(url, sent))
    // Once around, so that nothing is loaded or opened for the first time later.
    yield* attack(at("/raised"), 2000, random(seed - 1))
    yield* vandal(server.port, "/raised", 500, random(seed - 1))
    const link = yield* links(url)
    expect(link).toHaveLength(4)
    const before = yield* server.memory

    const result = yield* attacks(server)

    expect(server.alive(), server.output()).toBe(true)
    const after = yield* server.memory
    expect(after.heap - before.heap).toBeLessThan(32 * MiB)
    expect(after.rss).toBeLessThan(512 * MiB)
    expect(yield* links(url)).toEqual(link)
    yield* Fiber.interrupt(notifying)
    const expected = Array.from({ length: sent.count }, (_, index) => index + 1)
    for (const wire of witnesses) {
      for (const channel of witnessed) {
        while (numbers(wire, channel).length < sent.count) yield* wire.next("events")
        expect(numbers(wire, channel).slice(0, sent.count)).toEqual(expected)
      }
      expect(wire.frames.filter(({ type }) => type === "gap" || type === "status")).toEqual([])
    }
    // A bug that was caught would be logged as an error.
    expect(server.output()).not.toMatch(/ERROR|FATAL|TypeError|RangeError|Unhandled/)
    return result
  }).pipe(Effect.scoped)

const messages = long ? 1_000_000 : 100_000

describe(`hostile messages (REALTIME_TEST_SEED=${seed})`, () => {
  it.live(
    `${messages} of them change nothing`,
    () =>
      Effect.gen(function* () {
        const sockets = 6
        const seen = yield* besides((server) =>
          Effect.gen(function* () {
            const at = (path: string) => `ws://127.0.0.1:${server.port}${path}`
            const all = Effect.forEach(
              Array.from({ length: sockets }, (_, index) => index),
              (index) => attack(at("/raised"), (messages * 0.85) / sockets, random(seed + index)),
              { concurrency: "unbounded" }
            )
            const [decoded, flooded, , vandals] = yield* Effect.all(
              [
                all,
                flood(at("/default")),
                // With the limits as they are, most of it never gets further than the first of them.
                attack(at("/default"), messages * 0.05, random(seed + 100)),
                vandal(server.port, "/raised", messages * 0.08, random(seed + 200)),
                vandal(server.port, "/default", messages * 0.02, random(seed + 300))
              ],
              { concurrency: "unbounded" }
            )
            return { decoded, flooded, vandals }
          })
        )
        const errors = new Set(seen.decoded.flatMap(({ errors }) => [...errors.keys()]))
        // The attack reached what it was meant for.
        for (const code of [
          "frame/malformed",
          "frame/unknown",
          "channel/invalid-name",
          "channel/unknown",
          "channel/forbidden",
          "subscribe/duplicate",
          "publish/forbidden",
          "publish/invalid",
          "publish/too-large",
          "auth/invalid"
        ]) {
          expect([...errors]).toContain(code)
        }
        expect(seen.flooded).toBe(4003)
        // Forged cursors were looked at, and some that were right among them.
        const states = new Set(seen.decoded.flatMap(({ states }) => [...states.keys()]))
        for (const kind of ["live", "durable"]) {
          for (const state of ["fresh", "recovered", "reset"]) {
            expect([...states]).toContain(`${state} ${kind}`)
          }
        }
        for (const code of [1002, 1007, 1008, 1009, 4200, 4201]) {
          expect([...seen.vandals.keys()]).toContain(code)
        }
      }),
    600_000
  )
})
