/**
 * What each client library receives from its own server: the answers to its handshake, and how that
 * server writes events of one channel that it has at the same time.
 */
import { encode, type ClientFrame } from "../../src/Frame.ts"
import { encodeEvent, encodeEvents } from "../../src/internal/frameText.ts"
import { channelName } from "../lib/messages.ts"
import type { LibraryName } from "../lib/types.ts"

export interface Wire {
  /** The first message to a client that has connected. */
  readonly greeting: string | undefined
  /** The answer to a message of the library, `undefined` where none is due. */
  readonly answer: (text: string) => string | undefined
  /** The messages in which these events travel, the first of them being event `from`. */
  readonly write: (events: ReadonlyArray<string>, from: number) => ReadonlyArray<string>
}

const channel = channelName(0)

/**
 * Longer than a run: the server sends no ping, and the client expects none. In milliseconds, a
 * timer accepts the double.
 */
const never = 1_000_000_000

const at = "2026-01-01T00:00:00.000Z"

/** Everything of one turn of the event loop travels in one frame. */
const realtime: Wire = {
  greeting: undefined,
  answer: (text) => {
    const frame = JSON.parse(text) as ClientFrame
    if (frame.type === "hello") {
      const limits = {
        subscriptions: 100,
        frameBytes: 65_536,
        publishPerSecond: 20,
        volatilePerSecond: 60
      }
      const welcome = { type: "welcome", version: 1, session: "s" } as const
      return encode({ ...welcome, ping: never, slack: never, limits })
    }
    if (frame.type !== "subscribe") return undefined
    return encode({ type: "subscribed", id: frame.id, channel, state: "fresh", cursor: "e:0" })
  },
  write: (events, from) => {
    const texts = events.map((text, index) => encodeEvent(`e:${from + index + 1}`, at, text))
    return [encodeEvents(channel, `e:${from + events.length}`, texts)]
  }
}

/** Every event is a packet, and every packet a message. */
const socketIo: Wire = {
  greeting: `0${JSON.stringify({ sid: "s", upgrades: [], pingInterval: never, pingTimeout: never, maxPayload: 1_000_000 })}`,
  answer: (text) => (text.startsWith("40") ? `40{"sid":"s"}` : undefined),
  write: (events) => events.map((text) => `42["message",${text}]`)
}

/** The most events that its server joins by default. */
const repliesPerMessage = 16

const centrifuge: Wire = {
  greeting: undefined,
  answer: (text) => {
    const { connect, id } = JSON.parse(text) as { readonly id: number; readonly connect?: object }
    return JSON.stringify(
      connect === undefined ? { id, subscribe: {} } : { id, connect: { client: "c", version: "1" } }
    )
  },
  write: (events) =>
    Array.from({ length: Math.ceil(events.length / repliesPerMessage) }, (_, index) =>
      events
        .slice(index * repliesPerMessage, (index + 1) * repliesPerMessage)
        .map((text) => `{"push":{"channel":"${channel}","pub":{"data":${text}}}}`)
        .join("\n")
    )
}

export const wires: Readonly<Record<LibraryName, Wire>> = {
  "effect-realtime": realtime,
  "effect-realtime-schema": realtime,
  "socket.io-client": socketIo,
  centrifuge
}
