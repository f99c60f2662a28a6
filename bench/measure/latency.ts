/**
 * The time from a NOTIFY to a client: from before the statement is sent to each of 200 sockets.
 */
import { connected, type Sample } from "../lib/Rig.ts"
import type { Audience, SubjectName } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { runner, warm } from "./fanOut.ts"
import { percentile } from "./ratio.ts"
import { medianOf, type Report, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

const baseline = "ws+pg-listen"
const perSecond = 100

export const p50 = ({ latencies }: Sample): number => percentile(latencies, 0.5)
export const p99 = ({ latencies }: Sample): number => percentile(latencies, 0.99)

export const measureLatency = async (
  context: Context,
  audience: Audience = { sockets: 200, channels: 1, bytes: 200 }
): Promise<Report> => {
  const pace = { kind: "rate", perSecond } as const
  const contestant = (subject: SubjectName, label: string = subject): Contestant<Sample> => ({
    label,
    open: async () => {
      const databaseUrl = await context.database()
      const rig = await connected({ subject, audience, databaseUrl, timed: true })
      await warm(rig, { pace: { kind: "rate", perSecond: 200 }, messages: 300, millis: 0 })
      const messages = perSecond * context.seconds
      return runner(rig, () => rig.window({ pace, messages, millis: 0 }))
    }
  })
  const again = `${baseline} (again)`
  const trials = await takeTurns(
    contestant(baseline),
    [
      ...(["effect-realtime", "socket.io"] as const)
        .filter(context.has)
        .map((name) => contestant(name)),
      contestant(baseline, again)
    ],
    {
      pairs: context.pairs,
      roundsPerProcess: context.roundsPerProcess,
      onTrial: (label) => context.say(`L ${label}`)
    }
  )
  const common = {
    workload: "L",
    trials,
    goals: { "effect-realtime": { [baseline]: 1 } },
    baselines: [baseline],
    again
  }
  const labels = [...new Set(trials.map(({ label }) => label))]
  return {
    costs: labels.map((subject) => ({
      workload: "L",
      subject,
      columns: {
        "p50 us": medianOf(trials, subject, p50).toFixed(0),
        "p99 us": medianOf(trials, subject, p99).toFixed(0)
      }
    })),
    results: [
      ...resultsOf({ ...common, measure: "latency-p50", valueOf: p50 }),
      ...resultsOf({ ...common, measure: "latency-p99", valueOf: p99 })
    ]
  }
}
