/**
 * A filter over the rows of a table, and the question whether a change is inside of it.
 *
 * Columns are compared as texts of PostgreSQL, because a change carries these beside its payload
 * (`match`), before and after. What the client asked for and what `authorize` added are one filter here.
 */
import type { Where } from "../../Frame.ts"

export interface Filter {
  /** JSON of the columns with the texts that each may have, sorted: equal filters have equal texts. */
  readonly text: string
  /** By column the texts that it may have; `null` stands for NULL. None: the filter excludes every row. */
  readonly columns: ReadonlyMap<string, ReadonlySet<string | null>>
}

/** The texts of the columns of a row. */
export type Texts = Readonly<Record<string, string | null>>

/** The texts of a row before and after a change; absent where there is no row. */
export interface MatchTexts {
  readonly old?: Texts
  readonly new?: Texts
}

const textsOf = (value: Where[string]): ReadonlySet<string | null> =>
  new Set(value === null ? [null] : Array.isArray(value) ? value.map(String) : [String(value)])

const inOrder = (one: string | null, other: string | null): number =>
  one === other ? 0 : one === null || (other !== null && one < other) ? -1 : 1

const both = (
  one: ReadonlySet<string | null> | undefined,
  other: ReadonlySet<string | null>
): ReadonlySet<string | null> =>
  one === undefined ? other : new Set([...one].filter((text) => other.has(text)))

/** The filter of rows that all of these conditions include; `undefined` if none of them has a column. */
export const make = (...conditions: ReadonlyArray<Where | undefined>): Filter | undefined => {
  const columns = new Map<string, ReadonlySet<string | null>>()
  for (const where of conditions) {
    for (const [column, value] of Object.entries(where ?? {})) {
      const texts = textsOf(value)
      columns.set(column, both(columns.get(column), texts))
    }
  }
  if (columns.size === 0) return undefined
  const sorted = [...columns].toSorted(([one], [other]) => inOrder(one, other))
  const named = sorted.map(([column, texts]) => [column, [...texts].toSorted(inOrder)] as const)
  return { text: JSON.stringify(Object.fromEntries(named)), columns }
}

/** Reads the match of a change; `undefined` if the change has none. */
export const parseMatch = (text: string | undefined): MatchTexts | undefined => {
  if (text?.startsWith("{") !== true) return undefined
  try {
    return JSON.parse(text) as MatchTexts
  } catch {
    return undefined
  }
}

/**
 * Whether a filter includes a row; `undefined` if the row's texts lack a column of the filter, and no
 * other column excludes it.
 */
export const includes = ({ columns }: Filter, texts: Texts): boolean | undefined => {
  let included: true | undefined = true
  for (const [column, allowed] of columns) {
    if (allowed.size === 0) return false
    if (!Object.hasOwn(texts, column)) included = undefined
    else if (!allowed.has(texts[column]!)) return false
  }
  return included
}

/** What a change is for the subscribers of a filter. */
export type Judgement =
  /** Neither row is inside. */
  | "outside"
  /** The row was outside, or was not there, and is inside now. */
  | "enters"
  /** The row was and is inside. */
  | "stays"
  /** The row was inside, and is outside or gone now. */
  | "leaves"
  /** The change does not say it: a gap. */
  | "unknown"

export const judge = (filter: Filter, match: MatchTexts | undefined): Judgement => {
  if (match === undefined) return "unknown"
  const before = match.old === undefined ? false : includes(filter, match.old)
  const after = match.new === undefined ? false : includes(filter, match.new)
  if (before === undefined || after === undefined) return "unknown"
  return before ? (after ? "stays" : "leaves") : after ? "enters" : "outside"
}
