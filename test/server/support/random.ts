/**
 * Random numbers that can be repeated: REALTIME_TEST_SEED repeats a run, and a failing run prints
 * its seed.
 */
export const seed = Number(process.env["REALTIME_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31))

/** REALTIME_TEST_LONG=1 multiplies the work of the property tests. */
export const long = process.env["REALTIME_TEST_LONG"] === "1"

export interface Random {
  /** From 0 to 1. */
  readonly next: () => number
  /** From 0 to below `n`. */
  readonly int: (n: number) => number
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(list: ReadonlyArray<A>) => A
}

export const random = (seed: number): Random => {
  let state = seed | 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const int = (n: number) => Math.floor(next() * n)
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick: (list) => list[int(list.length)]!
  }
}
