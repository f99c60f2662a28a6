/**
 * Limits the replays of a node: how many it reads at once, how many wait, and how much payload they keep in
 * memory together. The limits of single clients add up; this limit bounds the sum.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * The node has reached its limit of replays. Neither the database nor the cursor is at fault: retry later.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReplaysOverloaded extends Schema.TaggedError<ReplaysOverloaded>()(
  "ReplaysOverloaded",
  {
    /** How many replays wait already. */
    limit: Schema.Number
  }
) {
  override get message(): string {
    return `${this.limit} replays wait on this node, which is its limit. Retry later, add a node, or raise maxReplayQueue of OutboxReader.layer.`
  }
}

export interface ReplayLimits {
  /** The most replays read at once. */
  readonly atOnce: number
  /** The most replays that wait. */
  readonly queue: number
  /** The payload that all replays keep, in bytes of UTF-8. */
  readonly bytes: number
}

/** One admitted replay. */
export interface AdmittedReplay {
  /** The replay was read: it keeps this many bytes from now on, and another one may be read. */
  readonly read: (bytes: number) => void
  /** The replay keeps nothing any more. */
  readonly leave: () => void
}

interface WaitingReplay {
  readonly bytes: number
  readonly go: (admitted: AdmittedReplay) => void
}

export class ReplayAdmission {
  readonly #limits: ReplayLimits
  #reading = 0
  /** The bytes that replays keep, or may need. */
  #bytes = 0
  readonly #waiting = new Set<WaitingReplay>()

  constructor(limits: ReplayLimits) {
    this.#limits = limits
  }

  /**
   * Admits a replay of at most so many bytes, in the order of the calls. It calls `take` in the step of the
   * admission, so that a caller that is interrupted there can release it.
   */
  enter(
    most: number,
    take: (admitted: AdmittedReplay) => void
  ): Effect.Effect<void, ReplaysOverloaded> {
    return Effect.suspend(() => {
      // A replay that may keep more than the limit of all is admitted alone.
      const bytes = Math.min(most, this.#limits.bytes)
      if (this.#waiting.size === 0 && this.#fits(bytes)) {
        take(this.#admit(bytes))
        return Effect.void
      }
      const { queue } = this.#limits
      if (this.#waiting.size >= queue) return Effect.fail(new ReplaysOverloaded({ limit: queue }))
      return Effect.callback<void>((resume) => {
        const one: WaitingReplay = {
          bytes,
          go: (admitted) => {
            take(admitted)
            resume(Effect.void)
          }
        }
        this.#waiting.add(one)
        // Another replay may have left since.
        this.#next()
        return Effect.sync(() => {
          // The replays behind it may be smaller.
          if (this.#waiting.delete(one)) this.#next()
        })
      })
    })
  }

  #fits(bytes: number): boolean {
    return this.#reading < this.#limits.atOnce && this.#bytes + bytes <= this.#limits.bytes
  }

  #admit(reserved: number): AdmittedReplay {
    let [bytes, reading] = [reserved, true]
    this.#reading++
    this.#bytes += bytes
    const keep = (now: number) => {
      this.#bytes += now - bytes
      bytes = now
      if (reading) this.#reading--
      reading = false
      this.#next()
    }
    let left = false
    return {
      read: (now) => {
        if (!left) keep(Math.min(now, reserved))
      },
      leave: () => {
        if (left) return
        left = true
        keep(0)
      }
    }
  }

  #next(): void {
    for (const one of this.#waiting) {
      if (!this.#fits(one.bytes)) return
      this.#waiting.delete(one)
      one.go(this.#admit(one.bytes))
    }
  }
}
