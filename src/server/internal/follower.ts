/**
 * Brings one socket from a cursor to what is live, and keeps it there. One way for every channel:
 * a resume, a socket that was too slow, a restart of the reader.
 *
 * First it holds what the channel hands out, then it asks where the subscriber starts, sends the
 * replay, and of what it held and of everything later only what has a later tick. So there is no hole
 * and no double, however long the answer took.
 */
import * as Effect from "effect/Effect"
import { Batch } from "./batch.ts"
import type { Mailbox } from "./mailbox.ts"
import type { Join, Sink, View } from "./view.ts"

export class Follower<E = never> implements Sink {
  readonly #view: View<E>
  readonly #mailbox: Mailbox
  /** Batches that wait for the answer; `undefined` while nothing is held. */
  #held: Array<Batch> | undefined
  #heldBytes = 0
  /** What came was too much to hold: it is read again. */
  #overflowed = false
  #after = 0
  #left = false

  constructor(view: View<E>, mailbox: Mailbox) {
    this.#view = view
    this.#mailbox = mailbox
  }

  /** Asks where a subscriber with this cursor starts, and holds what comes meanwhile. */
  join(from: string | undefined): Effect.Effect<Join, E> {
    return Effect.suspend(() => {
      this.hold()
      this.#view.sinks.add(this)
      return this.#view.join(from)
    })
  }

  /**
   * Goes on from a cursor after frames were dropped. When that cannot be had any more, or not now, the
   * subscriber is told a gap and goes on from the present.
   */
  catchUp(from: string): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      if (this.#left) return Effect.void
      this.hold()
      return this.#view.join(from).pipe(
        Effect.catch(() => this.#view.join(undefined)),
        Effect.flatMap((join) => {
          if (join.state !== "recovered" && !this.#left) {
            const { channel } = this.#view
            const { cursor, tick } = join
            this.#mailbox.offer(new Batch(channel.name, tick, cursor, cursor, "slow"))
          }
          return this.go(join)
        })
      )
    })
  }

  /** Nothing of the channel reaches the mailbox after this. */
  leave(): void {
    this.#left = true
    this.#view.sinks.delete(this)
    this.#release()
    this.#mailbox.forget(this.#view.channel.name)
  }

  offer(batch: Batch): void {
    if (this.#held === undefined) {
      if (batch.tick > this.#after) this.#mailbox.offer(batch)
      return
    }
    if (this.#overflowed) return
    const size = batch.lastingFrame.length
    if (this.#mailbox.hold(size)) {
      this.#held.push(batch)
      this.#heldBytes += size
    } else {
      this.#release()
      this.hold()
      this.#overflowed = true
    }
  }

  /** Holds what comes until the next `go`. */
  hold(): void {
    this.#release()
    this.#held = []
    this.#overflowed = false
  }

  /**
   * Sends the replay and what was held. Where the socket takes no more, it goes on from there later; what
   * was too much to hold is asked for again.
   */
  go(join: Join): Effect.Effect<void, E> {
    // The subscriber may have left while the answer was on its way: nothing may follow that.
    if (this.#left) return Effect.void
    const held = this.#release()
    this.#after = join.tick
    const { name } = this.#view.channel
    for (const batch of join.replay) {
      if (!this.#mailbox.hasRoom(batch.frame.length)) {
        this.#mailbox.fallBehind(name, batch.from)
        return Effect.void
      }
      this.#mailbox.offer(batch)
    }
    if (this.#overflowed) {
      const end = join.replay.at(-1)?.cursor ?? join.cursor
      if (!this.#mailbox.blocked) return this.catchUp(end)
      this.#mailbox.fallBehind(name, end)
      return Effect.void
    }
    for (const batch of held) this.offer(batch)
    return Effect.void
  }

  /** Ends holding; gives what was held. */
  #release(): ReadonlyArray<Batch> {
    const held = this.#held ?? []
    this.#held = undefined
    this.#mailbox.release(this.#heldBytes)
    this.#heldBytes = 0
    return held
  }
}
