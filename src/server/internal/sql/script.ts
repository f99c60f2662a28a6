/** What frames the statements of a script. */
import type * as Duration from "effect/Duration"
import { pgInstaller as Defaults } from "../../../internal/defaults.ts"
import { millis } from "../options.ts"

/** How long a script waits for a lock. Throws `InvalidOption`. */
export const patience = (
  options: { readonly lockTimeout?: Duration.Input | undefined } | undefined
): string => {
  // A lock timeout of zero would be unlimited.
  return `set local lock_timeout = '${millis("lockTimeout", options?.lockTimeout ?? Defaults.lockTimeout)}ms'`
}

/** The statements as one transaction that psql runs, in paragraphs. */
export const script = (statements: ReadonlyArray<string>): ReadonlyArray<string> => [
  "begin;",
  // Suppresses notices about objects that exist already.
  ...["set local client_min_messages = warning", ...statements].map((statement) => `${statement};`),
  "commit;",
  ""
]
