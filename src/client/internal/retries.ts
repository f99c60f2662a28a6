/**
 * When the client tries again what failed: its socket, a subscription, the renewal of a token.
 *
 * In: the outcome of each try. Out: the delay before the next one, by the client's backoff. Each
 * thing that is tried has its own count; waiting is left to its owner.
 *
 * @since 0.1.0
 */
import * as Backoff from "../../Backoff.ts"
import { millis, type Time } from "./time.ts"

/** The failures in a row of one thing. What went well for `resetAfter` is forgiven them. */
export interface Retries {
  readonly failures: () => number
  readonly succeeded: () => void
  /** One more failure; gives the delay, in milliseconds: `delay` where the server named one. */
  readonly failed: (delay?: number) => number
}

export const make =
  (policy: Backoff.Policy, { now, runSync }: Time) =>
  (): Retries => {
    let count = 0
    let succeededAt = Infinity
    const failures = () => {
      if (now() - succeededAt >= millis(policy.resetAfter, 0)) count = 0
      return count
    }
    return {
      failures,
      succeeded: () => {
        succeededAt = now()
      },
      failed: (delay) => {
        count = failures() + 1
        succeededAt = Infinity
        return delay ?? runSync(Backoff.jittered(policy, count))
      }
    }
  }
