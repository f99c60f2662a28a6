/**
 * The result of a run for one subject in one workload.
 */
import { compare, isTooNoisy, median, type Trial } from "./ratio.ts"

export type Verdict = "met" | "missed" | "too-noisy"

/** One line of `--json`. */
export interface Result {
  readonly workload: string
  readonly subject: string
  readonly baseline: string
  readonly measure: Measure
  /** Median of the pairs: subject divided by baseline. */
  readonly ratio: number
  readonly low: number
  readonly high: number
  readonly pairs: number
  /** `null` where no goal is set. */
  readonly verdict: Verdict | null
  readonly goal: number | null
}

export type Measure =
  | "cpu-per-delivery"
  | "cpu-per-event"
  | "cpu-per-notification"
  | "heap-per-socket"
  | "latency-p50"
  | "latency-p99"
  | "longest-stand"
  | "peak-memory"
  | "commits-per-second"
  | "cpu"
  | "heap-after"
  | "time-to-listen"
  | "added-cpu"
  | "cpu-per-call"
  | "cpu-per-row"
  | "queries"

/** Measures with a ratio that is better above the goal; all others are better below. */
export const moreIsBetter: ReadonlySet<Measure> = new Set<Measure>(["commits-per-second"])

/** The cost of a subject by itself; for readers, and not to be compared between machines. */
export interface Cost {
  readonly workload: string
  readonly subject: string
  readonly columns: Readonly<Record<string, string>>
}

/** A workload that could not be finished: wrong bytes, lost sockets, silence. */
export interface Failure {
  readonly workload: string
  readonly reason: string
}

/** The first line of the error: the rest and the stack are printed while the run goes on. */
export const failureOf = (workload: string, error: unknown): Failure => {
  const text = error instanceof Error ? error.message : String(error)
  return { workload, reason: text.split("\n", 1)[0]! }
}

export interface Report {
  readonly costs: ReadonlyArray<Cost>
  readonly results: ReadonlyArray<Result>
}

/** Goals by subject and baseline. */
export type Goals = Readonly<Record<string, Readonly<Record<string, number>>>>

export interface Comparison<Sample> {
  readonly workload: string
  readonly trials: ReadonlyArray<Trial<Sample>>
  readonly measure: Measure
  readonly valueOf: (sample: Sample) => number
  readonly goals: Goals
  /** Each subject is compared with each of these that it is not itself. */
  readonly baselines: ReadonlyArray<string>
  /** The second of the same, whose ratio should be 1. */
  readonly again?: string | undefined
}

export const resultsOf = <Sample>(comparison: Comparison<Sample>): ReadonlyArray<Result> => {
  const { again, baselines, goals, measure, trials, valueOf, workload } = comparison
  const subjects = [...new Set(trials.map(({ label }) => label))]
  const same = again === undefined ? undefined : compare(trials, again, baselines[0]!, valueOf)
  const noisy = isTooNoisy(same)
  return subjects.flatMap((subject) =>
    baselines.flatMap((baseline) => {
      const ratio = subject === baseline ? undefined : compare(trials, subject, baseline, valueOf)
      if (ratio === undefined) return []
      const goal = goals[subject]?.[baseline] ?? null
      const met =
        goal !== null && (moreIsBetter.has(measure) ? ratio.ratio >= goal : ratio.ratio <= goal)
      const verdict = goal === null ? null : noisy ? "too-noisy" : met ? "met" : "missed"
      return [{ workload, subject, baseline, measure, ...ratio, verdict, goal } satisfies Result]
    })
  )
}

/** Values that were measured once each, in units of something that needs no trial of its own. */
export const absolute = (
  result: Pick<Result, "workload" | "subject" | "measure" | "baseline" | "goal">,
  ratio: number,
  all: ReadonlyArray<number> = [ratio]
): Result => ({
  ...result,
  ratio,
  low: Math.min(...all),
  high: Math.max(...all),
  pairs: all.length,
  verdict: result.goal === null ? null : ratio <= result.goal ? "met" : "missed"
})

export const medianOf = <Sample>(
  trials: ReadonlyArray<Trial<Sample>>,
  subject: string,
  valueOf: (sample: Sample) => number
): number =>
  median(trials.flatMap(({ label, sample }) => (label === subject ? [valueOf(sample)] : [])))
