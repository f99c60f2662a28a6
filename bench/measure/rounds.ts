/**
 * Lets subjects take turns: baseline, two others, baseline, two others, and the whole backwards next
 * time (ABBA), so that every trial has one of the baseline beside it and no order favours anybody.
 */
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

export const takeTurns = async <Sample>(
  baseline: Contestant<Sample>,
  others: ReadonlyArray<Contestant<Sample>>,
  { onTrial, pairs, roundsPerProcess }: Rounds
): Promise<ReadonlyArray<Trial<Sample>>> => {
  const trials: Array<Trial<Sample>> = []
  const order = roundOf(
    baseline.label,
    others.map(({ label }) => label)
  )
  for (let done = 0; done < pairs; done += roundsPerProcess) {
    const runners = new Map<string, Runner<Sample>>()
    try {
      for (const { label, open } of [baseline, ...others]) runners.set(label, await open())
      for (let round = done; round < Math.min(pairs, done + roundsPerProcess); round++) {
        for (const label of round % 2 === 0 ? order : order.toReversed()) {
          // The last of one round is the first of the next.
          if (label === baseline.label && trials.at(-1)?.label === label && round > done) continue
          onTrial?.(label)
          trials.push({ label, sample: await runners.get(label)!.run() })
        }
      }
    } finally {
      for (const runner of runners.values()) await runner[Symbol.asyncDispose]()
    }
  }
  return trials
}
