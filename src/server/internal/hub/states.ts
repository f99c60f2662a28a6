/**
 * The states of the views of durable channels: read by the outbox, framed once, and shared.
 *
 * Subscribers of a view share one read, while it runs and for a second after it. An older state and the
 * events after its cursor are the same as a newer state, so the age is a matter of memory only. After a
 * gap only a state that contains its position is of use, or one that was read after it: that one contains
 * it, too, unless the database has lost the position since. One is read for that at most every 5 s for each
 * view, and every 60 s while gaps go on, because a table that causes gaps would otherwise be read without
 * end.
 *
 * A state counts against the node's memory while it is read, shared, or leased.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Table } from "../../../ChannelBase.ts"
import * as Cursor from "../../../internal/cursorText.ts"
import type { OutboxReader } from "../../OutboxReader.ts"
import type { JoinError } from "../outbox/catchUp.ts"
import { type AdmittedReplay, ReplayAdmission } from "../outbox/replayAdmission.ts"
import { Lease, SharedReads } from "../outbox/sharedReads.ts"
import { NoState, type RowsAt, type StateError, type StateLimits } from "../outbox/state.ts"
import type { ViewState } from "./delivery.ts"
import type { Told } from "./gapCounter.ts"
import { encodeState } from "../../../internal/frameText.ts"
import { Missing } from "./invalidMessage.ts"
import { frameOf, framesOf } from "./stateFrames.ts"
import { StatePace } from "./statePace.ts"
import type { View } from "./view.ts"
import { outboxCursor } from "./viewCursor.ts"

export type { StateLimits } from "../outbox/state.ts"

/** How long a state is shared, in milliseconds. */
const sharedFor = 1000
/** The memory of all states, in states of the largest size. */
const mostAtOnce = 8
/** The part of a limit at which a warning is logged. */
const warnAt = 0.8

type StateExit = Exit.Exit<ViewState, StateError>

/** One read that subscribers of a view share. */
interface SharedRead {
  readonly key: string
  /** The position of the gap after which it began; `undefined` if it began for another reason. */
  readonly after: string | undefined
}

/** What is known of the states of one view, also of one that was closed and opened again. */
class Reads {
  #view: View<JoinError>
  #current: SharedRead | undefined
  #history = 0
  readonly pace = new StatePace()

  constructor(view: View<JoinError>) {
    this.#view = view
  }

  /** These, for a view that was opened again: it counts its own gaps. */
  for(view: View<JoinError>): this {
    if (this.#view !== view) {
      this.#view = view
      this.#history = view.history
    }
    return this
  }

  /** A read of rows that the database still had when the view last received a gap. */
  get current(): SharedRead | undefined {
    return this.#history === this.#view.history ? this.#current : undefined
  }

  set current(read: SharedRead | undefined) {
    this.#current = read
    this.#history = this.#view.history
  }

  /** Forgets a read. Returns whether it was the last one. */
  forget(read: SharedRead): boolean {
    if (this.#current === read) this.#current = undefined
    return this.#current === undefined
  }
}

export class SharedStates {
  readonly #scope: Scope.Scope
  readonly #rows: NonNullable<OutboxReader["Service"]["rows"]>
  readonly #last: OutboxReader["Service"]["last"]
  readonly #limits: StateLimits
  readonly #told: Told
  readonly #admission: ReplayAdmission
  readonly #shared: SharedReads<StateExit, never>
  readonly #views = new WeakMap<View<JoinError>, Reads>()
  /**
   * Those with a read that is shared, by codec and key of their view. A subscriber that cannot begin closes
   * its view, and the next one must not read the table again.
   */
  readonly #recent = new WeakMap<object, Map<string, Reads>>()
  /** Tables for which a warning was logged. */
  readonly #warned = new WeakSet<Table>()
  #reads = 0

  constructor(
    scope: Scope.Scope,
    rows: NonNullable<OutboxReader["Service"]["rows"]>,
    last: OutboxReader["Service"]["last"],
    limits: StateLimits,
    told: Told
  ) {
    this.#scope = scope
    this.#last = last
    this.#rows = rows
    this.#limits = limits
    this.#told = told
    // The reader limits how many it reads at once.
    this.#admission = new ReplayAdmission({
      atOnce: Infinity,
      queue: Infinity,
      bytes: limits.bytes * mostAtOnce
    })
    this.#shared = new SharedReads<StateExit, never>(scope, () => true)
  }

  /** The states of the node; `undefined` when its reader cannot read tables. */
  static make(
    { last, rows }: OutboxReader["Service"],
    limits: StateLimits,
    told: Told
  ): Effect.Effect<SharedStates | undefined, never, Scope.Scope> {
    return Effect.map(Effect.scope, (scope) =>
      rows === undefined ? undefined : new SharedStates(scope, rows, last, limits, told)
    )
  }

  of(
    view: View<JoinError>,
    after: string | undefined,
    lease: Lease | undefined,
    unlike: ViewState | undefined
  ): Effect.Effect<ViewState, StateError> {
    return Effect.suspend(() => {
      const { table } = view.channel
      if (table === undefined && this.#last === undefined) {
        return Effect.fail(new NoState({ channel: view.name, reason: "definition" }))
      }
      const reads = this.#readsOf(view)
      if (after !== undefined) {
        return this.#after(view, table, reads, outboxCursor(after), lease, unlike)
      }
      reads.current ??= this.#begin()
      return Effect.flatten(this.#get(view, table, reads, reads.current, lease))
    })
  }

  #readsOf(view: View<JoinError>): Reads {
    const known = this.#views.get(view)
    if (known !== undefined) return known
    const recent = this.#recent.get(view.channel.codec)?.get(view.key)
    const reads = recent?.for(view) ?? new Reads(view)
    this.#views.set(view, reads)
    return reads
  }

  /** Keeps what is known of a view while a read is shared. Returns how to forget the read. */
  #keep(view: View<JoinError>, reads: Reads, one: SharedRead): () => void {
    const { codec } = view.channel
    let all = this.#recent.get(codec)
    if (all === undefined) this.#recent.set(codec, (all = new Map<string, Reads>()))
    all.set(view.key, reads)
    return () => {
      if (reads.forget(one) && all.get(view.key) === reads) all.delete(view.key)
    }
  }

  #begin(after?: string): SharedRead {
    return { key: String(++this.#reads), after }
  }

  /** A state that contains a position or was read after it, and is another one than `unlike`. */
  #after(
    view: View<JoinError>,
    table: Table | undefined,
    reads: Reads,
    after: string,
    lease: Lease | undefined,
    unlike: ViewState | undefined
  ): Effect.Effect<ViewState, StateError> {
    return Effect.gen({ self: this }, function* () {
      const older = reads.current
      let known: SharedRead | undefined
      const clock = yield* Clock.Clock
      while (true) {
        const { current } = reads
        if (current === undefined || current === known) {
          // In one step: of several subscribers one begins the read.
          const now = Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
          const wait = reads.pace.pass(now)
          if (wait > 0) yield* Effect.sleep(wait)
          else reads.current = this.#begin(after)
          continue
        }
        known = current
        const outcome = yield* this.#get(view, table, reads, current, lease)
        const isLater = current !== older || current.after === after
        // A read that began before the gap says nothing about a later one.
        if (Exit.isFailure(outcome) && !isLater) continue
        const state = yield* outcome
        if (state === unlike) continue
        // The database has lost the position where a later state does not have it: no state will.
        if (isLater || Cursor.covers(outboxCursor(state.cursor), after)) return state
      }
    })
  }

  /** The outcome of a read. The first caller begins it, and the last one that leaves interrupts it. */
  #get(
    view: View<JoinError>,
    table: Table | undefined,
    reads: Reads,
    one: SharedRead,
    lease: Lease | undefined
  ): Effect.Effect<StateExit> {
    const forget = this.#keep(view, reads, one)
    /** Holds the outcome for those that share it. */
    const linger = Effect.suspend(() => {
      const own = new Lease()
      return this.#shared
        .get(one.key, () => Effect.interrupt, own)
        .pipe(
          Effect.andThen(Effect.sleep(sharedFor)),
          Effect.ensuring(
            Effect.sync(() => {
              forget()
              own.end()
            })
          )
        )
    })
    return this.#shared.get(
      one.key,
      (keeps) =>
        Effect.exit(this.#read(view, table, keeps)).pipe(
          Effect.tap((outcome) =>
            Exit.isFailure(outcome) && Cause.hasInterrupts(outcome.cause)
              ? Effect.sync(forget)
              : Effect.forkIn(linger, this.#scope, { startImmediately: true })
          ),
          Effect.onInterrupt(() => Effect.sync(forget))
        ),
      lease
    )
  }

  #read(
    view: View<JoinError>,
    table: Table | undefined,
    keeps: (free: () => void) => void
  ): Effect.Effect<ViewState, StateError> {
    if (table === undefined) return this.#readLast(view)
    return Effect.gen({ self: this }, function* () {
      let admitted: AdmittedReplay | undefined
      yield* this.#admission.enter(this.#limits.bytes, (one) => {
        admitted = one
        keeps(one.leave)
      })
      const found = yield* this.#rows({
        channel: view.name,
        table,
        filter: view.narrowed?.filter,
        limits: this.#limits
      }).pipe(Effect.tapError(() => Effect.sync(() => admitted?.leave())))
      yield* this.#warn(view.name, table, found)
      const cursor = view.cursorOf(found.cursor)
      const { bytes, frames, leftOut, unfit } = yield* framesOf(view, table, { ...found, cursor })
      admitted?.read(bytes)
      if (unfit !== undefined) yield* this.#told.leftOut(view.name, leftOut, unfit)
      return { cursor, frames }
    })
  }

  /** The last event of a channel without a table, as a state of one row, or of none. */
  #readLast(view: View<JoinError>): Effect.Effect<ViewState, StateError> {
    return Effect.flatMap(this.#last!(view.name), ({ cursor, event }) => {
      const read = event && view.decode(event.id, event.at, event.tx, event.text, true)
      const unfit = read instanceof Missing ? [read] : []
      const rows = read === undefined || read instanceof Missing ? [] : [read.json!]
      const text = encodeState(view.name, view.label, cursor, rows, [], false)
      const state = { cursor, frames: [frameOf(text, rows.length)] }
      return Effect.as(this.#told.tell(view.name, unfit), state)
    })
  }

  /** Logs once for each table that its state is near to a limit. */
  #warn(channel: string, table: Table, { rows }: RowsAt): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#warned.has(table)) return Effect.void
      const bytes = rows.reduce((sum, row) => sum + Buffer.byteLength(row), 0)
      const near = (
        [
          ["maxStateRows", rows.length, this.#limits.rows, "rows"],
          ["maxStateBytes", bytes, this.#limits.bytes, "bytes"]
        ] as const
      ).find(([, found, most]) => found >= most * warnAt)
      if (near === undefined) return Effect.void
      this.#warned.add(table)
      const [limit, found, most, unit] = near
      return Effect.logWarning(
        `The state of channel "${channel}" has ${found} ${unit}, and ${limit} is ${most}. A larger state is rejected: filter it, or raise the limit.`
      )
    })
  }
}
