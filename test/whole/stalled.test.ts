/**
 * Two of 200 sockets stop reading while the node sends 24 MiB to each. The node holds at most its
 * mailboxes, the other sockets receive every event, and the two receive a gap or are closed.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { connect, type Socket } from "node:net"
import type { DoorOptions } from "../../src/server/ServerOptions.ts"
import { greet } from "../support/wire.ts"
import { node, type Node } from "./support/node.ts"
import { until } from "../support/until.ts"

const MiB = 1024 * 1024
/** Bytes of one event: with its frame just below the limit of NOTIFY. */
const eventBytes = 7900

/** A cheap client: it sends hello, subscribes, and counts bytes. */
const reader = (port: number): Effect.Effect<Socket, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Socket>((resume) => {
      const socket = connect({
        port,
        host: "127.0.0.1",
        onread: { buffer: Buffer.allocUnsafe(256 * 1024), callback: () => true }
      })
      socket.on("error", () => {})
      socket.write(
        "GET /realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      )
      socket.write(text({ type: "hello", version: 1 }))
      socket.write(text({ type: "subscribe", id: 1, channel: "flood" }))
      socket.once("connect", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** A masked text frame of a client, with a zero mask. */
const text = (frame: object): Buffer => {
  const payload = Buffer.from(JSON.stringify(frame))
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload])
}

const start = (options: Omit<DoorOptions, "channels">) =>
  node({
    doors: {
      "/realtime": { ...options, limits: { pingInterval: "10 minutes", ...options.limits } }
    }
  })

/** Events per round. All reading sockets receive a round before the next one. */
const round = 16

/** Publishes this many more bytes. Returns the number of the last event. */
const offer = (
  { flood }: Node,
  bytes: number,
  witness: { readonly seen: () => number },
  readers: ReadonlyArray<Socket> = []
) =>
  Effect.gen(function* () {
    let last = witness.seen()
    const end = last + Math.ceil(bytes / eventBytes)
    while (last < end) {
      yield* flood(last + 1, round, eventBytes)
      last += round
      const least = last * eventBytes
      yield* until(
        () => witness.seen() === last && readers.every(({ bytesRead }) => bytesRead >= least)
      )
    }
    return last
  })

/** A client that decodes and checks every event. */
const witness = (port: number) =>
  Effect.gen(function* () {
    const wire = yield* greet(`ws://127.0.0.1:${port}/realtime`)
    wire.send({ type: "subscribe", id: 1, channel: "flood" })
    yield* wire.next("subscribed")
    let seen = 0
    let taken = 0
    return {
      wire,
      seen: () => {
        for (; taken < wire.frames.length; taken++) {
          const frame = wire.frames[taken]!
          if (frame.type === "gap") throw new Error("The witness was told a gap")
          if (frame.type !== "events") continue
          for (const { data } of frame.events) {
            const { n } = data as { readonly n: number }
            if (n !== ++seen) throw new Error(`The witness received ${n} for ${seen}`)
          }
        }
        return seen
      }
    }
  })

describe("sockets that stop reading", () => {
  it.live(
    "cost the node only their mailboxes, do not delay the other 198, and receive gap slow",
    () =>
      Effect.gen(function* () {
        const server = yield* start({ limits: { blockedTimeout: "10 minutes" } })
        const readers = yield* Effect.forEach(Array.from({ length: 197 }), () =>
          reader(server.port)
        )
        const understanding = yield* witness(server.port)
        const stalled = [
          yield* greet(`ws://127.0.0.1:${server.port}/realtime`),
          yield* greet(`ws://127.0.0.1:${server.port}/realtime`)
        ]
        for (const wire of stalled) {
          wire.send({ type: "subscribe", id: 1, channel: "flood" })
          yield* wire.next("subscribed")
        }
        // A warm-up: what the first MiB allocates is no backlog.
        yield* offer(server, MiB, understanding, readers)
        for (const { socket } of stalled) socket.pause()
        const before = yield* server.memory
        let last = yield* offer(server, 24 * MiB, understanding, readers)
        const after = yield* server.memory
        // Beside the mailbox, Node buffers 64 KiB before it signals a full buffer, plus the frame that
        // crosses this mark: 64 KiB and one event.
        expect(after.unsent).toBeGreaterThan(0)
        expect(after.unsent).toBeLessThan(2 * (64 + 64 + 8) * 1024)
        expect(after.heap - before.heap).toBeLessThan(2 * MiB + 32 * MiB)
        expect(after.rss - before.rss).toBeLessThan(2 * MiB + 32 * MiB + 64 * MiB)
        // Each socket receives the same number of bytes. The last ones may still be under way.
        const most = Math.max(...readers.map(({ bytesRead }) => bytesRead))
        yield* until(() => readers.every(({ bytesRead }) => bytesRead === most))

        for (const { socket } of stalled) socket.resume()
        for (const wire of stalled) {
          expect((yield* wire.next("gap")).reason).toBe("slow")
          yield* server.flood(++last, 1, 10)
          yield* until(() =>
            wire.frames.some(
              (frame) =>
                frame.type === "events" &&
                frame.events.some(({ data }) => (data as { n: number }).n === last)
            )
          )
          expect(wire.socket.readyState).toBe(wire.socket.OPEN)
        }
        expect(server.alive()).toBe(true)
      }).pipe(Effect.scoped),
    60_000
  )

  const closed = [
    ["a full backlog, with slowConsumer: disconnect", { slowConsumer: "disconnect" }],
    ["500 ms without a read", { limits: { blockedTimeout: "500 millis" } }]
  ] as const
  it.live.each(closed)("are closed with 4001 and destroyed after %s", ([, options]) =>
    Effect.gen(function* () {
      const server = yield* start(options)
      const understanding = yield* witness(server.port)
      const stalled = yield* greet(`ws://127.0.0.1:${server.port}/realtime`)
      stalled.send({ type: "subscribe", id: 1, channel: "flood" })
      yield* stalled.next("subscribed")
      stalled.socket.pause()
      // The kernel buffers megabytes first. The session's memory is freed with the session.
      while ((yield* server.sessions) > 1) yield* offer(server, 1, understanding)
      stalled.socket.resume()
      expect([4001, 1006]).toContain(yield* stalled.closed)
      expect(server.alive()).toBe(true)
    }).pipe(Effect.scoped)
  )
})
