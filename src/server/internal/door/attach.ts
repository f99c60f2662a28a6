/**
 * Brings a door the upgrade requests of any `node:http` or `node:https` server, and leaves all other
 * requests, paths and listeners alone. What nobody answers is closed after a while: an upgraded socket
 * has no other time limit, and the server waits for it when it closes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { type IncomingMessage, type Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as metrics from "../metrics.ts"
import type { Door } from "./door.ts"
import { answerMillis, neighboursOf } from "./neighbours.ts"
import { enter, refuse, wantsWebSocket } from "./upgrade.ts"

/** What waits for an answer is looked at this often. */
const lookMillis = 1000

interface Attachment {
  readonly doors: Set<Door>
  readonly listener: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
}

/** One listener per server, however many doors it has: the first that answers ends the request. */
const attached = new WeakMap<Server, Attachment>()

type Run = (effect: Effect.Effect<void>) => unknown

const listen = (server: Server, run: Run, now: () => number): Attachment => {
  const doors = new Set<Door>()
  const neighbours = neighboursOf(server, (line) => run(Effect.logWarning(line)), now)
  const others = othersOf(run)
  const listener: Attachment["listener"] = (request, duplex, head) => {
    const socket = duplex as Socket
    // For every path: nobody else may answer, and a reset without a listener ends the process.
    socket.on("error", () => undefined)
    for (const door of doors) {
      if (door.owns(request)) {
        neighbours.keepOff(door.path, socket, (ours) => enter(door, request, ours, head))
        return
      }
    }
    if (neighbours.there) return others(socket)
    const hasBody = "content-length" in request.headers || "transfer-encoding" in request.headers
    if (wantsWebSocket(request) || hasBody) {
      return refuse(socket, { status: 404, reason: "There is no WebSocket here." })
    }
    // `Upgrade: h2c` and the like were ordinary requests before this listener came.
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket)
    response.once("finish", () => socket.end())
    server.emit("request", request, response)
  }
  const attachment = { doors, listener }
  attached.set(server, attachment)
  // The first of all: what another one has written cannot be taken back.
  server.prependListener("upgrade", listener)
  return attachment
}

/** Waits for somebody else's answer, and closes what nobody has taken by then. */
const othersOf = (run: Run): ((socket: Socket) => void) => {
  const waiting = new Map<Socket, { readonly written: number; readonly until: number }>()
  let watching = false
  const watch = Effect.gen(function* () {
    while (waiting.size > 0) {
      yield* Effect.sleep(lookMillis)
      const now = yield* Clock.currentTimeMillis
      for (const [socket, { until, written }] of waiting) {
        const taken = isTaken(socket, written)
        if (!taken && now < until) continue
        waiting.delete(socket)
        if (taken) continue
        yield* Metric.update(untaken, 1)
        refuse(socket, { status: 404, reason: "There is no WebSocket here." })
      }
    }
    // In the same step as the look: who comes later must find nobody watching.
    watching = false
  })
  return (socket) => {
    const written = socket.bytesWritten
    run(
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        waiting.set(socket, { written, until: now + answerMillis })
        if (watching) return Effect.void
        watching = true
        return watch
      })
    )
  }
}

/** Somebody writes to it or reads from it; or it is over. */
const isTaken = (socket: Socket, written: number): boolean =>
  socket.destroyed ||
  socket.writableEnded ||
  socket.bytesWritten !== written ||
  socket.listenerCount("data") > 0 ||
  socket.listenerCount("readable") > 0

const untaken = Metric.withAttributes(metrics.refused, { reason: "upgrade-untaken" })

export const attach = (door: Door, server: Server): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.gen(function* () {
        const run = Effect.runForkWith(yield* Effect.context<never>())
        const clock = yield* Clock.Clock
        const now = () => clock.currentTimeMillisUnsafe()
        const attachment = attached.get(server) ?? listen(server, run, now)
        attachment.doors.add(door)
        return attachment
      }),
      ({ doors, listener }) =>
        // While the door drains it still answers: it refuses upgrades with 503.
        Effect.andThen(
          door.drain,
          Effect.sync(() => {
            if (!doors.delete(door) || doors.size > 0) return
            attached.delete(server)
            server.off("upgrade", listener)
          })
        )
    )
  )
