/**
 * Joins the parts of a result into few events.
 *
 * In: parts, one at a time. Out: chunks for the channel, at most one in each window, in order. A full
 * buffer makes the next part wait until the chunk before it is published.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/** The first window, in milliseconds. */
const window = 100

/** A chunk ends before the part that would make it larger, in bytes of JSON. */
const maxChunkBytes = 65_536

/**
 * The largest result, in bytes of JSON: 3 MiB. The server replays the chunks and the whole together to a page
 * that subscribes late, and a replay has at most 8 MiB.
 */
const maxResultBytes = 3_145_728

/** The result is too large for the event that ends it. */
export class ResultTooLarge extends Data.TaggedError("ResultTooLarge")<{
  readonly limit: number
}> {
  override get message(): string {
    return `The result has more than ${this.limit} bytes of JSON. Ask for less, or read it in pages.`
  }
}

/** A text and a text, or a list and a list, in one. */
const joined = <A>(parts: ReadonlyArray<A>): A =>
  (typeof parts[0] === "string" ? parts.join("") : parts.flat(1)) as A

export class Parts<A> {
  /** Everything so far, in few pieces. */
  readonly #said: Array<A> = []
  #pending: Array<A> = []
  #pendingBytes = 0
  #bytes = 0
  #chunks = 0
  readonly #some = Latch.makeUnsafe(false)
  readonly #full = Latch.makeUnsafe(false)
  readonly #room = Latch.makeUnsafe(true)
  readonly #idle = Latch.makeUnsafe(true)

  /** Adds a part of so many bytes of JSON. Waits while the buffer is full. */
  add(part: A, bytes: number): Effect.Effect<void, ResultTooLarge> {
    return Effect.suspend(() => {
      if (this.#bytes + bytes > maxResultBytes) {
        return Effect.fail(new ResultTooLarge({ limit: maxResultBytes }))
      }
      if (this.#pendingBytes > 0 && this.#pendingBytes + bytes > maxChunkBytes) {
        this.#full.openUnsafe()
        this.#room.closeUnsafe()
        return Effect.andThen(this.#room.await, this.add(part, bytes))
      }
      this.#bytes += bytes
      this.#pending.push(part)
      this.#pendingBytes += bytes
      this.#some.openUnsafe()
      return Effect.void
    })
  }

  /**
   * Publishes chunks for ever. The window doubles with every 1,000 chunks, so that those of a day are fewer
   * than the events of one replay.
   */
  publishing<E>(publish: (chunk: A, index: number) => Effect.Effect<void, E>) {
    return Effect.gen({ self: this }, function* () {
      while (true) {
        yield* this.#some.await
        const wait = window * 2 ** Math.floor(this.#chunks / 1000)
        yield* Effect.raceFirst(Effect.sleep(wait), this.#full.await)
        const chunk = joined(this.#pending)
        this.#said.push(chunk)
        this.#pending = []
        this.#pendingBytes = 0
        this.#some.closeUnsafe()
        this.#full.closeUnsafe()
        this.#room.openUnsafe()
        this.#idle.closeUnsafe()
        yield* publish(chunk, this.#chunks++)
        this.#idle.openUnsafe()
      }
    })
  }

  /** Waits for the chunk that is being published. */
  get settled(): Effect.Effect<void> {
    return this.#idle.await
  }

  /** Everything so far; `undefined` without any part. */
  whole(): A | undefined {
    const all = [...this.#said, ...this.#pending]
    return all.length === 0 ? undefined : joined(all)
  }
}
