/**
 * The statements that read the outbox, and how to read their answers.
 *
 * A position is a snapshot. New between two snapshots are the messages of transactions that were in
 * progress at the first and are over at the second, found by their numbers, merged with a walk of the
 * primary key from a proven floor on. Messages go out in the order of their ids, which is the order of the
 * changes of any one row, any one writer and any causal chain. The cost depends on the number of new
 * messages, not on how long an old transaction stays open.
 *
 * The spelling of the statements matters to the planner: read the comments before changing anything.
 */
import * as Cursor from "../../../internal/cursorText.ts"
import { era } from "../sql/identity.ts"
import { endOf, type Leg, midway, type NodePosition, type Place, placeOf } from "./position.ts"

/** One message as stored. */
export interface Message {
  /** The id, as text: 64 bits. */
  readonly id: string
  readonly tx: string
  readonly channel: string
  /** The payload: JSON as its writer spelled it, so possibly with line feeds. */
  readonly text: string
  /** Of a row the texts by which it is routed and filtered, before and after, as JSON. */
  readonly match?: string | undefined
  /** Of a publish the trace context of its publisher, as its writer spelled it. */
  readonly trace?: string | undefined
  /** When it was written, in milliseconds since 1970. */
  readonly at: number
}

export interface Page {
  readonly messages: ReadonlyArray<Message>
  /** The position after the last message of the page. */
  readonly position: NodePosition
}

/** A row of an answer. */
export type Row = { readonly [column: string]: unknown }

/** The snapshot that a reader takes at the beginning of a tick. */
export interface Taken {
  readonly snapshot: Cursor.PgSnapshot
  /** Every transaction numbered `next` or above draws ids above `drawn`. */
  readonly next: bigint
  readonly drawn: bigint
  /** The era of the database; `null` until a node has opened the outbox in it. */
  readonly era: string | null
  /** The end of the WAL as a `pg_lsn`: every transaction that the snapshot sees lies before it. */
  readonly written: string
}

/** The same with the witness. */
export interface Take extends Taken, Place {}

/** A time in microseconds, as a witness holds it. */
const micros = (at: string): string => `round(extract(epoch from ${at}) * 1000000)::bigint`

/**
 * The last message of the highest transaction above `bound` that a snapshot sees. It steps down the index
 * from `xmax` and jumps over each running number: in descending order alone it would walk over every row of
 * an open transaction. What lies between those numbers was over when the snapshot was taken, so a later
 * statement of the same era finds the same.
 */
export const lastMessage = (snapshot: string, bound: string): string => `(
  select o.txid, o.id, ${micros("o.created_at")} at from (
    select hi, greatest(lead(hi) over (order by hi desc), ${bound}) lo from (
      select pg_snapshot_xmax(${snapshot}) union all select pg_snapshot_xip(${snapshot})) v(hi)) r
  cross join lateral (select o.txid, o.id, o.created_at from realtime.messages o
    where o.txid > r.lo and o.txid < r.hi order by o.txid desc, o.id desc limit 1) o
  where r.hi > ${bound} order by r.hi desc limit 1)`

/**
 * The last id drawn, as an expression. It never reads the sequence as a table. A writer that draws every 33rd
 * id has 32 more in the row of the sequence while it writes the WAL, and a table is read without the lock
 * that it holds meanwhile: the floor would be too high, and hide the next 32 messages. The function takes
 * that lock.
 */
export const drawn = "coalesce(pg_sequence_last_value('realtime.messages_id_seq'), 0)"

/**
 * The statement that takes a snapshot. It never runs inside a `begin`, where age() is frozen at its first
 * call. It reads the last id drawn before the next transaction's number, which makes the pair true, and
 * computes that number without using one up. It returns no row in a session that has a transaction number,
 * nor on a standby, whose snapshots omit the transactions in progress. It is also the heartbeat, so it
 * waits for no lock on the messages.
 */
export const takeStatement = `with l as materialized (select ${drawn} drawn),
n as materialized (
  select drawn, pg_snapshot_xmax(pg_current_snapshot()) x, age(pg_snapshot_xmax(pg_current_snapshot())::xid) a
  from l where pg_current_xact_id_if_assigned() is null and not pg_is_in_recovery())
select pg_current_snapshot()::text s, drawn::text l, (x::text::numeric + a)::text n, ${era} era,
  pg_current_wal_insert_lsn()::text w from n`

/** $1 the snapshot that was taken, $2 the highest transaction that the snapshot before it saw. */
export const lastStatement = `select t.txid::text tx, t.id::text i, t.at::text at from ${lastMessage("$1::pg_snapshot", "$2::xid8")} t`

export const lastArguments = (
  { snapshot }: Taken,
  before: Cursor.Witness | undefined
): ReadonlyArray<unknown> => [Cursor.formatSnapshot(snapshot), String(before?.tx ?? 0n)]

/** A snapshot with its witness, as columns of a query that takes the snapshot of a state. */
export const stateStatement = (columns: string): string =>
  `select pg_current_snapshot()::text s, t.txid::text tx, t.id::text i, t.at::text at, ${columns}
from (select) one left join ${lastMessage("pg_current_snapshot()", "'0'::xid8")} t on true`

/** Returns `undefined` when there is no message, or none above the bound. */
export const parseWitness = (row: Row | undefined): Cursor.Witness | undefined =>
  typeof row?.["tx"] === "string"
    ? {
        tx: BigInt(row["tx"]),
        id: BigInt(String(row["i"])),
        at: BigInt(String(row["at"]))
      }
    : undefined

/** The witness of a snapshot that sees no message. */
const none: Cursor.Witness = { tx: 0n, id: 0n, at: 0n }

export const parsePlace = (row: Row | undefined): Place | undefined => {
  const snapshot = Cursor.parseSnapshot(String(row?.["s"]))
  return snapshot && placeOf(snapshot, parseWitness(row) ?? none)
}

export const parseTaken = (row: Row | undefined): Taken => {
  const snapshot = Cursor.parseSnapshot(String(row?.["s"]))
  if (row === undefined || snapshot === undefined) {
    throw new Error("The session cannot take a position: it is on a standby, or in a transaction")
  }
  return {
    snapshot,
    next: BigInt(String(row["n"])),
    drawn: BigInt(String(row["l"])),
    era: row["era"] as string | null,
    written: String(row["w"])
  }
}

/** Without a later message the witness of `before` is still the last message. */
export const takeOf = (
  taken: Taken,
  last: Cursor.Witness | undefined,
  before: Cursor.Witness | undefined
): Take => ({ ...taken, ...placeOf(taken.snapshot, last ?? before ?? none) })

/** Whether the witness of a position is there, unchanged: one lookup in the primary key. */
const isThere = (tx: string, id: string, at: string): string =>
  `(${tx}::xid8 = '0' or exists (select from realtime.messages m
    where m.id = ${id}::bigint and m.txid = ${tx}::xid8 and ${micros("m.created_at")} = ${at}::bigint))`

/** `k`: the identity of the database that answers, `there`: whether the witness is there, `h`: the horizon. */
export const witnessStatement = `select realtime.identity() k, ${isThere("$1", "$2", "$3")} there, (select h.snapshot::text from realtime.horizon h limit 1) h`

export const witnessArguments = ({ at, id, tx }: Cursor.Witness): ReadonlyArray<unknown> => [
  String(tx),
  String(id),
  String(at)
]

/**
 * Why a position in normal form is lost, from the row of the witness's statement; `undefined` when it is
 * not. `retention`: the witness was pruned, and with it messages that the position does not see. `witness`:
 * it is gone otherwise.
 */
export const goneBy = (
  row: Row | undefined,
  at: Cursor.PgSnapshot
): "retention" | "witness" | undefined => {
  if (row?.["there"] === true) return undefined
  const horizon = Cursor.parseSnapshot(String(row?.["h"]))
  return horizon === undefined || Cursor.contains(at, horizon) ? "witness" : "retention"
}

/** The oldest position kept: that of the horizon. */
export const oldestStatement = `select h.snapshot::text s, t.txid::text tx, t.id::text i, t.at::text at, realtime.identity() k
from realtime.horizon h left join lateral (
  select m.txid, m.id, ${micros("m.created_at")} at from realtime.messages m
  where m.txid < pg_snapshot_xmax(h.snapshot) and pg_visible_in_snapshot(m.txid, h.snapshot) order by m.txid desc, m.id desc limit 1) t on true`

/**
 * The channels that a page is read for: all, some (an array), or one, which is a replay on a pool, as is
 * that of a route, which has the messages of its table as well.
 */
export type Scope = "all" | "some" | "one" | "route"

/**
 * $1 the snapshot to reach, $2 the transactions in progress at the start that it sees, $3 the last id
 * handed out, $4 where the walk starts, $5 `xmax:xmax:` of the start, $6 messages, $7 bytes, $8 channels;
 * of a replay $9, $10 and $11 the witness of the snapshot to reach, of that of a route $12 the table's
 * channel.
 *
 * - `limit 1` on a table that is never analysed: without it the estimated cost is so high that PostgreSQL
 *   compiles the plan, which takes 8-20 ms per page.
 * - "txid >= xmax" is written as a test of visibility, or else the planner sorts an index on txid.
 * - One channel is compared as a pair with its id, which leaves only the index on both.
 *
 * The statement reads one message beyond the limit to know whether there are more, and includes the message
 * that crosses the bytes. It also returns the horizon, so that a prune between two pages is noticed. The
 * reader compares the era, because its positions hold within one. A replay uses normal forms, and compares
 * the identity and the witness, because its pool may be connected to another server meanwhile.
 */
export const messagesOf = (scope: Scope, most = "$6::int + 1"): string => {
  const columns = "m.txid, m.id, m.channel, m.payload, m.match, m.created_at"
  const where =
    scope === "all"
      ? ""
      : scope === "one"
        ? "and m.channel = $8"
        : scope === "route"
          ? "and m.channel in ($8, $12)"
          : "and m.channel = any($8::text[])"
  /** Walks an index from a place on. */
  const walk = (from: string, order: string) => `
   (select ${columns} from realtime.messages m
     where ${from} and not pg_visible_in_snapshot(m.txid, $5::pg_snapshot) and pg_visible_in_snapshot(m.txid, $1::pg_snapshot)
     order by ${order} limit ${most})`
  const walkOf = (channel: string) =>
    walk(
      `(m.channel, m.id) > (${channel}, $4::bigint) and m.channel <= ${channel}`,
      "m.channel, m.id"
    )
  const walks =
    scope === "one"
      ? walkOf("$8")
      : scope === "route"
        ? `${walkOf("$8")}\n   union all${walkOf("$12")}`
        : walk(`m.id > $4::bigint ${where}`, "m.id")
  return `select * from (
   (select m.* from unnest($2::xid8[]) x cross join lateral (
     select ${columns} from realtime.messages m where m.txid = x and m.id > $3::bigint ${where} order by m.id limit ${most}) m)
   union all${walks}
  ) u order by u.id limit ${most}`
}

/** What a page says of the database that it is read from. */
export const databaseOf = (scope: Scope): string =>
  scope === "one" || scope === "route"
    ? `realtime.identity() k, ${isThere("$9", "$10", "$11")} there`
    : `${era} k, true there`

/** When a message of a page was written. */
export const writtenAt = "extract(epoch from q.created_at)::float8"

/** What a message takes, of a row with what it is filtered by. */
export const size = "(octet_length(payload) + coalesce(octet_length(match), 0))"

const page = (scope: Scope, most?: string): string =>
  `select q.txid::text t, q.id::text i, q.channel c, q.payload p, q.match x, ${writtenAt} at, q.more, k.snapshot::text h, k.k, k.there
from (select snapshot, ${databaseOf(scope)} from realtime.horizon limit 1) k left join (
 select p.*, lead(id) over w is not null more, row_number() over w r, sum(${size}) over w - ${size} before from (
  ${messagesOf(scope, most)}
 ) p window w as (order by p.id rows unbounded preceding)
) q on q.r <= $6::int and q.before < $7::bigint
order by q.id`

/** Those of a replay. */
export const pageStatement: Readonly<Record<"one" | "route", string>> = {
  one: page("one"),
  route: page("route")
}

/**
 * Those of a reader, for as many messages as $6 says. Its session keeps one plan for all arguments, and for
 * an unknown number the planner would expect a tenth of the table.
 */
export const readerPages = ({
  messages
}: PageLimits): Readonly<Record<"all" | "some", string>> => ({
  all: page("all", String(messages + 1)),
  some: page("some", String(messages + 1))
})

export interface PageLimits {
  readonly messages: number
  readonly bytes: number
}

/** The last argument: one name, or several as the text of an array. Names need no escape in it. */
export const pageArguments = (
  { at: { snapshot: at }, id, last, to: { snapshot: to } }: Leg,
  floor: bigint,
  limits: PageLimits,
  channels: string | ReadonlyArray<string> | undefined,
  /** The table's channel, of a replay of a route. */
  table?: string
): ReadonlyArray<unknown> => {
  const over = at.running.filter((x) => Cursor.visible(to, x))
  const args = [
    Cursor.formatSnapshot(to),
    `{${over.join(",")}}`,
    String(id),
    String(id > floor ? id : floor),
    `${at.xmax}:${at.xmax}:`,
    limits.messages,
    limits.bytes
  ]
  if (channels === undefined) return args
  return typeof channels === "string"
    ? [...args, channels, ...witnessArguments(last), ...(table === undefined ? [] : [table])]
    : [...args, `{${channels.map((name) => `"${name}"`).join(",")}}`]
}

/** `retention`: messages between the position and the snapshot to reach were pruned. */
export interface ParsedPage {
  readonly page: Page | "retention"
  readonly more: boolean
  /** The last id of the page: the next page continues after it. */
  readonly id: bigint
  /** For a replay the identity of the database that answered, `null` for a standby; else its era. */
  readonly database: string | null
  /** For a replay: whether the witness of the snapshot to reach is there. */
  readonly there: boolean
}

export const parsePage = (rows: ReadonlyArray<Row>, leg: Leg): ParsedPage => {
  const first = rows[0]
  const horizon = Cursor.parseSnapshot(String(first?.["h"]))
  if (first === undefined || horizon === undefined) {
    throw new Error("realtime.horizon has no row: install again")
  }
  const database = first["k"] as string | null
  const there = first["there"] === true
  if (!Cursor.contains(leg.at.normal, horizon)) {
    return { page: "retention", more: false, id: 0n, database, there }
  }
  return { ...parseMessages(rows, leg), database, there }
}

const traceIn = (match: string | null): string | undefined => {
  const blank = match?.indexOf(" ") ?? -1
  return blank < 0 ? undefined : match!.slice(blank + 1)
}

/** The messages of a page, and where it ends. */
export const parseMessages = (
  rows: ReadonlyArray<Row>,
  leg: Leg
): { readonly page: Page; readonly more: boolean; readonly id: bigint } => {
  const messages: Array<Message> = []
  for (const row of rows) {
    // Nothing, or the end of a page that a filter includes no more of.
    if (row["p"] === null) break
    const match = row["x"] as string | null
    messages.push({
      id: row["i"] as string,
      tx: row["t"] as string,
      channel: row["c"] as string,
      text: row["p"] as string,
      // That of a publish is a digest, a blank and the trace context, each of which may be missing.
      ...(match?.startsWith("{") === true
        ? { match }
        : { match: undefined, trace: traceIn(match) }),
      at: Math.floor((row["at"] as number) * 1000)
    })
  }
  const last = rows[rows.length - 1]!
  const more = last["more"] === true
  const id = last["i"] === null ? leg.id : BigInt(last["i"] as string)
  return { page: { messages, position: more ? midway(leg, id) : endOf(leg) }, more, id }
}

/**
 * The id from which to look for the messages of transactions that began after a snapshot. It keeps pairs of
 * a transaction's number and the last id drawn before it. A pair is valid in one era of the database, and
 * in the next one up to a transaction that survived.
 *
 * The obvious floor, the last id drawn when the snapshot was taken, loses messages: the highest number that
 * a snapshot contains is that of the last finished transaction, and one above it may have drawn ids long
 * before.
 */
export class Floors {
  static readonly #most = 4096
  #pairs: Array<{ readonly next: bigint; drawn: bigint }> = [{ next: 0n, drawn: 0n }]

  /** Pairs must be added in the order in which they were taken; others are ignored. */
  add(next: bigint, drawn: bigint): void {
    const last = this.#pairs[this.#pairs.length - 1]!
    if (next < last.next || drawn <= last.drawn) return
    if (next === last.next) {
      last.drawn = drawn
      return
    }
    this.#pairs.push({ next, drawn })
    if (this.#pairs.length > Floors.#most) {
      // Drops half of the older half: old positions are rare, and a lower floor is only slower.
      this.#pairs = this.#pairs.filter(
        (_, index) => index === 0 || index % 2 === 1 || index > Floors.#most / 2
      )
    }
  }

  /**
   * Drops the pairs that a new era may invalidate: the database gives out numbers above `tx`, and their ids,
   * again. Transaction `tx` survived and drew its ids after the pairs up to it were taken, so these hold.
   */
  forget(tx: bigint): void {
    this.#pairs = this.#pairs.filter(({ next }) => next <= tx)
  }

  of(snapshot: Cursor.PgSnapshot): bigint {
    let low = 0
    let high = this.#pairs.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.#pairs[middle]!.next <= snapshot.xmax) low = middle
      else high = middle - 1
    }
    return this.#pairs[low]!.drawn
  }
}
