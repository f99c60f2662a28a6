/**
 * Reads the outbox on one session of the reader: takes positions, and hands out what lies between them.
 *
 * It keeps nothing but the `Tail`, which outlives the session. The next session first finishes the tick in
 * progress to the same end, because subscribers have attached there. Before that it looks up the witness of
 * that end: a crash, a failover, a restore or pruning may have removed it, and then every durable subscriber
 * gets a gap.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import * as Cursor from "../../../internal/cursorText.ts"
import type { PgLink } from "../link/pgLink.ts"
import { sqlMessage } from "../link/sqlState.ts"
import * as Lost from "./crashLoss.ts"
import { type Channels, lookQueries, type Look, parseLook } from "./look.ts"
import { type Looked, monotonic } from "./lookSchedule.ts"
import * as Outbox from "./outbox.ts"
import { endOf, isEmpty, legs } from "./position.ts"
import { type DurableGap, type Followers, Tail } from "./tail.ts"

/** A failure in a session other than of a query; retried as the others are. */
export class Broken extends Schema.TaggedError<Broken>()("Broken", { cause: Schema.Defect() }) {
  override get message(): string {
    return sqlMessage(this.cause)
  }
}

export interface TickOptions {
  /** Whether this session reads every channel, for other nodes too. */
  readonly readsAll: () => boolean
  /** Runs in the step that hands out a look. */
  readonly onLook: (look: Look) => void
  readonly followers: Followers
  readonly limits: Outbox.PageLimits
  /** How long PostgreSQL may take to answer a heartbeat. */
  readonly beat: Duration.Duration
  /** How long it may take for a page. */
  readonly patience: Duration.Duration
  /** Whether the reader waits until everything that a position sees is flushed. */
  readonly flushed: boolean
}

/** Where a reader stands. */
export interface Standing {
  /** `undefined` until the reader took its first position. */
  tail: Tail | undefined
  /** Whether a defect interrupted it, so that it is not known what was handed out. */
  inDoubt: boolean
}

/** The outbox that a session has opened. */
interface Opened {
  readonly identity: string
  readonly era: string
}

export interface Ticks {
  /** Begins at the present, or continues where the last session ended. */
  readonly start: (opened: Opened) => Effect.Effect<void, SqlError | Broken>
  /** Hands out the rest of the tick in progress. */
  readonly finish: (opened: Opened) => Effect.Effect<void, SqlError | Broken>
  /**
   * Takes the next position and hands out what lies before it, or the first page of that. Calls `onTaken`
   * in the same step.
   */
  readonly look: (
    opened: Opened,
    onTaken: (tail: Tail) => void
  ) => Effect.Effect<Looked, SqlError | Broken>
  /** Hands out everything up to an end that another reader has taken, in the same era. */
  readonly reach: (opened: Opened, end: Outbox.Take) => Effect.Effect<void, SqlError | Broken>
  /** Whether this database still has the position; else begins again, with a gap for every follower. */
  readonly stands: (opened: Opened) => Effect.Effect<boolean, SqlError | Broken>
}

/** With more channels than this followed, the reader reads all messages: it needs most of them then. */
const manyChannels = 64

const newEra = "the database has restarted, recovered or was replaced"

/** On one session; `standing` is that of all sessions of the reader. */
export const make = (
  link: PgLink,
  standing: Standing,
  { beat, flushed, followers, limits, onLook, patience, readsAll }: TickOptions
): Ticks => {
  /** The first look has the time of a page: an earlier session may have been lost because a look was long. */
  let answers = false
  const lookFrom = lookQueries(limits)
  const pages = Outbox.readerPages(limits)

  const attempt = <A>(evaluate: () => A): Effect.Effect<A, Broken> =>
    Effect.try({ try: evaluate, catch: (cause) => new Broken({ cause }) })

  const hand = (tail: Tail, look: Look, time: number): void => {
    followers.look(tail, look, time)
    onLook(look)
  }

  const take = Effect.gen(function* () {
    const rows = yield* link.query(Outbox.takeStatement, [], beat)
    const taken = yield* attempt(() => Outbox.parseTaken(rows[0]))
    const args = Outbox.lastArguments(taken, undefined)
    const last = Outbox.parseWitness((yield* link.query(Outbox.lastStatement, args, patience))[0])
    if (flushed) yield* Lost.flushed(link, taken.written, beat)
    return Outbox.takeOf(taken, last, undefined)
  })

  /** Takes the first position, or a new one after a loss. */
  const begin = Effect.fnUntraced(function* (
    { era, identity }: Opened,
    reason: DurableGap["reason"]
  ) {
    const pairs = yield* link.query(
      "select next::text n, drawn::text l from realtime.marks order by at",
      [],
      patience
    )
    const before = standing.tail
    const fresh = new Tail(
      identity,
      era,
      yield* take,
      (before?.tick ?? 0) + 1,
      pairs.map((row) => [BigInt(String(row["n"])), BigInt(String(row["l"]))])
    )
    standing.tail = fresh
    standing.inDoubt = false
    if (before !== undefined) {
      // In the step that sets the new tail: a subscriber that joins in between would get neither.
      followers.tell({ _tag: "Gap", reason, cursor: fresh.end, tick: fresh.tick })
      yield* Effect.logWarning(`Every durable subscriber receives a gap: ${reason}`)
    }
  })

  /** The reason of a gap, when the reader cannot continue at its tail. */
  const gapAt = ({ identity, taken }: Tail, present: string) =>
    identity === present
      ? Lost.gapAt(link, taken, patience)
      : Effect.succeed<DurableGap["reason"]>("source")

  /**
   * Continues where the last session ended, if this database still has that position. In a new era events
   * that were handed out may still be lost: committed after the witness, and not flushed.
   */
  const resume = Effect.fnUntraced(function* (now: Tail, opened: Opened) {
    now.rest()
    const gap = standing.inDoubt ? "source" : yield* gapAt(now, opened.identity)
    if (gap !== undefined) return yield* begin(opened, gap)
    if (now.era === opened.era) return
    if ((yield* finishTo(now, opened.era)) === "retention") {
      return yield* begin(opened, "retention")
    }
    const channels = yield* Lost.channels(link, followers.remembered, patience)
    if (channels.size > 0) {
      const tick = now.interject()
      followers.tell({ _tag: "Gap", reason: "source", cursor: now.end, tick }, channels)
      yield* Effect.logWarning(
        `The database lost events of ${channels.size} durable channel(s) when it recovered: their subscribers receive a gap`
      )
    }
    now.era = opened.era
  })

  /** Hands out the rest of the tick in progress. */
  const finishTo = Effect.fnUntraced(function* (now: Tail, era: string) {
    const { channels, taken } = now
    for (const leg of legs(now.position, taken)) {
      let { id } = leg
      let more = !isEmpty(leg) && channels.length > 0
      while (more) {
        const next = { ...leg, id }
        const rows = yield* link.query(
          pages[channels === "all" ? "all" : "some"],
          Outbox.pageArguments(
            next,
            now.floors.of(leg.at.snapshot),
            limits,
            channels === "all" ? undefined : channels
          ),
          patience
        )
        const read = yield* attempt(() => Outbox.parsePage(rows, next))
        const time = yield* Clock.currentTimeMillis
        if (read.database !== era) return yield* new Broken({ cause: new Error(newEra) })
        if (read.page === "retention") return "retention" as const
        const { messages, position } = read.page
        hand(now, { from: now.position, to: position, end: taken, channels, messages }, time)
        ;({ id, more } = read)
      }
      now.position = endOf(leg)
    }
    if (!now.finished) followers.finish(now)
    return undefined
  })

  /** The channels that are followed now. */
  const wanted = (): Channels => {
    const { channels } = followers
    return readsAll() || channels.length > manyChannels ? "all" : channels
  }

  const look: Ticks["look"] = Effect.fnUntraced(function* (opened, onTaken) {
    const now = standing.tail!
    const { position, taken } = now
    const channels = wanted()
    const at = yield* monotonic
    const { args, statement } = lookFrom(taken, now.floors.of(taken.snapshot), channels)
    const rows = yield* link.query(statement, args, answers ? beat : patience)
    answers = true
    const { end, look } = yield* attempt(() => parseLook(rows, position, taken, channels))
    // Behind a pooler a session may outlive the server that it was connected to.
    if (end.era !== now.era) return yield* new Broken({ cause: new Error(newEra) })
    const looked = {
      at,
      found: look === "retention" ? 0 : look.messages.length,
      xmin: end.snapshot.running[0] ?? end.snapshot.xmax,
      next: end.next
    }
    if (look === "retention" || !Cursor.contains(end.normal, taken.normal)) {
      // Without retention the witness is there, but another transaction that was over is not over here.
      yield* begin(opened, look === "retention" ? "retention" : "source")
      onTaken(standing.tail!)
      return looked
    }
    if (flushed) yield* Lost.flushed(link, end.written, beat)
    const time = yield* Clock.currentTimeMillis
    // A follower that attached meanwhile gets everything after the last position.
    const late = channels !== "all" && followers.channels.some((name) => !channels.includes(name))
    hand(now, late ? unread(look, wanted()) : look, time)
    onTaken(now)
    return looked
  })
  const finish: Ticks["finish"] = (opened) =>
    Effect.suspend(() => finishTo(standing.tail!, standing.tail!.era)).pipe(
      Effect.flatMap((found) => (found === undefined ? Effect.void : begin(opened, found)))
    )

  return {
    start: (opened) =>
      Effect.suspend(() =>
        standing.tail === undefined ? begin(opened, "source") : resume(standing.tail, opened)
      ),
    finish,
    reach: (opened, end) =>
      Effect.gen(function* () {
        yield* finish(opened)
        const now = standing.tail!
        if (end.era !== now.era || Cursor.contains(now.taken.normal, end.normal)) return
        if (!Cursor.contains(end.normal, now.taken.normal)) return
        now.advance(end, wanted())
        yield* finish(opened)
      }),
    look,
    stands: (opened) =>
      Effect.flatMap(
        Effect.suspend(() => gapAt(standing.tail!, opened.identity)),
        (gap) => (gap === undefined ? Effect.succeed(true) : Effect.as(begin(opened, gap), false))
      )
  }
}

/** The same look without its messages, which pages read again for these channels. */
const unread = (look: Look, channels: Channels): Look => ({
  ...look,
  to: look.from,
  channels,
  messages: []
})
