/**
 * What the node that listens for all and the other nodes say to each other, as text.
 *
 * A notification is `bridge listen number payload`, with one space between: its number counts the
 * notifications of one LISTEN of a channel from 1 on. The rest is JSON.
 */
import { jsonRecord } from "../../server/internal/jsonRecord.ts"

/** Where a channel stands at the bridge: the number of its LISTEN, and that of its last notification. */
export type Standing = readonly [listen: number, number: number]

/** A node asks for channels. The bridge answers, and keeps them for a while. */
export interface Ask {
  /** The incarnation of the node. */
  readonly n: string
  /** The bridge that it asks: another one does not answer. */
  readonly b: string
  /** Counts the requests of the node: an answer repeats it, so that the node knows a late one. */
  readonly k: number
  readonly ch: ReadonlyArray<string>
  /** Whether the node has no answer for them yet: what it heard before the request may not come again. */
  readonly w?: boolean | undefined
}

/** Channels to which the bridge listens: an answer, or the beat, which has those that changed. */
export interface Standings {
  /** `term.incarnation` of the bridge. */
  readonly b: string
  readonly s: Readonly<Record<string, Standing>>
  /** In an answer: that of the request. */
  readonly k?: number | undefined
  /** In a beat: whether the link of the bridge is up. */
  readonly u?: boolean | undefined
}

export interface Numbered {
  readonly b: string
  readonly listen: number
  readonly number: number
  readonly payload: string
}

/** The bridge has no space in its name. */
export const bridgeName = (term: bigint, incarnation: string): string => `${term}.${incarnation}`

const name = /^(\d{1,19})\.[\w.:-]{1,200}$/

/** The term of a bridge; `undefined` for a text that no bridge has. */
export const termOf = (bridge: unknown): bigint | undefined => {
  const parts = typeof bridge === "string" ? name.exec(bridge) : null
  return parts === null ? undefined : BigInt(parts[1]!)
}

export const numberedText = ({ b, listen, number, payload }: Numbered): string =>
  `${b} ${listen} ${number} ${payload}`

const numbered = /^(\S+) (\d{1,15}) (\d{1,15}) /

export const numberedOf = (text: string): Numbered | undefined => {
  const parts = numbered.exec(text)
  if (parts === null) return undefined
  return {
    b: parts[1]!,
    listen: Number(parts[2]),
    number: Number(parts[3]),
    payload: text.slice(parts[0].length)
  }
}

export const askOf = (text: string): Ask | undefined => {
  const { b, ch, k, n, w } = jsonRecord(text) ?? {}
  if (typeof n !== "string" || !/^[\w-]{1,100}$/.test(n) || !Array.isArray(ch)) return undefined
  if (typeof b !== "string" || typeof k !== "number") return undefined
  const names = ch.filter((one): one is string => typeof one === "string")
  return { n, b, k, ch: names, w: w === true }
}

const isStanding = (value: unknown): value is Standing =>
  Array.isArray(value) && Number.isSafeInteger(value[0]) && Number.isSafeInteger(value[1])

export const standingsOf = (text: string): Standings | undefined => {
  const { b, k, s, u } = jsonRecord(text) ?? {}
  if (termOf(b) === undefined || typeof s !== "object" || s === null) return undefined
  const known = Object.entries(s).filter((entry): entry is [string, Standing] =>
    isStanding(entry[1])
  )
  return {
    b: b as string,
    k: typeof k === "number" ? k : undefined,
    s: Object.fromEntries(known),
    u: u === true
  }
}
