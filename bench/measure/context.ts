/**
 * The common inputs of all measurements of a run.
 */
import type { Kind } from "../lib/database.ts"
import type { LibraryName, SubjectName } from "../lib/types.ts"

export interface Context {
  readonly quick: boolean
  /** How often a subject and its baseline are compared. */
  readonly pairs: number
  /** The value of the option, for measurements with other defaults. */
  readonly asked: number | undefined
  readonly roundsPerProcess: number
  /** How long a window is. */
  readonly seconds: number
  /** How the paths of CPU profiles of a workload's servers begin. */
  readonly profile: (workload: string) => string | undefined
  /** Whether what the subject needs is installed. */
  readonly has: (subject: SubjectName | LibraryName) => boolean
  /** The URL of a new database, default `fleeting`. */
  readonly database: (kind?: Kind) => Promise<string>
  /** Prints the progress. */
  readonly say: (text: string) => void
}
