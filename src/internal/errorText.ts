/**
 * The text of whatever was thrown. JavaScript may throw anything, also an object that has no text and
 * throws when it is asked for one.
 *
 * @since 0.1.0
 */
export const errorText = (error: unknown): string => {
  try {
    return error instanceof Error ? error.message : String(error)
  } catch {
    return "an object without a text"
  }
}
