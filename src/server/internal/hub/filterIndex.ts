/**
 * Finds the filters that a change may touch, without asking every filter.
 *
 * A filter stands under the texts of one of its columns: of the column whose texts have the fewest filters
 * when it is added. A change touches at most the filters under its texts, before and after.
 */
import type { Filter, MatchTexts } from "../filter.ts"

interface HasFilter {
  readonly filter: Filter
}

/** The holders of filters that stand under one column. */
interface IndexedColumn<V> {
  readonly all: Set<V>
  readonly byText: Map<string | null, Set<V>>
}

export class FilterIndex<V extends HasFilter> {
  readonly #columns = new Map<string, IndexedColumn<V>>()
  /** All holders, and the column of each; a filter that excludes every row has none. */
  readonly #places = new Map<V, string | undefined>()

  get size(): number {
    return this.#places.size
  }

  /** All holders. */
  get all(): Iterable<V> {
    return this.#places.keys()
  }

  add(holder: V): void {
    const { columns } = holder.filter
    let place: string | undefined
    let least = Infinity
    for (const [name, texts] of columns) {
      const size = this.#largest(name, texts)
      if (size < least) [place, least] = [name, size]
      if (texts.size === 0) {
        place = undefined
        break
      }
    }
    this.#places.set(holder, place)
    if (place === undefined) return
    let column = this.#columns.get(place)
    if (column === undefined) {
      this.#columns.set(place, (column = { all: new Set(), byText: new Map() }))
    }
    column.all.add(holder)
    for (const text of columns.get(place)!) {
      const under = column.byText.get(text)
      if (under === undefined) column.byText.set(text, new Set([holder]))
      else under.add(holder)
    }
  }

  remove(holder: V): void {
    const place = this.#places.get(holder)
    this.#places.delete(holder)
    if (place === undefined) return
    const column = this.#columns.get(place)!
    column.all.delete(holder)
    if (column.all.size === 0) this.#columns.delete(place)
    for (const text of holder.filter.columns.get(place)!) {
      const under = column.byText.get(text)!
      under.delete(holder)
      if (under.size === 0) column.byText.delete(text)
    }
  }

  /** The holders that a change may touch, each once. Those of a column that the change lacks are among them. */
  touched(match: MatchTexts): Iterable<V> {
    const sets: Array<ReadonlySet<V>> = []
    const add = (set: ReadonlySet<V> | undefined) => {
      if (set !== undefined && !sets.includes(set)) sets.push(set)
    }
    for (const [name, { all, byText }] of this.#columns) {
      for (const texts of [match.old, match.new]) {
        if (texts === undefined) continue
        add(Object.hasOwn(texts, name) ? byText.get(texts[name]!) : all)
      }
    }
    if (sets.length === 1) return sets[0]!
    const found = new Set<V>()
    for (const set of sets) for (const holder of set) found.add(holder)
    return found
  }

  /** How many filters stand under one of these texts, at most. */
  #largest(name: string, texts: ReadonlySet<string | null>): number {
    const column = this.#columns.get(name)
    let largest = 0
    for (const text of texts) largest = Math.max(largest, column?.byText.get(text)?.size ?? 0)
    return largest
  }
}
