/**
 * How many replays a node reads at once, how many wait for it, and how much they may keep in memory, all
 * together. What each client may ask for adds up: this is where the sum has a bound.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * The node has as many replays under way as it may. Nothing is wrong with the database, nor with the
 * cursor: ask again later.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReplaysOverloaded extends Schema.TaggedError<ReplaysOverloaded>()(
  "ReplaysOverloaded",
  {
    /** How many wait already. */
    limit: Schema.Number
  }
) {
  override get message(): string {
    return `${this.limit} replays wait on this node, which is its limit. Ask again later, add a node, or raise maxReplayQueue of OutboxReader.layer.`
  }
}

export interface ReplayLimits {
  /** Replays that are read at once. */
  readonly atOnce: number
  /** The most that wait. */
  readonly queue: number
  /** Payload that all of them keep, in bytes of UTF-8. */
  readonly bytes: number
}

/** One replay that is let in. */
export interface AdmittedReplay {
  /** It is read: from here it keeps so many bytes, and another one may be read. */
  readonly read: (bytes: number) => void
  /** It keeps nothing any more. */
  readonly leave: () => void
}

interface WaitingReplay {
  readonly bytes: number
  readonly go: (admitted: AdmittedReplay) => void
}

export class ReplayAdmission {
  readonly #limits: ReplayLimits
  #reading = 0
  /** What replays keep, or may come to keep. */
  #bytes = 0
  readonly #waiting = new Set<WaitingReplay>()

  constructor(limits: ReplayLimits) {
    this.#limits = limits
  }

  /**
   * Lets in a replay of at most so many bytes, in the order in which they come. `take` is told within the
   * step in which it is let in, so that whoever is interrupted there can give it back.
   */
  enter(
    most: number,
    take: (admitted: AdmittedReplay) => void
  ): Effect.Effect<void, ReplaysOverloaded> {
    return Effect.suspend(() => {
      // One that may keep more than there is for all is let in alone.
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
        return Effect.sync(() => {
          // Those behind it may be smaller.
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
