/**
 * What a channel of the outbox had before: pages backwards, and its last event with the position behind it.
 *
 * The messages are those that a reader at the horizon would still be handed, as one statement sees them. A
 * page walks the index of a channel from an id downwards. Commits become visible out of the order of their
 * ids: what becomes visible below a page later is handed out live, with its id.
 */
import * as Effect from "effect/Effect"
import type { JoinError } from "./catchUp.ts"
import type { Filter } from "../filter.ts"
import { candidates, filteredArguments, included } from "./filteredPage.ts"
import { type OutboxFault, ReplayError } from "./outboxErrors.ts"
import { formatPosition, whole } from "./position.ts"
import { parsePlace, stateStatement } from "./outbox.ts"
import type { AdmittedReplay } from "./replayAdmission.ts"
import { known, type ReplayPool, type Answered } from "./replayPool.ts"
import type { DurableEvent } from "./tail.ts"

/** Which messages of a channel to read. */
export interface HistoryRequest {
  /** Only messages with a lower id; `undefined`: the newest. */
  readonly before: string | undefined
  readonly limit: number
  /** A page ends with the message that crosses so many bytes of payload. */
  readonly bytes: number
  /** The reader leaves out messages that the filter excludes, and may leave in some of them. */
  readonly filter?: Filter | undefined
}

/** Messages of a channel. Texts that report a gap are among them. */
export interface HistoryPage {
  /** The oldest first. */
  readonly events: ReadonlyArray<DurableEvent>
  /** Whether the channel has messages before these. */
  readonly more: boolean
  /** Where the page before this one ends. Default: at the id of the oldest message. */
  readonly before?: string | undefined
}

/** The last event of a channel. */
export interface LastAt {
  /** The events behind it follow from here. */
  readonly cursor: string
  /** `undefined` if no event is kept. */
  readonly event: DurableEvent | undefined
}

/** What the last event of a channel is taken for until it is read, in bytes. */
const lastBytes = 64 * 1024

/** Above every id. */
export const lastId = 2n ** 63n - 1n

/** The last messages below an id; compared as a pair, which leaves only the index on both. */
const below = (id: string): string => `(m.channel, m.id) < ($1, ${id}::bigint) and m.channel >= $1
    and not pg_visible_in_snapshot(m.txid, (select h.snapshot from realtime.horizon h))`
const newestFirst = "order by m.channel desc, m.id desc"

/**
 * $1 the channel, $2 the id, $3 messages, $4 bytes. It reads one message beyond the limit to know whether
 * there are more.
 */
const historyStatement = `select q.id::text i, q.txid::text t, q.payload p, q.match x, extract(epoch from q.created_at)::float8 at, q.more, k.k
from (select realtime.identity() k) k left join (
 select p.*, lead(id) over w is not null more, row_number() over w r, sum(octet_length(payload)) over w - octet_length(payload) before from (
  select m.txid, m.id, m.payload, m.match, m.created_at from realtime.messages m
    where ${below("$2")}
    ${newestFirst} limit $3::int + 1
 ) p window w as (order by p.id desc rows unbounded preceding)
) q on q.r <= $3::int and q.before < $4::bigint
order by q.id`

/**
 * The same without what a filter excludes. $5 and on: the filter. A page looks at a bounded number of
 * messages. The last of them ends it, without its payload.
 */
const filteredHistory = (
  columns: number
) => `select q.id::text i, q.txid::text t, case when q.included then q.payload end p, q.match x, extract(epoch from q.created_at)::float8 at, q.more, k.k
from (select realtime.identity() k) k left join (
 select s.*, lead(s.id) over (order by s.id desc) is null ends from (
  select p.*, lead(id) over w is not null more, row_number() over w r, count(*) filter (where included) over w n,
   coalesce(sum(octet_length(payload)) filter (where included) over w, 0) - case when included then octet_length(payload) else 0 end before from (
   select u.*, ${included(columns, 5)} included from (
    select m.txid, m.id, m.payload, m.match, m.created_at from realtime.messages m
     where ${below("$2")}
     ${newestFirst} limit ${candidates + 1}
   ) u
  ) p window w as (order by p.id desc rows unbounded preceding)
 ) s where s.r <= ${candidates} and s.n <= $3::int and s.before < $4::bigint
) q on q.included or q.ends
order by q.id`

const statementOf = ({ filter }: HistoryRequest): string =>
  filter === undefined ? historyStatement : filteredHistory(filter.columns.size)

const historyArguments = (
  channel: string,
  { before, bytes, filter, limit }: HistoryRequest
): ReadonlyArray<unknown> => [
  channel,
  before ?? String(lastId),
  limit,
  bytes,
  ...(filter === undefined ? [] : filteredArguments(filter))
]

/** $1 the channel. A text that begins with a space reports a gap; those are short. */
const lastEventStatement = `${stateStatement(
  `realtime.identity() k, e.id::text ei, e.txid::text et, e.payload ep, extract(epoch from e.created_at)::float8 eat`
)} left join lateral (
  select m.txid, m.id, m.payload, m.created_at from realtime.messages m
    where ${below(String(lastId))} and not (octet_length(m.payload) < 64 and ascii(m.payload) = 32)
    ${newestFirst} limit 1) e on true`

const millis = (seconds: unknown): number => Math.floor((seconds as number) * 1000)

/** A page, and the identity of the database that answered: `null` for a standby. */
const parseHistory = (
  rows: ReadonlyArray<Answered>
): { readonly identity: string | null; readonly page: HistoryPage } => {
  const events = rows.flatMap((row): ReadonlyArray<DurableEvent> => {
    const { at, i, p, t, x } = row
    // No message at all, or one that only ends the page.
    if (i === null || p === null) return []
    const match = (x ?? undefined) as string | undefined
    return [{ id: i as string, tx: t as string, at: millis(at), text: p as string, match }]
  })
  // The first row has the lowest id.
  const more = rows[0]?.["more"] === true
  const before = (rows[0]!["i"] ?? undefined) as string | undefined
  return { identity: rows[0]!["k"] as string | null, page: { events, more, before } }
}

/** The same for the last event. */
const parseLast = (
  rows: ReadonlyArray<Answered>
): { readonly identity: string | null; readonly last: LastAt } => {
  const row = rows[0]!
  const identity = row["k"] as string | null
  const place = parsePlace(row)
  if (place === undefined) throw new Error("The session cannot take a position")
  const { eat, ei, ep, et } = row
  return {
    identity,
    last: {
      cursor: formatPosition(identity ?? "", whole(place)),
      event:
        ei === null
          ? undefined
          : { id: ei as string, tx: et as string, at: millis(eat), text: ep as string }
    }
  }
}

/** Reads on the pool under the limits of replays, once the reader is up. */
export const reading = (
  { admission, ask }: ReplayPool,
  /** The identity of the reader's database. */
  own: Effect.Effect<string, OutboxFault>
) => {
  const read = <A extends { readonly identity: string | null }>(
    channel: string,
    bytes: number,
    statement: string,
    args: ReadonlyArray<unknown>,
    parse: (rows: ReadonlyArray<Answered>) => A
  ): Effect.Effect<A, JoinError> =>
    Effect.suspend(() => {
      let place: AdmittedReplay | undefined
      const entered = admission.enter(bytes, (one) => {
        place = one
      })
      return Effect.gen(function* () {
        yield* own
        yield* entered
        const answer = yield* ask(channel, statement, args, parse)
        const identity = yield* known(channel, answer.identity)
        if (identity === (yield* own)) return answer
        return yield* new ReplayError({ channel, cause: new Error("the pool has another outbox") })
      }).pipe(Effect.ensuring(Effect.sync(() => place?.leave())))
    })
  return {
    history: (channel: string, request: HistoryRequest) =>
      Effect.map(
        read(
          channel,
          request.bytes,
          statementOf(request),
          historyArguments(channel, request),
          parseHistory
        ),
        ({ page }) => page
      ),
    last: (channel: string) =>
      Effect.map(
        read(channel, lastBytes, lastEventStatement, [channel], parseLast),
        ({ last }) => last
      )
  }
}
