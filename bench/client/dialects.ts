/**
 * The dialect of each subject: what a client sends to subscribe, which frames carry no messages,
 * and what a frame with messages must be, to the byte.
 */
import { channelName } from "../lib/messages.ts"
import * as Mqtt from "../lib/mqtt.ts"
import type { DialectName } from "../lib/types.ts"
import { clientFrame, opcodes } from "./framing.ts"

/** The position of a feed, as far as the next frame depends on it. */
export interface Place {
  readonly channel: number
  /** Messages before the next frame. */
  readonly messages: number
  /** The prefix of the channel's ids, once one was seen. */
  epoch: string | undefined
  /** The text of the next message, of the one after it, and so on. */
  readonly expected: (index: number) => string
}

export interface Dialect {
  /** The request target of a socket of this channel. */
  readonly path: (channel: number) => string
  readonly subprotocol: string | undefined
  /** What a client sends right after the handshake. */
  readonly greeting: (socket: number, channels: ReadonlyArray<number>) => ReadonlyArray<Buffer>
  /** How many frames answer the greeting; each is checked. */
  readonly answers: (text: string, channels: ReadonlyArray<number>) => "ready" | "more"
  /** Whether a socket is ready as soon as the handshake is done. */
  readonly readyAtOnce: (channels: ReadonlyArray<number>) => boolean
  /** The answer to a frame without messages; `undefined` for a frame with messages. */
  readonly smallTalk: (text: string) => Buffer | "silence" | undefined
  /**
   * The number of messages in the frame. Throws when its text is not exactly that of the channel's
   * next messages.
   */
  readonly read: (text: string, place: Place) => number
  /** The position after a frame that only reports missing messages. */
  readonly gap?: (text: string) => number | undefined
  /** The answer to a frame with messages. */
  readonly acknowledge: Buffer | undefined
  /** Whether every socket of a channel gets the same frames. */
  readonly shared: boolean
  /**
   * Where frames are just pieces of a stream: where the unit that begins at `at` ends, `undefined`
   * while it is not complete. A unit, as Latin-1, then stands for the text of a frame.
   */
  readonly unitEnd?: (bytes: Buffer, at: number) => number | undefined
}

class WrongBytes extends Error {
  constructor(got: string, wanted: string) {
    super(`a frame differs from what was published\n  got    ${got}\n  wanted ${wanted}`)
  }
}

const same = (got: string, wanted: string): void => {
  if (got !== wanted) throw new WrongBytes(got, wanted)
}

/** One message per frame and nothing around it: `ws` by hand. */
const plain: Dialect = {
  path: (channel) => `/${channelName(channel)}`,
  subprotocol: undefined,
  greeting: () => [],
  answers: () => "ready",
  readyAtOnce: () => true,
  smallTalk: () => undefined,
  read: (text, { expected }) => {
    same(text, expected(0))
    return 1
  },
  acknowledge: undefined,
  shared: true
}

interface RealtimeFrame {
  readonly type: string
  readonly cursor: string
  readonly id?: number
  readonly events: ReadonlyArray<{ readonly id: string; readonly at: string }>
}

const pong = clientFrame(JSON.stringify({ type: "pong" }))

const realtime: Dialect = {
  path: () => "/realtime",
  subprotocol: "effect-realtime.v1",
  greeting: (socket, channels) => [
    clientFrame(JSON.stringify({ type: "hello", version: 1, token: `user-${socket}` })),
    ...channels.map((channel, id) =>
      clientFrame(JSON.stringify({ type: "subscribe", id, channel: channelName(channel) }))
    )
  ],
  answers: (text, channels) => {
    const frame = JSON.parse(text) as RealtimeFrame
    if (frame.type === "welcome") return channels.length === 0 ? "ready" : "more"
    if (frame.type !== "subscribed") throw new Error(`not let in: ${text}`)
    return frame.id === channels.length - 1 ? "ready" : "more"
  },
  readyAtOnce: () => false,
  smallTalk: (text) => (text === '{"type":"ping"}' ? pong : undefined),
  read: (text, place) => {
    let count = 0
    for (const line of text.split("\n")) {
      const { events = [] } = JSON.parse(line) as RealtimeFrame
      // The n-th message of a channel has the number n, in every epoch of the server.
      place.epoch ??= events[0]?.id.split(":")[0]
      const idOf = (index: number) => `${place.epoch}:${place.messages + index + 1}`
      const parts = events.map(({ at }, index) => {
        const number = count + index
        return `{"id":"${idOf(number)}","at":"${at}","data":${place.expected(number)}}`
      })
      count += events.length
      const [name, cursor] = [channelName(place.channel), idOf(count - 1)]
      same(
        line,
        `{"type":"events","channel":"${name}","cursor":"${cursor}","events":[${parts.join(",")}]}`
      )
    }
    return count
  },
  gap: (text) => {
    if (!text.startsWith('{"type":"gap"')) return undefined
    // The n-th notification of a channel has the number n.
    return Number((JSON.parse(text) as RealtimeFrame).cursor.split(":")[1])
  },
  acknowledge: undefined,
  shared: true
}

const socketIo: Dialect = {
  path: () => "/socket.io/?EIO=4&transport=websocket",
  subprotocol: undefined,
  greeting: (_, channels) => [
    clientFrame(`40${JSON.stringify({ channels: channels.map(channelName) })}`)
  ],
  answers: (text) => {
    if (text.startsWith("40{")) return "ready"
    if (text.startsWith("0{")) return "more"
    throw new Error(`not let in: ${text}`)
  },
  readyAtOnce: () => false,
  smallTalk: (text) => (text === "2" ? clientFrame("3") : undefined),
  read: (text, { expected }) => {
    same(text, `42["message",${expected(0)}]`)
    return 1
  },
  acknowledge: undefined,
  shared: true
}

interface RpcFrame {
  readonly _tag: string
  readonly requestId: string
  readonly values?: ReadonlyArray<unknown>
}

/** Effect RPC as JSON. How many messages share a chunk depends on when the socket acknowledges. */
const rpc: Dialect = {
  path: () => "/rpc",
  subprotocol: undefined,
  greeting: (_, channels) =>
    channels.map((channel) =>
      clientFrame(
        JSON.stringify({
          _tag: "Request",
          id: "1",
          tag: "Messages",
          payload: { channel: channelName(channel) },
          headers: []
        })
      )
    ),
  answers: (text) => {
    const { values } = JSON.parse(text) as RpcFrame
    // The stream begins with one event of its own, so that a client knows that it is subscribed.
    if (values?.length !== 1) throw new Error(`not let in: ${text}`)
    return "ready"
  },
  readyAtOnce: (channels) => channels.length === 0,
  smallTalk: (text) => (text === '{"_tag":"Pong"}' ? "silence" : undefined),
  read: (text, { expected }) => {
    const { values = [] } = JSON.parse(text) as RpcFrame
    const texts = values.map((_, index) => expected(index))
    same(text, `{"_tag":"Chunk","requestId":"1","values":[${texts.join(",")}]}`)
    return values.length
  },
  acknowledge: clientFrame(JSON.stringify({ _tag: "Ack", requestId: "1" })),
  shared: false
}

const natsLineEnd = Buffer.from("\r\n")

const nats: Dialect = {
  path: () => "/",
  subprotocol: undefined,
  greeting: (_, channels) => [
    clientFrame(
      `CONNECT {"verbose":false,"pedantic":false}\r\n${channels
        .map((channel) => `SUB ${channelName(channel)} 1\r\n`)
        .join("")}PING\r\n`,
      opcodes.binary
    )
  ],
  answers: (text) => {
    if (text.startsWith("INFO ")) return "more"
    if (text === "PONG\r\n") return "ready"
    throw new Error(`not let in: ${text}`)
  },
  readyAtOnce: () => false,
  smallTalk: (text) => (text === "PING\r\n" ? clientFrame("PONG\r\n", opcodes.binary) : undefined),
  read: (text, { channel, expected }) => {
    const next = expected(0)
    same(text, `MSG ${channelName(channel)} 1 ${next.length}\r\n${next}\r\n`)
    return 1
  },
  acknowledge: undefined,
  shared: false,
  unitEnd: (bytes, at) => {
    const line = bytes.indexOf(natsLineEnd, at)
    if (line < 0) return undefined
    const head = bytes.toString("latin1", at, line)
    const end = line + 2 + (head.startsWith("MSG ") ? Number(head.split(" ").at(-1)) + 2 : 0)
    return end <= bytes.length ? end : undefined
  }
}

const mqtt: Dialect = {
  path: () => "/mqtt",
  subprotocol: "mqtt",
  greeting: (socket, channels) => [
    clientFrame(Mqtt.connect(`socket-${socket}`), opcodes.binary),
    ...channels.map((channel) => clientFrame(Mqtt.subscribe(channelName(channel)), opcodes.binary))
  ],
  answers: (text, channels) => {
    if (Mqtt.isConnack(text)) return channels.length === 0 ? "ready" : "more"
    if (Mqtt.isSuback(text)) return "ready"
    throw new Error(`not let in: ${JSON.stringify(text)}`)
  },
  readyAtOnce: () => false,
  smallTalk: () => undefined,
  read: (text, { channel, expected }) => {
    same(text, Mqtt.publish(channelName(channel), expected(0)).toString("latin1"))
    return 1
  },
  acknowledge: undefined,
  shared: false,
  unitEnd: Mqtt.packetEnd
}

export const dialects: Readonly<Record<DialectName, Dialect>> = {
  plain,
  realtime,
  "socket.io": socketIo,
  rpc,
  nats,
  mqtt
}
