/**
 * What all measurements of a run share.
 */
import type { Kind } from "../lib/database.ts"
import type { LibraryName, SubjectName } from "../lib/types.ts"

export interface Context {
  readonly quick: boolean
  /** How often a subject and its baseline are compared. */
  readonly pairs: number
  /** What the command was told of it, for who has other defaults. */
  readonly asked: number | undefined
  readonly roundsPerProcess: number
  /** How long a window is. */
  readonly seconds: number
  /** How the paths of CPU profiles of a workload's servers begin. */
  readonly profile: (workload: string) => string | undefined
  /** Whether what the subject needs is installed. */
  readonly has: (subject: SubjectName | LibraryName) => boolean
  /** The URL of a database that nobody has used yet, default `fleeting`. */
  readonly database: (kind?: Kind) => Promise<string>
  /** Tells whoever waits what is going on. */
  readonly say: (text: string) => void
}
