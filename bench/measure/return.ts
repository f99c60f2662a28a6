/**
 * The cost to other clients while many clients want much at once: a crowd that resumes with the
 * same events to replay, and sessions that open new channels as fast as each of them may.
 *
 * The other client is a probe: a socket that waits for commits made now and then. Beside each
 * window with the crowd there is a quiet one of the same server, with the same crowd connected and
 * idle.
 *
 * A block of the loop is measured in CPU time that its thread used between two turns of the loop,
 * so that other processes of the machine do not count. The time on the clock stands beside it.
 */
import { start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import { channelName, messageText } from "../lib/messages.ts"
import { PgWire } from "../lib/PgWire.ts"
import type { Crowd, Loop, ProbeApi, ReturnersApi, ServerApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { prepare } from "./durable.ts"
import { median, percentile } from "./ratio.ts"
import type { Measure, Report, Result } from "./result.ts"

export interface ReturnOptions {
  readonly clients: number
  /** Events that each of them replays. */
  readonly events: number
  readonly sessions: number
  /** New channels a second of each session. */
  readonly perSecond: number
  /** How long channels are opened, and how long a quiet window is. */
  readonly millis: number
}

const all: ReturnOptions = {
  clients: 300,
  events: 5000,
  sessions: 110,
  perSecond: 22,
  millis: 3000
}

interface Seen extends Loop {
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly crowd: Crowd | undefined
}

interface Round {
  readonly quiet: Seen
  readonly returning: Seen
  readonly opening: Seen
}

type Way = "returning" | "opening"

/** A ratio above the goal is met too if the value itself is not above the floor. */
const goal = 3
const floors: Partial<Record<Measure, number>> = { "latency-p99": 25, "longest-stand": 50 }

const resultOf = (
  way: Way,
  measure: Measure,
  rounds: ReadonlyArray<Round>,
  valueOf: (seen: Seen) => number
): Result => {
  const ratios = rounds.map((round) => valueOf(round[way]) / valueOf(round.quiet))
  const value = median(rounds.map((round) => valueOf(round[way])))
  const floor = floors[measure]
  const ratio = median(ratios)
  const met = floor === undefined ? null : ratio <= goal || value <= floor ? "met" : "missed"
  return {
    workload: "Y",
    subject: way,
    baseline: "quiet",
    measure,
    ratio,
    low: Math.min(...ratios),
    high: Math.max(...ratios),
    pairs: rounds.length,
    verdict: met,
    goal: floor === undefined ? null : goal
  }
}

const answersOf = (rounds: ReadonlyArray<Round>, way: Way): string => {
  const sums = new Map<string, number>()
  for (const round of rounds) {
    for (const [what, count] of Object.entries(round[way].crowd?.answers ?? {})) {
      sums.set(what, (sums.get(what) ?? 0) + count)
    }
  }
  return [...sums].map(([what, count]) => `${what} ${count}`).join(", ")
}

export const measureReturn = async (
  context: Context,
  options: ReturnOptions = all
): Promise<Report> => {
  const rounds = await inTurn(Array.from({ length: context.pairs }).keys(), (index) => {
    context.say(`Y round ${index + 1}`)
    return round(context, options)
  })
  const ways = ["quiet", "returning", "opening"] as const
  const costs = ways.map((way) => {
    const of = (valueOf: (seen: Seen) => number) => median(rounds.map((one) => valueOf(one[way])))
    return {
      workload: "Y",
      subject: way,
      columns: {
        "p50 ms": of(({ p50 }) => p50).toFixed(1),
        "p99 ms": of(({ p99 }) => p99).toFixed(1),
        "longest stand, CPU ms": of(({ hardest }) => hardest).toFixed(0),
        "on the clock ms": of(({ longest }) => longest).toFixed(0),
        "peak MB": (of(({ peak }) => peak) / 1024 / 1024).toFixed(0),
        "s until all have all":
          way === "returning" ? (of(({ crowd }) => crowd!.millis) / 1000).toFixed(1) : "",
        answers: way === "quiet" ? "" : answersOf(rounds, way)
      }
    }
  })
  const results = (["returning", "opening"] as const).flatMap((way) => [
    resultOf(way, "latency-p99", rounds, ({ p99 }) => p99),
    resultOf(way, "longest-stand", rounds, ({ hardest }) => hardest),
    resultOf(way, "peak-memory", rounds, ({ peak }) => peak)
  ])
  return { costs, results }
}

/** A new server for each round: memory taken before would show in the next one. */
const round = async (context: Context, options: ReturnOptions): Promise<Round> => {
  const { clients, events, millis, perSecond, sessions } = options
  const databaseUrl = await context.database()
  await prepare(databaseUrl, "hybrid")
  await using server = start<ServerApi>("server/main.ts")
  await using probe = start<ProbeApi>("probe.ts")
  await using returners = start<ReturnersApi>("returners.ts")
  const { port } = await server.call("open", {
    subject: "effect-realtime-both",
    audience: { sockets: 1, channels: 1, bytes: 200 },
    databaseUrl
  })
  await probe.call("open", { databaseUrl, port, channels: [channelName(0)] })

  const watched = async (least: number, work: () => Promise<Crowd> | undefined): Promise<Seen> => {
    await server.call("memory", {})
    await server.call("loop", {})
    const latencies: Array<number> = []
    let busy = true
    const crowd = Promise.resolve(work()).finally(() => {
      busy = false
    })
    const begun = performance.now()
    // In short runs, so that the probe ends soon after the crowd has all events.
    const look = async (): Promise<void> => {
      const run = await probe.call("run", { millis: 100, hold: false })
      latencies.push(...run.latencies)
      if (busy || performance.now() - begun < least) await look()
    }
    const [done] = await Promise.all([crowd, look()])
    const loop = await server.call("loop", {})
    return {
      ...loop,
      p50: percentile(latencies, 0.5) / 1000,
      p99: percentile(latencies, 0.99) / 1000,
      crowd: done
    }
  }

  // Code and connections of all kinds are warm.
  const channel = channelName(1)
  const write = async (count: number) => {
    const wire = await PgWire.connect(databaseUrl)
    try {
      // One statement: the cursor before it replays all of them.
      await wire.query(`insert into realtime.messages (channel, payload)
        select '${channel}', '${messageText(1, 1, 200)}' from generate_series(1, ${count})`)
    } finally {
      wire.close()
    }
  }
  const storm = async (clients: number, events: number) => {
    await returners.call("enter", { port, clients })
    const { cursor } = await returners.call("cursor", { channel })
    await write(events)
    return () => returners.call("resume", { channel, cursor, events })
  }
  await (
    await storm(Math.min(10, clients), Math.min(500, events))
  )()
  await probe.call("run", { millis: 500, hold: false })

  const resume = await storm(clients, events)
  const quiet = await watched(millis, () => undefined)
  const returning = await watched(0, resume)
  await returners.call("enter", { port, clients: sessions })
  const opening = await watched(0, () => returners.call("openChannels", { perSecond, millis }))
  await probe.call("close", {})
  return { quiet, returning, opening }
}
