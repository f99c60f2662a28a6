/**
 * The revocations of a database, as a node knows them: which clients may open no session.
 *
 * In: the table, read at the start, every 2 s, and when another node says that it has a new row. Out: the
 * answer for a client, and each new revocation once. A node that could not read for 30 s does not know.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { Principal } from "../auth/callbacks.ts"
import { explained } from "../link/databaseRefusal.ts"
import { isMissing } from "../link/sqlState.ts"
import { Defects } from "../notices.ts"
import { Outage } from "../outage.ts"
import { revocationPage } from "../sql/revocations.ts"
import { SchemaName } from "../sql/schemaName.ts"

export interface Revocation {
  readonly kind: "identity" | "token"
  readonly name: string
  /** Of an identity, tokens that were issued until then; milliseconds since 1970. */
  readonly at: number
  /** When every token that it concerns has expired; milliseconds since 1970. */
  readonly expires: number
}

/** A revocation as it is stored. */
export interface RevocationRow {
  /** Grows with each row. */
  readonly id: string
  readonly kind: Revocation["kind"]
  readonly name: string
  readonly at: number | string
  readonly expires: number | string
}

/** Reads the rows that hold now and are newer than an id, in order: as many as one read takes. */
export type ReadRevocations = (
  after: string
) => Effect.Effect<ReadonlyArray<RevocationRow>, SqlError | Error>

export interface RevocationList {
  /** Whether the client may open no session. */
  readonly refuses: (principal: Principal) => boolean
  /** Whether this node does not know what was revoked. */
  readonly blind: () => boolean
  /** Reads what is new. Fails when the database does not answer. */
  readonly refresh: Effect.Effect<void, SqlError | Error>
}

/** Milliseconds. */
const every = 2000
const patience = 30_000
const timeout = 5000
/** The whole table is read again, as after a failover that lost rows. */
const wholeEvery = 60_000
/** Milliseconds between two pages of it. */
const pageEvery = 100

/** Whether a revocation concerns a client. */
export const concerns = (
  { at, kind, name }: Revocation,
  { issued, key, token }: Principal
): boolean =>
  kind === "token" ? token === name : key === name && (issued === undefined || issued <= at)

const nameOf = ({ kind, name }: Pick<Revocation, "kind" | "name">) => `${kind} ${name}`

/**
 * `revoked` is called once for each revocation that was not known. Fails when the table is missing; when the
 * database cannot be reached, the node is blind at first.
 */
export const make = (
  readRows: ReadRevocations,
  revoked: (revocation: Revocation) => void
): Effect.Effect<RevocationList, SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const schema = yield* SchemaName
    const mono = () => Number(clock.monotonicTimeNanosUnsafe() / 1000n) / 1000
    let known = new Map<string, Revocation>()
    let last = "0"
    let readAt = -Infinity
    let wholeAt = -Infinity
    const outage = new Outage({
      lost: `Revocations could not be read for ${patience / 1000} s, so this node accepts no new sessions`,
      back: "Revocations are read again"
    })

    const add = (row: RevocationRow): void => {
      const { kind, name } = row
      const one = { kind, name, at: Number(row.at), expires: Number(row.expires) }
      const before = known.get(nameOf(one))
      known.set(nameOf(one), {
        ...one,
        // The later of two ends of one name holds for both.
        expires: Math.max(one.expires, before?.expires ?? 0)
      })
      if (before === undefined || before.at < one.at) revoked(one)
    }

    const page = (after: string) => Effect.timeout(readRows(after), timeout)

    /** Reads what is new, page by page. What a page had is known, also when a later one fails. */
    const read = Effect.gen(function* () {
      let begun: number
      let more: boolean
      do {
        begun = mono()
        const rows = yield* page(last)
        for (const row of rows) add(row)
        last = rows.at(-1)?.id ?? last
        more = rows.length >= revocationPage
      } while (more)
      if (readAt === -Infinity) wholeAt = begun
      readAt = begun
      yield* outage.recovered
    })

    /** The last row that was read again of the whole table, and all names until there. */
    let whole: { readonly after: string; readonly names: Set<string> } | undefined

    /** Reads one page of the whole table again, if it is time. What is new is read between two pages. */
    const readAgain = Effect.gen(function* () {
      if (whole === undefined) {
        if (mono() - wholeAt < wholeEvery) return
        wholeAt = mono()
        whole = { after: "0", names: new Set() }
      }
      const { names } = whole
      const rows = yield* page(whole.after)
      for (const row of rows) {
        names.add(nameOf(row))
        add(row)
      }
      const after = rows.at(-1)?.id ?? whole.after
      whole = { after, names }
      if (rows.length >= revocationPage) return
      known = new Map([...known].filter(([name]) => names.has(name)))
      // Behind a restore the ids begin again, also where no row is left.
      last = after
      whole = undefined
    })
    const unread = (error: SqlError | Error) => {
      return mono() - readAt < patience ? Effect.void : outage.failing(explained(error, schema))
    }
    yield* read.pipe(
      Effect.catch((error) =>
        isSqlError(error) && isMissing(error) ? Effect.fail(error) : unread(error)
      )
    )

    const defects = new Defects()
    /** Callers whose read has not begun: one under way may not see their row. */
    let waiting: Array<Deferred.Deferred<void, SqlError | Error>> = []
    const nudge = Latch.makeUnsafe(false)
    // On a fiber of its own, and so never in a transaction of a caller.
    yield* Effect.gen(function* () {
      yield* Effect.timeoutOption(nudge.await, whole === undefined ? every : pageEvery)
      nudge.closeUnsafe()
      const served = waiting
      waiting = []
      const exit = yield* Effect.exit(Effect.tapError(read, unread))
      for (const one of served) Deferred.doneUnsafe(one, exit)
      // A page that fails is read once more.
      if (exit._tag === "Success") {
        yield* Effect.ignore(readAgain).pipe(
          Effect.catchDefect((defect) => defects.logged("The read of all revocations", defect))
        )
      }
    }).pipe(
      Effect.annotateLogs("component", "effect-realtime control"),
      Effect.forever,
      Effect.forkScoped
    )

    return {
      refuses: (principal) => {
        const now = clock.currentTimeMillisUnsafe()
        return [
          known.get(nameOf({ kind: "identity", name: principal.key })),
          principal.token === undefined
            ? undefined
            : known.get(nameOf({ kind: "token", name: principal.token }))
        ].some((one) => one !== undefined && one.expires > now && concerns(one, principal))
      },
      blind: () => mono() - readAt > patience,
      refresh: Effect.suspend(() => {
        const one = Deferred.makeUnsafe<void, SqlError | Error>()
        waiting.push(one)
        nudge.openUnsafe()
        return Deferred.await(one)
      })
    }
  })
