/**
 * The verdict on trials that took turns.
 *
 * A trial is compared with the nearest trial of the baseline, because a machine with neighbours
 * changes by the minute; the median of the pairs counts, and the range is shown.
 */

export interface Trial<Sample> {
  readonly label: string
  readonly sample: Sample
}

export interface Ratio {
  readonly ratio: number
  readonly low: number
  readonly high: number
  readonly pairs: number
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((left, right) => left - right)
  const middle = sorted.length >>> 1
  return sorted.length % 2 === 1
    ? sorted[middle]!
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

/** The value below which this share of all lies. */
export const percentile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = values.toSorted((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/**
 * The quartiles below which a quarter of all values lies, and above; between two values in
 * proportion.
 */
export const quartiles = (values: ReadonlyArray<number>): readonly [number, number] => {
  const sorted = values.toSorted((left, right) => left - right)
  const at = (share: number) => {
    const place = (sorted.length - 1) * share
    const below = sorted[Math.floor(place)] ?? Number.NaN
    const above = sorted[Math.ceil(place)] ?? Number.NaN
    return below + (above - below) * (place - Math.floor(place))
  }
  return [at(0.25), at(0.75)]
}

/** `undefined` when one of the two has no trial. */
export const compare = <Sample>(
  trials: ReadonlyArray<Trial<Sample>>,
  subject: string,
  baseline: string,
  valueOf: (sample: Sample) => number
): Ratio | undefined => {
  const ratios = trials.flatMap(({ label, sample }, index) => {
    if (label !== subject) return []
    const nearest = trials
      .map((trial, at) => ({ ...trial, distance: Math.abs(at - index) }))
      .filter((trial) => trial.label === baseline)
      .toSorted((left, right) => left.distance - right.distance)[0]
    return nearest === undefined ? [] : [valueOf(sample) / valueOf(nearest.sample)]
  })
  return ratios.length === 0
    ? undefined
    : {
        ratio: median(ratios),
        low: Math.min(...ratios),
        high: Math.max(...ratios),
        pairs: ratios.length
      }
}

/** Two runs of the same subject may differ by this much before there is no verdict. */
const quiet = { low: 0.9, high: 1.1 }

/** `same` compares the baseline with itself. */
export const isTooNoisy = (same: Ratio | undefined): boolean =>
  same !== undefined && (same.ratio < quiet.low || same.ratio > quiet.high)
