/**
 * Hostile messages over real sockets to a real node on a real database. The node survives, its memory
 * does not grow, its database sessions stay, a witness receives every event, and every answer is one of
 * the protocol.
 *
 * REALTIME_TEST_SEED=<seed> repeats a run. REALTIME_TEST_LONG=1 sends 10 times as many messages.
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
/** Limits so high that the node decodes each message instead of rejecting it by rate. */
const raised = {
  frameRate: plenty,
  subscribeRate: plenty,
  publishRate: plenty,
  volatileRate: plenty,
  authenticateRate: plenty,
  channelOpenRate: plenty,
  authorizeRate: plenty,
  upgradeRate: plenty,
  maxUnanswered: 1_000_000
}

/** The allowed close codes: those of the protocol, and those of RFC 6455 that `ws` sends. */
const closeCodes = new Set([
  4000, 4001, 4002, 4003, 4004, 4005, 4100, 4101, 4200, 4201, 4202, 1002, 1005, 1007, 1008, 1009
])

const codes: ReadonlySet<string> = new Set(Object.keys(errorCodes))

/** Throws when the protocol does not allow this frame here. */
const judgeFrame = (frame: ServerFrame): void => {
  if (frame.type === "error" && !codes.has(frame.code)) throw new Error(`no code: ${frame.code}`)
  if (frame.type === "status" || frame.type === "bye") throw new Error(`told ${frame.type}`)
}

/** Checks the frames since `from`, and records the server's cursors. */
const judge = (wire: Wire, from: number, real: Map<string, string>): number => {
  for (const frame of wire.frames.slice(from)) {
    judgeFrame(frame)
    if ("cursor" in frame) real.set(frame.channel, frame.cursor)
  }
  return wire.frames.length
}

/** Counts of error codes, of subscription states and of close codes. */
interface Seen {
  readonly errors: Map<string, number>
  readonly states: Map<string, number>
  readonly closes: Map<number, number>
  /** Counts of events of volatile channels. */
  readonly told: Map<string, number>
}

const deliveryOf = ({ cursor }: { readonly cursor?: string }) =>
  cursor === undefined ? "volatile" : cursor.startsWith("2.") ? "durable" : "live"

const count = <Key>(map: Map<Key, number>, key: Key) => map.set(key, (map.get(key) ?? 0) + 1)

/** Subscribes, and retries while the node has too many replays. */
const stored = (wire: Wire, cursor: string | undefined): Effect.Effect<string> =>
  Effect.gen(function* () {
    wire.send({ type: "subscribe", id: 1_000_000, channel: "stored", cursor })
    const answer = yield* wire.next("subscribed", "error")
    if (answer.type === "subscribed") return answer.state
    expect(answer).toMatchObject({ id: 1_000_000, code: "server/overloaded" })
    yield* Effect.sleep(answer.retryAfter!)
    return yield* stored(wire, cursor)
  })

/** Sends at most `most` messages over one socket until it closes. Returns how many it sent. */
const session = (url: string, most: number, dice: Random, seen: Seen, real: Map<string, string>) =>
  Effect.gen(function* () {
    const wire = yield* greet(url)
    // The node accepts a valid cursor, whatever invalid ones it saw.
    const cursor = real.get("stored")
    const state = yield* Effect.raceFirst(stored(wire, cursor), wire.closed)
    expect(state).toBe(cursor === undefined ? "fresh" : "recovered")
    let sent = 0
    let judged = 0
    for (let fence = 0; sent < most && wire.socket.readyState === wire.socket.OPEN; fence++) {
      const burst = 1 + dice.int(400)
      for (let index = 0; index < burst; index++) wire.send(message(dice, real))
      sent += burst
      // The answer proves that the node handled all earlier messages, unless the socket closed.
      const id = 1_000_001 + fence
      wire.send({ type: "unsubscribe", id, channel: "witness" })
      yield* Effect.raceFirst(answered(wire, id), wire.closed)
      judged = judge(wire, judged, real)
    }
    for (const frame of wire.frames) {
      if (frame.type === "error") count(seen.errors, frame.code)
      if (frame.type === "events" && frame.cursor === undefined) count(seen.told, frame.channel)
      if (frame.type === "subscribed") {
        count(seen.states, `${frame.state} ${deliveryOf(frame)}`)
      }
    }
    if (wire.socket.readyState !== wire.socket.OPEN) {
      const code = yield* wire.closed
      expect(closeCodes, `closed with ${code}`).toContain(code)
      count(seen.closes, code)
    }
    return sent
  }).pipe(Effect.scoped)

/** Sends this many messages over at least four sockets in turn, and reads every answer. */
const attack = (url: string, messages: number, dice: Random) =>
  Effect.gen(function* () {
    const seen: Seen = { errors: new Map(), states: new Map(), closes: new Map(), told: new Map() }
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

/** Sends 5,000 messages at once, which exceeds the limit even on a slow machine. */
const flood = (url: string) =>
  Effect.gen(function* () {
    const wire = yield* greet(url)
    for (let n = 0; n < 5000; n++) wire.send(`{"type":"pong"}`)
    return yield* wire.closed
  }).pipe(Effect.scoped)

/** Opens sockets in turn that send invalid WebSocket data. */
const vandal = (port: number, path: string, most: number, dice: Random) =>
  Effect.gen(function* () {
    let sent = 0
    const closes = new Map<number, number>()
    const kinds = [...garbage(dice)]
    while (sent < most) {
      // Each kind once in full, then random ones.
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

/** The node's database sessions: one link and one reader per door. */
const links = (url: string) =>
  Effect.map(
    execute(
      url,
      `select pid from pg_stat_activity where datname = current_database()
        and application_name in ('effect-realtime link', 'effect-realtime reader') order by pid`
    ),
    (rows) => rows.map((row) => row["pid"])
  )

/** Publishes to the witness on a live and on a durable channel, and counts the events. */
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

/** The witness answers pings. */
const answerPings = (wire: Wire) =>
  Effect.forever(Effect.map(wire.next("ping"), () => wire.send({ type: "pong" })))

/** Runs an attack beside a witness on each door, then checks the node. */
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
    // A warm-up, so that nothing loads or opens for the first time during the measurement.
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
    // The node would log a caught bug as an error.
    expect(server.output()).not.toMatch(/ERROR|FATAL|TypeError|RangeError|Unhandled/)
    return result
  }).pipe(Effect.scoped)

const messages = long ? 1_000_000 : 50_000

describe(`hostile messages (REALTIME_TEST_SEED=${seed})`, () => {
  it.live(
    `the node survives ${messages} of them without loss for other clients`,
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
                // With the default limits the node rejects most messages by rate.
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
        // The attack reached every check.
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
        expect(seen.decoded.some(({ told }) => told.has("pointers"))).toBe(true)
        // The node parsed forged cursors, and valid ones among them.
        const states = new Set(seen.decoded.flatMap(({ states }) => [...states.keys()]))
        for (const kind of ["live", "durable"]) {
          for (const state of ["fresh", "recovered", "reset"]) {
            expect([...states]).toContain(`${state} ${kind}`)
          }
        }
        expect([...states].filter((state) => state.endsWith("volatile"))).toEqual([
          "fresh volatile"
        ])
        for (const code of [1002, 1007, 1008, 1009, 4200, 4201]) {
          expect([...seen.vandals.keys()]).toContain(code)
        }
      }),
    600_000
  )
})
