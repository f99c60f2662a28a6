/**
 * One look at the outbox: the statement that takes a position and reads what is new before it, and its answer.
 *
 * A row that the statement can see at all is one that its snapshot sees, so no second snapshot is needed.
 * The answer begins at a whole position. With more messages than a page holds it ends in the middle of the
 * difference, and the pages of `outbox.ts` read the rest of it. A `Look` is what a reader hands to its
 * followers, whichever statement read it.
 */
import * as Cursor from "../../../internal/cursorText.ts"
import { era } from "../sql/identity.ts"
import {
  drawn,
  lastMessage,
  type Message,
  type PageLimits,
  parseMessages,
  parseTaken,
  parseWitness,
  type Row,
  size,
  type Take,
  takeOf,
  writtenAt
} from "./outbox.ts"
import type { Leg, NodePosition } from "./position.ts"

/** The channels whose messages a look has: all of them, or these. */
export type Channels = "all" | ReadonlyArray<string>

/**
 * The messages between two positions of a reader, in the order of their ids. A reader that stands at `from`
 * and hands them out stands at `to`, and has handed out everything of `channels` up to there.
 */
export interface Look {
  readonly from: NodePosition
  /** The position after the messages; in the middle of a difference when more of it follows. */
  readonly to: NodePosition
  /**
   * The end of the tick that the look belongs to, in normal form too, with its witness (`last`), its pair
   * (`next`, `drawn`) and its era.
   */
  readonly end: Take
  readonly channels: Channels
  readonly messages: ReadonlyArray<Message>
}

/** The leg of which a look has a part, or all. */
export const legOf = ({ from, to }: Look): Leg => ({
  at: from.base,
  to: to.next ?? to.base,
  id: from.id,
  last: to.last
})

/** What a statement reads: every message, those of some channels, or only the position. */
type Extent = "all" | "some" | "none"

/**
 * $1 the transactions in progress at the start, $2 where the walk starts, $3 `xmax:xmax:` of the start, $4
 * bytes, $5 the highest transaction with a message that the start sees, $6 channels.
 *
 * - It never runs inside a `begin`, and has no row in a session with a transaction number or on a standby,
 *   for the reasons that `takeStatement` gives.
 * - A transaction that is still in progress is skipped before its rows are: they may be a million.
 * - The walk begins only where the witness is of a transaction that the start does not know: else it would
 *   pass over all rows of an open transaction at each look. Both conditions are scalar queries, which
 *   PostgreSQL answers once, before it opens an index.
 * - Only the first row has the position: its text may be long.
 * - The number of messages is no parameter: the planner would expect a tenth of the table.
 * - Without channels its parameters are still there, in a condition that PostgreSQL drops.
 */
const statement = (extent: Extent, most: number): string => {
  const columns = "m.txid, m.id, m.channel, m.payload, m.match, m.created_at"
  const where = extent === "some" ? "and m.channel = any($6::text[])" : ""
  const messages =
    extent === "none"
      ? `select ${columns} from realtime.messages m
     where false and m.txid = any($1::xid8[]) and m.id > $2::bigint and m.txid < pg_snapshot_xmax($3::pg_snapshot)`
      : `(select m.* from unnest($1::xid8[]) x cross join lateral (
     select ${columns} from realtime.messages m where m.txid = x ${where} order by m.id limit ${most + 1}) m
     where pg_visible_in_snapshot(x, (select n.s from n)))
   union all
   (select ${columns} from realtime.messages m
     where (select t.txid from t) >= pg_snapshot_xmax($3::pg_snapshot)
       and m.id > $2::bigint and not pg_visible_in_snapshot(m.txid, $3::pg_snapshot) ${where}
     order by m.id limit ${most + 1})`
  return `with l as materialized (select ${drawn} drawn),
n as materialized (
  select l.drawn, pg_current_snapshot() s, age(pg_snapshot_xmax(pg_current_snapshot())::xid) a
  from l where pg_current_xact_id_if_assigned() is null and not pg_is_in_recovery()),
t as materialized (select w.* from ${lastMessage("(select n.s from n)", "$5::xid8")} w)
select k.*, q.txid::text t, q.id::text i, q.channel c, q.payload p, q.match x, ${writtenAt} at, q.more
from n left join (
 select p.*, lead(id) over w is not null more, row_number() over w r, sum(${size}) over w - ${size} before from (
  select * from (${messages}
  ) u order by u.id limit ${most + 1}
 ) p window w as (order by p.id rows unbounded preceding)
) q on q.r <= ${most} and q.before < $4::bigint
left join (
 select n.s::text s, n.drawn::text l, (pg_snapshot_xmax(n.s)::text::numeric + n.a)::text n, ${era} era,
  pg_current_wal_insert_lsn()::text w, t.txid::text tx, t.id::text last, t.at::text written,
  (select h.snapshot::text from realtime.horizon h limit 1) h
 from n left join t on true
) k on coalesce(q.r, 1) = 1
order by q.id`
}

const extentOf = (channels: Channels): Extent =>
  channels === "all" ? "all" : channels.length === 0 ? "none" : "some"

/** The look from the end of a tick; `floor` is the one of its snapshot. */
export const lookQueries = ({ bytes, messages }: PageLimits) => {
  const statements: Readonly<Record<Extent, string>> = {
    all: statement("all", messages),
    some: statement("some", messages),
    none: statement("none", messages)
  }
  return (
    { last, snapshot }: Take,
    floor: bigint,
    channels: Channels
  ): { readonly statement: string; readonly args: ReadonlyArray<unknown> } => {
    const extent = extentOf(channels)
    const args = [
      `{${snapshot.running.join(",")}}`,
      String(floor),
      `${snapshot.xmax}:${snapshot.xmax}:`,
      bytes,
      String(last.tx)
    ]
    return {
      statement: statements[extent],
      args:
        channels === "all" || extent === "none"
          ? args
          : [...args, `{${channels.map((name) => `"${name}"`).join(",")}}`]
    }
  }
}

/** `retention`: messages between the position and the end were pruned. */
export const parseLook = (
  rows: ReadonlyArray<Row>,
  from: NodePosition,
  before: Take,
  channels: Channels
): { readonly end: Take; readonly look: Look | "retention" } => {
  const first = rows[0]
  const taken = parseTaken(first)
  const horizon = Cursor.parseSnapshot(String(first?.["h"]))
  if (horizon === undefined) throw new Error("realtime.horizon has no row: install again")
  const found = parseWitness({ tx: first?.["tx"], i: first?.["last"], at: first?.["written"] })
  const end = takeOf(taken, found, before.last)
  if (!Cursor.contains(before.normal, horizon)) return { end, look: "retention" }
  const { normal, snapshot } = end
  const leg = { at: from.base, to: { normal, snapshot }, id: 0n, last: end.last }
  const { messages, position } = parseMessages(rows, leg).page
  return { end, look: { from, to: position, end, channels, messages } }
}
