/**
 * `JSON.parse` with correct names of objects.
 *
 * V8 13.6 (Node 24) misreads a name that is spelled with an escape once the process has read a name with
 * a backslash in the same place: `"k\n"` becomes `k` and a backslash, without an error. So `JSON.parse`
 * receives no name with an escape. A name that needs none is spelled without it. Any other name is
 * replaced by a mark, and the name is put back afterwards. A text without a backslash costs one search.
 *
 * @since 0.1.0
 */

const backslash = 92

/**
 * Where the string that opens at `open` closes, or the length of the text when it does not.
 *
 * @category internals
 * @since 0.1.0
 */
export const closing = (text: string, open: number): number => {
  for (let at = text.indexOf('"', open + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let escapes = 0
    while (text.charCodeAt(at - 1 - escapes) === backslash) escapes++
    if (escapes % 2 === 0) return at
  }
  return text.length
}

const colonNext = /[\t\n\r ]*:/y

/**
 * Whether the string that ends before `end` is the name of a property: a colon follows.
 *
 * @category internals
 * @since 0.1.0
 */
export const isName = (text: string, end: number): boolean => {
  colonNext.lastIndex = end
  return colonNext.test(text)
}

/** A character that a JSON string must escape. */
// oxlint-disable-next-line no-control-regex
const needsEscape = /[\\"\u0000-\u001f]/

/**
 * Reads JSON as `JSON.parse` does. Throws what `JSON.parse` throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseJson = (text: string): unknown => {
  let slash = text.indexOf("\\")
  if (slash === -1) return JSON.parse(text)
  const names: Array<string> = []
  const mark = `${Math.random().toString(36).slice(2)} `
  let written = ""
  let copied = 0
  for (let open = text.indexOf('"'); open !== -1 && slash !== -1;) {
    const end = closing(text, open) + 1
    if (slash < end && isName(text, end)) {
      const name = String(JSON.parse(text.slice(open, end)))
      written += text.slice(copied, open)
      written += needsEscape.test(name) ? `"${mark}${names.push(name) - 1}"` : `"${name}"`
      copied = end
    }
    if (slash < end) slash = text.indexOf("\\", end)
    open = text.indexOf('"', end)
  }
  if (copied === 0) return JSON.parse(text)
  const value: unknown = JSON.parse(written + text.slice(copied))
  return names.length === 0 ? value : renamed(value, mark, names)
}

/** The same value with names in place of their marks. Not recursive, because JSON may nest deeply. */
const renamed = (value: unknown, mark: string, names: ReadonlyArray<string>): unknown => {
  const all: Array<object> = []
  const note = (inner: unknown) => {
    if (typeof inner === "object" && inner !== null) all.push(inner)
  }
  note(value)
  for (let at = 0; at < all.length; at++) Object.values(all[at]!).forEach(note)
  const replaced = new Map<unknown, object>()
  // Inner objects before those that contain them.
  for (const one of all.toReversed()) {
    const entries = Object.entries(one)
    const marked = !Array.isArray(one) && entries.some(([key]) => key.startsWith(mark))
    const target: object = marked ? {} : one
    for (const [key, inner] of entries) {
      const name = key.startsWith(mark) ? names[Number(key.slice(mark.length))]! : key
      const property = { configurable: true, enumerable: true, writable: true }
      const now = replaced.get(inner) ?? inner
      if (marked || now !== inner) Object.defineProperty(target, name, { ...property, value: now })
    }
    if (marked) replaced.set(one, target)
  }
  return replaced.get(value) ?? value
}
