/**
 * Reads the state of a table: its rows and the position that they are of, in one statement and so of one
 * snapshot. Nothing is decoded: the rows are texts.
 *
 * A session with a transaction number would count itself wrongly, and a standby does not know which
 * transactions are in progress; both give no cursor.
 */
import * as Effect from "effect/Effect"
import { openStatement } from "../sql/identity.ts"
import { sharedTables } from "../sql/state.ts"
import { ReplayError } from "./outboxErrors.ts"
import { parsePlace, stateStatement } from "./outbox.ts"
import { formatPosition, type Place, whole } from "./position.ts"
import type { AdmittedReplay } from "./replayAdmission.ts"
import { known, type Answered, type ReplayPool } from "./replayPool.ts"
import {
  InvalidFilter,
  noRoute,
  NoState,
  type RowsAt,
  type RowsRequest,
  type StateError,
  StateTooLarge
} from "./state.ts"

/**
 * $1 the channel, $2 the channel of its table, $3 and $4 the table, $5 the filter, $6 rows, $7 bytes. The
 * position is one column, for the rows not to have all of its columns.
 */
const statement = `select row_to_json(p)::text p, null::text f, null::text r from (${stateStatement(
  `pg_current_xact_id_if_assigned() is not null or pg_is_in_recovery() blind, realtime.identity() k`
)}) p
union all
select null, s.fault, s.value from realtime.state($1, $2, $3, $4, $5, $6, $7) s`

/** What the statement answers. */
interface Answer {
  readonly identity: string | null
  readonly place: Place | undefined
  readonly fault: { readonly name: string; readonly value: string } | undefined
  readonly rows: ReadonlyArray<string>
}

const parse = (answered: ReadonlyArray<Answered>): Answer => {
  const rows: Array<string> = []
  let fault: Answer["fault"]
  let position: Answered = {}
  for (const { f, p, r } of answered) {
    if (typeof p === "string") position = JSON.parse(p) as Answered
    else if (typeof f === "string") fault = { name: f, value: String(r ?? "") }
    else rows.push(r as string)
  }
  const place = position["blind"] === false ? parsePlace(position) : undefined
  return { identity: (position["k"] ?? null) as string | null, place, fault, rows }
}

/** How often a state is read while its table is altered meanwhile. */
const mostReads = 3

/** The numbers that PostgreSQL accepts. */
const most = { rows: 2_147_483_647, bytes: Number.MAX_SAFE_INTEGER }

const isUnwritable = (text: string): boolean => /\0|\p{Surrogate}/u.test(text)

export const readState =
  ({ admission, ask }: ReplayPool) =>
  ({ channel, filter, limits, table }: RowsRequest): Effect.Effect<RowsAt, StateError> => {
    const args = [
      channel,
      table.channel,
      table.schema,
      table.name,
      filter?.text ?? null,
      Math.min(limits.rows, most.rows),
      Math.min(limits.bytes, most.bytes)
    ]
    const failed = (why: string) => new ReplayError({ channel, cause: new Error(why) })
    const invalid = (column: string) =>
      new InvalidFilter({
        channel,
        column,
        issue: `column "${column}" cannot be filtered by such a value, or PostgreSQL writes the value in another way`
      })
    const read = ask(channel, statement, args, parse)
    const refusal = ({ name, value }: NonNullable<Answer["fault"]>): StateError => {
      if (name === "filter") {
        if (filter?.columns.has(value) === true) return invalid(value)
        return table.by.includes(value)
          ? noRoute(channel, value)
          : failed("its table is watched with other routes")
      }
      if (name === "none" && value === sharedTables) {
        return new NoState({ channel, reason: "shared" })
      }
      if (name === "none") return failed(`it has no state: ${value}`)
      if (name === "altered") return failed("its table has just been altered")
      const [limit, bound] =
        name === "rows"
          ? (["maxStateRows", limits.rows] as const)
          : (["maxStateBytes", limits.bytes] as const)
      return new StateTooLarge({ channel, limit, most: bound, found: Number(value) })
    }
    const admitted = Effect.gen(function* () {
      let answer = yield* read
      for (let reads = 1; reads < mostReads; reads++) {
        // After a crash the identity is missing until a node opens the database. A table that was altered
        // has another function after a look at it, and one that was rewritten has rows again.
        const cure =
          answer.identity === null
            ? openStatement
            : answer.fault?.name === "altered"
              ? "select from realtime.look()"
              : undefined
        if (cure === undefined) break
        yield* ask(channel, cure, [], () => undefined)
        answer = yield* read
      }
      const { fault, place, rows } = answer
      if (fault !== undefined) return yield* refusal(fault)
      const identity = yield* known(channel, answer.identity)
      if (place === undefined) return yield* failed("the session cannot take a position")
      return { cursor: formatPosition(identity, whole(place)), rows }
    })
    return Effect.suspend(() => {
      for (const [column, texts] of filter?.columns ?? []) {
        for (const text of texts) {
          if (text !== null && isUnwritable(text)) return Effect.fail(invalid(column))
        }
      }
      let place: AdmittedReplay | undefined
      return admission
        .enter(limits.bytes, (one) => {
          place = one
        })
        .pipe(Effect.andThen(admitted), Effect.ensuring(Effect.sync(() => place?.leave())))
    })
  }
