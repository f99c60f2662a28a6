/**
 * How many rows writers change in a second while each change is sent to a reader, with every commit
 * flushed to disk: watched, sent by hand, and not sent.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import type { WritersApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { medianOf, type Report, type Result, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"
import { messageOf } from "./watchedTables.ts"

export interface WatchedWritersOptions {
  readonly writers: ReadonlyArray<number>
  /** Rows of the table, of which each transaction changes one at random. */
  readonly rows: number
  /** Those beside the unwatched, default all. */
  readonly labels?: ReadonlyArray<string>
}

/** Commits per second, by how many writers there were. */
type Sample = ReadonlyMap<number, number>

const unwatched = "unwatched"
const again = `${unwatched} (again)`
const byHand = "by hand"
const channel = "table_updates_stock"

const watches: Readonly<Record<string, Omit<PgInstaller.Watch, "channel">>> = {
  "row level": { delivery: "durable" },
  "row level, live": { delivery: "live" },
  "statement level": { delivery: "durable", level: "statement" }
}

const prepare = (databaseUrl: string, label: string, rows: number) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    yield* sql`create table stock (id int primary key, amount numeric not null, part int not null, name text not null, at timestamptz not null default now())`
    yield* sql`insert into stock select n, 10, 1, 'ten bytes.' from generate_series(1, ${rows}::int) n`
    yield* sql`vacuum analyze stock`
    yield* PgInstaller.install({ wake: "poll" })
    const watch = watches[label]
    if (watch !== undefined) yield* PgInstaller.watch({ channel, ...watch })
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(databaseUrl) })), Effect.runPromise)

/** The row is drawn once per statement, so that its index is used. */
const statementOf = (label: string, rows: number): string => {
  const update = `update stock set amount = amount + 1 where id = (select 1 + floor(random() * ${rows})::int)`
  return label === byHand ? messageOf(update, "UPDATE", channel) : update
}

export const measureWatchedWriters = async (
  context: Context,
  {
    labels: some = [byHand, ...Object.keys(watches), again],
    rows,
    writers: counts
  }: WatchedWritersOptions = { writers: [1, 8], rows: 10_000 }
): Promise<Report> => {
  await using writers = start<WritersApi>("writers.ts")
  const contestant = (label: string): Contestant<Sample> => ({
    label,
    open: async () => {
      const databaseUrl = await context.database("flushed")
      await prepare(databaseUrl, label, rows)
      const commits = async (count: number): Promise<number> => {
        const statement = statementOf(label, rows)
        await writers.call("open", { databaseUrl, writers: count, statement })
        const millis = context.seconds * 1000
        // Brings everything to full speed.
        await writers.call("run", { millis: Math.min(300, millis) })
        const { perSecond } = await writers.call("run", { millis })
        await writers.call("close", {})
        return perSecond
      }
      return {
        run: async () =>
          new Map(await inTurn(counts, async (count) => [count, await commits(count)] as const)),
        [Symbol.asyncDispose]: () => Promise.resolve()
      }
    }
  })
  const trials = await takeTurns(contestant(unwatched), some.map(contestant), {
    pairs: context.pairs,
    roundsPerProcess: context.roundsPerProcess,
    onTrial: (label) => context.say(`T2 ${label}`)
  })
  const labels = [...new Set(trials.map(({ label }) => label))]
  const row = (label: string, count: number) => `${label}, ${count} writer${count === 1 ? "" : "s"}`
  return {
    costs: counts.flatMap((count) =>
      labels.map((label) => ({
        workload: "T2",
        subject: row(label, count),
        columns: {
          "commits/s": medianOf(trials, label, (sample) => sample.get(count)!).toFixed(0)
        }
      }))
    ),
    results: counts.flatMap((count) =>
      resultsOf({
        workload: "T2",
        trials,
        measure: "commits-per-second",
        valueOf: (sample) => sample.get(count)!,
        goals: {},
        baselines: [unwatched, byHand],
        again
      }).map((result): Result => Object.assign(result, { subject: row(result.subject, count) }))
    )
  }
}
