/**
 * Where a text is not JSON, or names a key twice, of which `JSON.parse` would keep the last one in silence.
 *
 * The places have no part of the text, because it may hold a secret; the names of its keys are none.
 */

/** What is wrong, with the line and the column. */
export interface JsonFault {
  readonly line: number
  readonly column: number
  /** The place of a key that is there twice, such as `channels.news`; `undefined` where the text is no JSON. */
  readonly twice: string | undefined
}

const space = /[ \t\n\r]*/y
const string = /"(?:[^"\\\p{Cc}]|[\u007f-\u009f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy
const scalar = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null/y

class Stop extends Error {
  readonly at: number
  readonly twice: string | undefined

  constructor(at: number, twice?: string) {
    super("no JSON")
    this.at = at
    this.twice = twice
  }
}

class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  /** Reads the whole text. Throws `Stop`. */
  read(): void {
    this.#value([])
    this.#skip()
    if (this.#at < this.#text.length) throw new Stop(this.#at)
  }

  /** Takes what the pattern matches here. */
  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }

  #skip(): void {
    this.#take(space)
  }

  /** Whether this character is next, behind spaces; then it is taken. */
  #next(character: string): boolean {
    this.#skip()
    if (this.#text[this.#at] !== character) return false
    this.#at++
    return true
  }

  #demand(character: string): void {
    if (!this.#next(character)) throw new Stop(this.#at)
  }

  #value(path: ReadonlyArray<string>): void {
    if (this.#next("{")) return this.#object(path)
    if (this.#next("[")) return this.#array(path)
    if ((this.#take(string) ?? this.#take(scalar)) === undefined) throw new Stop(this.#at)
  }

  #object(path: ReadonlyArray<string>): void {
    if (this.#next("}")) return
    const keys = new Set<string>()
    do {
      this.#skip()
      const start = this.#at
      const text = this.#take(string)
      if (text === undefined) throw new Stop(start)
      const key = JSON.parse(text) as string
      if (keys.has(key)) throw new Stop(start, [...path, key].join("."))
      keys.add(key)
      this.#demand(":")
      this.#value([...path, key])
    } while (this.#next(","))
    this.#demand("}")
  }

  #array(path: ReadonlyArray<string>): void {
    if (this.#next("]")) return
    do this.#value(path)
    while (this.#next(","))
    this.#demand("]")
  }
}

/** The first fault of a text. */
export const jsonFault = (text: string): JsonFault | undefined => {
  try {
    new Reader(text).read()
    return undefined
  } catch (error) {
    // Of a text that is nested too deep the stack ends.
    const { at, twice } = error instanceof Stop ? error : { at: 0, twice: undefined }
    const before = text.slice(0, at).split(/\r\n|\n|\r/)
    return { line: before.length, column: before.at(-1)!.length + 1, twice }
  }
}
