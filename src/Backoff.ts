/**
 * When to reconnect. One policy type serves the link to PostgreSQL and the client's socket.
 *
 * Full jitter: each delay is a random time between zero and a ceiling. The ceiling doubles with every
 * failure up to a cap, so that clients that lost one server do not return together. It falls back to its
 * start only after a session stayed healthy for a while, so that a peer that accepts and drops at once is
 * not hammered.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"

/**
 * The delays between attempts to reconnect.
 *
 * @category models
 * @since 0.1.0
 */
export interface Policy {
  /** Ceiling of the first delay. It doubles with each failure in a row. */
  readonly initial: Duration.Input
  /** The ceiling never exceeds this. */
  readonly cap: Duration.Input
  /** Ceiling of the first retry after a healthy session. Default: `initial`. */
  readonly first?: Duration.Input | undefined
  /** A session that was healthy this long resets the count of failures. */
  readonly resetAfter: Duration.Input
  /**
   * After a session that was healthy this long the first retry has no delay, and the next one counts as
   * the first. Default: never. The client's socket does not use it.
   */
  readonly atOnceAfter?: Duration.Input | undefined
}

/**
 * The policy of the client's socket: first retry within 2 s, then 250 ms doubling to 30 s, forgiven after
 * 10 s open. It never ends.
 *
 * The first retry is spread also after a long healthy session, because all clients of a server lose it at
 * the same moment. A server that closes sends each client in `bye` when to reconnect instead.
 *
 * @category policies
 * @since 0.1.0
 */
export const client: Policy = {
  initial: 250,
  cap: 30_000,
  first: 2000,
  resetAfter: 10_000
}

/**
 * The policy of the link to PostgreSQL: 100 ms doubling to 10 s, forgiven after 30 s of health, and then
 * the first retry without delay. It never ends.
 *
 * @category policies
 * @since 0.1.0
 */
export const link: Policy = {
  initial: 100,
  cap: 10_000,
  resetAfter: 30_000,
  atOnceAfter: 30_000
}

/**
 * The largest delay of `attempt`, in milliseconds. Attempts count from 1.
 *
 * @category combinators
 * @since 0.1.0
 */
export const ceiling = ({ cap, first, initial }: Policy, attempt: number): number => {
  const doublings = attempt - (first === undefined ? 1 : 2)
  return Math.min(
    Duration.toMillis(cap),
    // 2 ** 1024 is Infinity, and min() takes the cap: a long outage causes no overflow.
    first !== undefined && doublings < 0
      ? Duration.toMillis(first)
      : Duration.toMillis(initial) * 2 ** doublings
  )
}

/**
 * A random time between zero and the ceiling of an attempt, in milliseconds. Attempts count from 1.
 *
 * @category combinators
 * @since 0.1.0
 */
export const jittered = (policy: Policy, attempt: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => random * ceiling(policy, attempt))

/**
 * The policy as a Schedule that never ends. Its output counts the failures in a row, from 0.
 *
 * @category schedules
 * @since 0.1.0
 */
export const schedule = (policy: Policy): Schedule.Schedule<number> =>
  Schedule.forever.pipe(Schedule.modifyDelay(({ attempt }) => jittered(policy, attempt)))

/**
 * Counts failures for a caller that waits by itself.
 *
 * `delay(healthyMillis)` gives the next delay in milliseconds after a session that was healthy for
 * `healthyMillis`, 0 when it never was. After a session that was healthy for `atOnceAfter` the delay is
 * 0.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  policy: Policy
): Effect.Effect<{ readonly delay: (healthyMillis: number) => Effect.Effect<number> }> =>
  Effect.sync(() => {
    let failures = 0
    return {
      delay: (healthyMillis) =>
        Effect.suspend(() => {
          if (healthyMillis >= Duration.toMillis(policy.resetAfter)) failures = 0
          if (
            failures === 0 &&
            healthyMillis >= Duration.toMillis(policy.atOnceAfter ?? Infinity)
          ) {
            return Effect.succeed(0)
          }
          return jittered(policy, ++failures)
        })
    }
  })
