/**
 * Measures the cost of one delivery to the server.
 */
import { connected, type Rig, type Sample, type Window } from "../lib/Rig.ts"
import type { SubjectName } from "../lib/types.ts"
import type { Context } from "./context.ts"
import type { Trial } from "./ratio.ts"
import { type Cost, medianOf, type Report, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"
import type { Workload } from "./workloads.ts"

/** The baseline once more, in a process of its own: what differs from it is noise. */
const again = (label: string): string => `${label} (again)`

export const cpuOf = ({ deliveries, system, user }: Sample): number => (user + system) / deliveries

const contestant = (
  workload: Workload,
  subject: SubjectName,
  label: string,
  context: Context
): Contestant<Sample> => ({
  label,
  open: async () => {
    const rig = await connected({
      subject,
      audience: workload.audience,
      flow: workload.warmUp.pace.kind === "turn",
      profile: context.profile(workload.name),
      ...(workload.database ? { databaseUrl: await context.database() } : {})
    })
    await warm(rig, workload.warmUp)
    return runner(rig, () => rig.window(workload.window(context.seconds)))
  }
})

/** Runs until the code is at full speed. */
export const warm = async (rig: Rig, window: Window, deliveries = 50_000): Promise<void> => {
  const sample = await rig.window(window)
  if (sample.deliveries < deliveries) await warm(rig, window, deliveries - sample.deliveries)
}

export const runner = <A>(rig: AsyncDisposable, run: () => Promise<A>) => ({
  run,
  [Symbol.asyncDispose]: async () => rig[Symbol.asyncDispose]()
})

export const measureFanOut = async (workload: Workload, context: Context): Promise<Report> => {
  const { baseline } = workload
  const first = contestant(workload, baseline, baseline, context)
  const rounds = { pairs: context.pairs, roundsPerProcess: context.roundsPerProcess }
  const trialsOf = (subjects: ReadonlyArray<SubjectName>, others: ReadonlyArray<string> = []) =>
    takeTurns(
      first,
      [
        ...subjects.map((subject) => contestant(workload, subject, subject, context)),
        ...others.map((label) => contestant(workload, baseline, label, context))
      ],
      { ...rounds, onTrial: (label) => context.say(`${workload.name} ${label}`) }
    )
  const available = (subjects: ReadonlyArray<SubjectName>) => subjects.filter(context.has)
  // The floor explains a result, and decides none.
  const subjects = workload.subjects.filter((name) => !(context.quick && name === "floor"))
  const main = await trialsOf(available(subjects), [again(baseline)])
  const wanted = context.quick ? [] : available(workload.more)
  const more = wanted.length === 0 ? [] : await trialsOf(wanted)
  const common = { workload: workload.name, measure: "cpu-per-delivery", valueOf: cpuOf } as const
  return {
    costs: costsOf(workload.name, [...main, ...more]),
    results: [
      ...resultsOf({
        ...common,
        trials: main,
        goals: workload.goals,
        baselines: [baseline, "socket.io", "floor"],
        again: again(baseline)
      }),
      ...resultsOf({ ...common, trials: more, goals: {}, baselines: [baseline] })
    ].filter(({ baseline: other, subject }) => other === baseline || subject === "effect-realtime")
  }
}

const costsOf = (workload: string, trials: ReadonlyArray<Trial<Sample>>): ReadonlyArray<Cost> =>
  [...new Set(trials.map(({ label }) => label))].map((subject) => {
    const of = (valueOf: (sample: Sample) => number) => medianOf(trials, subject, valueOf)
    return {
      workload,
      subject,
      columns: {
        "us/delivery": of(cpuOf).toFixed(2),
        user: of(({ deliveries, user }) => user / deliveries).toFixed(2),
        system: of(({ deliveries, system }) => system / deliveries).toFixed(2),
        "deliveries/s": Math.round(
          of(({ deliveries, seconds }) => deliveries / seconds)
        ).toString(),
        "bytes/delivery": of(({ bytes, deliveries }) => bytes / deliveries).toFixed(0),
        "messages/frame": of(({ deliveries, frames }) => deliveries / frames).toFixed(1)
      }
    }
  })
