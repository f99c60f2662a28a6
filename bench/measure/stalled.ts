/**
 * The cost to other sockets when one socket in a hundred stops reading.
 *
 * The baseline is the same server without stalled sockets; the stalled sockets are new in each
 * window, because a server may well close them.
 */
import { connected, type Rig, type Sample, type Window } from "../lib/Rig.ts"
import type { Audience, Recovery, SubjectName } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { cpuOf, runner, warm } from "./fanOut.ts"
import { medianOf, type Report, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

export interface StalledSample extends Sample, Recovery {
  /** Bytes that the server holds for each stalled socket, besides the kernel's buffers. */
  readonly held: number
}

export interface StalledAudience extends Audience {
  readonly stalled: number
}

const burst = 8

/** At most; 4 KB each, so that the kernel's share is soon full. */
const messages = 8000

export const stalledWindow = async (
  rig: Rig,
  stalled: number,
  { messages, millis }: Omit<Window, "pace">
): Promise<StalledSample> => {
  if (stalled > 0) await rig.stall(stalled)
  const before = await rig.memory()
  const sample = await rig.window({ pace: { kind: "turn", burst }, messages, millis })
  const after = await rig.memory()
  const missed = stalled > 0 ? (await rig.recover()).missed : 0
  return { ...sample, missed, held: (after.heap - before.heap) / Math.max(1, stalled) }
}

export const measureStalled = async (
  context: Context,
  audience: StalledAudience = { sockets: 198, channels: 1, bytes: 4096, stalled: 2 }
): Promise<Report> => {
  const millis = context.seconds * 1000
  const contestant = (
    subject: SubjectName,
    label: string,
    stalled: number
  ): Contestant<StalledSample> => ({
    label,
    open: async () => {
      const rig = await connected({ subject, audience, flow: true, profile: context.profile("S") })
      await warm(rig, { pace: { kind: "turn", burst }, messages, millis: 500 })
      return runner(rig, () => stalledWindow(rig, stalled, { messages, millis }))
    }
  })
  const report = async (subject: SubjectName, goal: number | undefined): Promise<Report> => {
    const free = `${subject}, nobody stalled`
    const again = `${free} (again)`
    const trials = await takeTurns(
      contestant(subject, free, 0),
      [contestant(subject, subject, audience.stalled), contestant(subject, again, 0)],
      {
        pairs: context.pairs,
        roundsPerProcess: context.roundsPerProcess,
        onTrial: (label) => context.say(`S ${label}`)
      }
    )
    const labels = [...new Set(trials.map(({ label }) => label))]
    const of = (label: string, valueOf: (sample: StalledSample) => number) =>
      medianOf(trials, label, valueOf)
    return {
      costs: labels.map((label) => ({
        workload: "S",
        subject: label,
        columns: {
          "us/delivery": of(label, cpuOf).toFixed(2),
          ...(label === subject
            ? {
                "KB held/stalled socket": (of(label, ({ held }) => held) / 1024).toFixed(0),
                "messages told missing": of(label, ({ missed }) => missed).toFixed(0)
              }
            : {})
        }
      })),
      results: resultsOf({
        workload: "S",
        trials,
        measure: "cpu-per-delivery",
        valueOf: cpuOf,
        goals: goal === undefined ? {} : { [subject]: { [free]: goal } },
        baselines: [free],
        again
      })
    }
  }
  const ours = await report("effect-realtime", 1.1)
  const bare = await report("ws", undefined)
  return {
    costs: [...ours.costs, ...bare.costs],
    results: [...ours.results, ...bare.results]
  }
}
