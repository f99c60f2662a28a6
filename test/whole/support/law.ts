/**
 * The law of delivery, as a judge: a consumer receives each event that was committed to a channel at most
 * once, in order, and a gap for every missing event.
 *
 * A `Ledger` records the commits in order. A `Witness` records what one consumer received on one channel.
 * Numbers are unique within a ledger, so the judge can compare the two.
 */
import type { RealtimeEvent } from "effect-realtime"

export interface Numbered {
  readonly n: number
}

/** The commits of each channel, in order. */
export class Ledger {
  readonly #commits = new Map<string, Array<number>>()
  #last = 0

  /** The committed numbers of a channel. */
  of(channel: string): ReadonlyArray<number> {
    return this.#commits.get(channel) ?? []
  }

  /** The number of the next commit. */
  next(): number {
    return ++this.#last
  }

  /** Records a commit. */
  commit(channel: string, n: number): void {
    const commits = this.#commits.get(channel)
    if (commits === undefined) this.#commits.set(channel, [n])
    else commits.push(n)
  }
}

type Told =
  | { readonly _tag: "Event"; readonly n: number }
  | { readonly _tag: "Gap"; readonly reason: string }
  /** The subscription is active: the consumer must receive every commit after the first `commits`. */
  | { readonly _tag: "Active"; readonly commits: number }

export class Witness {
  readonly name: string
  readonly channel: string
  readonly told: Array<Told> = []
  /** Its cursor. */
  cursor: string | undefined
  /** Whether it is still subscribed. If so, it must receive the last commit too. */
  listening = true
  /** Whether an event may arrive again after a gap: another node may be behind the last one. */
  readonly mayRepeat: boolean
  readonly #ledger: Ledger

  constructor(name: string, channel: string, ledger: Ledger, mayRepeat = false) {
    this.name = name
    this.channel = channel
    this.#ledger = ledger
    this.mayRepeat = mayRepeat
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

  /** The violations of the law in words, empty when it holds. */
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
  {
    listening,
    mayRepeat = false,
    told
  }: Pick<Witness, "told" | "listening"> & { readonly mayRepeat?: boolean },
  commits: ReadonlyArray<number>
): ReadonlyArray<string> => {
  const places = new Map(commits.map((n, place) => [n, place]))
  const violations: Array<string> = []
  let last = -1
  /** The first commit that the consumer must receive, once its subscription is active. */
  let first: number | undefined
  let gap = false
  for (const item of told) {
    if (item._tag === "Gap") gap = true
    else if (item._tag === "Active") first ??= item.commits
    else {
      const place = places.get(item.n)
      if (place === undefined) violations.push(`${item.n} was never committed`)
      else if (place <= last && !(gap && mayRepeat)) {
        const after = gap ? " after a gap" : ""
        violations.push(`${item.n} came twice, or out of order${after}: ${around(told, item)}`)
      } else {
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

/** What the consumer received around an item. */
const around = (told: Witness["told"], item: Told): string => {
  const at = told.indexOf(item)
  return told
    .slice(Math.max(0, at - 8), at + 3)
    .map((one) => (one._tag === "Event" ? one.n : one._tag === "Gap" ? one.reason : "active"))
    .join(" ")
}

const list = (numbers: ReadonlyArray<number>): string =>
  numbers.length <= 3
    ? numbers.join(", ")
    : `${numbers[0]} to ${numbers.at(-1)} (${numbers.length} events)`

/** Seeded random numbers in [0, 1) (mulberry32). */
export const randomOf = (seed: number): (() => number) => {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Whether REALTIME_TEST_LONG=1 is set. */
export const long = process.env["REALTIME_TEST_LONG"] === "1"

/** The seed of this run: REALTIME_TEST_SEED, or a new one each time. */
export const newSeed = (): number =>
  Number(process.env["REALTIME_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31))
