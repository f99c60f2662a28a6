/**
 * The model of a cluster: what sockets, events and members on a number of nodes cost.
 *
 * In: the measured numbers, and a load. Out: CPU, memory and traffic, and what happens when nodes are lost.
 */
import { Backoff } from "effect-realtime"
import * as Measured from "./measured.ts"

/** The sockets, and what they do. Each socket is in one room, and shows that it is there. */
export interface Load {
  readonly sockets: number
  /** Sockets in a room, on any nodes. */
  readonly roomSize: number
  /** Durable events a second that each socket receives. */
  readonly eventsPerSocket: number
  /** Seconds between two changes of the presence of a socket. */
  readonly presenceEvery: number
}

/** What is not measured. */
export const assumed = {
  /** Bytes of a process without sockets. */
  process: 150e6,
  /** Seconds between two pings of a socket: the default of the library. */
  pingEvery: 25,
  /** Upgrades a second that a node accepts, and as many at once before: the default of the library. */
  upgradesPerSecond: 500,
  /** Bytes of an event on its way from the elected reader to a node. */
  pageBytes: 400,
  /** Bytes of a tick of the elected reader. */
  tickBytes: 1000,
  /** Bytes of the heartbeat that a node sends each second. */
  beatBytes: 400,
  /** Statements a second with which a node looks for revocations. */
  revocationLooks: 0.5
}

const {
  calibration: { C, W1, W3 }
} = Measured

/** Microseconds more for ten times the sockets on a node. */
const perSockets = W3.cpu.value - W1.cpu.value
/** Microseconds more for ten times the channels that share the sockets of a node. */
const perChannels = (C.cpu.value - W3.cpu.value) / Math.log10(W3.fanOut / C.fanOut)

/**
 * Microseconds of CPU of a delivery: logarithmic in the sockets of a node, and in how many channels share
 * them.
 */
export const cpuOfDelivery = (sockets: number, fanOut: number): number =>
  W1.cpu.value +
  perSockets * Math.log10(sockets / W1.sockets) +
  perChannels * Math.log10(sockets / fanOut)

/** Microseconds of CPU of a change of presence, on each node: 1,000 changes a second on 3 nodes. */
export const cpuOfChange = Measured.presenceCpu.value / 3

/** What a number of nodes costs. Times of CPU are cores, in which 1 is one core busy all the time. */
export const costsOf = (load: Load, nodes: number) => {
  const sockets = load.sockets / nodes
  const rooms = load.sockets / load.roomSize
  const eventsInAll = rooms * load.eventsPerSocket
  /** The part of the rooms that has a socket on a node. */
  /** Of a reader, a second: one for each commit, up to a number. */
  const looks = Math.min(eventsInAll, Measured.statementsOfReader.value)
  const followed = 1 - (1 - 1 / nodes) ** load.roomSize
  const fanOut = sockets / (rooms * followed)
  const changes = load.sockets / load.presenceEvery
  const core = {
    deliveries: (sockets * load.eventsPerSocket * cpuOfDelivery(sockets, fanOut)) / 1e6,
    // As a delivery to a socket in a channel of its own.
    pings: ((sockets / assumed.pingEvery) * cpuOfDelivery(sockets, 1)) / 1e6,
    feed: (eventsInAll * followed * Measured.cpuOfEvent.value) / 1e6,
    presence: (changes * cpuOfChange) / 1e6
  }
  // Kilobytes for 1,000 changes: bytes for one.
  const bytesOfBus = changes * Measured.presenceBytes.value + nodes * assumed.beatBytes
  return {
    sockets,
    fanOut,
    core,
    coreOfNode: core.deliveries + core.pings + core.feed + core.presence,
    /** Bytes of a node. */
    memory: {
      sockets: sockets * (Measured.rssOfSocket.value + Measured.heapOfSubscription.value),
      members:
        sockets * Measured.heapOfMember.value +
        (load.sockets - sockets) * Measured.heapOfOtherMember.value
    },
    /** Bytes a second that NATS receives from all nodes, and sends to all nodes. */
    nats: {
      busIn: bytesOfBus,
      busOut: bytesOfBus * (nodes - 1),
      feedIn: eventsInAll * assumed.pageBytes + looks * assumed.tickBytes,
      feedOut: nodes * (eventsInAll * followed * assumed.pageBytes + looks * assumed.tickBytes)
    },
    /** A second. */
    postgres: {
      commits: eventsInAll,
      /** Where one node reads for all. */
      statements:
        looks + (nodes - 1) * Measured.statementsOfIdle.value + nodes * assumed.revocationLooks,
      /** Where each node reads for itself. */
      statementsAlone: nodes * (looks + assumed.revocationLooks)
    }
  }
}

/** Seconds. */
const step = 0.05
/** In a second. */
const steps = 1 / step
/** Later attempts have the same ceiling. */
const lastAttempt = 12

/**
 * All sockets of some nodes are lost at the same moment and come back to others, each after its backoff.
 * A node accepts upgrades at its rate and rejects the others, whose clients wait longer.
 */
export const stormOf = (lost: number, nodes: number) => {
  const ceilings = Array.from({ length: lastAttempt + 1 }, (_, attempt) =>
    attempt === 0 ? 0 : Backoff.ceiling(Backoff.client, attempt) / 1000
  )
  /** For each step, the clients that come, by attempt. */
  const coming: Array<Float64Array> = []
  const at = (index: number) => (coming[index] ??= new Float64Array(lastAttempt + 1))
  /** Full jitter: the same number in each step up to the ceiling. */
  const spread = (clients: number, attempt: number, from: number) => {
    const count = Math.max(1, Math.round(ceilings[attempt]! / step))
    for (let i = 0; i < count; i++) at(from + i)[attempt]! += clients / count
  }
  const rate = nodes * assumed.upgradesPerSecond
  let tokens = rate
  let [away, peak, rejected] = [lost, 0, 0]
  let index = 0
  /** What was accepted in each step of the last second. */
  const second: Array<number> = []
  spread(lost, 1, 0)
  for (; away > lost / 1000; index++) {
    const clients = at(index)
    const all = clients.reduce((sum, some) => sum + some, 0)
    const accepted = Math.min(all, tokens)
    const part = all === 0 ? 0 : accepted / all
    tokens = Math.min(rate, tokens - accepted + rate * step)
    away -= accepted
    if (second.push(accepted) > steps) second.shift()
    peak = Math.max(
      peak,
      second.reduce((sum, some) => sum + some, 0)
    )
    rejected += all - accepted
    if (part === 1) continue
    clients.forEach((some, attempt) => {
      if (some > 0) spread(some * (1 - part), Math.min(attempt + 1, lastAttempt), index + 1)
    })
  }
  return {
    /** Until 999 of 1,000 are back. */
    seconds: index * step,
    /** Handshakes of all nodes in the busiest second. */
    peak,
    /** Of one node in that second. */
    core: ((peak / nodes) * Measured.cpuOfHandshake.value) / 1e6,
    /** How often a client was rejected, on average. */
    rejected: rejected / lost
  }
}
