/**
 * The law of this library, as a judge: of what was committed to a channel, a consumer is told each
 * event at most once, in order, and every one that it is not told lies inside a told gap.
 *
 * A `Ledger` knows what was committed, in order; a `Witness` writes down what one consumer was told of
 * one channel. Numbers are unique within a ledger, so a witness can be held against it.
 */
import type { RealtimeEvent } from "effect-realtime"

export interface Numbered {
  readonly n: number
}

/** What was committed to each channel, in the order of the commits. */
export class Ledger {
  readonly #commits = new Map<string, Array<number>>()
  #last = 0

  /** The numbers that were committed to a channel. */
  of(channel: string): ReadonlyArray<number> {
    return this.#commits.get(channel) ?? []
  }

  /** A number for the next commit. */
  next(): number {
    return ++this.#last
  }

  /** Writes down that a number was committed. */
  commit(channel: string, n: number): void {
    const commits = this.#commits.get(channel)
    if (commits === undefined) this.#commits.set(channel, [n])
    else commits.push(n)
  }
}

type Told =
  | { readonly _tag: "Event"; readonly n: number }
  | { readonly _tag: "Gap"; readonly reason: string }
  /** The subscription is active: whatever is committed beyond the first `commits` is owed. */
  | { readonly _tag: "Active"; readonly commits: number }

export class Witness {
  readonly name: string
  readonly channel: string
  readonly told: Array<Told> = []
  /** Where it stands. */
  cursor: string | undefined
  /** Whether it still listens: then it is owed the last commit too. */
  listening = true
  readonly #ledger: Ledger

  constructor(name: string, channel: string, ledger: Ledger) {
    this.name = name
    this.channel = channel
    this.#ledger = ledger
  }

  readonly hear = (batch: ReadonlyArray<RealtimeEvent.RealtimeEvent<Numbered>>): void => {
    for (const event of batch) {
      if (event.cursor !== undefined) this.cursor = event.cursor
      this.told.push(
        event._tag === "Event"
          ? { _tag: "Event", n: event.payload.n }
          : { _tag: "Gap", reason: event.reason }
      )
    }
  }

  readonly activate = (cursor: string): void => {
    this.cursor = cursor
    this.told.push({ _tag: "Active", commits: this.#ledger.of(this.channel).length })
  }

  /** What breaks the law, in words; nothing when it holds. */
  get violations(): ReadonlyArray<string> {
    return judge(this, this.#ledger.of(this.channel)).map(
      (violation) => `${this.name} on ${this.channel}: ${violation}`
    )
  }

  get events(): number {
    return this.told.filter(({ _tag }) => _tag === "Event").length
  }
}

export const judge = (
  { listening, told }: Pick<Witness, "told" | "listening">,
  commits: ReadonlyArray<number>
): ReadonlyArray<string> => {
  const places = new Map(commits.map((n, place) => [n, place]))
  const violations: Array<string> = []
  let last = -1
  /** The first place that is owed, once the subscription was active. */
  let first: number | undefined
  let gap = false
  for (const item of told) {
    if (item._tag === "Gap") gap = true
    else if (item._tag === "Active") first ??= item.commits
    else {
      const place = places.get(item.n)
      if (place === undefined) violations.push(`${item.n} was never committed`)
      else if (place <= last) violations.push(`${item.n} came twice, or out of order`)
      else {
        const owed = last >= 0 ? last + 1 : (first ?? place)
        if (!gap && place > owed) {
          const missing = list(commits.slice(owed, place))
          violations.push(`${missing} missing before ${item.n} without a gap`)
        }
        last = place
        gap = false
      }
    }
  }
  if (listening) {
    const missing = commits.slice(last >= 0 ? last + 1 : (first ?? 0))
    if (missing.length > 0) violations.push(`${list(missing)} missing at the end`)
  }
  return violations
}

const list = (numbers: ReadonlyArray<number>): string =>
  numbers.length <= 3
    ? numbers.join(", ")
    : `${numbers[0]} to ${numbers.at(-1)} (${numbers.length} events)`

/** Numbers in [0, 1) that a seed decides (mulberry32). */
export const randomOf = (seed: number): (() => number) => {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Whether the long run was asked for. */
export const long = process.env["REALTIME_TEST_LONG"] === "1"

/** A seed for this run: a new one each time, or the one that REALTIME_TEST_SEED names. */
export const newSeed = (): number =>
  Number(process.env["REALTIME_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31))
