/**
 * What all measurements of a run share.
 */
import type { SubjectName } from "../lib/types.ts"

export interface Context {
  readonly quick: boolean
  /** How often a subject and its baseline are compared. */
  readonly pairs: number
  readonly roundsPerProcess: number
  /** How long a window is. */
  readonly seconds: number
  /** Where CPU profiles of the servers go. */
  readonly profile: string | undefined
  /** Whether what the subject needs is installed. */
  readonly has: (subject: SubjectName) => boolean
  /** The URL of a database that nobody has used yet. */
  readonly database: () => Promise<string>
  /** Tells whoever waits what is going on. */
  readonly say: (text: string) => void
}
