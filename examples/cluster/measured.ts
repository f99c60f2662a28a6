/**
 * What the benchmark has measured, with the place of each number in `bench/README.md`: the heading of the
 * table, the row and the column. A test compares them.
 */

export interface Measured {
  readonly value: number
  readonly heading: string
  readonly row: string
  readonly column: string
}

const measured = (value: number, heading: string, row: string, column: string): Measured => ({
  value,
  heading,
  row,
  column
})

const ours = "effect-realtime"
const delivery = "us/delivery"
const presence = "Presence between nodes"
const nodes = "What a node costs PostgreSQL"
const reading = "what 1 to 16 nodes that read the outbox cost PostgreSQL"

/** A point of the price of a delivery: `sockets` on a node, `fanOut` of them in the channel of an event. */
export interface Point {
  readonly sockets: number
  readonly fanOut: number
  /** Microseconds of CPU. */
  readonly cpu: Measured
}

/** The model of the price of a delivery has three unknowns, and is calibrated with these. */
export const calibration: Readonly<Record<"W1" | "W3" | "C", Point>> = {
  W1: {
    sockets: 1000,
    fanOut: 1000,
    cpu: measured(8.5, "W1: 1,000 sockets x 50 messages/s", ours, delivery)
  },
  W3: {
    sockets: 10_000,
    fanOut: 10_000,
    cpu: measured(11.06, "W3: 10,000 sockets x 5 messages/s", ours, delivery)
  },
  C: {
    sockets: 10_000,
    fanOut: 1,
    cpu: measured(27.33, "C: 10,000 channels x 1 socket, 15,000/s", ours, delivery)
  }
}

const growth = `${ours}, ${delivery}`
const ofSockets = "Growth: One channel, 50,000 deliveries/s"
const ofChannels = "Growth: 10,000 sockets, 15,000 deliveries/s"

/** All other points without joined messages. None of them calibrates the model. */
export const predicted: ReadonlyArray<Point> = [
  {
    sockets: 500,
    fanOut: 500,
    cpu: measured(7.82, "N: 500 sockets x 100 NOTIFYs/s, each a transaction", ours, delivery)
  },
  { sockets: 100, fanOut: 100, cpu: measured(6.47, ofSockets, "100 sockets", growth) },
  { sockets: 1000, fanOut: 1000, cpu: measured(8.26, ofSockets, "1000 sockets", growth) },
  { sockets: 10_000, fanOut: 10_000, cpu: measured(10.66, ofSockets, "10000 sockets", growth) },
  { sockets: 10_000, fanOut: 10_000, cpu: measured(11.51, ofChannels, "1 channels", growth) },
  { sockets: 10_000, fanOut: 100, cpu: measured(22.78, ofChannels, "100 channels", growth) },
  { sockets: 10_000, fanOut: 1, cpu: measured(34.16, ofChannels, "10000 channels", growth) }
]

/** Bytes of memory of an idle session. */
export const rssOfSocket = measured(11_230, "I: 10,000 idle sockets", ours, "RSS/socket")

/** Microseconds of CPU that let a session in. */
export const cpuOfHandshake = measured(196, "I: 10,000 idle sockets", ours, "us/handshake")

/** Bytes of heap of a subscription to a channel that no other session of the node has. */
export const heapOfSubscription = measured(
  7150.15,
  "Growth: Memory of one subscription",
  "each to a channel of its own (10,000)",
  "effect-realtime, bytes of heap"
)

/** Microseconds of CPU of a durable event in a node that reads it. */
export const cpuOfEvent = measured(
  9.5,
  "R: 20,000 durable events/s in transactions of 20, to a socket",
  ours,
  "us/event"
)

/** 1,000 changes a second between 3 nodes: kilobytes a second, and milliseconds of CPU a second. */
export const presenceBytes = measured(106, presence, "0 %", "kB/s")
export const presenceCpu = measured(264, presence, "0 %", "CPU ms/s of 3 nodes")

/** Bytes of heap of a member on the node that owns it, and on each other node. */
export const heapOfMember = measured(974, presence, "on its node", "bytes of heap")
export const heapOfOtherMember = measured(513, presence, "on each other node", "bytes of heap")

/** Statements a second of a node that reads at 500 commits a second, and of one where nothing happens. */
export const statementsOfReader = measured(212, nodes, "500", "statements/s of a node")
export const statementsOfIdle = measured(1, reading, "1 node", "statements/s at 0/s")
