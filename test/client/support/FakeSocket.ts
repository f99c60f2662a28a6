/**
 * A server inside the test: a WebSocket class whose instances record the client's frames and deliver
 * the frames of the test. It sends nothing by itself, unless you set `auto` or call `answer`.
 */
import {
  type ClientFrame,
  decodeClientFrame,
  encode,
  type ServerFrame
} from "../../../src/Frame.ts"
import { Result } from "effect"

class FakeSocket {
  readonly url: string
  readonly protocols: Array<string>
  readyState = 0
  onopen: ((event: never) => void) | null = null
  onmessage: ((event: never) => void) | null = null
  onclose: ((event: never) => void) | null = null
  onerror: ((event: never) => void) | null = null
  /** Every frame the client sent, in order. */
  readonly sent: Array<ClientFrame> = []
  /** The code of the client's own `close`. */
  closedWith: number | undefined
  private readonly server: FakeServer

  constructor(url: string, protocols: Array<string>, server: FakeServer) {
    this.url = url
    this.protocols = protocols
    this.server = server
  }

  send(text: string): void {
    if (this.readyState !== 1) throw new Error("send on a socket that is not open")
    const frame = Result.getOrThrow(decodeClientFrame(text))
    if (encode(frame) !== text) throw new Error(`not the bytes of the protocol: ${text}`)
    this.sent.push(frame)
    this.server.heard(this, frame)
  }

  /** Like in a browser, `close` never fires for a silently dead connection. */
  close(code?: number): void {
    this.readyState = 2
    this.closedWith = code ?? 1005
  }

  // the test's side

  open(): this {
    this.readyState = 1
    ;(this.onopen as (() => void) | null)?.()
    return this
  }

  /** Delivers one message with these frames. */
  say(...frames: ReadonlyArray<ServerFrame>): this {
    this.text(frames.map(encode).join("\n"))
    return this
  }

  text(data: unknown): void {
    ;(this.onmessage as ((event: { data: unknown }) => void) | null)?.({ data })
  }

  /** Closes the socket as the server or the network does. */
  drop(code = 1006, reason = ""): void {
    this.readyState = 3
    ;(this.onclose as ((event: { code: number; reason: string }) => void) | null)?.({
      code,
      reason
    })
  }

  of<Type extends ClientFrame["type"]>(type: Type): Array<Extract<ClientFrame, { type: Type }>> {
    return this.sent.filter((frame) => frame.type === type) as never
  }
}

export const welcome: Extract<ServerFrame, { type: "welcome" }> = {
  type: "welcome",
  version: 1,
  session: "s1",
  ping: 25_000,
  slack: 10_000,
  limits: { subscriptions: 100, frameBytes: 65_536, publishPerSecond: 20, volatilePerSecond: 60 }
}

export interface FakeServer {
  readonly sockets: Array<FakeSocket>
  /** The newest socket. */
  readonly last: FakeSocket
  readonly webSocket: new (url: string, protocols: Array<string>) => FakeSocket
  /** The client's frames, over all sockets. */
  readonly sent: ReadonlyArray<ClientFrame>
  /** Called for each frame of the client. Set it to script answers. */
  heard: (socket: FakeSocket, frame: ClientFrame) => void
  /** Answers hello and each request at once, like a healthy server. */
  readonly answer: (socket: FakeSocket, frame: ClientFrame) => void
}

export const make = (options?: {
  /** Whether to open each socket in the next microtask and answer its frames, default `false`. */
  readonly auto?: boolean
  readonly welcome?: Partial<typeof welcome>
}): FakeServer => {
  const sockets: Array<FakeSocket> = []
  const server: FakeServer = {
    sockets,
    get last() {
      return sockets.at(-1)!
    },
    get sent() {
      return sockets.flatMap((socket) => socket.sent)
    },
    webSocket: class extends FakeSocket {
      constructor(url: string, protocols: Array<string>) {
        super(url, protocols, server)
        sockets.push(this)
        if (options?.auto === true) queueMicrotask(() => this.open())
      }
    },
    heard: (socket, frame) => {
      if (options?.auto === true) server.answer(socket, frame)
    },
    answer: (socket, frame) => {
      switch (frame.type) {
        case "hello":
          return void socket.say({ ...welcome, ...options?.welcome })
        case "subscribe": {
          const { channel, cursor, id, state } = frame
          socket.say(
            cursor === undefined
              ? { type: "subscribed", id, channel, state: "fresh", cursor: "e:0" }
              : { type: "subscribed", id, channel, state: "recovered", cursor }
          )
          if (state !== true || cursor !== undefined) return
          // Nothing is remembered.
          return void socket.say({ type: "state", channel, cursor: "e:0", rows: [], more: false })
        }
        case "unsubscribe":
          return void socket.say({ type: "unsubscribed", id: frame.id, channel: frame.channel })
        case "publish":
          return void socket.say({ type: "published", id: frame.id })
        case "history":
          return void socket.say({
            type: "history",
            id: frame.id,
            channel: frame.channel,
            events: [],
            more: false
          })
        case "authenticate":
          return void socket.say({ type: "authenticated", id: frame.id })
        case "ping":
          return void socket.say({ type: "pong" })
      }
    }
  }
  return server
}

/** An `events` frame whose payloads are `data`, numbered on from `seq`. */
export const events = (
  channel: string,
  seq: number,
  ...data: ReadonlyArray<unknown>
): Extract<ServerFrame, { type: "events" }> => ({
  type: "events",
  channel,
  cursor: `e:${seq + data.length - 1}`,
  events: data.map((data, index) => ({
    id: String(seq + index),
    at: "2026-11-22T00:00:00.000Z",
    data
  }))
})
