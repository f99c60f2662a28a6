/**
 * Bringing one subscriber from a cursor to where this node's reader stands.
 *
 * There is one way for everybody: who resumes, who was too slow, who joins the stream that follows a
 * state. Follow the channel first, then join: the answer names a tick, the replay reaches exactly its
 * end, and of what was handed out meanwhile the batches of later ticks follow.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { isSqlError } from "effect/sql/SqlError"
import * as Cursor from "../../../internal/cursor.ts"
import type { JoinState } from "../../../Protocol.ts"
import {
  ReplayAdmission,
  type AdmittedReplay,
  type ReplayLimits,
  type ReplaysOverloaded
} from "./replayAdmission.ts"
import {
  add,
  type Bounds,
  frameEventBytes,
  exceeds,
  fitting,
  frameBytes,
  nothing
} from "./replayBounds.ts"
import { type OutboxFault, ReplayError } from "./faults.ts"
import {
  goneBy,
  pageArguments,
  type PageLimits,
  pageStatement,
  type ParsedPage,
  parsePage,
  witnessArguments,
  witnessStatement
} from "./outbox.ts"
import {
  endOf,
  isEmpty,
  type Leg,
  legs,
  type NodePosition,
  type Place,
  positionOf
} from "./position.ts"
import { type Lease, type Reading, SharedReads } from "./sharedReads.ts"
import { batchesOfPage, type DurableBatch, type Followers, type Tail } from "./tail.ts"
import { objects } from "../sql/objects.ts"
import * as Turns from "../eventLoopTurns.ts"

/** Why a cursor cannot be honoured. */
export type ResetReason =
  /** It does not parse, or is longer than 8 KiB. */
  | "malformed"
  /** Another database, or this one before a dump was restored over it. */
  | "identity"
  /** The message on which it stands is gone: lost in a failover, or the database was put back. */
  | "witness"
  /** Not a position that this database has reached. */
  | "future"
  /** Something after it was pruned. */
  | "retention"
  /** More follows it than the caller takes. */
  | "bounds"

export type { Bounds } from "./replayBounds.ts"

/** For somebody who comes again until nothing is left. */
export interface Part {
  /** About how many bytes of frames they have room for: no more is read. */
  readonly room: number
  /** What they know to lie behind their cursor. */
  readonly missed: Bounds
}

export interface Join {
  readonly state: JoinState
  readonly reason: ResetReason | undefined
  /** Events follow from here: the replay first, then what is handed out with a later tick than `tick`. */
  readonly cursor: string
  readonly tick: number
  readonly replay: ReadonlyArray<DurableBatch>
  /** The replay is a part: join again from its end for what follows. */
  readonly more: boolean
  /** Payload that was looked up for this answer, in bytes of UTF-8. */
  readonly bytes: number
}

/** Why a replay is not to be had now. */
export type JoinError = OutboxFault | ReplayError | ReplaysOverloaded

/** One page of a replay, or that it cannot be had. */
type ReplayPage =
  | { readonly _tag: "Reset"; readonly reason: "retention" | "identity" | "witness" }
  | {
      readonly _tag: "Page"
      readonly batches: ReadonlyArray<DurableBatch>
      /** The position after the page. */
      readonly position: NodePosition
      readonly done: boolean
    }

export interface CatchUp {
  /** The next page of a channel between a position and the end of a tick. */
  readonly page: (
    tail: Tail,
    channel: string,
    from: NodePosition,
    to: Place,
    limits?: PageLimits
  ) => Effect.Effect<ReplayPage, ReplayError>
  /**
   * Joins a subscriber whose cursor may be `undefined` for "from now on". The whole replay comes at
   * once, or none of it; or a part of it, of what is known to be within the bounds. With a lease it is
   * kept, and counted, until that ends, and whoever asks for the same meanwhile is given the same.
   */
  readonly join: (
    channel: string,
    from: string | undefined,
    bounds?: Bounds,
    part?: Part,
    lease?: Lease
  ) => Effect.Effect<Join, JoinError>
  /**
   * Where the tail stands when it contains the cursor, whose witness was looked up, or why it never will.
   * Synchronous after its last step: nothing is handed out between the answer and what the caller does at
   * once.
   */
  readonly locate: (
    channel: string,
    from: string
  ) => Effect.Effect<Located, OutboxFault | ReplayError>
}

type Located =
  | { readonly tail: Tail; readonly reason: ResetReason }
  | {
      readonly tail: Tail
      readonly position: NodePosition
      /** What to read to: the end of the tick, in the form that holds while the replay lasts. */
      readonly to: Place
      readonly reason: undefined
    }

const isSameWitness = (one: Cursor.Witness, other: Cursor.Witness): boolean =>
  one.tx === other.tx && one.id === other.id && one.at === other.at

/** What somebody is told who starts at the present. */
export const at = (tail: Tail, reason: ResetReason | undefined, bytes = 0): Join => ({
  state: reason === undefined ? "fresh" : "reset",
  reason,
  cursor: tail.end,
  tick: tail.tick,
  replay: [],
  more: false,
  bytes
})

export const make = (
  sql: PgClient,
  limits: PageLimits,
  /** What a socket is replayed at most. */
  socketBounds: Bounds,
  /** All replays of the node. */
  together: ReplayLimits,
  /** For one page. */
  patience: Duration.Duration,
  followers: Followers,
  /** The tail once the reader is up. */
  current: Effect.Effect<Tail, OutboxFault>,
  /** The tail after it has taken a new end. */
  refreshed: Effect.Effect<Tail, OutboxFault>
): Effect.Effect<CatchUp, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const pages = yield* Semaphore.make(together.atOnce)
    const admission = new ReplayAdmission(together)
    const client = yield* objects(sql)

    /** One statement on the pool, for a channel. */
    const ask = <A>(
      channel: string,
      statement: string,
      args: ReadonlyArray<unknown>,
      parse: (rows: ReadonlyArray<{ readonly [column: string]: unknown }>) => A
    ): Effect.Effect<A, ReplayError> =>
      client.unsafe<{ readonly [column: string]: unknown }>(statement, args).pipe(
        Effect.flatMap((rows) => Effect.try({ try: () => parse(rows), catch: (cause) => cause })),
        // In a transaction of the caller the page would be read as of its snapshot, and what came
        // later would be missed in silence.
        Effect.updateContext(Context.omit(sql.transactionService)<never>),
        // On a path that has gone silent the pool would wait for ever.
        Effect.timeoutOrElse({
          duration: patience,
          orElse: () => Effect.fail(new Error(`no answer within ${Duration.toMillis(patience)} ms`))
        }),
        pages.withPermit,
        Effect.mapError(
          (error) =>
            new ReplayError({ channel, cause: isSqlError(error) ? error.reason.cause : error })
        )
      )

    const read = (channel: string, leg: Leg, tail: Tail, limits: PageLimits) =>
      ask<ParsedPage>(
        channel,
        pageStatement.one,
        pageArguments(leg, tail.floors.of(leg.at.snapshot), limits, channel),
        (rows) => parsePage(rows, leg)
      )

    /** A page of a replay is handled in a step of its own. */
    const stepOf = ({ page }: ParsedPage) => {
      const messages = page === "retention" ? [] : page.messages
      const bytes = messages.reduce((sum, { text }) => sum + text.length, 0)
      return Turns.turns.take({ events: messages.length, bytes })
    }

    /** The pool answers for what it is connected to. */
    const known = (channel: string, identity: string | null) =>
      identity === null
        ? Effect.fail(
            new ReplayError({
              channel,
              cause: new Error(
                "the pool is connected to a standby, or the database has just recovered"
              )
            })
          )
        : Effect.succeed(identity)

    /** No page is more than one step of the loop handles. */
    const step = {
      messages: Math.min(limits.messages, Turns.most.events),
      bytes: Math.min(limits.bytes, Turns.most.bytes)
    }

    const page: CatchUp["page"] = (tail, channel, from, to, most = step) =>
      Effect.gen(function* () {
        let start = from
        const remaining = legs(from, to)
        for (const [index, leg] of remaining.entries()) {
          const last = index === remaining.length - 1
          if (isEmpty(leg)) {
            start = endOf(leg)
            continue
          }
          const { database, page, there } = yield* Effect.tap(
            read(channel, leg, tail, most),
            stepOf
          )
          const identity = yield* known(channel, database)
          if (identity !== tail.identity) return { _tag: "Reset", reason: "identity" } as const
          // First: what is read to may be pruned too.
          if (page === "retention") return { _tag: "Reset", reason: "retention" } as const
          if (!there) return { _tag: "Reset", reason: "witness" } as const
          const done = last && page.position.next === undefined
          if (page.messages.length > 0 || done) {
            const batches = batchesOfPage(page, leg, start, tail.identity, 0)
            return { _tag: "Page", batches, position: page.position, done } as const
          }
          start = page.position
        }
        return { _tag: "Page", batches: [], position: start, done: true } as const
      })

    const locate: CatchUp["locate"] = (channel, from) =>
      Effect.gen(function* () {
        let tail = yield* current
        const cursor = Cursor.parseDurable(from)
        if (cursor === undefined) return { tail, reason: "malformed" } as const
        const { witness } = cursor
        // Most who come stand where this node does.
        if (!isSameWitness(witness, tail.taken.last)) {
          const row = yield* ask(
            channel,
            witnessStatement,
            witnessArguments(witness),
            (rows) => rows[0]!
          )
          const identity = yield* known(channel, row["k"] as string | null)
          tail = yield* current
          const reason = goneBy(row, cursor.position.base)
          if (cursor.identity === identity && reason !== undefined) return { tail, reason } as const
        }
        // Normal forms, as all that leave a process: beside the snapshot as it was taken, a cursor from
        // after a crash that this node has yet to notice may look like one from before.
        const ahead = (tail: Tail) => !Cursor.dominates(tail.taken.normal, cursor.position)
        // It may come from a node that is ahead. A snapshot taken now contains every position that
        // was ever given out.
        if (cursor.identity === tail.identity && ahead(tail)) tail = yield* refreshed
        if (cursor.identity !== tail.identity) return { tail, reason: "identity" } as const
        if (ahead(tail)) return { tail, reason: "future" } as const
        const { last, normal } = tail.taken
        const to = { snapshot: normal, normal, last }
        return { tail, position: positionOf(cursor), to, reason: undefined } as const
      })

    /** Whether everybody who stands there is answered without the database. */
    const standsHere = ({ taken }: Tail, from: string): boolean => {
      const cursor = Cursor.parseDurable(from)
      if (cursor === undefined) return true
      return (
        isSameWitness(cursor.witness, taken.last) && Cursor.dominates(taken.normal, cursor.position)
      )
    }

    /** Where the cursor stands, and what lies behind it. */
    const replay =
      (channel: string, from: string, bounds: Bounds, room: number): Reading<Join, JoinError> =>
      (keeps) =>
        Effect.gen(function* () {
          // Most who come back have missed nothing: they wait for nobody.
          if (standsHere(yield* current, from)) {
            const found = yield* locate(channel, from)
            if (found.reason !== undefined) return at(found.tail, found.reason)
            if (legs(found.position, found.to).every(isEmpty)) {
              return yield* replayTo(found, channel, from, bounds, room)
            }
          }
          let admitted: AdmittedReplay | undefined
          yield* admission.enter(Math.min(bounds.bytes, room), (one) => {
            admitted = one
            keeps(one.leave)
          })
          const found = yield* locate(channel, from)
          if (found.reason !== undefined) return at(found.tail, found.reason)
          const join = yield* replayTo(found, channel, from, bounds, room)
          admitted?.read(join.bytes)
          return join
        })

    const replayTo = (
      {
        position,
        tail,
        to
      }: { readonly position: NodePosition; readonly tail: Tail; readonly to: Place },
      channel: string,
      from: string,
      bounds: Bounds,
      room: number
    ): Effect.Effect<Join, OutboxFault | ReplayError> =>
      Effect.gen(function* () {
        const { tick } = tail
        const replay: Array<DurableBatch> = []
        let size = nothing
        let next = position
        let more = true
        for (let left = room; more && left > 0; left = room - frameBytes(size)) {
          const one = yield* page(tail, channel, next, to, {
            messages: Math.min(step.messages, Math.ceil(left / frameEventBytes)),
            bytes: Math.min(step.bytes, left)
          })
          if (one._tag === "Reset") return at(yield* current, one.reason, size.bytes)
          replay.push(...one.batches)
          size = add(size, one.batches)
          if (exceeds(size, bounds)) return at(yield* current, "bounds", size.bytes)
          more = !one.done
          next = one.position
        }
        const { bytes } = size
        return { state: "recovered", reason: undefined, cursor: from, tick, replay, more, bytes }
      })

    /**
     * What this node handed out a moment ago, without the database. Only between two ticks: what is
     * handed out of a tick in progress would come again, or be left out.
     */
    const fromRing = (channel: string, from: string, bounds: Bounds, room: number) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const { finished, tick } = yield* current
        const all = finished ? followers.ringAfter(channel, from, now) : undefined
        if (all === undefined) return undefined
        const fits = fitting(all, bounds, room)
        if (fits === undefined) return undefined
        return { state: "recovered", reason: undefined, cursor: from, tick, ...fits } satisfies Join
      })

    const shared = new SharedReads<Join, JoinError>(scope, ({ state }) => state === "recovered")

    const join: CatchUp["join"] = (channel, from, bounds = socketBounds, part, lease) =>
      Effect.gen(function* () {
        if (from === undefined) return at(yield* current, undefined)
        if (part !== undefined && exceeds(part.missed, bounds)) return at(yield* current, "bounds")
        const room = Math.max(1, part?.room ?? Infinity)
        const remembered = yield* fromRing(channel, from, bounds, room)
        if (remembered !== undefined) return remembered
        const { identity, tick } = yield* current
        const what = `${identity} ${bounds.events} ${bounds.bytes} ${room} ${channel} ${from}`
        const read = replay(channel, from, bounds, room)
        const ask = (when: number | "") => shared.get(`${when} ${what}`, read, lease)
        // Without a lease nobody comes again for what was handed out since.
        const first = yield* ask(lease === undefined ? tick : "")
        // Nothing followed when it was read for somebody who asked earlier: it leads nowhere, and who comes
        // again for the rest would be given the same.
        const stale = first.tick < tick && first.state === "recovered" && first.replay.length === 0
        const join = stale ? yield* ask(tick) : first
        // Read for somebody who asked earlier: what was handed out since is not in it.
        if (join.tick >= tick) return join
        return join.state === "recovered"
          ? { ...join, more: true }
          : at(yield* current, join.reason)
      })

    return { page, join, locate }
  })
