/**
 * Brings one subscriber from a cursor to the position of this node's reader.
 *
 * All subscribers take the same way: a client that resumes, a socket that was too slow, a client that joins
 * after it loaded a state. Follow the channel first, then join. The answer names a tick, and the replay
 * ends exactly at the end of that tick. Of the batches that the reader handed out meanwhile, those of later
 * ticks follow.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Cursor from "../../../internal/cursorText.ts"
import type { JoinState } from "../../../Protocol.ts"
import type { Filter } from "../filter.ts"
import { type AdmittedReplay, type ReplaysOverloaded } from "./replayAdmission.ts"
import {
  add,
  type Bounds,
  frameEventBytes,
  exceeds,
  fitting,
  frameBytes,
  nothing
} from "./replayBounds.ts"
import type { OutboxFault, ReplayError } from "./outboxErrors.ts"
import {
  goneBy,
  oldestStatement,
  pageArguments,
  type PageLimits,
  pageStatement,
  type ParsedPage,
  parsePage,
  parsePlace,
  witnessArguments,
  witnessStatement
} from "./outbox.ts"
import {
  endOf,
  formatPosition,
  isEmpty,
  type Leg,
  legs,
  type NodePosition,
  type Place,
  positionOf,
  whole
} from "./position.ts"
import { candidates, filteredArguments, filteredStatement } from "./filteredPage.ts"
import { known, type ReplayPool } from "./replayPool.ts"
import { type Lease, type Reading, SharedReads } from "./sharedReads.ts"
import { batchesOfPage, type DurableBatch, type Followers, type Tail } from "./tail.ts"
import * as Turns from "../eventLoopTurns.ts"

/** Why a session cannot resume from a cursor. */
export type ResetReason =
  /** The cursor does not parse, or is longer than 8 KiB. */
  | "malformed"
  /** The cursor is of another database, or of this one before a dump was restored over it. */
  | "identity"
  /** The cursor's witness is gone: lost in a failover, or by a restore of the database. */
  | "witness"
  /** The database has not reached this position. */
  | "future"
  /** Messages after the cursor were pruned. */
  | "retention"
  /** More messages follow than the caller accepts. */
  | "bounds"

export type { Bounds } from "./replayBounds.ts"

/** For a caller that joins again until nothing is left. */
export interface Part {
  /** The bytes of frames for which the caller has room, approximately: no more is read. */
  readonly room: number
  /** The messages that the caller knows to follow its cursor. */
  readonly missed: Bounds
}

/** Where a cursor starts in the outbox. */
export interface Join {
  readonly state: JoinState
  readonly reason: ResetReason | undefined
  /** Events follow from here: first the replay, then batches of a later tick than `tick`. */
  readonly cursor: string
  /** The tick of this node's reader at whose end the replay ends. */
  readonly tick: number
  readonly replay: ReadonlyArray<DurableBatch>
  /**
   * The position at the end of that tick; absent where `cursor` is that. A whole replay may end before it, where
   * the rest of the tick has nothing for the subscriber.
   */
  readonly end?: string
  /** The replay is incomplete: join again from its end for the rest. */
  readonly more: boolean
  /** Payload read for this answer, in bytes of UTF-8. */
  readonly bytes: number
}

/** Why a replay is not available now. */
export type JoinError = OutboxFault | ReplayError | ReplaysOverloaded

/** One page of a replay, or why it is not available. */
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
  /**
   * The next page of a channel between a position and the end of a tick. With a filter it leaves out what the
   * filter excludes, and may have no batches although more pages follow.
   */
  readonly page: (
    tail: Tail,
    channel: string,
    from: NodePosition,
    to: Place,
    limits?: PageLimits,
    filter?: Filter
  ) => Effect.Effect<ReplayPage, ReplayError>
  /**
   * Joins a subscriber; without a cursor it starts at the present. Returns the whole replay, nothing of it,
   * or, with `part`, as much as there is room for. With a lease the replay is kept, and counted, until the
   * lease ends, and the same request meanwhile gets the same replay.
   */
  readonly join: (
    channel: string,
    from: string | undefined,
    bounds?: Bounds,
    part?: Part,
    lease?: Lease,
    filter?: Filter
  ) => Effect.Effect<Join, JoinError>
  /** The reader's tail once it contains the cursor, or why it never will. Looks the cursor's witness up. */
  readonly locate: (
    channel: string,
    from: string
  ) => Effect.Effect<Located, OutboxFault | ReplayError>
}

type Located = { readonly tail: Tail; readonly reason: ResetReason } | ReplayEnds

/** Where a replay begins and ends. */
interface ReplayEnds {
  readonly tail: Tail
  readonly position: NodePosition
  /**
   * The tick at whose end the replay ends. The tail may be at a later one already: a fiber may yield
   * between any two of its operations.
   */
  readonly tick: number
  /** The position to read to: the end of that tick, in the form that holds while the replay lasts. */
  readonly to: Place
  readonly reason: undefined
}

const isSameWitness = (one: Cursor.Witness, other: Cursor.Witness): boolean =>
  one.tx === other.tx && one.id === other.id && one.at === other.at

/** The answer for a subscriber that starts at the present. */
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
  pool: ReplayPool,
  limits: PageLimits,
  /** The largest replay of a socket. */
  socketBounds: Bounds,
  followers: Followers,
  /** The tail once the reader is up. */
  current: Effect.Effect<Tail, OutboxFault>,
  /** The tail after the reader took a new end. */
  refreshed: Effect.Effect<Tail, OutboxFault>
): Effect.Effect<CatchUp, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const { admission, ask } = pool

    const read = (
      channel: string,
      leg: Leg,
      tail: Tail,
      limits: PageLimits,
      filter: Filter | undefined
    ) => {
      const table = followers.tableOf(channel)
      const scope = table === undefined ? "one" : "route"
      const most = filter === undefined ? limits : { ...limits, messages: candidates }
      const args = pageArguments(leg, tail.floors.of(leg.at.snapshot), most, channel, table)
      return ask<ParsedPage>(
        channel,
        filter === undefined ? pageStatement[scope] : filteredStatement(scope, filter),
        filter === undefined ? args : [...args, limits.messages, ...filteredArguments(filter)],
        (rows) => parsePage(rows, leg)
      )
    }

    /** Each page of a replay is handled in a step of its own. */
    const stepOf = ({ page }: ParsedPage) => {
      const messages = page === "retention" ? [] : page.messages
      const bytes = messages.reduce((sum, { text }) => sum + text.length, 0)
      return Turns.turns.take({ events: messages.length, bytes })
    }

    /** A page is at most the work of one step of the loop. */
    const step = {
      messages: Math.min(limits.messages, Turns.most.events),
      bytes: Math.min(limits.bytes, Turns.most.bytes)
    }

    const page: CatchUp["page"] = (tail, channel, from, to, most = step, filter) =>
      Effect.gen(function* () {
        let start = from
        const remaining = legs(from, to)
        for (const [index, leg] of remaining.entries()) {
          const last = index === remaining.length - 1
          if (isEmpty(leg)) {
            start = endOf(leg)
            continue
          }
          const { database, more, page, there } = yield* Effect.tap(
            read(channel, leg, tail, most, filter),
            stepOf
          )
          const identity = yield* known(channel, database)
          if (identity !== tail.identity) return { _tag: "Reset", reason: "identity" } as const
          // Checked first: the end of the replay may be pruned too.
          if (page === "retention") return { _tag: "Reset", reason: "retention" } as const
          if (!there) return { _tag: "Reset", reason: "witness" } as const
          const done = last && page.position.next === undefined
          if (page.messages.length > 0 || more || done) {
            const batches = batchesOfPage(page, leg, start, tail.identity, 0, () => [channel])
            return { _tag: "Page", batches, position: page.position, done } as const
          }
          start = page.position
        }
        return { _tag: "Page", batches: [], position: start, done: true } as const
      })

    /** The cursor before everything that is kept, for `oldest`; else the cursor itself. */
    const resolve = (channel: string, from: string) =>
      Effect.gen(function* () {
        if (from !== Cursor.oldest) return from
        // After a crash the outbox has no identity until a reader has opened it.
        yield* current
        const row = yield* ask(channel, oldestStatement, [], (rows) => rows[0]!)
        const identity = yield* known(channel, row["k"] as string | null)
        return formatPosition(identity, whole(parsePlace(row)!))
      })

    const locate: CatchUp["locate"] = (channel, given) =>
      Effect.gen(function* () {
        const from = yield* resolve(channel, given)
        let tail = yield* current
        const cursor = Cursor.parseDurable(from)
        if (cursor === undefined) return { tail, reason: "malformed" } as const
        const { witness } = cursor
        // Most cursors stand where this node does.
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
        // Compares normal forms, as all cursors have. Compared with the snapshot as it was taken, a cursor
        // from after a crash that this node has not noticed yet may look like one from before it.
        const ahead = (tail: Tail) => !Cursor.dominates(tail.taken.normal, cursor.position)
        // The cursor may be from a node that is ahead. A snapshot taken now contains every position that
        // any node has handed out.
        if (cursor.identity === tail.identity && ahead(tail)) tail = yield* refreshed
        if (cursor.identity !== tail.identity) return { tail, reason: "identity" } as const
        if (ahead(tail)) return { tail, reason: "future" } as const
        // In one step, so that the tick is that of the end.
        const { taken, tick } = tail
        const { last, normal } = taken
        const to = { snapshot: normal, normal, last }
        return { tail, tick, position: positionOf(cursor), to, reason: undefined } as const
      })

    /** Whether the join is answered without the database. */
    const standsHere = ({ taken }: Tail, from: string): boolean => {
      const cursor = Cursor.parseDurable(from)
      if (cursor === undefined) return true
      return (
        isSameWitness(cursor.witness, taken.last) && Cursor.dominates(taken.normal, cursor.position)
      )
    }

    /** Locates the cursor and reads what follows it. */
    const replay =
      (
        channel: string,
        from: string,
        bounds: Bounds,
        room: number,
        filter: Filter | undefined
      ): Reading<Join, JoinError> =>
      (keeps) =>
        Effect.gen(function* () {
          // Most subscribers have missed nothing: they do not wait for admission.
          if (standsHere(yield* current, from)) {
            const found = yield* locate(channel, from)
            if (found.reason !== undefined) return at(found.tail, found.reason)
            if (legs(found.position, found.to).every(isEmpty)) {
              return yield* replayTo(found, channel, from, bounds, room, filter)
            }
          }
          let admitted: AdmittedReplay | undefined
          yield* admission.enter(Math.min(bounds.bytes, room), (one) => {
            admitted = one
            keeps(one.leave)
          })
          const found = yield* locate(channel, from)
          if (found.reason !== undefined) return at(found.tail, found.reason)
          const join = yield* replayTo(found, channel, from, bounds, room, filter)
          admitted?.read(join.bytes)
          return join
        })

    const replayTo = (
      { position, tail, tick, to }: ReplayEnds,
      channel: string,
      from: string,
      bounds: Bounds,
      room: number,
      filter: Filter | undefined
    ): Effect.Effect<Join, OutboxFault | ReplayError> =>
      Effect.gen(function* () {
        const replay: Array<DurableBatch> = []
        let size = nothing
        let next = position
        let more = true
        for (let left = room; more && left > 0; left = room - frameBytes(size)) {
          const limits = {
            messages: Math.min(step.messages, Math.ceil(left / frameEventBytes)),
            bytes: Math.min(step.bytes, left)
          }
          const one = yield* page(tail, channel, next, to, limits, filter)
          if (one._tag === "Reset") return at(yield* current, one.reason, size.bytes)
          replay.push(...one.batches)
          size = add(size, one.batches)
          if (exceeds(size, bounds)) return at(yield* current, "bounds", size.bytes)
          more = !one.done
          next = one.position
        }
        const { bytes } = size
        const end = formatPosition(tail.identity, whole(to))
        return {
          state: "recovered",
          reason: undefined,
          cursor: from,
          tick,
          replay,
          end,
          more,
          bytes
        }
      })

    /**
     * The replay from what this node handed out recently, without the database. Only between two ticks: the
     * subscriber would get batches of a tick in progress twice, or not at all.
     */
    const fromRing = (channel: string, from: string, bounds: Bounds, room: number) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const { end, finished, tick } = yield* current
        const all = finished ? followers.ringAfter(channel, from, now) : undefined
        if (all === undefined) return undefined
        const fits = fitting(all, bounds, room)
        if (fits === undefined) return undefined
        const state = "recovered"
        return { state, reason: undefined, cursor: from, tick, end, ...fits } satisfies Join
      })

    const shared = new SharedReads<Join, JoinError>(scope, ({ state }) => state === "recovered")

    const join: CatchUp["join"] = (channel, given, bounds = socketBounds, part, lease, filter) =>
      Effect.gen(function* () {
        if (given === undefined) return at(yield* current, undefined)
        const from = yield* resolve(channel, given)
        if (part !== undefined && exceeds(part.missed, bounds)) return at(yield* current, "bounds")
        const room = Math.max(1, part?.room ?? Infinity)
        const remembered = yield* fromRing(channel, from, bounds, room)
        if (remembered !== undefined) return remembered
        const { identity, tick } = yield* current
        const what = `${identity} ${bounds.events} ${bounds.bytes} ${room} ${channel} ${from} ${filter?.text ?? ""}`
        const read = replay(channel, from, bounds, room, filter)
        const ask = (when: number | "") => shared.get(`${when} ${what}`, read, lease)
        // Without a lease the caller does not join again for later messages.
        const first = yield* ask(lease === undefined ? tick : "")
        // An empty replay of an earlier request: the caller's next join would get the same again.
        const stale = first.tick < tick && first.state === "recovered" && first.replay.length === 0
        const join = stale ? yield* ask(tick) : first
        // Read for an earlier request: it lacks what the reader handed out since.
        if (join.tick >= tick) return join
        return join.state === "recovered"
          ? { ...join, more: true }
          : at(yield* current, join.reason)
      })

    return { page, join, locate }
  })
