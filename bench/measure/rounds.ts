/**
 * Lets subjects take turns: baseline, two others, baseline, two others, and the whole backwards
 * next time (ABBA), so that every trial has one of the baseline beside it and the order favours no
 * subject.
 */
import { inTurn } from "../lib/inTurn.ts"
import type { Trial } from "./ratio.ts"

export interface Contestant<Sample> {
  readonly label: string
  readonly open: () => Promise<Runner<Sample>>
}

export interface Runner<Sample> extends AsyncDisposable {
  /** One trial. */
  readonly run: () => Promise<Sample>
}

export interface Rounds {
  readonly pairs: number
  /** After how many rounds processes are replaced: the luck of one is part of the noise. */
  readonly roundsPerProcess: number
  /**
   * Whether the baseline stands between every two, or once per round, where noise does not matter.
   */
  readonly interleaved?: boolean
  /** Whether contestants start and end together, where noise does not matter. */
  readonly together?: boolean
  readonly onTrial?: (label: string) => void
}

/** One round in order, the baseline standing between every two. */
export const roundOf = (baseline: string, others: ReadonlyArray<string>): ReadonlyArray<string> => {
  const order = [baseline]
  others.forEach((other, index) => {
    order.push(other)
    if (index % 2 === 1 || index === others.length - 1) order.push(baseline)
  })
  return order
}

/** Completes when all have, also those behind one that failed: each is closed afterwards. */
const allSettled = async (opening: ReadonlyArray<Promise<unknown>>) => {
  await Promise.allSettled(opening)
  await Promise.all(opening)
}

export const takeTurns = async <Sample>(
  baseline: Contestant<Sample>,
  others: ReadonlyArray<Contestant<Sample>>,
  { interleaved = true, onTrial, pairs, roundsPerProcess, together = false }: Rounds
): Promise<ReadonlyArray<Trial<Sample>>> => {
  const all = [baseline, ...others]
  const labels = others.map(({ label }) => label)
  const order = interleaved ? roundOf(baseline.label, labels) : [baseline.label, ...labels]
  /** Some rounds with the same processes. */
  const sitting = async (rounds: number): Promise<ReadonlyArray<Trial<Sample>>> => {
    const runners = new Map<string, Runner<Sample>>()
    try {
      const opened = async ({ label, open }: Contestant<Sample>) => runners.set(label, await open())
      await (together ? allSettled(all.map(opened)) : inTurn(all, opened))
      const labels = Array.from({ length: rounds }, (_, round) =>
        round % 2 === 0 ? order : order.toReversed()
      ).flatMap((labels, round) => (round > 0 && interleaved ? labels.slice(1) : labels))
      return await inTurn(labels, async (label) => {
        onTrial?.(label)
        return { label, sample: await runners.get(label)!.run() }
      })
    } finally {
      const close = (runner: Runner<Sample>) => runner[Symbol.asyncDispose]()
      await (together
        ? Promise.all(Array.from(runners.values(), close))
        : inTurn(runners.values(), close))
    }
  }
  const sittings = Array.from({ length: Math.ceil(pairs / roundsPerProcess) }, (_, index) =>
    Math.min(roundsPerProcess, pairs - index * roundsPerProcess)
  )
  return (await inTurn(sittings, sitting)).flat()
}
