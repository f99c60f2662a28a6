/**
 * The time from a commit to a socket, of a node that commits wake beside one that looks every 5 ms, at
 * several rates of commits.
 *
 * Only one of the two nodes runs at a time, because the other one would use the same cores.
 */
import { start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import { channelName, messageText } from "../lib/messages.ts"
import type { ProbeApi, ServerApi, WritersApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { prepare } from "./durable.ts"
import { percentile } from "./ratio.ts"
import { type Goals, medianOf, type Report, type Result, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

interface Load {
  readonly label: string
  /** Commits of others per second, at random, beside the 50 of the probe; `Infinity` as fast as they can. */
  readonly beside: number
}

/** Commits of the probe per second, at random. */
const probed = 50
const writers = 8

const loads: ReadonlyArray<Load> = [
  { label: "50 commits/s", beside: 0 },
  { label: "200 commits/s", beside: 150 },
  { label: "500 commits/s", beside: 450 },
  { label: `${writers} writers`, beside: Infinity }
]

/** Microseconds, by the label of the load. */
type Sample = ReadonlyMap<string, ReadonlyArray<number>>

const woken = "woken"
const polling = "looks every 5 ms"
const goals: Goals = { [woken]: { [polling]: 1.1 } }

export const measureDelay = async (
  context: Context,
  options: { readonly loads: ReadonlyArray<Load> } = { loads }
): Promise<Report> => {
  await using committing = start<WritersApi>("writers.ts")
  await using probe = start<ProbeApi>("probe.ts")
  /** As many as a p99 needs. */
  const millis = context.seconds * 2000

  const run = async (poll: number | undefined): Promise<Sample> => {
    const databaseUrl = await context.database("flushed")
    await prepare(databaseUrl, poll === undefined ? "hybrid" : "poll")
    await using server = start<ServerApi>("server/main.ts")
    const { port } = await server.call("open", {
      subject: "effect-realtime-durable",
      audience: { sockets: 1, channels: 1, bytes: 200 },
      databaseUrl,
      ...(poll === undefined ? {} : { poll })
    })
    const statement = `select realtime.publish('${channelName(1)}', '${messageText(1, 1, 200)}'::text)`
    await committing.call("open", { databaseUrl, writers, statement })
    await probe.call("open", { databaseUrl, port, channels: [channelName(0)] })
    try {
      // Brings everything to full speed.
      await probe.call("run", { millis: Math.min(1000, millis), hold: false, perSecond: 200 })
      return new Map(
        await inTurn(options.loads, async ({ beside, label }) => {
          const [{ latencies }] = await Promise.all([
            probe.call("run", { millis, hold: false, perSecond: probed }),
            beside === 0
              ? undefined
              : committing.call("run", { millis, perSecond: beside, random: beside < Infinity })
          ])
          return [label, latencies] as const
        })
      )
    } finally {
      await probe.call("close", {})
      await committing.call("close", {})
    }
  }
  const contestantOf = (label: string, poll?: number): Contestant<Sample> => ({
    label,
    open: async () => ({
      run: () => run(poll),
      [Symbol.asyncDispose]: () => Promise.resolve()
    })
  })
  const trials = await takeTurns(contestantOf(polling, 5), [contestantOf(woken)], {
    pairs: context.pairs,
    roundsPerProcess: context.pairs,
    interleaved: context.pairs > 1,
    onTrial: (label) => context.say(`D1 ${label}`)
  })
  const subjects = [...new Set(trials.map(({ label }) => label))]
  const row = (subject: string, load: string) => `${subject}, ${load}`
  const shares = { "latency-p50": 0.5, "latency-p99": 0.99 } as const
  return {
    costs: options.loads.flatMap(({ label }) =>
      subjects.map((subject) => {
        const millis = (share: number) =>
          (
            medianOf(trials, subject, (sample) => percentile(sample.get(label)!, share)) / 1000
          ).toFixed(2)
        return {
          workload: "D1",
          subject: row(subject, label),
          columns: { "p50 ms": millis(0.5), "p90 ms": millis(0.9), "p99 ms": millis(0.99) }
        }
      })
    ),
    results: options.loads.flatMap(({ label }) =>
      (["latency-p50", "latency-p99"] as const).flatMap((measure) =>
        resultsOf({
          workload: "D1",
          trials,
          measure,
          valueOf: (sample) => percentile(sample.get(label)!, shares[measure]),
          goals,
          baselines: [polling]
        }).map((result): Result => Object.assign(result, { subject: row(result.subject, label) }))
      )
    )
  }
}
