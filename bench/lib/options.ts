/**
 * The options of the command.
 */
import { parseArgs } from "node:util"

export interface Options {
  readonly quick: boolean
  readonly json: string | undefined
  readonly workloads: ReadonlyArray<string> | undefined
  readonly pairs: number | undefined
  readonly profile: string | undefined
  /** Whether the tables and the chart of `bench/README.md` are written. */
  readonly record: boolean
}

/** Workloads with tables of their own, by their name in the README: they involve no other subject. */
export const apart: Readonly<Record<string, ReadonlyArray<string>>> = {
  "run of T": ["T", "T1", "T2"],
  "run of nodes": ["D1", "P", "G"]
}

/** Whether these are all workloads of one of those tables, and no others. */
const areApart = (workloads: ReadonlyArray<string>): boolean =>
  Object.values(apart).some((names) => names.toSorted().join() === workloads.toSorted().join())

export const usage = `npm run bench -- [options]

  --quick            fewest pairs, short windows, bare ws and socket.io only: under 6 minutes
  --workload W1,C    only these: W1 W2 W3 W4 W5 C N V1 VC I L S B D D1 P G R T
                     T1 T2 Y F K K1 growth
  --pairs N          how often each subject is compared with its baseline, default 6 (quick: 2),
                     in T and T1 11 (quick: 3)
  --json FILE        also writes the results as JSON
  --profile DIR      also writes a CPU profile of every window of every server
  --record           writes the tables and the chart of bench/README.md, of a full run, or those of
                     T,T1,T2 or D1,P,G alone`

/** The command again, as far as it affects the results. */
export const commandOf = ({ pairs, quick, workloads }: Options): string => {
  const options = [
    ...(quick ? ["--quick"] : []),
    ...(workloads === undefined ? [] : ["--workload", workloads.join(",")]),
    ...(pairs === undefined ? [] : ["--pairs", String(pairs)])
  ]
  return ["npm run bench", ...(options.length === 0 ? [] : ["--", ...options])].join(" ")
}

export const parseOptions = (args: ReadonlyArray<string>): Options => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      workload: { type: "string", multiple: true },
      pairs: { type: "string" },
      profile: { type: "string" },
      record: { type: "boolean", default: false }
    }
  })
  const pairs = values.pairs === undefined ? undefined : Number(values.pairs)
  if (pairs !== undefined && !(Number.isInteger(pairs) && pairs > 0)) {
    throw new Error(`--pairs takes a whole number from 1, not "${values.pairs}"`)
  }
  const workloads = values.workload?.flatMap((names) => names.split(","))
  if (values.record && (values.quick || !(workloads === undefined || areApart(workloads)))) {
    const others = Object.values(apart).map((names) => names.join(","))
    throw new Error(
      `--record is for a full run: not with --quick, nor with --workload other than ${others.join(" or ")}`
    )
  }
  return {
    quick: values.quick,
    json: values.json,
    workloads,
    pairs,
    profile: values.profile,
    record: values.record
  }
}
