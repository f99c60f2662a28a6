/**
 * Brings one socket from a cursor to what is live, and keeps it there. One way for every channel:
 * a resume, a socket that was too slow, a restart of the reader.
 *
 * Who fell behind reads on in parts, each no larger than what the socket and its mailbox take. Between
 * two of them the channel is behind still, and how far is counted: it must not be too far.
 *
 * Of a replay no more is handled in one step of the event loop than `Turns` allows, whoever it is for;
 * between two steps everybody else is served.
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
import { Batch, type Step } from "../hub/batch.ts"
import type { Outcome } from "./mailbox.ts"
import type { Port } from "./port.ts"
import type { Sink, View, ViewJoin } from "../hub/view.ts"
import { ReplaysOverloaded } from "../outbox/replayAdmission.ts"
import { Lease } from "../outbox/sharedReads.ts"
import { turns } from "../eventLoopTurns.ts"

/** A part that fails is asked for 5 times more, in about 2 s. */
const patience = Schedule.upTo(Backoff.schedule(Backoff.link), { times: 5 })
/** On a node that is busy, for as long as it takes: it is no fault of the socket. */
const always = Backoff.schedule(Backoff.link)

const isBusy = (error: unknown) => error instanceof ReplaysOverloaded

const nothing = { events: 0, bytes: 0 }

/**
 * What the answer to one who comes back counts in its step of the loop, in events: where a crowd waited for
 * the same replay, all of them are answered when it is there.
 */
const answer = { events: 16, bytes: 0 }

type SubscriberPort = Pick<Port, "mailbox" | "dropped" | "unread">

export class Subscriber<E = never> implements Sink {
  readonly #view: View<E>
  readonly #mailbox: Port["mailbox"]
  readonly #port: SubscriberPort
  /** Batches that wait for the answer; `undefined` while nothing is held. */
  #held: Array<Batch> | undefined
  #heldBytes = 0
  /** What came was too much to hold: it is read again. */
  #overflowed = false
  #after = 0
  /** What was not sent, as far as it is known, and has not been read again: 0 when nothing is missing. */
  #missed = nothing
  #left = false
  /** Counts what began: what an earlier answer still brings is nobody's. */
  #round = 0
  /** What is kept for the replay that is under way. */
  #lease: Lease | undefined
  /** Ends what is read for a subscriber that leaves: it has the session's turn. */
  #leaving: Deferred.Deferred<void> | undefined

  constructor(view: View<E>, port: SubscriberPort) {
    this.#view = view
    this.#mailbox = port.mailbox
    this.#port = port
  }

  /** Asks where a subscriber with this cursor starts, and holds what comes meanwhile. */
  join(from: string | undefined): Effect.Effect<ViewJoin, E> {
    return Effect.suspend(() => {
      this.hold()
      this.#view.subscribe(this)
      // Until it is sent.
      const joined = Effect.tap(this.#view.join(from, undefined, this.#newLease()), ({ replay }) =>
        Effect.sync(() => this.#miss(replay))
      )
      return from === undefined ? joined : Effect.tap(joined, turns.take(answer))
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
        this.#mailbox.fallBehind(this.#view.name, from)
        return Effect.void
      }
      this.hold()
      const leaving = (this.#leaving = Deferred.makeUnsafe<void>())
      // As much as fits, looked up at each try.
      const part = Effect.suspend(() =>
        this.#view.join(from, { room: this.#mailbox.room, missed: this.#missed }, this.#newLease())
      )
      return part.pipe(
        Effect.retry({ while: isBusy, schedule: always }),
        Effect.retry(patience),
        Effect.map((join) => ({ join, reason: "slow" as const })),
        Effect.catch((error) =>
          // It is not the client who is slow then.
          Effect.andThen(
            this.#port.unread(this.#view.name, Cause.fail(error)),
            Effect.map(this.#view.join(undefined), (join) => ({ join, reason: "source" as const }))
          )
        ),
        Effect.flatMap(({ join, reason }) => {
          if (join.state !== "recovered" && !this.#left) {
            this.#missed = nothing
            const { cursor, tick } = join
            this.#keeps(this.#mailbox.offer(new Batch(this.#view, tick, cursor, cursor, reason)))
          }
          return this.go(join)
        }),
        Effect.raceFirst(Deferred.await(leaving)),
        Effect.ensuring(Effect.sync(() => this.#lease?.end()))
      )
    })
  }

  /** Nothing of the channel reaches the mailbox after this. */
  leave(): void {
    this.#left = true
    this.#lease?.end()
    if (this.#leaving !== undefined) Deferred.doneUnsafe(this.#leaving, Effect.void)
    this.#view.unsubscribe(this)
    this.#release()
    this.#mailbox.forget(this.#view.name)
  }

  offer(batch: Batch): void {
    if (this.#held === undefined) {
      if (batch.tick <= this.#after) return
      const outcome = this.#mailbox.offer(batch)
      if (outcome !== "written" && !this.#keeps(outcome)) this.#miss([batch])
      return
    }
    if (this.#overflowed) return this.#miss([batch])
    const size = this.#mailbox.hold(batch)
    if (size > 0) {
      this.#held.push(batch)
      this.#heldBytes += size
    } else {
      this.#miss(this.#release())
      this.#held = []
      this.#miss([batch])
      this.#overflowed = true
    }
  }

  /** `false` when the channel goes on from before the batch later, instead. */
  #keeps(outcome: Outcome): boolean {
    if (outcome === "written" || outcome === "waits") return true
    if (outcome === "behind") return false
    this.#port.dropped()
    return outcome === "dropped"
  }

  /** Holds what comes until the next `go`. */
  hold(): void {
    this.#round++
    this.#miss(this.#release())
    this.#held = []
    this.#overflowed = false
  }

  /**
   * Sends the replay, a step at a time, and what was held. Where the socket takes no more, it goes on from
   * there later; so it does for the rest of the replay, and for what was too much to hold: the caller
   * looks whether the mailbox is behind.
   */
  go(join: ViewJoin): Effect.Effect<void> {
    return Effect.suspend(() => {
      const round = this.#round
      return Effect.ensuring(
        Effect.suspend(() => this.#send(join, 0, round)),
        Effect.sync(() => {
          if (round === this.#round) this.#lease?.end()
        })
      )
    })
  }

  #send(join: ViewJoin, index: number, round: number): Effect.Effect<void> {
    // The subscriber may have left while the answer was on its way: nothing may follow that.
    if (this.#left || round !== this.#round) return Effect.void
    const step = join.replay[index]
    if (step === undefined) {
      this.#arrive(join)
      return Effect.void
    }
    return Effect.flatMap(Effect.andThen(turns.take(step.size), step.open), (batches) =>
      this.#left || round !== this.#round || !this.#take(step, batches)
        ? Effect.void
        : this.#send(join, index + 1, round)
    )
  }

  /** Whether the socket took all of a step; else the channel is behind from where it did not. */
  #take(step: Step, batches: ReadonlyArray<Batch>): boolean {
    const { name } = this.#view
    for (const [index, batch] of batches.entries()) {
      const fits = this.#mailbox.hasRoom(batch)
      // Where frames of this replay were dropped meanwhile, it is behind from those.
      if (fits && this.#keeps(this.#mailbox.offer(batch))) continue
      this.#miss(batches.slice(0, index), -1)
      this.#miss(this.#release())
      if (!fits) this.#mailbox.fallBehind(name, batch.from)
      return false
    }
    this.#miss([step], -1)
    return true
  }

  /** The replay is sent. */
  #arrive(join: ViewJoin): void {
    const held = this.#release()
    this.#after = join.tick
    if (join.more || this.#overflowed) {
      this.#miss(held)
      const { name } = this.#view
      return this.#mailbox.fallBehind(name, join.replay.at(-1)?.cursor ?? join.cursor)
    }
    this.#missed = nothing
    for (const batch of held) this.offer(batch)
  }

  /** What was kept before is needed no more. */
  #newLease(): Lease {
    this.#lease?.end()
    return (this.#lease = new Lease())
  }

  #miss(batches: ReadonlyArray<Pick<Step, "size">>, sign: 1 | -1 = 1): void {
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
