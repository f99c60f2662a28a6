/**
 * Which strings of a payload are to be rounded: those that were made of a number with a fraction, at
 * places where the Schema takes nothing but a double.
 *
 * In: why the payload with exact strings did not fit. Out: the places to round, as few as make one
 * reading of the Schema fit; what reads the string exactly keeps it.
 */
import type * as SchemaIssue from "effect/SchemaIssue"
import type { Path } from "./mismatch.ts"

/** `undefined` when rounding does not help. `rounds` says whether the value at a path may be rounded. */
export const placesToRound = (
  issue: SchemaIssue.Issue,
  rounds: (path: Path) => boolean,
  path: Path = []
): ReadonlyArray<Path> | undefined => {
  // Whatever was tried with the string: none of it fits.
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
      // Of several members the first that fits then.
      for (const one of issue.issues) {
        const found = placesToRound(one, rounds, path)
        if (found !== undefined) return found
      }
      return undefined
    default:
      return undefined
  }
}
