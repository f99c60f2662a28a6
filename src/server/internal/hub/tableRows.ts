/**
 * The rows of a table as a Stream for one consumer: a state, and every change after it.
 *
 * In: the states and the batches of an `OutboxReader`. Out: the collection with its status, the newest one
 * only. A state is read when the Stream begins, and after each gap. While a state is missing, the collection
 * stays as it was, and is stale.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Backoff from "../../../Backoff.ts"
import type * as Channel from "../../../Channel.ts"
import type { Codec, Table } from "../../../ChannelBase.ts"
import { isMidway } from "../../../internal/cursorText.ts"
import * as Exact from "../../../internal/exact.ts"
import { KeyedRows } from "./keyedRows.ts"
import { changeOf, isTruncated } from "./rowChange.ts"
import { InvalidChannelName, type InvalidWhere } from "../../../RealtimeError.ts"
import type { SourceState } from "../../NotificationSource.ts"
import type { DurableEvent, Item, OutboxReader } from "../../OutboxReader.ts"
import { turns } from "../eventLoopTurns.ts"
import * as Filter from "../filter.ts"
import { gapOf } from "../gapText.ts"
import { isFault, type OutboxFault } from "../outbox/outboxErrors.ts"
import {
  InvalidFilter,
  NoState,
  type RowsAt,
  type RowsRequest,
  type StateLimits,
  StateTooLarge
} from "../outbox/state.ts"
import { read, rowText } from "../reading/reading.ts"
import { keyOnWire } from "../reading/rowKey.ts"
import type { Unfit } from "../reading/mismatch.ts"
import { streamNotices } from "../notices.ts"
import { Outage } from "../outage.ts"
import * as Reconnecting from "../reconnecting.ts"
import { keeps, routed } from "./durable.ts"
import { NoOutbox } from "./errors.ts"
import { Missing } from "./invalidMessage.ts"
import { type Told, toldOfRows } from "./gapCounter.ts"
import { StatePace } from "./statePace.ts"

/**
 * The rows of a table, as of one position.
 *
 * @category models
 * @since 0.1.0
 */
export interface FollowedRows<out A> {
  /** A new list when a row has changed. A row that has not changed is the same object as before. */
  readonly rows: ReadonlyArray<A>
  /**
   * `loading`: the first state was not read yet. `live`: the rows follow the table. `stale`: the rows are
   * those of `cursor`; the database is unavailable, or events were missing and the state is read again.
   */
  readonly status: "loading" | "live" | "stale"
  /** The keys of rows that do not match the Schema, and are left out. The same list until it changes. */
  readonly invalid: ReadonlyArray<unknown>
  /** The position of the rows; `undefined` while `loading`. */
  readonly cursor: string | undefined
}

/**
 * A table whose rows can be followed: a durable channel of `Channel.table`, or a route of one.
 *
 * @category models
 * @since 0.1.0
 */
export type RowsTable = Channel.Any & {
  readonly delivery: "durable"
  readonly table: Channel.Table
}

/**
 * Options of `rows`.
 *
 * @category models
 * @since 0.1.0
 */
export interface RowsOptions<D> {
  /** Which rows: by equality, on the columns of `filter` of the definition. Default: all. */
  readonly where?: Channel.Where<D> | undefined
}

/**
 * Why the rows of a table cannot be followed.
 *
 * @category errors
 * @since 0.1.0
 */
export type RowsError =
  | InvalidChannelName
  | NoOutbox
  | NoState
  | InvalidWhere
  | OutboxFault
  | InvalidFilter
  | StateTooLarge

/** Events are missing before this position. */
class Missed extends Data.TaggedError("Missed") {}

/** The rows of one Stream, their position and their status. */
class Collection<A> {
  readonly out: Queue.Queue<FollowedRows<A>, RowsError>
  readonly #name: string
  readonly #table: Table
  readonly #codec: Codec<A>
  readonly #filter: Filter.Filter | undefined
  readonly #log: Told
  readonly #held: KeyedRows<A>
  #cursor: string | undefined
  /** Whether a state was read and no event is missing after it. */
  #follows = false
  #up = true
  /** The keys of `held` of which `named` is made. */
  #leftOut: ReadonlyArray<object> = []
  #named: ReadonlyArray<object> = []
  #last: FollowedRows<A> | undefined

  constructor(
    out: Queue.Queue<FollowedRows<A>, RowsError>,
    name: string,
    table: Table,
    filter: Filter.Filter | undefined,
    log: Told
  ) {
    this.out = out
    this.#name = name
    this.#table = table
    this.#codec = table.rowCodec as Codec<A>
    this.#filter = filter
    this.#log = log
    this.#held = new KeyedRows(table.key)
  }

  get isLoaded(): boolean {
    return this.#cursor !== undefined
  }

  /** Hands the rows out if they, or their status, are other than before; `always`: also if only the cursor is. */
  tell(always = false): void {
    const last = this.#last
    // In the middle of a tick the rows are shown at its end.
    const { cursor, invalid, rows } =
      last !== undefined && isMidway(this.#cursor ?? "")
        ? last
        : { rows: this.#held.list, invalid: this.#invalid, cursor: this.#cursor }
    const status = !this.isLoaded ? "loading" : this.#follows && this.#up ? "live" : "stale"
    if (!always && last?.rows === rows && last.status === status && last.invalid === invalid) return
    this.#last = { rows, status, invalid, cursor }
    Queue.offerUnsafe(this.out, this.#last)
  }

  /** The keys of the rows that are left out, as clients have them. */
  get #invalid(): ReadonlyArray<object> {
    const { leftOut } = this.#held
    if (leftOut !== this.#leftOut) {
      this.#leftOut = leftOut
      this.#named = leftOut.map((key) => keyOnWire(this.#table, key))
    }
    return this.#named
  }

  /** The database is available, or not. */
  source(state: SourceState): void {
    this.#up = state === "up"
    this.tell()
  }

  /** The rows stay as they are until the next state. */
  lose(): void {
    this.#follows = false
    this.tell()
  }

  /** Puts a state in the place of all rows. */
  replace({ cursor, rows }: RowsAt): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      let leftOut = 0
      let fault: Unfit | undefined
      for (const text of rows) {
        yield* turns.take({ events: 1, bytes: text.length })
        const decode = () => {
          const row = read(this.#codec, this.#name, text, rowText)
          if (Result.isSuccess(row)) return row.success
          leftOut++
          fault ??= row.failure
          return undefined
        }
        this.#held.add(Exact.parse(text, rowText), decode)
      }
      this.#held.replace()
      this.#cursor = cursor
      this.#follows = true
      this.tell()
      if (fault !== undefined) yield* this.#log.leftOut(this.#name, leftOut, fault)
    }).pipe(Effect.ensuring(Effect.sync(() => this.#held.discard())))
  }

  /** Applies what the reader hands out; fails where events are missing. */
  take(item: Item): Effect.Effect<void, Missed> {
    return Effect.suspend(() => {
      if (item._tag === "Gap") return new Missed()
      if (item._tag === "Position") {
        this.#cursor = item.cursor
        return Effect.sync(() => this.tell(true))
      }
      const { cursor, cursorAt, events } = item
      const unfit: Array<Missing> = []
      const gap = events.findIndex((event) => !this.#apply(event, unfit))
      // Where a gap is first, the rows are as the batch before has left them, maybe with a part of this tick.
      if (gap !== 0) this.#cursor = gap < 0 ? cursor : cursorAt(gap - 1)
      this.tell()
      const logged = this.#log.tell(this.#name, unfit)
      return gap < 0 ? logged : Effect.andThen(logged, new Missed())
    })
  }

  /** Applies an event. Returns `false` for a gap. Adds a row that does not match to `unfit`. */
  #apply({ id, match, text, tx }: DurableEvent, unfit: Array<Missing>): boolean {
    if (gapOf(text) !== undefined) return false
    const verdict = this.#filter && Filter.judge(this.#filter, Filter.parseMatch(match))
    if (verdict === "outside") return true
    const change = verdict === "unknown" ? undefined : changeOf(text)
    if (change === undefined || (verdict !== "leaves" && isTruncated(change))) return false
    const decode = () => {
      const row = read(this.#codec, this.#name, text, rowText, ["data"])
      if (Result.isSuccess(row)) return row.success
      unfit.push(new Missing("invalid", id, tx, row.failure))
      return undefined
    }
    return this.#held.apply(
      verdict === "leaves" ? { ...change, operation: "DELETE" } : change,
      decode
    )
  }
}

/** Whether waiting does not help. */
const isLasting = <E>(error: E, isLoaded: boolean): error is E & RowsError =>
  error instanceof StateTooLarge ||
  error instanceof InvalidFilter ||
  error instanceof InvalidChannelName ||
  error instanceof NoState ||
  // Later it may be a failover.
  (!isLoaded && isFault(error))

/** Reads states and follows their events, until a failure that waiting does not help. */
const following = <A>(
  outbox: OutboxReader["Service"],
  collection: Collection<A>,
  request: RowsRequest,
  readRows: NonNullable<OutboxReader["Service"]["rows"]>
): Effect.Effect<never, RowsError> =>
  Effect.gen(function* () {
    const pace = new StatePace()
    /** Whether that state may be read now. */
    let passed = true

    const state = Effect.gen(function* () {
      while (!passed) {
        const wait = pace.pass(Number((yield* Clock.monotonicTimeNanos) / 1_000_000n))
        if (wait > 0) yield* Effect.sleep(wait)
        else passed = true
      }
      const read = yield* readRows(request)
      passed = false
      return read
    })

    const once = Effect.fnUntraced(function* (onUp: Effect.Effect<void>) {
      // A state that was read after a gap contains its position, unless the database has lost that since.
      const read = yield* state
      yield* collection.replace(read)
      yield* onUp
      const batches = outbox.batches(request.channel, { from: read.cursor })
      yield* Stream.runForEach(batches, (item) => collection.take(item)).pipe(
        Effect.catchTag("Missed", () => Effect.void)
      )
      collection.lose()
    })

    const reconnecting = yield* Reconnecting.make(Backoff.link, {
      fromStart: true,
      outage: new Outage({
        lost: `The rows of channel "${request.channel}" cannot be read`,
        back: `The rows of channel "${request.channel}" are read again`,
        among: streamNotices(outbox)
      })
    })
    return yield* reconnecting(
      (onUp) => Effect.forever(once(onUp)),
      (cause) =>
        Effect.gen(function* () {
          const failed = Cause.findError(cause)
          if (Result.isFailure(failed)) return yield* Effect.failCause(failed.failure)
          const error = failed.success
          collection.lose()
          if (isLasting(error, collection.isLoaded)) return yield* Effect.fail(error)
          return { reason: error.message }
        })
    )
  })

/** The rows of the tables of a node. */
export const rowsOf =
  (outbox: OutboxReader["Service"] | undefined, limits: StateLimits) =>
  <D extends RowsTable>(
    channel: D,
    options?: RowsOptions<D>
  ): Stream.Stream<FollowedRows<Channel.RowOf<D>>, RowsError> =>
    Stream.unwrap(
      Effect.gen(function* () {
        const { fault, name, table }: Channel.Any = channel
        if (fault !== undefined) return yield* fault
        if (outbox === undefined) return yield* new NoOutbox({ channel: name })
        const { rows } = outbox
        if (table === undefined || !keeps(channel) || rows === undefined) {
          return yield* new NoState({ channel: name, reason: "definition" })
        }
        const filter = Filter.make(yield* Effect.fromResult(table.where(name, options?.where)))
        const out = yield* Queue.sliding<FollowedRows<Channel.RowOf<D>>, RowsError>(1)
        const collection = new Collection(out, name, table, filter, toldOfRows(outbox))
        collection.tell()
        yield* routed(outbox, channel)
        yield* following(outbox, collection, { channel: name, table, filter, limits }, rows).pipe(
          Effect.catchCause((cause) => Queue.failCause(out, cause)),
          Effect.forkScoped
        )
        yield* SubscriptionRef.changes(outbox.state).pipe(
          Stream.runForEach((state) => Effect.sync(() => collection.source(state))),
          Effect.forkScoped
        )
        return Stream.fromQueue(out)
      })
    )
