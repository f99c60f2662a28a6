/**
 * The memory of a frame that waits for its turn, estimated from its text without parsing.
 */

/** Bytes of an object or a list beyond its text. An empty one may be two characters. */
const containerBytes = 56

/** Roughly the bytes that a frame takes in memory while it waits. */
export const weightOf = (text: string): number => {
  let weight = text.length
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    // `{` and `[`, also inside strings, where they are rare.
    if (unit === 0x7b || unit === 0x5b) weight += containerBytes
  }
  return weight
}
