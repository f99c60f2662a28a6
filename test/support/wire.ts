/**
 * A bare client of the wire for tests: sends frames, keeps what arrives, waits for conditions.
 */
import { Effect, type Scope } from "effect"
import type { ConnectionOptions } from "node:tls"
import { WebSocket } from "ws"
import { decodeServerFrame, type FrameOf, type ServerFrame } from "../../src/Frame.ts"

export interface Wire {
  readonly send: (frame: object | string | Buffer) => void
  /** Every frame so far, oldest first. */
  readonly frames: ReadonlyArray<ServerFrame>
  /** The texts of the messages so far: a message may hold several frames. */
  readonly messages: ReadonlyArray<string>
  /** The next frame of one of these types that was not taken yet; waits for it. */
  readonly next: <Type extends ServerFrame["type"]>(
    ...types: ReadonlyArray<Type>
  ) => Effect.Effect<FrameOf<ServerFrame, Type>>
  /** The close code, once the socket is closed. */
  readonly closed: Effect.Effect<number>
  readonly socket: WebSocket
}

export interface Options {
  readonly protocols?: ReadonlyArray<string>
  readonly headers?: Readonly<Record<string, string>>
  readonly tls?: ConnectionOptions
}

/** The answer of a server that rejects the upgrade. */
export class UpgradeRefused extends Error {
  readonly status: number
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  constructor(status: number, headers: UpgradeRefused["headers"]) {
    super(`The upgrade was refused with ${status}`)
    this.status = status
    this.headers = headers
  }
}

export const connect = (
  url: string,
  { headers = {}, protocols = ["effect-realtime.v1"], tls = {} }: Options = {}
): Effect.Effect<Wire, UpgradeRefused, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Wire, UpgradeRefused>((resume) => {
      const socket = new WebSocket(url, [...protocols], { ...tls, headers: { ...headers } })
      const messages: Array<string> = []
      const frames: Array<ServerFrame> = []
      const taken = new Set<ServerFrame>()
      let closeCode: number | undefined
      const waiting = new Set<() => void>()
      const wake = () => {
        for (const check of waiting) check()
      }
      const found = <A>(find: () => A | undefined): Effect.Effect<A> =>
        Effect.callback<A>((resume) => {
          const check = () => {
            const value = find()
            if (value === undefined) return
            waiting.delete(check)
            resume(Effect.succeed(value))
          }
          waiting.add(check)
          check()
          return Effect.sync(() => waiting.delete(check))
        })
      socket.on("message", (data: Buffer) => {
        const text = data.toString("utf8")
        messages.push(text)
        for (const line of text.split("\n")) {
          const frame = decodeServerFrame(line)
          if (frame === undefined) throw new Error(`not a frame: ${line}`)
          frames.push(frame)
        }
        wake()
      })
      socket.on("close", (code) => {
        closeCode = code
        wake()
      })
      socket.on("unexpected-response", (_, response) => {
        response.resume()
        resume(Effect.fail(new UpgradeRefused(response.statusCode ?? 0, response.headers)))
        socket.terminate()
      })
      // Before the socket is open no listener is there. After that, "close" follows.
      socket.on("error", () => resume(Effect.fail(new UpgradeRefused(0, {}))))
      socket.on("open", () =>
        resume(
          Effect.succeed({
            socket,
            frames,
            messages,
            send: (frame) =>
              socket.send(
                typeof frame === "string" || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame)
              ),
            next: <Type extends ServerFrame["type"]>(...types: ReadonlyArray<Type>) =>
              found(() => {
                const frame = frames.find(
                  (one) => types.includes(one.type as Type) && !taken.has(one)
                )
                if (frame !== undefined) taken.add(frame)
                return frame as FrameOf<ServerFrame, Type> | undefined
              }),
            closed: found(() => closeCode)
          })
        )
      )
    }),
    ({ socket }) => Effect.sync(() => socket.terminate())
  )

/** Connects and sends hello. */
export const greet = (url: string, options?: Options) =>
  Effect.gen(function* () {
    const wire = yield* connect(url, options)
    wire.send({ type: "hello", version: 1 })
    const closed = Effect.flatMap(wire.closed, (code) =>
      Effect.die(new Error(`closed with ${code} before it was welcome`))
    )
    yield* Effect.raceFirst(wire.next("welcome"), closed)
    return wire
  })
