/**
 * What a frame that waits for its turn costs, told from its text without parsing it.
 */

/** What an object or a list costs beyond its text, in bytes: an empty one may be two characters. */
const containerBytes = 56

/** About how many bytes a frame costs as long as it waits. */
export const weightOf = (text: string): number => {
  let weight = text.length
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    // `{` and `[`, also where they are text: nobody writes enough of those.
    if (unit === 0x7b || unit === 0x5b) weight += containerBytes
  }
  return weight
}
