/**
 * One table with its watches, its owner's triggers, its sessions, and a twin that is not watched:
 * random transactions on both, and whether the events equal the table in the end.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect, Exit, Queue } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import * as PgInstaller from "../../../../src/server/PgInstaller.ts"
import { sqlMessage, sqlState } from "../../../../src/server/internal/link/sqlState.ts"
import { random, type Random } from "../random.ts"
import { alteration } from "./alterations.ts"
import { type Expected, Fold, type Promised } from "./fold.ts"
import { owners } from "./owners.ts"
import { statement, stranger } from "./statements.ts"
import { type Column, keySupport, quoted, type Server, Table } from "./table.ts"
import { ownTypes, type Type } from "./types.ts"

/** What all worlds of a database share. */
export interface Universe {
  readonly owner: PgConnection.PgConnection
  /** The session that listens. */
  readonly ear: PgConnection.PgConnection
  /** Pairs of sessions with the same settings: for the watched table and for its twin. */
  readonly pairs: ReadonlyArray<Pair>
  readonly visitor: string
  readonly types: ReadonlyArray<Type>
  readonly server: Server
}

export interface Pair {
  readonly wild: PgConnection.PgConnection
  readonly tame: PgConnection.PgConnection
  /** Whether it may alter tables. */
  readonly owns: boolean
}

/**
 * The largest live event: white space fills the rest of the notification to make each different.
 */
const maxLive = 7967

const canonical = `set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set bytea_output = 'hex'
  set extra_float_digits = 1 set lc_monetary = 'C' set quote_all_identifiers = off set search_path = pg_catalog, pg_temp`

/** The settings that a session of any role may change. */
export const eyes: ReadonlyArray<string> = [
  `create schema eyes`,
  `create function eyes.rows(rel text, columns text[]) returns table (r text[]) language plpgsql security definer ${canonical} as $$ begin
    return query execute format('select array[%s] from %s t',
      (select string_agg(format('coalesce(to_json(t.%I)::text, ''null'')', c), ', ' order by i) from unnest(columns) with ordinality u(c, i)), rel);
  end $$`,
  `create function eyes.mark(durable text[], live text[], mark text) returns void language plpgsql security definer ${canonical} as $$ begin
    insert into realtime.messages (channel, payload) select c, mark from unnest(durable) c;
    perform pg_notify(c, mark) from unnest(live) c;
  end $$`,
  `grant usage on schema eyes to public`
]

/** A prefix for names, independent of the session's search path. */
const settings = `select name, setting from pg_catalog.pg_settings where name in ('TimeZone', 'DateStyle', 'IntervalStyle',
  'bytea_output', 'extra_float_digits', 'lc_monetary', 'quote_all_identifiers', 'search_path', 'role') order by name`

interface Channel {
  readonly name: string
  readonly delivery: "durable" | "live"
  readonly level: "row" | "statement"
  /** The numbers of the columns that are sent, or all. */
  readonly ids: ReadonlySet<number | string> | undefined
  readonly promised: Omit<Promised, "columns">
}

interface Seen extends Channel {
  readonly fold: Fold
  readonly queue: Queue.Dequeue<PgConnection.Notification, SqlError> | undefined
}

/** A trigger cannot read virtual columns. */
const travels = ({ generated }: Column): boolean => generated !== "virtual"

const drawChannels = (r: Random, table: Table, prefix: string): ReadonlyArray<Channel> => {
  const listOf = () => {
    if (r.chance(0.6)) return undefined
    const all = [...table.keys, ...table.payload]
      .map(({ id }): number | string => id)
      .concat("n", "flag")
    const some = all.filter(() => r.chance(0.5))
    return new Set(some.length === 0 ? ["n"] : some)
  }
  return (["row", "statement"] as const)
    .filter((level) => level === "row" || table.parts === undefined)
    .flatMap((level) => {
      const ids = listOf()
      return (["durable", "live"] as const)
        .filter((delivery) => delivery === "durable" || r.chance(0.7))
        .map((delivery): Channel => ({
          name: `${prefix}_${delivery}_${level}`,
          delivery,
          level,
          ids,
          promised: {
            old: r.chance(0.3),
            maxBytes:
              delivery === "live"
                ? r.pick([maxLive, maxLive, 300])
                : r.pick([8 * 1024 * 1024, 8 * 1024 * 1024, 120, 1000])
          }
        }))
    })
}

const namesOf = (table: Table, ids: Channel["ids"]): ReadonlyArray<string> => [
  ...[...table.keys, ...table.payload]
    .filter((column) => travels(column) && (ids === undefined || ids.has(column.id)))
    .map(({ name }) => name),
  ...["n", "flag"].filter((name) => ids === undefined || ids.has(name))
]

/** Runs one world, and returns the violations with the script that led there. */
export const world = (universe: Universe, seed: number, transactions: number) =>
  Effect.gen(function* () {
    const { ear, owner, pairs, server, types, visitor } = universe
    const r = random(seed)
    const id = `w${seed}`
    const schemas = { wild: `wild_${id}`, tame: `tame_${id}` }
    const own = ownTypes(schemas.wild, r, types)
    const table = new Table(
      r,
      [...types, ...types, ...own.types, ...own.types, ...own.types],
      server,
      schemas.wild
    )
    const script: Array<string> = []
    const faults: Array<string> = []

    const place = (sql: string, schema: string) =>
      sql.replace(/§(\d+|s)?/g, (_, part: string | undefined) =>
        part === undefined
          ? `${schema}.${quoted(table.name)}`
          : part === "s"
            ? `${schema}.stranger`
            : `${schema}."part ${part}"`
      )
    const setUp = (sql: string) => {
      script.push(place(sql, schemas.wild))
      return owner.query(place(sql, schemas.wild), [], false)
    }
    const both = (sql: string) =>
      Effect.andThen(setUp(sql), owner.query(place(sql, schemas.tame), [], false))

    for (const schema of Object.values(schemas)) {
      yield* owner.query(`create schema ${schema}`, [], false)
      yield* owner.query(`grant usage on schema ${schema} to public`, [], false)
      yield* owner.query(
        `alter default privileges in schema ${schema} grant all on tables to ${visitor}`,
        [],
        false
      )
    }
    for (const sql of [...own.make, ...keySupport(schemas.wild, server.icu)]) yield* setUp(sql)
    for (const sql of table.create()) yield* both(sql)
    const bound = r.chance(0.5)
    const theirs = bound ? owners(r, table) : []
    for (const sql of theirs) yield* both(sql)
    // A row that a trigger inserts again may end again.
    const returning = theirs.some((sql) => sql.includes("insert into %1"))

    const channels = drawChannels(r, table, id)
    for (const { delivery, ids, level, name, promised } of channels) {
      const options = {
        channel: name,
        table: { schema: schemas.wild, name: table.name },
        delivery,
        level,
        old: promised.old,
        maxBytes: promised.maxBytes,
        columns: ids === undefined ? undefined : namesOf(table, ids)
      }
      script.push(`-- watch ${JSON.stringify(options)}`)
      yield* PgInstaller.watch(options)
    }
    // A dump may leave triggers on another table.
    const beside = stranger(r, table)
    for (const sql of beside.make) yield* both(sql)
    const left = yield* owner.query(
      `select replace(pg_get_triggerdef(t.oid), format(' ON %I.%I ', n.nspname, c.relname), ' ON §s ') as sql from pg_trigger t
        join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = '${schemas.wild}' and c.relname = $1 and t.tgname ~ '^!?realtime'`,
      [table.name]
    )
    for (const row of left.rows) yield* setUp(String(row["sql"]))

    const expected = (session: PgConnection.PgConnection) =>
      Effect.map(
        session.query(`select r from eyes.rows($1::text, $2::text[])`, [
          place("§", schemas.wild),
          table.columns
        ]),
        ({ rows }): Expected => {
          const { columns } = table
          return {
            keys: table.keys.map(({ name }) => name),
            rows: rows.map(
              (row) =>
                new Map((row["r"] as ReadonlyArray<string>).map((text, at) => [columns[at]!, text]))
            )
          }
        }
      )
    const promise = ({ ids, promised }: Channel): Promised => ({
      ...promised,
      columns: namesOf(table, ids)
    })

    const start = yield* expected(owner)
    const seen: ReadonlyArray<Seen> = yield* Effect.forEach(channels, (channel) =>
      Effect.gen(function* () {
        return {
          ...channel,
          fold: new Fold(start, promise(channel), !bound),
          queue: channel.delivery === "live" ? yield* ear.listen(channel.name) : undefined
        }
      })
    )
    const marks = new Map<
      string,
      {
        readonly before: Expected
        readonly after: Expected
        readonly promises: ReadonlyArray<Promised>
      }
    >()
    const sync = yield* ear.listen(`${id}_sync`)
    let last = "0"
    let truncated = false
    /** Whether the table had no key at some time since the last check. */
    let keyless = false
    let statements = 0

    /** Reads the new events, and compares them with the table. */
    const check = Effect.gen(function* () {
      const now = yield* expected(owner)
      const messages = yield* owner.query(
        `select id::text as id, channel, payload from realtime.messages where id > $1::text::bigint order by messages.id`,
        [last]
      )
      last = String(messages.rows.at(-1)?.["id"] ?? last)
      yield* owner.query(`select pg_notify($1::text, '')`, [`${id}_sync`])
      yield* Queue.take(sync)
      const counts = new Map<string, { readonly told: number; readonly cut: number }>()
      for (const [at, { fold, level, name, queue }] of seen.entries()) {
        const payloads =
          queue === undefined
            ? messages.rows
                .filter((row) => row["channel"] === name)
                .map((row) => String(row["payload"]))
            : (yield* Queue.clear(queue)).map(({ payload }) => payload)
        const { cut: cutBefore, events: before } = fold
        fold.once = statements === 1 && !returning
        const settle = (is: Expected) => {
          if (fold.gap === undefined || (fold.gap === "truncate" && truncated) || keyless)
            fold.compare(is)
          else fold.faults.push(`a gap for nothing: ${fold.gap}`)
        }
        for (const payload of payloads) {
          const mark = marks.get(payload)
          if (mark === undefined) fold.take(payload)
          else {
            settle(mark.before)
            fold.read(mark.after, mark.promises[at]!)
          }
        }
        settle(now)
        if (fold.gap !== undefined || fold.faults.length > 0) fold.read(now, promise(seen[at]!))
        const told = fold.events - before
        const cut = fold.cut - cutBefore
        const other = counts.get(level)
        // A row may be too large for one of both channels only: the other one tells all the rest.
        if (other !== undefined && (told - cut > other.told || other.told - other.cut > told)) {
          fold.faults.push(`${told} told live of ${other.told}`)
        }
        counts.set(level, { told, cut })
        faults.push(...fold.faults.splice(0).map((fault) => `${name}: ${fault}`))
      }
      marks.clear()
      truncated = false
      keyless = !table.keyed
      statements = 0
    })

    /**
     * Runs the statements on both tables, and returns whether they succeeded: on both or on none.
     */
    const run = (pair: Pair, sql: string, shared = false) =>
      Effect.gen(function* () {
        // One that deletes rows and inserts them again is two: a trigger may end them once more.
        statements += sql.startsWith("with gone ") ? 2 : 1
        if (!table.keyed) keyless = true
        if (/truncate/.test(sql)) truncated = true
        const fixed = !/values|set .*(::|null)/.test(sql)
        const [wild, tame] = yield* Effect.all(
          [
            Effect.exit(
              Effect.flip(
                Effect.as(pair.wild.query(place(sql, schemas.wild), [], fixed), undefined)
              )
            ),
            shared
              ? Effect.exit(Effect.fail(undefined))
              : Effect.exit(
                  Effect.flip(
                    Effect.as(pair.tame.query(place(sql, schemas.tame), [], fixed), undefined)
                  )
                )
          ],
          { concurrency: 2 }
        )
        const [a, b] = [wild, tame].map((exit) => (Exit.isSuccess(exit) ? exit.value : undefined))
        script.push(
          `${place(sql, schemas.wild)};${a === undefined ? "" : ` -- ${sqlState(a)} ${sqlMessage(a)}`}`
        )
        if (!shared && sqlState(a) !== sqlState(b)) {
          faults.push(
            `watched: ${sqlMessage(a)}, unwatched: ${b === undefined ? "done" : sqlMessage(b)}, in ${sql}`
          )
        }
        return a === undefined
      })

    const alter = (pair: Pair, inside: boolean) =>
      Effect.gen(function* () {
        const change = alteration(r, table, schemas.wild, bound)
        if (change === undefined || !pair.owns || (inside && change.shared === true)) return true
        const before = yield* expected(pair.wild)
        for (const sql of change.statements) {
          if (!(yield* run(pair, sql, change.shared === true))) return false
        }
        change.done()
        const name = `#${marks.size}`
        marks.set(name, {
          before,
          after: yield* expected(pair.wild),
          promises: channels.map(promise)
        })
        const named = (delivery: string) =>
          channels.flatMap((channel) => (channel.delivery === delivery ? [channel.name] : []))
        yield* pair.wild.query(`select eyes.mark($1::text[], $2::text[], $3::text)`, [
          named("durable"),
          named("live"),
          name
        ])
        return true
      })

    const step = (pair: Pair, inside: boolean): Effect.Effect<boolean, SqlError> =>
      Effect.gen(function* () {
        if (r.chance((inside ? 0.15 : 0.35) + (table.keyed ? 0 : 0.3))) {
          const back = table.keep()
          const done = yield* alter(pair, inside)
          if (!done) back()
          return done
        }
        if (r.chance(0.1)) return yield* run(pair, r.pick(beside.statements))
        const part = table.parts !== undefined && r.chance(0.2) ? r.int(3) : undefined
        for (const sql of statement(r, table, server.merge)) {
          const done = yield* run(
            pair,
            part === undefined ? sql : sql.replace(/§(?!\d|s)/g, `§${part}`)
          )
          if (!done) return false
        }
        return true
      })

    /** A setting of a trigger must not outlive it. */
    const untouched = ({ tame, wild }: Pair) =>
      Effect.gen(function* () {
        const [mine, other] = yield* Effect.forEach([wild, tame], (session) =>
          session.query(settings)
        )
        const [a, b] = [JSON.stringify(mine!.rows), JSON.stringify(other!.rows)]
        if (a !== b) faults.push(`a session has other settings than before: ${a}, not ${b}`)
      })

    const transaction = Effect.fnUntraced(function* (pair: Pair) {
      if (r.chance(0.4)) {
        yield* step(pair, false)
        return
      }
      const back = table.keep()
      let done = yield* run(pair, "begin")
      for (let left = 1 + r.int(5); done && left > 0; left--) {
        if (!r.chance(0.35)) {
          done = yield* step(pair, true)
          continue
        }
        const savepoint = table.keep()
        yield* run(pair, "savepoint s")
        let inner = true
        for (let some = 1 + r.int(2); inner && some > 0; some--) inner = yield* step(pair, true)
        if (!inner || r.chance(0.4)) {
          yield* run(pair, "rollback to savepoint s")
          savepoint()
        } else if (r.chance(0.5)) yield* run(pair, "release savepoint s")
      }
      const kept = (done && r.chance(0.85) && (yield* run(pair, "commit"))) || false
      if (!kept) {
        yield* run(pair, "rollback")
        back()
      }
    })

    for (let left = transactions; left > 0 && faults.length === 0; left--) {
      const pair = r.pick(pairs)
      yield* transaction(pair)
      yield* untouched(pair)
      yield* check
    }
    for (const schema of Object.values(schemas)) {
      yield* owner.query(`drop schema ${schema} cascade`, [], false)
    }
    return { faults, script, told: seen.reduce((sum, { fold }) => sum + fold.events, 0) }
  }).pipe(Effect.scoped)
