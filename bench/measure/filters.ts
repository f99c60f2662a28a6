/**
 * What filters of a table cost the node: a delivery to sockets of many filters beside one without, a write
 * that most filters exclude beside one that few exclude, and the state that many sockets want at once.
 *
 * Rows are written by a session of another process to a real PostgreSQL.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import type { SqlClient } from "effect/sql/SqlClient"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { start } from "../lib/child.ts"
import { insertOf, items } from "../lib/items.ts"
import type { ServerApi, ViewersApi, WritersApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { runner } from "./fanOut.ts"
import { absolute, medianOf, type Report, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

export interface FiltersOptions {
  /** Sockets of a delivery, and the filters that they share. */
  readonly sockets: number
  readonly filters: number
  /** Deliveries a second. */
  readonly perSecond: number
  /** Filters on one channel where most exclude a write. */
  readonly many: number
  /** Writes a second to them. */
  readonly writes: number
  /** Clients of one state, and its rows. */
  readonly clients: number
  readonly rows: number
}

const all: FiltersOptions = {
  sockets: 10_000,
  filters: 50,
  perSecond: 50_000,
  many: 10_000,
  writes: 500,
  clients: 1000,
  rows: 1000
}

interface Sample {
  /** Microseconds of the node. */
  readonly cpu: number
  readonly writes: number
  readonly deliveries: number
}

interface Audience {
  readonly label: string
  readonly sockets: number
  /** Subscriptions of each socket. */
  readonly subscriptions: number
  /** Different filters; 0: none has one. */
  readonly filters: number
  /** Kinds of rows that are written. */
  readonly kinds: number
  readonly perSecond: number
}

/** Bytes of the note of a row. */
const bytes = 150
/** More sockets than this are spread over two processes. */
const socketsPerProcess = 5000

const onDatabase = <A, E>(
  url: string,
  effect: Effect.Effect<A, E, PgClient.PgClient | SqlClient>
): Promise<A> =>
  effect.pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url) })), Effect.runPromise)

/** Calls of functions are counted by sessions that begin later. */
const prepare = (url: string) =>
  onDatabase(
    url,
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table items (id int primary key, kind int not null, note text not null)`
      yield* sql`create sequence numbers`
      yield* PgInstaller.install({ watch: [{ channel: items }] })
      yield* sql.unsafe(
        "do $$ begin execute format('alter database %I set track_functions = %L', current_database(), 'all'); end $$"
      )
    })
  )

const opened = async (context: Context) => {
  const databaseUrl = await context.database()
  await prepare(databaseUrl)
  const server = start<ServerApi>("server/main.ts")
  const audience = { sockets: 1, channels: 1, bytes }
  const { port } = await server.call("open", {
    subject: "effect-realtime-table",
    audience,
    databaseUrl
  })
  return { databaseUrl, port, server }
}

const contestant = (
  { filters, kinds, label, perSecond, sockets, subscriptions }: Audience,
  context: Context
): Contestant<Sample> => ({
  label,
  open: async () => {
    const { databaseUrl, port, server } = await opened(context)
    const writers = start<WritersApi>("writers.ts")
    const crowds = Array.from({ length: Math.ceil(sockets / socketsPerProcess) }, () =>
      start<ViewersApi>("viewers.ts")
    )
    const share = Math.ceil(sockets / crowds.length)
    /** How many subscriptions of each crowd have each kind of rows. */
    const audiences = await Promise.all(
      crowds.map(async (crowd, index) => {
        const first = index * share
        const count = Math.min(share, sockets - first)
        await crowd.call("enter", { port, first, count, subscriptions, filters, state: false })
        const of = Array.from({ length: kinds }, () => (filters === 0 ? count * subscriptions : 0))
        const filtered = filters === 0 ? 0 : count * subscriptions
        for (let n = 0; n < filtered; n++) {
          const kind = (first * subscriptions + n) % filters
          if (kind < kinds) of[kind]!++
        }
        return of
      })
    )
    await writers.call("open", { databaseUrl, writers: 1, statement: insertOf(kinds, bytes) })
    let written = 0
    /** Events of all that was written, for subscriptions by kind. */
    const eventsOf = (audience: ReadonlyArray<number>): number => {
      let events = 0
      for (let n = 1; n <= written; n++) events += audience[n % kinds]!
      return events
    }
    const total = () => audiences.reduce((sum, audience) => sum + eventsOf(audience), 0)
    const window = async (millis: number): Promise<Sample> => {
      await server.call("memory", {})
      const before = { written, events: total() }
      const profile = context.profile("F")
      await server.call(
        "start",
        profile === undefined ? {} : { profile: `${profile}-${label}-${written}.cpuprofile` }
      )
      const { commits } = await writers.call("run", { millis, perSecond })
      written += commits
      await Promise.all(
        crowds.map((crowd, index) => crowd.call("arrive", { events: eventsOf(audiences[index]!) }))
      )
      const { system, user } = await server.call("stop", {})
      return {
        cpu: user + system,
        writes: written - before.written,
        deliveries: total() - before.events
      }
    }
    await window(context.seconds * 500)
    const close = async () => {
      await Promise.all(crowds.map((crowd) => crowd[Symbol.asyncDispose]()))
      await writers[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    }
    return runner({ [Symbol.asyncDispose]: close }, () => window(context.seconds * 1000))
  }
})

/** How often the state of a table is read for clients that subscribe at once. */
const statesRead = async (
  context: Context,
  { clients, rows }: FiltersOptions
): Promise<{ readonly queries: number; readonly rows: number }> => {
  const { databaseUrl, port, server } = await opened(context)
  await using node = server
  await using viewers = start<ViewersApi>("viewers.ts")
  await onDatabase(
    databaseUrl,
    PgClient.PgClient.use(
      (sql) => sql`insert into items select n, 0, 'x' from generate_series(1, ${rows}::int) n`
    )
  )
  const entered = await viewers.call("enter", {
    port,
    first: 0,
    count: clients,
    subscriptions: 1,
    filters: 1,
    state: true
  })
  // A session that ends hands in what it has counted.
  await node.call("close", {})
  const calls = PgClient.PgClient.use(
    (sql) => sql<{ readonly n: number }>`select coalesce(sum(calls), 0)::int as n
      from pg_stat_user_functions where schemaname = 'realtime' and funcname = 'state'`
  ).pipe(
    Effect.map(([row]) => row!.n),
    Effect.delay("500 millis"),
    Effect.repeat({ until: (n) => n > 0, times: 20 })
  )
  return { queries: await onDatabase(databaseUrl, calls), rows: entered.rows }
}

export const measureFilters = async (
  context: Context,
  options: FiltersOptions = all
): Promise<Report> => {
  const { clients, filters, many, perSecond, rows, sockets, writes } = options
  const plain = {
    label: "no filter",
    sockets,
    subscriptions: 1,
    filters: 0,
    kinds: 1,
    perSecond: perSecond / sockets
  }
  const filtered = `${filters} filters`
  const delivering: ReadonlyArray<Audience> = [
    plain,
    {
      ...plain,
      label: filtered,
      filters,
      kinds: filters,
      perSecond: (perSecond * filters) / sockets
    },
    { ...plain, label: "no filter (again)" }
  ]
  const few = {
    label: "10 filters",
    sockets: 10,
    subscriptions: 1,
    filters: 10,
    kinds: 10,
    perSecond: writes
  }
  const writing: ReadonlyArray<Audience> = [
    few,
    { ...few, label: `${many} filters`, sockets: many / 100, subscriptions: 100, filters: many },
    { ...few, label: "10 filters (again)" }
  ]
  const trialsOf = ([baseline, ...others]: ReadonlyArray<Audience>) =>
    takeTurns(
      contestant(baseline!, context),
      others.map((one) => contestant(one, context)),
      {
        pairs: context.pairs,
        roundsPerProcess: context.roundsPerProcess,
        together: context.quick,
        onTrial: (label) => context.say(`F ${label}`)
      }
    )
  const ofDelivery = ({ cpu, deliveries }: Sample) => cpu / deliveries
  const ofWrite = ({ cpu, writes }: Sample) => cpu / writes
  const deliveries = await trialsOf(delivering)
  const written = await trialsOf(writing)
  context.say("F states")
  const states = await statesRead(context, options)
  if (states.rows !== clients * rows) {
    throw new Error(`${states.rows} rows of states, where ${clients * rows} are`)
  }
  const common = { workload: "F" } as const
  return {
    costs: [
      ...delivering.map(({ label }) => ({
        workload: "F" as const,
        subject: label,
        columns: {
          "us/delivery": medianOf(deliveries, label, ofDelivery).toFixed(2),
          "us/write": ""
        }
      })),
      ...writing.map(({ label }) => ({
        workload: "F" as const,
        subject: `a write, ${label}`,
        columns: { "us/delivery": "", "us/write": medianOf(written, label, ofWrite).toFixed(1) }
      }))
    ],
    results: [
      ...resultsOf({
        ...common,
        trials: deliveries,
        measure: "cpu-per-delivery",
        valueOf: ofDelivery,
        goals: { [filtered]: { "no filter": 1.3 } },
        baselines: ["no filter"],
        again: "no filter (again)"
      }),
      ...resultsOf({
        ...common,
        trials: written,
        measure: "cpu-per-event",
        valueOf: ofWrite,
        goals: { [`${many} filters`]: { "10 filters": 2 } },
        baselines: ["10 filters"],
        again: "10 filters (again)"
      }),
      absolute(
        {
          ...common,
          subject: `state of ${rows} rows, ${clients} clients`,
          measure: "queries",
          baseline: "one query",
          goal: 5
        },
        states.queries
      )
    ]
  }
}
