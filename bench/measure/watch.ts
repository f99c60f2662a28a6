/**
 * The cost of a watched table to its writer, beside the cost of writing the message by hand in the
 * same statement: the CPU of the backend, with one client that does nothing else.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import * as Schema from "effect/Schema"
import * as Channel from "../../src/Channel.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { inTurn } from "../lib/inTurn.ts"
import { PgWire } from "../lib/PgWire.ts"
import type { Context } from "./context.ts"
import { isTooNoisy } from "./ratio.ts"
import type { Cost, Report, Result } from "./result.ts"
import {
  type Amount,
  dropDatabase,
  microsOf,
  type Round,
  roundOfSlices,
  runsOf,
  spreadOf,
  type Way
} from "./slices.ts"
import { type Case, cases, definitionOf, statementOf, type Telling } from "./watchedTables.ts"

export interface WatchOptions extends Amount {
  readonly rounds: number
  /** Titles of the cases, default all. */
  readonly titles?: ReadonlyArray<string>
}

export const optionsOf = ({ asked, quick }: Context): WatchOptions => ({
  rounds: asked ?? (quick ? 3 : 11),
  statements: quick ? 2000 : 20_000,
  slices: 20,
  warmUp: quick ? 100 : 500
})

const unwatched = "unwatched"
const byHand = "by hand"
/** A second table with messages by hand, which should have the ratio 1. */
const again = "by hand (again)"

const names: Partial<Record<Telling, string>> = {
  row: "row level",
  live: "row level, live",
  statement: "statement level",
  by: "row level, with a route",
  filter: "row level, with a filter"
}

/** What a route or a filter may add to the row level, relative to the message by hand. */
const mayAdd = 0.3

const Row = Schema.Struct({ id: Schema.Int, part: Schema.Int })

/** The table with a route, or with a filter. */
const definitionFor = (label: string): Channel.AnyTable =>
  Channel.table(tableOf(label), Row, {
    key: "id",
    ...(label === "by" ? { by: "part" as const } : { filter: "part" as const })
  })

/** The cost of a case measured against the rows of another, per row. */
const perRow = { rows: 1000, width: 5, goal: 0.6 }

const tableOf = (label: string): string => label.replaceAll(/\W+/g, "_").replace(/_$/, "")
const channelOf = (label: string): string => `table_updates_${tableOf(label)}`

/** Installs with a wake without cost, creates the tables, and watches those that need it. */
const prepare = (databaseUrl: string, one: Case, labels: ReadonlyArray<string>, runs: number) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    yield* PgInstaller.install({ wake: "poll" })
    for (const label of labels) {
      for (const statement of definitionOf(tableOf(label), one, runs).split(";")) {
        yield* sql.unsafe(statement)
      }
    }
    for (const label of labels) {
      if (names[label as Telling] === undefined) continue
      yield* PgInstaller.watch(
        label === "by" || label === "filter"
          ? definitionFor(label)
          : {
              channel: channelOf(label),
              level: label === "statement" ? "statement" : "row",
              delivery: label === "live" ? "live" : "durable"
            }
      )
    }
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(databaseUrl) })), Effect.runPromise)

/** Checks that each way with messages has written one for each changed row. */
const demandMessages = (wire: PgWire, one: Case, label: string, runs: number): Promise<void> =>
  label === unwatched || label === "live"
    ? Promise.resolve()
    : wire.query(`do $$ declare n bigint; begin
        select count(*) into n from realtime.messages where split_part(channel, ':', 1) = '${channelOf(label)}';
        if n < ${one.messages * runs} then
          raise exception '${one.title}, ${label}: % messages instead of ${one.messages * runs}', n;
        end if;
      end $$`)

const round = async (
  one: Case,
  labels: ReadonlyArray<string>,
  context: Context,
  amount: Amount
) => {
  const databaseUrl = await context.database("still")
  const runs = runsOf(amount)
  await prepare(databaseUrl, one, labels, runs)
  const wire = await PgWire.connect(databaseUrl)
  try {
    const ways = await inTurn(labels, async (label): Promise<Way> => {
      const telling = (label === again ? byHand : label) as Telling
      const sql = statementOf(one, telling, tableOf(label), channelOf(label))
      const run = await wire.statement(sql)
      return { label, pid: wire.pid, run: (n) => run(String(one.parameter(n))) }
    })
    const costs = await roundOfSlices(ways, amount)
    await inTurn(labels, (label) => demandMessages(wire, one, label, runs))
    return new Map([...costs].map(([label, micros]) => [label, micros / one.rows]))
  } finally {
    wire.close()
    await dropDatabase(databaseUrl)
  }
}

/**
 * As many rows as in a statement of one: 20,000 statements of 1,000 rows each would take the day.
 */
const amountOf = (one: Case, { slices, statements, warmUp }: Amount): Amount => {
  const count = Math.max(2, Math.ceil(statements / one.rows))
  return one.rows === 1
    ? { statements, slices, warmUp }
    : { statements: count, slices: Math.min(slices, count), warmUp: 2 }
}

const added = (label: string) => (costs: Round) => costs.get(label)! - costs.get(unwatched)!

const xByHand = (label: string) => (costs: Round) => added(label)(costs) / added(byHand)(costs)

const common = { workload: "T", measure: "added-cpu" } as const

const resultsOf = (one: Case, rounds: ReadonlyArray<Round>, noisy: boolean) => {
  const tellings = one.tellings.filter((telling) => names[telling] !== undefined)
  const results = tellings.map((telling): readonly [Telling | undefined, Result] => [
    telling,
    spreadOf(
      {
        ...common,
        subject: `${names[telling]}: ${one.title}`,
        baseline: byHand,
        goal: one.goals[telling] ?? null,
        noisy
      },
      rounds,
      xByHand(telling)
    )
  ])
  const extra = one.tellings.flatMap((telling) =>
    telling === "by" || telling === "filter"
      ? [
          [
            undefined,
            spreadOf(
              {
                ...common,
                subject: `beyond row level: ${names[telling]}: ${one.title}`,
                baseline: byHand,
                goal: mayAdd,
                noisy
              },
              rounds,
              (costs) => (added(telling)(costs) - added("row")(costs)) / added(byHand)(costs)
            )
          ] as const
        ]
      : []
  )
  if (one.rows !== perRow.rows) return [...results, ...extra]
  const beside = {
    ...common,
    subject: `${names.statement}: ${one.title}`,
    baseline: "row level",
    goal: one.width === perRow.width ? perRow.goal : null,
    noisy
  }
  const ratioOf = (costs: Round) => added("statement")(costs) / added("row")(costs)
  return [...results, [undefined, spreadOf(beside, rounds, ratioOf)] as const]
}

const costOf = (
  one: Case,
  rounds: ReadonlyArray<Round>,
  results: ReturnType<typeof resultsOf>
): Cost => ({
  workload: "T",
  subject: one.title,
  columns: {
    "us unwatched": microsOf(rounds, (costs) => costs.get(unwatched)!),
    "+ by hand": microsOf(rounds, added(byHand)),
    ...Object.fromEntries(
      results.flatMap(([telling, { high, low, ratio }]) =>
        telling === undefined
          ? []
          : [
              [`+ ${names[telling]}`, microsOf(rounds, added(telling))],
              [
                `x by hand: ${names[telling]}`,
                `${ratio.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`
              ]
            ]
      )
    )
  }
})

export const measureWatch = async (
  context: Context,
  options: WatchOptions = optionsOf(context)
): Promise<Report> => {
  const chosen = cases.filter(({ title }) => options.titles?.includes(title) ?? true)
  const measured = await inTurn(chosen, async (one) => {
    const labels = one === chosen[0] ? [...one.tellings, again] : one.tellings
    const rounds = await inTurn(Array.from({ length: options.rounds }).keys(), (index) => {
      context.say(`T ${one.title}, round ${index + 1}`)
      return round(one, labels, context, amountOf(one, options))
    })
    return { one, rounds }
  })
  const same = spreadOf(
    { ...common, subject: again, baseline: byHand, goal: null },
    measured[0]!.rounds,
    xByHand(again)
  )
  const tables = measured.map(({ one, rounds }) => {
    const results = resultsOf(one, rounds, isTooNoisy(same))
    return { cost: costOf(one, rounds, results), results: results.map(([, result]) => result) }
  })
  return {
    costs: tables.map(({ cost }) => cost),
    results: [...tables.flatMap(({ results }) => results), same]
  }
}
