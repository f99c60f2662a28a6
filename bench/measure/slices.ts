/**
 * The cost of statements to their backend. The ways to do the same thing take turns in slices so
 * small that a neighbour of the machine hits all of them alike, forwards and backwards; a round's
 * costs are compared with those of the same round only.
 */
import { cpuNanos } from "../lib/backend.ts"
import { inTurn } from "../lib/inTurn.ts"
import { PgWire } from "../lib/PgWire.ts"
import { median, quartiles } from "./ratio.ts"
import type { Measure, Result } from "./result.ts"

/** One of several ways to do the same. */
export interface Way {
  readonly label: string
  readonly pid: number
  /** Runs the statement for the n-th time, n counted from 0. */
  readonly run: (n: number) => Promise<void>
}

export interface Amount {
  /** How often each way runs in a round. */
  readonly statements: number
  /** The number of slices. */
  readonly slices: number
  /** How often each way runs before, unmeasured. */
  readonly warmUp: number
}

/** Microseconds of CPU per statement, by way. */
export type Round = ReadonlyMap<string, number>

/** `count` times a way, from its n-th run on: nanoseconds. */
const slice = async ({ pid, run }: Way, from: number, count: number): Promise<number> => {
  const before = cpuNanos(pid)
  for (let n = from; n < from + count; n++) {
    // oxlint-disable-next-line no-await-in-loop -- one client, one statement at a time
    await run(n)
  }
  return cpuNanos(pid) - before
}

export const roundOfSlices = async (
  ways: ReadonlyArray<Way>,
  { slices, statements, warmUp }: Amount
): Promise<Round> => {
  const nanos = new Map(ways.map(({ label }) => [label, 0]))
  await inTurn(ways, (way) => slice(way, 0, warmUp))
  const each = Math.ceil(statements / slices)
  await inTurn(Array.from({ length: slices }).keys(), (index) =>
    inTurn(index % 2 === 0 ? ways : ways.toReversed(), async (way) => {
      const used = await slice(way, warmUp + index * each, each)
      nanos.set(way.label, nanos.get(way.label)! + used)
    })
  )
  return new Map([...nanos].map(([label, sum]) => [label, sum / 1000 / (each * slices)]))
}

/** Statements that a way runs in a round, with those of the warm-up. */
export const runsOf = ({ slices, statements, warmUp }: Amount): number =>
  warmUp + Math.ceil(statements / slices) * slices

/** Drops a database that a round has used: its files would fill the disk. */
export const dropDatabase = async (databaseUrl: string): Promise<void> => {
  const url = new URL(databaseUrl)
  const name = url.pathname.slice(1)
  url.pathname = "/postgres"
  const session = await PgWire.connect(url.href)
  await session.query(`drop database ${name} with (force)`)
  session.close()
}

/** Of all rounds; a goal is met when the upper quartile meets it. */
export const spreadOf = (
  result: Pick<Result, "workload" | "subject" | "baseline" | "goal"> & {
    readonly measure: Measure
    /** Whether the same differs too much from itself for a verdict. */
    readonly noisy?: boolean
  },
  rounds: ReadonlyArray<Round>,
  ratioOf: (round: Round) => number
): Result => {
  const { noisy = false, ...rest } = result
  const ratios = rounds.map(ratioOf)
  const [low, high] = quartiles(ratios)
  const met = rest.goal !== null && high <= rest.goal
  return {
    ...rest,
    ratio: median(ratios),
    low,
    high,
    pairs: ratios.length,
    verdict: rest.goal === null ? null : noisy ? "too-noisy" : met ? "met" : "missed"
  }
}

/** The median of all rounds. */
export const microsOf = (rounds: ReadonlyArray<Round>, valueOf: (round: Round) => number): string =>
  median(rounds.map(valueOf)).toFixed(1)
