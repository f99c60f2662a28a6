/**
 * What a door says in the log about what it refuses and what fails in it, each in few lines.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { inspect } from "node:util"
import type { ResolvedLimits } from "./limits.ts"
import { Crossings, Notices, ruleOf, sentence } from "./notices.ts"

/** An origin is named once in this time, and so many are. */
const originMillis = 3_600_000
const mostOrigins = 20

/** What tells one failure from another, without what differs each time. */
const signatureOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return (error instanceof Error ? `${error.name}: ${error.message}` : typeof error).slice(0, 80)
}

/** The database did not answer in time, which is nobody's fault here. */
const passes = (cause: Cause.Cause<unknown>): boolean => {
  const error = Cause.squash(cause) as { readonly _tag?: unknown } | null | undefined
  return error?._tag === "SourceError"
}

export class Voice {
  readonly #limits: ResolvedLimits
  readonly #rules = new Notices()
  readonly #failures = new Notices()
  readonly #origins = new Notices(originMillis, mostOrigins)
  readonly #crossings = new Crossings()

  constructor(limits: ResolvedLimits) {
    this.#limits = limits
  }

  /** Something was refused and counted: what there is to say of it. */
  refused(reason: string, now: number): Effect.Effect<void> | undefined {
    const rule = ruleOf(reason)
    if (rule !== undefined) {
      const more = this.#rules.due(reason, now)
      return more === undefined ? undefined : Effect.logInfo(sentence(rule, more))
    }
    if (!Object.hasOwn(this.#limits, reason)) return undefined
    const streak = this.#crossings.crossed(reason, now)
    if (streak === undefined || this.#rules.due(`limit ${reason}`, now) === undefined) {
      return undefined
    }
    const value = inspect(this.#limits[reason as keyof ResolvedLimits])
    const seconds = Math.round((now - streak.since) / 1000)
    return Effect.logWarning(
      `The limit ${reason} (${value}) was crossed ${streak.times} times in the last ${seconds} s. If honest clients need more, raise limits.${reason}.`
    )
  }

  /** An origin was refused. */
  origin(origin: string, now: number, fault: () => string): Effect.Effect<void> | undefined {
    return this.#origins.due(origin.slice(0, 200), now) === undefined
      ? undefined
      : Effect.logWarning(`${fault()}.`)
  }

  /** A rule of the application refused. */
  notice(key: string, text: string, now: number): Effect.Effect<void> {
    const more = this.#rules.due(key, now)
    return more === undefined ? Effect.void : Effect.logInfo(sentence(text, more))
  }

  /** Something failed that should not. */
  failed(what: string, cause: Cause.Cause<unknown>, now: number): Effect.Effect<void> {
    const more = this.#failures.due(`${what} ${signatureOf(cause)}`, now)
    if (more === undefined) return Effect.void
    return (passes(cause) ? Effect.logWarning : Effect.logError)(sentence(what, more), cause)
  }
}
