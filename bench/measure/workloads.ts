/**
 * The fan-out workloads: the audience, the pace of messages, and the goals.
 */
import type { Window } from "../lib/Rig.ts"
import type { Audience, SubjectName } from "../lib/types.ts"
import type { Goals } from "./result.ts"

export interface Workload {
  readonly name: string
  readonly title: string
  readonly audience: Audience
  /** Brings the code to full speed before anything is measured; again until it was 50,000 deliveries. */
  readonly warmUp: Window
  /** A window of so many seconds. */
  readonly window: (seconds: number) => Window
  readonly goals: Goals
  /** Messages are NOTIFYs of another process. */
  readonly database: boolean
  readonly baseline: SubjectName
  /** Measured beside the baseline, in this order; `ours` stands first in what is read. */
  readonly subjects: ReadonlyArray<SubjectName>
  /** Measured afterwards, in a round of their own. */
  readonly more: ReadonlyArray<SubjectName>
}

const bytes = 200

const rate = (perSecond: number, messages: number): Window => ({
  pace: { kind: "rate", perSecond },
  messages,
  millis: 0
})

/** More than any subject has published in a window so far; the texts take 5 MB. */
const plenty = 24_000

const turns = (burst: number, millis: number): Window => ({
  pace: { kind: "turn", burst },
  messages: plenty,
  millis
})

const ours = (ws: number, socketIo: number, floor?: number): Goals => ({
  "effect-realtime": {
    ws,
    "socket.io": socketIo,
    ...(floor === undefined ? {} : { floor })
  }
})

const inMemory = {
  database: false,
  baseline: "ws",
  subjects: ["effect-realtime", "socket.io", "floor"],
  more: ["effect-rpc", "effect-stream", "nats-server", "mosquitto"]
} as const

const compared: ReadonlyArray<Workload> = [
  {
    name: "W1",
    title: "1,000 sockets x 50 messages/s",
    audience: { sockets: 1000, channels: 1, bytes },
    warmUp: rate(200, 60),
    window: (seconds) => rate(50, 50 * seconds),
    goals: ours(0.95, 0.65, 1.2),
    ...inMemory
  },
  {
    name: "W2",
    title: "50 sockets x 2,000 messages/s",
    audience: { sockets: 50, channels: 1, bytes },
    warmUp: rate(2000, 2000),
    window: (seconds) => rate(2000, 2000 * seconds),
    goals: ours(0.45, 0.4),
    ...inMemory
  },
  {
    name: "W3",
    title: "10,000 sockets x 5 messages/s",
    audience: { sockets: 10_000, channels: 1, bytes },
    warmUp: rate(10, 10),
    window: (seconds) => rate(5, 5 * seconds),
    goals: ours(0.9, 0.65, 1.2),
    ...inMemory
  },
  {
    name: "W4",
    title: "1,000 sockets x 1 message per turn of the loop",
    audience: { sockets: 1000, channels: 1, bytes },
    warmUp: turns(1, 700),
    window: (seconds) => turns(1, seconds * 1000),
    goals: ours(0.8, 0.6),
    ...inMemory
  },
  {
    name: "W5",
    title: "1,000 sockets x 16 messages per turn",
    audience: { sockets: 1000, channels: 1, bytes },
    warmUp: turns(16, 700),
    window: (seconds) => turns(16, seconds * 1000),
    goals: ours(0.1, 0.1),
    ...inMemory
  },
  {
    name: "C",
    title: "10,000 channels x 1 socket, 15,000/s",
    audience: { sockets: 10_000, channels: 10_000, bytes },
    // Each delivery is work of its own: code must not be compiled in a window.
    warmUp: rate(15_000, 150_000),
    // Whole rounds of all channels.
    window: (seconds) => rate(15_000, 10_000 * Math.ceil(1.5 * seconds)),
    goals: ours(1.2, 0.55),
    ...inMemory
  },
  {
    name: "N",
    title: "500 sockets x 100 NOTIFYs/s, each a transaction",
    audience: { sockets: 500, channels: 1, bytes },
    warmUp: rate(200, 120),
    window: (seconds) => rate(100, 100 * seconds),
    goals: { "effect-realtime": { "ws+pg-listen": 1 } },
    database: true,
    baseline: "ws+pg-listen",
    subjects: ["effect-realtime", "socket.io"],
    more: []
  }
]

/** A workload with a tracer and scrapes, beside the same without both. */
const seen = (name: string, of: string): Workload => {
  const workload = compared.find((one) => one.name === of)!
  return {
    ...workload,
    name,
    title: `${workload.title}, with a tracer and scrapes`,
    baseline: "effect-realtime",
    subjects: ["effect-realtime-seen"],
    more: [],
    goals: { "effect-realtime-seen": { "effect-realtime": 1.05 } }
  }
}

export const workloads: ReadonlyArray<Workload> = [...compared, seen("V1", "W1"), seen("VC", "C")]
