/**
 * Brings a door the upgrade requests of any `node:http` or `node:https` server, and leaves all other
 * requests, paths and listeners alone. An upgrade that no listener answers is closed after a while: an
 * upgraded socket has no other time limit, and a closing server waits for it.
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

/** Made here: a function made beside the request would keep the request as long as the socket. */
const ignore = (): void => undefined

/** Milliseconds between two checks of sockets that wait for an answer. */
const lookMillis = 1000

interface Attachment {
  readonly doors: Set<Door>
  readonly listener: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
}

/** One listener per server, however many doors it has: the first door that owns the path answers. */
const attached = new WeakMap<Server, Attachment>()

type Run = (effect: Effect.Effect<void>) => unknown

const listen = (server: Server, run: Run, now: () => number): Attachment => {
  const doors = new Set<Door>()
  const neighbours = neighboursOf(server, (line) => run(Effect.logWarning(line)), now)
  const others = othersOf(run)
  const listener: Attachment["listener"] = (request, duplex, head) => {
    const socket = duplex as Socket
    // For every path: maybe no other listener answers, and a reset without an error listener ends the
    // process.
    socket.on("error", ignore)
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
    // Without this listener Node treats `Upgrade: h2c` and the like as ordinary requests.
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket)
    response.once("finish", () => socket.end())
    server.emit("request", request, response)
  }
  const attachment = { doors, listener }
  attached.set(server, attachment)
  // The first of all listeners, because what another one has written cannot be undone.
  server.prependListener("upgrade", listener)
  return attachment
}

/** Waits for another listener to take a socket, and closes the sockets that none has taken in time. */
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
    // In the same step as the last check, so that a later socket starts the watch again.
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

/** Whether another listener reads or writes the socket, or the socket is over. */
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
        // While the door drains, it rejects upgrades with 503.
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
