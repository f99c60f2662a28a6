/**
 * Brings one socket from a cursor to what is live, and keeps it there. One way for every channel:
 * a resume, a socket that was too slow, a restart of the reader.
 *
 * Who fell behind reads on in parts, each no larger than what the socket and its mailbox take. Between
 * two of them the channel is behind still, and how far is counted: it must not be too far.
 *
 * First it holds what the channel hands out, then it asks where the subscriber starts, sends the
 * replay, and of what it held and of everything later only what has a later tick. So there is no hole
 * and no double, however long the answer took.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Backoff from "../../../Backoff.ts"
import { Batch } from "../hub/batch.ts"
import type { Mailbox } from "./mailbox.ts"
import type { Join, Sink, View } from "../hub/view.ts"

/** A part that fails is asked for 5 times more, in about 2 s. */
const patience = Schedule.upTo(Backoff.schedule(Backoff.link), { times: 5 })

const nothing = { events: 0, bytes: 0 }

export class Follower<E = never> implements Sink {
  readonly #view: View<E>
  readonly #mailbox: Mailbox
  readonly #failed: (cause: Cause.Cause<E>) => Effect.Effect<void>
  /** Batches that wait for the answer; `undefined` while nothing is held. */
  #held: Array<Batch> | undefined
  #heldBytes = 0
  /** What came was too much to hold: it is read again. */
  #overflowed = false
  #after = 0
  /** What was not sent, as far as it is known, and has not been read again: 0 when nothing is missing. */
  #missed = nothing
  #left = false
  /** Ends what is read for a subscriber that leaves: it has the session's turn. */
  #leaving: Deferred.Deferred<void> | undefined

  /** `failed`: what was missed could not be read, not even after a while. */
  constructor(
    view: View<E>,
    mailbox: Mailbox,
    failed: (cause: Cause.Cause<E>) => Effect.Effect<void> = () => Effect.void
  ) {
    this.#view = view
    this.#mailbox = mailbox
    this.#failed = failed
  }

  /** Asks where a subscriber with this cursor starts, and holds what comes meanwhile. */
  join(from: string | undefined): Effect.Effect<Join, E> {
    return Effect.suspend(() => {
      this.hold()
      this.#view.subscribe(this)
      // Until it is sent.
      return Effect.tap(this.#view.join(from), ({ replay }) =>
        Effect.sync(() => this.#miss(replay))
      )
    })
  }

  /**
   * Goes on from a cursor after frames were dropped. When that cannot be had any more, or not for a
   * while, the subscriber is told a gap and goes on from the present: `slow`, or `source` where it is the
   * reading that failed.
   */
  catchUp(from: string): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      if (this.#left) return Effect.void
      if (this.#mailbox.blocked) {
        this.#miss(this.#release())
        this.#mailbox.fallBehind(this.#view.channel.name, from)
        return Effect.void
      }
      this.hold()
      const leaving = (this.#leaving = Deferred.makeUnsafe<void>())
      // As much as fits, looked up at each try.
      const part = Effect.suspend(() =>
        this.#view.join(from, { room: this.#mailbox.room, missed: this.#missed })
      )
      return part.pipe(
        Effect.retry(patience),
        Effect.map((join) => ({ join, reason: "slow" as const })),
        Effect.catch((error) =>
          // It is not the client who is slow then.
          Effect.andThen(
            this.#failed(Cause.fail(error)),
            Effect.map(this.#view.join(undefined), (join) => ({ join, reason: "source" as const }))
          )
        ),
        Effect.map(({ join, reason }) => {
          if (join.state !== "recovered" && !this.#left) {
            this.#missed = nothing
            const { channel } = this.#view
            const { cursor, tick } = join
            this.#mailbox.offer(new Batch(channel.name, tick, cursor, cursor, reason))
          }
          this.go(join)
        }),
        Effect.raceFirst(Deferred.await(leaving))
      )
    })
  }

  /** Nothing of the channel reaches the mailbox after this. */
  leave(): void {
    this.#left = true
    if (this.#leaving !== undefined) Deferred.doneUnsafe(this.#leaving, Effect.void)
    this.#view.unsubscribe(this)
    this.#release()
    this.#mailbox.forget(this.#view.channel.name)
  }

  offer(batch: Batch): void {
    if (this.#held === undefined) {
      if (batch.tick > this.#after && !this.#mailbox.offer(batch)) this.#miss([batch])
      return
    }
    if (this.#overflowed) return this.#miss([batch])
    const size = batch.lastingFrame.length
    if (this.#mailbox.hold(size)) {
      this.#held.push(batch)
      this.#heldBytes += size
    } else {
      this.hold()
      this.#miss([batch])
      this.#overflowed = true
    }
  }

  /** Holds what comes until the next `go`. */
  hold(): void {
    this.#miss(this.#release())
    this.#held = []
    this.#overflowed = false
  }

  /**
   * Sends the replay and what was held. Where the socket takes no more, it goes on from there later; so
   * it does for the rest of the replay, and for what was too much to hold.
   */
  go(join: Join): void {
    // The subscriber may have left while the answer was on its way: nothing may follow that.
    if (this.#left) return
    const held = this.#release()
    this.#after = join.tick
    const { name } = this.#view.channel
    for (const batch of join.replay) {
      if (!this.#mailbox.hasRoom(batch.frame.length)) {
        this.#miss(held)
        return this.#mailbox.fallBehind(name, batch.from)
      }
      this.#mailbox.offer(batch)
      this.#miss([batch], -1)
    }
    if (join.more || this.#overflowed) {
      this.#miss(held)
      return this.#mailbox.fallBehind(name, join.replay.at(-1)?.cursor ?? join.cursor)
    }
    this.#missed = nothing
    for (const batch of held) this.offer(batch)
  }

  #miss(batches: ReadonlyArray<Batch>, sign: 1 | -1 = 1): void {
    let { bytes, events } = this.#missed
    for (const { size } of batches) {
      events += sign * size.events
      bytes += sign * size.bytes
    }
    // What the mailbox took and dropped later was not counted.
    this.#missed = { events: Math.max(0, events), bytes: Math.max(0, bytes) }
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
