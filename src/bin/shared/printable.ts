/** Texts of others on a terminal: of clients, and of the database. */

/** Control characters, what reverses a direction, and what some readers take for the end of a line. */
const acting = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu

/** The text with `\\u` escapes in place of what acts on a terminal or ends a line. JSON keeps its value. */
export const printable = (text: string): string =>
  text.replaceAll(acting, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** A value as JSON in one line. */
export const lineOf = (value: unknown): string => printable(JSON.stringify(value))
