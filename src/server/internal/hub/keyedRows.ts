/**
 * The rows of a table by their primary keys, kept from a state and the changes after it.
 *
 * In: the JSON of rows and of changes. Out: a list that is another one exactly when a row is another one,
 * with the same objects for unchanged rows. It knows no Schema, positions or gaps: its owner decodes a row
 * when it is new, leaves out changes that the state contains, and gives a new state after a gap.
 */
import type { RowChange } from "./rowChange.ts"

/** Decodes a row; `undefined` leaves it out. */
export type DecodeRow<A> = () => A | undefined

interface HeldRow<A> {
  readonly json: unknown
  /** `undefined` for a row that is left out. */
  readonly row: A | undefined
  /** The key of a row that is left out. */
  readonly key: object | undefined
}

const isObject = (json: unknown): json is Readonly<Record<string, unknown>> =>
  typeof json === "object" && json !== null

/** Whether two values of JSON are equal. */
const isSame = (one: unknown, other: unknown): boolean => {
  if (one === other) return true
  if (!isObject(one) || !isObject(other) || Array.isArray(one) !== Array.isArray(other))
    return false
  const names = Object.keys(one)
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && isSame(one[name], other[name]))
  )
}

const isList = <B>(list: ReadonlyArray<B>, before: ReadonlyArray<B>): boolean =>
  list.length === before.length && list.every((one, at) => one === before[at])

export class KeyedRows<A> {
  readonly #key: ReadonlyArray<string>
  #rows = new Map<string, HeldRow<A>>()
  #next = new Map<string, HeldRow<A>>()
  #list: ReadonlyArray<A> = []
  #leftOut: ReadonlyArray<object> = []
  #changed = false

  /** `key`: the columns of the primary key. */
  constructor(key: ReadonlyArray<string>) {
    this.#key = key
  }

  /** The rows in the order of the state, then in the order in which their changes arrived. */
  get list(): ReadonlyArray<A> {
    this.#collect()
    return this.#list
  }

  /** The keys of rows that are left out. */
  get leftOut(): ReadonlyArray<object> {
    this.#collect()
    return this.#leftOut
  }

  #collect(): void {
    if (!this.#changed) return
    const list: Array<A> = []
    const leftOut: Array<object> = []
    for (const { key, row } of this.#rows.values()) {
      if (row === undefined) leftOut.push(key!)
      else list.push(row)
    }
    if (!isList(list, this.#list)) this.#list = list
    if (!isList(leftOut, this.#leftOut)) this.#leftOut = leftOut
    this.#changed = false
  }

  /** Adds a row to the next state. */
  add(json: unknown, decode: DecodeRow<A>): void {
    this.#put(this.#next, json, json, decode)
  }

  /** The rows that were added take the place of all others. */
  replace(): void {
    this.#rows = this.#next
    this.#next = new Map()
    this.#changed = true
  }

  /** Gives up the rows that were added to the next state. */
  discard(): void {
    this.#next.clear()
  }

  /** Applies a change. Returns `false` if it does not have the row that it needs: the state must be read again. */
  apply({ data, key = data, operation }: RowChange, decode: DecodeRow<A>): boolean {
    if (!isObject(key)) return false
    if (operation !== "DELETE") {
      if (!isObject(data)) return false
      this.#put(this.#rows, key, data, decode)
    } else this.#rows.delete(this.#name(key))
    this.#changed = true
    return true
  }

  #put(rows: Map<string, HeldRow<A>>, key: unknown, json: unknown, decode: DecodeRow<A>): void {
    const name = this.#name(key)
    const held = this.#rows.get(name)
    if (held !== undefined && isSame(held.json, json)) {
      rows.set(name, held)
      return
    }
    const row = decode()
    rows.set(name, {
      json,
      row,
      key: row === undefined ? (held?.key ?? this.#keyOf(key)) : undefined
    })
  }

  #keyOf(key: unknown): object {
    const row = Object(key) as Readonly<Record<string, unknown>>
    return Object.fromEntries(this.#key.map((column) => [column, row[column]]))
  }

  /** A number and a text with the same digits are the same value of a column. */
  #name(key: unknown): string {
    const row = Object(key) as Readonly<Record<string, unknown>>
    return JSON.stringify(this.#key.map((column) => String(row[column])))
  }
}
