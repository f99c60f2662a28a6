/**
 * Brings one socket from a cursor to the live position, and keeps it there: after a resume, for a
 * socket that was too slow, and after a restart of the reader.
 *
 * A channel that is behind reads in parts, each no larger than the socket and its mailbox take. Between
 * two parts the channel is still behind. How far is counted, because that is limited.
 *
 * A replay sends at most as much in one step of the event loop as `Turns` allows. Other sessions are
 * served between two steps.
 *
 * It first holds the batches of the channel, then asks where the subscriber starts, and sends the
 * replay. Of the held and of all later batches it sends those with a later tick. So no event is missing
 * or sent twice, however long the answer takes.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Backoff from "../../../Backoff.ts"
import { isMidway } from "../../../internal/cursorText.ts"
import { Batch, position, type Step } from "../hub/batch.ts"
import type { Outcome } from "./mailbox.ts"
import type { Port } from "./port.ts"
import type { Sink, View, ViewJoin } from "../hub/view.ts"
import { ReplaysOverloaded } from "../outbox/replayAdmission.ts"
import { Lease } from "../outbox/sharedReads.ts"
import { turns } from "../eventLoopTurns.ts"

/** A part that fails is retried 5 times, in about 2 s. */
const patience = Schedule.upTo(Backoff.schedule(Backoff.link), { times: 5 })
/** A part that a busy node rejects is retried without end. */
const always = Backoff.schedule(Backoff.link)

const isBusy = (error: unknown) => error instanceof ReplaysOverloaded

const nothing = { events: 0, bytes: 0 }

/**
 * What one answer to a resume costs in its step of the loop, in events. Clients that waited for the
 * same replay are all answered when it is there.
 */
const answer = { events: 16, bytes: 0 }

type SubscriberPort = Pick<Port, "mailbox" | "dropped" | "unread">

export class Subscriber<E = never> implements Sink {
  readonly #view: View<E>
  readonly #mailbox: Port["mailbox"]
  readonly #port: SubscriberPort
  /** Batches that wait for the answer of `join`; `undefined` while none is held. */
  #held: Array<Batch> | undefined
  #heldBytes = 0
  /** Whether batches were too large to hold, and must be read again. */
  #overflowed = false
  #after = 0
  /** While a replay is sent: the position up to which the client has everything. */
  #at = ""
  /** Events that were not sent and not read again yet, as far as known; 0 when none is missing. */
  #missed = nothing
  #left = false
  /** Counts calls of `hold`. The answer of an earlier round is ignored. */
  #round = 0
  /** The lease of the replay that is under way. */
  #lease: Lease | undefined
  /** Ends the read of a subscriber that leaves, because it holds the session's turn. */
  #leaving: Deferred.Deferred<void> | undefined

  /** Called with the cursor of each batch that the client receives and after which it needs a state. */
  readonly #onGap: ((cursor: string) => void) | undefined

  constructor(view: View<E>, port: SubscriberPort, onGap?: (cursor: string) => void) {
    this.#view = view
    this.#mailbox = port.mailbox
    this.#port = port
    this.#onGap = onGap
  }

  /** Asks where a subscriber with this cursor starts, and holds batches until `go`. */
  join(from: string | undefined): Effect.Effect<ViewJoin, E> {
    return Effect.suspend(() => {
      this.hold()
      this.#view.subscribe(this)
      // Counted as missed until it is sent.
      const joined = Effect.tap(this.#view.join(from, undefined, this.#newLease()), ({ replay }) =>
        Effect.sync(() => this.#miss(replay))
      )
      return from === undefined ? joined : Effect.tap(joined, turns.take(answer))
    })
  }

  /**
   * Resumes from a cursor after frames were dropped. If the events cannot be read, the client receives
   * a gap and the subscriber goes on from the present. The reason is `slow`, or `source` if the read
   * failed.
   */
  catchUp(from: string): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      if (this.#left) return Effect.void
      if (this.#mailbox.blocked) {
        this.fallBehind(from)
        return Effect.void
      }
      this.hold()
      const leaving = (this.#leaving = Deferred.makeUnsafe<void>())
      // Takes the room of the mailbox at each try.
      const part = Effect.suspend(() =>
        this.#view.join(from, { room: this.#mailbox.room, missed: this.#missed }, this.#newLease())
      )
      return part.pipe(
        Effect.retry({ while: isBusy, schedule: always }),
        Effect.retry(patience),
        Effect.map((join) => ({ join, reason: "slow" as const })),
        Effect.catch((error) =>
          // The read failed, so the client is not slow.
          Effect.andThen(
            this.#port.unread(this.#view.name, Cause.fail(error)),
            Effect.map(this.#view.join(undefined), (join) => ({ join, reason: "source" as const }))
          )
        ),
        Effect.flatMap(({ join, reason }) => {
          if (join.state !== "recovered" && !this.#left) {
            this.#missed = nothing
            const { cursor, tick } = join
            this.#pass(new Batch(this.#view, tick, cursor, cursor, reason))
          }
          return this.go(join)
        }),
        Effect.raceFirst(Deferred.await(leaving)),
        Effect.ensuring(Effect.sync(() => this.#lease?.end()))
      )
    })
  }

  /** Ends the subscription: no batch of the channel reaches the mailbox after this. */
  leave(): void {
    this.#left = true
    this.#lease?.end()
    if (this.#leaving !== undefined) Deferred.doneUnsafe(this.#leaving, Effect.void)
    this.#view.unsubscribe(this)
    this.#release()
    this.#mailbox.forget(this.#view.key)
  }

  /** Drops later batches, and everything that is under way, until `catchUp`. */
  fallBehind(from: string): void {
    if (this.#left) return
    this.#round++
    this.#lease?.end()
    this.#miss(this.#release())
    this.#mailbox.fallBehind(this.#view.key, from)
  }

  offer(batch: Batch): void {
    if (this.#held === undefined) {
      if (batch.tick <= this.#after) return
      const outcome = this.#mailbox.offer(batch)
      if (batch.endsState) this.#gap(batch, outcome)
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

  /** Offers a batch of a replay. Returns `false` when the channel will resume from before it. */
  #pass(batch: Batch): boolean {
    const outcome = this.#mailbox.offer(batch)
    if (batch.endsState) this.#gap(batch, outcome)
    this.#at = batch.cursor
    return this.#keeps(outcome)
  }

  #gap({ cursor }: Batch, outcome: Outcome): void {
    if (outcome === "written" || outcome === "waits") this.#onGap?.(cursor)
  }

  /** Returns `false` when the channel will resume from before the batch. */
  #keeps(outcome: Outcome): boolean {
    if (outcome === "written" || outcome === "waits") return true
    if (outcome === "behind") return false
    this.#port.dropped()
    return outcome === "dropped"
  }

  /** Holds batches until the next `go`. */
  hold(): void {
    this.#round++
    this.#miss(this.#release())
    this.#held = []
    this.#overflowed = false
  }

  /**
   * Sends the replay, a step at a time, and then the held batches. Where the socket is full, the
   * channel falls behind from there; so it does for the rest of a partial replay, and for batches that
   * were too large to hold. The caller checks whether the mailbox is behind.
   */
  go(join: ViewJoin): Effect.Effect<void> {
    return Effect.suspend(() => {
      const round = this.#round
      this.#at = join.cursor
      return Effect.ensuring(
        Effect.suspend(() => this.#send(join, 0, round)),
        Effect.sync(() => {
          if (round === this.#round) this.#lease?.end()
        })
      )
    })
  }

  #send(join: ViewJoin, index: number, round: number): Effect.Effect<void> {
    // Nothing may follow if the subscriber has left meanwhile.
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

  /** Sends one step. Returns whether the mailbox took all of it; else the channel is behind. */
  #take(step: Step, batches: ReadonlyArray<Batch>): boolean {
    const { key } = this.#view
    for (const [index, batch] of batches.entries()) {
      const fits = this.#mailbox.hasRoom(batch)
      // If frames of this replay were dropped meanwhile, the channel is behind from those.
      if (fits && this.#pass(batch)) continue
      this.#miss(batches.slice(0, index), -1)
      this.#miss(this.#release())
      if (!fits) this.#mailbox.fallBehind(key, batch.from)
      return false
    }
    this.#miss([step], -1)
    this.#mailbox.tally.replayEvents += step.size.events
    return true
  }

  /** Goes live: the replay is sent. */
  #arrive(join: ViewJoin): void {
    const held = this.#release()
    this.#after = join.tick
    if (join.more || this.#overflowed) {
      this.#miss(held)
      const { key } = this.#view
      return this.#mailbox.fallBehind(key, join.replay.at(-1)?.cursor ?? join.cursor)
    }
    this.#missed = nothing
    // The rest of the tick has nothing for this client.
    if (join.end !== undefined && isMidway(this.#at)) {
      this.#pass(new Batch(this.#view, join.tick, this.#at, join.end, position))
    }
    this.#at = ""
    for (const batch of held) this.offer(batch)
  }

  /** Ends the lease of the replay before this one. */
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
    // Batches that the mailbox took and dropped later were not counted.
    this.#missed = { events: Math.max(0, events), bytes: Math.max(0, bytes) }
  }

  /** Stops holding. Returns the held batches. */
  #release(): ReadonlyArray<Batch> {
    const held = this.#held ?? []
    this.#held = undefined
    this.#mailbox.release(this.#heldBytes)
    this.#heldBytes = 0
    return held
  }
}
