/**
 * The one way of a text to stdout and stderr.
 *
 * A text may be of others: of clients, of the database, of another node. So what acts on a terminal or ends a
 * line is escaped in each line, except the codes of the command line itself, which `own` marks.
 */
import * as Console from "effect/Console"
import type * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"

/** Control characters, what reverses a direction, and what some readers take for the end of a line. */
const acting = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu

/** The text with `\\u` escapes in place of what acts on a terminal or ends a line. JSON keeps its value. */
export const printable = (text: string): string =>
  text.replaceAll(acting, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** Stands for the escape of a code of our own. No text of others has it. */
const mark = `<${randomUUID()}>`

/** A code of the command line itself, such as `[31m`. */
export const own = (code: string): string => `${mark}${code}`

/** A line as it is written. */
const shownLine = (text: string): string => text.split(mark).map(printable).join("\u001b")

/** A text of several lines as it is written. */
export const shownText = (text: string): string => text.split("\n").map(shownLine).join("\n")

/** Prints lines on stdout: results. */
export const say = (...lines: ReadonlyArray<string>): Effect.Effect<void> =>
  Console.log(lines.map(shownLine).join("\n"))

/** Prints lines on stderr: everything else. */
export const tell = (...lines: ReadonlyArray<string>): Effect.Effect<void> =>
  Console.error(lines.map(shownLine).join("\n"))

/** Prints a text that the user gave for a program, such as SQL, on stdout as it is. */
export const hand = (text: string): Effect.Effect<void> => Console.log(text)
