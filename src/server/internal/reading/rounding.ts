/**
 * Finds the strings of a payload to round: those made from a number with a fraction, at places where the
 * Schema accepts only a double.
 *
 * In: the issue of the payload with exact strings. Out: the fewest places to round so that one reading of
 * the Schema fits. A string that the Schema reads exactly is not rounded.
 */
import type * as SchemaIssue from "effect/SchemaIssue"
import type { Path } from "./mismatch.ts"

/** `undefined` when rounding does not help. `rounds` says whether the value at a path may be rounded. */
export const placesToRound = (
  issue: SchemaIssue.Issue,
  rounds: (path: Path) => boolean,
  path: Path = []
): ReadonlyArray<Path> | undefined => {
  // No alternative accepts the string at this path.
  if (rounds(path)) return [path]
  switch (issue._tag) {
    case "Pointer":
      return placesToRound(issue.issue, rounds, [...path, ...issue.path])
    case "Encoding":
      return placesToRound(issue.issue, rounds, path)
    case "Composite": {
      const places: Array<Path> = []
      for (const one of issue.issues) {
        const found = placesToRound(one, rounds, path)
        if (found === undefined) return undefined
        places.push(...found)
      }
      return places
    }
    case "AnyOf":
      // The first member of the union that fits after rounding.
      for (const one of issue.issues) {
        const found = placesToRound(one, rounds, path)
        if (found !== undefined) return found
      }
      return undefined
    default:
      return undefined
  }
}
