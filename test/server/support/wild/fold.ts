/**
 * The rows that a subscriber derives from the events of a channel: one row per key. Values stay
 * texts, because JavaScript would round them.
 */
import { gapOf } from "../../../../src/server/internal/gapText.ts"

/** From the name of a column to its JSON. */
export type Members = ReadonlyMap<string, string>

const closing = (text: string, open: number): number => {
  let at = open + 1
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1
  return at
}

/** The members of a JSON object, each as the text it is. */
const members = (text: string): Members => {
  const found = new Map<string, string>()
  if (text[0] !== "{") throw new Error(`no object: ${text}`)
  let at = 1
  for (;;) {
    while (/[\s,]/.test(text[at]!)) at++
    if (text[at] === "}") return found
    const end = closing(text, at)
    const name = JSON.parse(text.slice(at, end + 1)) as string
    at = text.indexOf(":", end) + 1
    const from = at
    for (let depth = 0; depth > 0 || (text[at] !== "," && text[at] !== "}"); at++) {
      if (text[at] === '"') at = closing(text, at)
      else if (text[at] === "{" || text[at] === "[") depth++
      else if (text[at] === "}" || text[at] === "]") depth--
    }
    found.set(name, text.slice(from, at).trim())
  }
}

/** The columns and rows of a table at some point: the rows as JSON by PostgreSQL itself. */
export interface Expected {
  readonly keys: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Members>
}

/** How a channel is watched. */
export interface Promised {
  readonly columns: ReadonlyArray<string>
  readonly old: boolean
  /** Without the white space that makes each notification different. */
  readonly maxBytes: number
}

const keyOf = (keys: ReadonlyArray<string>, row: Members): string =>
  keys.map((key) => row.get(key)).join()

const pick = (columns: ReadonlyArray<string>, row: Members): Members =>
  new Map(columns.map((column) => [column, row.get(column)!]))

const equal = (a: Members, b: Members): boolean =>
  a.size === b.size && [...a].every(([name, value]) => b.get(name) === value)

const shown = (row: Members | undefined): string =>
  row === undefined ? "(unknown)" : JSON.stringify(Object.fromEntries(row))

export class Fold {
  /** Rows by key; `undefined` where the row was too large to be sent. */
  #rows = new Map<string, Members | undefined>()
  #keys: ReadonlyArray<string>
  /** The events since the subscriber's last certain state. */
  gap: string | undefined
  events = 0
  /** Of these, UPDATEs of rows that are too large: they may tell of a row in which nothing changed. */
  cut = 0
  /** Violations of the promise. */
  readonly faults: Array<string> = []
  /** Whether the events of a row are in the order of its changes. */
  readonly #strict: boolean
  #promised: Promised
  readonly #ended = new Set<string>()
  /**
   * Whether one statement may have ended a row: of several, each may end a row that another one
   * inserted.
   */
  once = false

  constructor(expected: Expected, promised: Promised, strict: boolean) {
    this.#promised = promised
    this.#strict = strict
    this.#keys = expected.keys
    this.read(expected, promised)
  }

  /** The subscriber reads the table again. */
  read(expected: Expected, promised: Promised): void {
    this.gap = undefined
    this.#promised = promised
    this.#keys = expected.keys
    this.#rows = new Map(
      expected.rows.map((row) => [keyOf(expected.keys, row), pick(promised.columns, row)])
    )
  }

  take(payload: string): void {
    this.events++
    const gap = gapOf(payload)
    if (gap !== undefined) {
      this.gap = gap
      return
    }
    try {
      this.#event(payload, members(payload))
    } catch (error) {
      this.faults.push(`${String(error)}: ${payload}`)
    }
  }

  #event(payload: string, event: Members): void {
    const { maxBytes, old } = this.#promised
    const key = members(event.get("key")!)
    const operation = event.get("operation")
    if ([...key.keys()].toSorted().join() !== [...this.#keys].toSorted().join()) {
      this.faults.push(`another key: ${payload}`)
      return
    }
    const id = keyOf(this.#keys, key)
    const here = this.#rows.has(id)
    const before = this.#rows.get(id)
    const truncated = event.has("truncated")
    if (truncated && operation === `"UPDATE"`) this.cut++
    const data = truncated ? undefined : members(event.get("data")!)
    const bytes = Buffer.byteLength(payload.trimEnd())
    if (!truncated && bytes > maxBytes)
      this.faults.push(`${bytes} bytes of ${maxBytes}: ${payload}`)
    if (
      data !== undefined &&
      [...data.keys()].toSorted().join() !== this.#promised.columns.toSorted().join()
    ) {
      this.faults.push(`other columns: ${payload}`)
    }
    if (this.gap === undefined && this.#strict) {
      if (here !== (operation !== `"INSERT"`))
        this.faults.push(`${here ? "begins again" : "not there"}: ${payload}`)
      if (before !== undefined && data !== undefined) {
        if (operation === `"UPDATE"` && equal(before, data))
          this.faults.push(`changes nothing: ${payload}`)
        if (operation === `"DELETE"` && !equal(before, data)) {
          this.faults.push(`ends as ${payload}, was ${shown(before)}`)
        }
        if (old && operation === `"UPDATE"` && !equal(before, members(event.get("old")!))) {
          this.faults.push(`says it was another: ${payload}, was ${shown(before)}`)
        }
      }
    }
    if (operation === `"DELETE"`) {
      if (this.once && this.#ended.has(id)) this.faults.push(`ends twice: ${payload}`)
      this.#ended.add(id)
      this.#rows.delete(id)
    } else if (operation === `"INSERT"` || operation === `"UPDATE"`) {
      this.#ended.delete(id)
      this.#rows.set(id, data)
    } else this.faults.push(`no event: ${payload}`)
  }

  /** Compares the rows of the events with the table. */
  compare({ keys, rows }: Expected): void {
    this.#ended.clear()
    if (this.gap !== undefined) return
    const { columns, maxBytes, old } = this.#promised
    const left = new Map(this.#rows)
    for (const row of rows) {
      const id = keyOf(keys, row)
      const said = this.#rows.get(id)
      const is = pick(columns, row)
      if (!left.delete(id)) this.faults.push(`never told: ${shown(is)} of ${id}`)
      else if (said === undefined) {
        const text = (row: Members) =>
          `{${[...row].map(([name, value]) => `${JSON.stringify(name)}:${value}`).join()}}`
        const whole = `{"operation":"INSERT","data":${text(is)},"key":${text(pick(keys, row))}}`
        if (!old && Buffer.byteLength(whole) <= maxBytes)
          this.faults.push(`fits and is cut: ${whole}`)
      } else if (!equal(is, said)) this.faults.push(`told ${shown(said)}, is ${shown(is)}`)
    }
    for (const [id, row] of left) this.faults.push(`told ${shown(row)} of ${id}, is gone`)
  }
}
