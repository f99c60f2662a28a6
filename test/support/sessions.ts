/**
 * Sessions without sockets: a server in memory, and clients that are plain objects. `TestClock`
 * drives all of it, so that a test of ten seconds takes no time.
 */
import { Context, Effect, Layer, Metric, type Scope } from "effect"
import { TestClock } from "effect/testing"
import type { IncomingHttpHeaders } from "node:http"
import { decodeServerFrame, type FrameOf, type ServerFrame } from "../../src/Frame.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import * as Turns from "../../src/server/internal/eventLoopTurns.ts"
import type { Peer } from "../../src/server/internal/session/peer.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import type { Options } from "../../src/server/ServerOptions.ts"
import type { Outgoing } from "../../src/server/internal/hub/outgoing.ts"
import { bytesOf } from "./messages.ts"

/** The server of a test, without sockets. */
export class TestDoor extends Context.Service<TestDoor, Door.Door>()("test/TestDoor") {}

/** A server over the source in memory, or over a source made from it. */
export const layerDoor = <I>(
  options: Options<I>,
  realtime?: Realtime.Options,
  source: Layer.Layer<NotificationSource, never, NotificationSource> = Layer.effect(
    NotificationSource,
    NotificationSource
  )
) =>
  Layer.effect(TestDoor, Door.make(options)).pipe(
    Layer.provideMerge(Realtime.layer(realtime)),
    Layer.provide(source),
    Layer.provideMerge(MemorySource.layer)
  )

type Ears = ReturnType<Door.Door["accept"]>

const all = [Turns.turns, Turns.asking, Turns.opening, Turns.confirming, Turns.ending]

const round = Effect.repeat(TestClock.adjust(0), { times: 4 })

/** Runs everything that can run now, in as many turns of the loop as it takes. */
export const settle: Effect.Effect<void> = Effect.asVoid(
  Effect.repeat(round, { until: () => all.every(({ idle }) => idle) })
)

/** How often the server has rejected for this reason so far. */
export const refusals = (reason: string): Effect.Effect<number> =>
  Effect.map(
    Metric.value(Metric.withAttributes(metrics.refused, { reason })),
    ({ count }) => count as number
  )

/** A client's end of a socket. */
export class Visitor implements Peer {
  /** All frames written so far. */
  readonly frames: Array<ServerFrame> = []
  closeCode: number | undefined
  closeReason = ""
  terminated = false
  paused = false
  /** While `false` the socket is full: one more write is accepted. */
  reading = true
  #ears: Ears | undefined
  #full = false
  #left = false
  #written = 0
  #onDrain: (() => void) | undefined
  #waiting: Array<ServerFrame> = []
  /** Whether the client answers a close frame, as every WebSocket should. */
  readonly #polite: boolean

  constructor(polite: boolean) {
    this.#polite = polite
  }

  listen(ears: Ears): void {
    this.#ears = ears
  }

  // --- the session's side

  written(): number {
    return this.#written
  }

  write(message: Outgoing): boolean {
    if (this.closeCode !== undefined || this.terminated) return true
    this.#written += bytesOf(message)
    const frame = decodeServerFrame(message.text)!
    if (this.reading) this.frames.push(frame)
    else {
      this.#waiting.push(frame)
      this.#full = true
    }
    return this.reading
  }

  writeAll(messages: ReadonlyArray<Outgoing>): boolean {
    for (const message of messages) this.write(message)
    return this.reading
  }

  sizeOf(message: Outgoing): number {
    return bytesOf(message)
  }

  keep(message: Outgoing): Outgoing {
    return message
  }

  onDrain(drained: () => void): () => void {
    if (!this.#full) {
      drained()
      return () => undefined
    }
    this.#onDrain = drained
    return () => {
      this.#onDrain = undefined
    }
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  close(code: number, reason: string): void {
    // `ws` throws at a longer reason.
    if (Buffer.byteLength(reason) > 123) throw new RangeError(`Too long: ${reason}`)
    this.closeCode ??= code
    this.closeReason ||= reason
    if (this.#polite) this.leave()
  }

  closing(): boolean {
    return this.closeCode !== undefined
  }

  terminate(): void {
    this.terminated = true
    this.leave()
  }

  // --- the client's side

  send(frame: object | string): void {
    this.#ears!.receive(typeof frame === "string" ? frame : JSON.stringify(frame))
  }

  get ears(): Ears {
    return this.#ears!
  }

  leave(): void {
    if (this.#left) return
    this.#left = true
    this.#ears?.closed()
  }

  /** Reads again, first the bytes that waited. */
  read(): void {
    this.reading = true
    this.#full = false
    this.frames.push(...this.#waiting.splice(0))
    const drained = this.#onDrain
    this.#onDrain = undefined
    drained?.()
  }

  /** Reads what was written so far, and is full again at the next write. */
  sip(): void {
    this.#full = false
    this.frames.push(...this.#waiting.splice(0))
    const drained = this.#onDrain
    this.#onDrain = undefined
    drained?.()
  }

  of<Type extends ServerFrame["type"]>(type: Type): ReadonlyArray<FrameOf<ServerFrame, Type>> {
    return this.frames.filter((frame): frame is FrameOf<ServerFrame, Type> => frame.type === type)
  }

  last<Type extends ServerFrame["type"]>(type: Type): FrameOf<ServerFrame, Type> | undefined {
    return this.of(type).at(-1)
  }

  /** The answer to a request. */
  answer(id: number): ServerFrame | undefined {
    return this.frames.find((frame) => "id" in frame && frame.id === id)
  }

  /** The codes of all errors so far. */
  get errors(): ReadonlyArray<string> {
    return this.of("error").map(({ code }) => code)
  }
}

export interface Visit {
  readonly token?: string
  readonly headers?: IncomingHttpHeaders
  readonly address?: string
  /** Default `true`: says hello at once. */
  readonly hello?: boolean
  readonly polite?: boolean
}

/** A client connects, and everything that follows at once has happened. */
export const visit = ({
  address = "203.0.113.7",
  headers = {},
  hello = true,
  polite = true,
  token
}: Visit = {}): Effect.Effect<Visitor, never, TestDoor | Scope.Scope> =>
  Effect.gen(function* () {
    const door = yield* TestDoor
    const visitor = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const visitor = new Visitor(polite)
        visitor.listen(door.accept(visitor, { headers, address }))
        return visitor
      }),
      (visitor) => Effect.sync(() => visitor.leave())
    )
    if (hello) {
      visitor.send({ type: "hello", version: 1, ...(token === undefined ? {} : { token }) })
      yield* settle
    }
    return visitor
  })
