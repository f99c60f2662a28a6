/**
 * The cost of a message to its writer, by its parts: `realtime.publish` beside a plain INSERT into
 * the outbox, and the INSERT without each of the outbox's indexes, and with each wake.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { inTurn } from "../lib/inTurn.ts"
import { messageText } from "../lib/messages.ts"
import { PgWire } from "../lib/PgWire.ts"
import type { Context } from "./context.ts"
import { isTooNoisy } from "./ratio.ts"
import type { Report, Result } from "./result.ts"
import {
  type Amount,
  dropDatabase,
  microsOf,
  type Round,
  roundOfSlices,
  spreadOf,
  type Way
} from "./slices.ts"
import { optionsOf } from "./watch.ts"

export interface OutboxOptions extends Amount {
  readonly rounds: number
  /** Rows of one statement that has many. */
  readonly together: number
  /** Labels of those beside the plain insert, default all. */
  readonly labels?: ReadonlyArray<string>
}

const plain = "plain insert"
const again = `${plain} (again)`
const publish = "realtime.publish"
const keyed = "realtime.publish with a key"

/**
 * A session and a database of its own for each way: each finds its caches as cold as the others do.
 */
interface Outbox {
  readonly label: string
  readonly wake: "poll" | "hybrid" | "notify"
  /** Run after the install. */
  readonly alter?: string
  readonly statement?: string
}

const goals: Readonly<Record<string, number>> = { [publish]: 1.3 }

/** The indexes that the table has now: a dropped index is left out here too. */
const indexes = `select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition
  from pg_index i where i.indrelid = 'realtime.messages'::regclass and not i.indisprimary order by 1`

const install = (databaseUrl: string, { alter, wake }: Pick<Outbox, "alter" | "wake">) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    yield* PgInstaller.install({ wake })
    if (alter !== undefined) yield* sql.unsafe(alter)
    return yield* sql.unsafe<{ readonly name: string; readonly definition: string }>(indexes)
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(databaseUrl) })), Effect.runPromise)

/** `realtime.messages (channel, id)`: the columns, which the name does not contain. */
const coveredBy = (definition: string): string =>
  definition.slice(definition.indexOf("(")).replaceAll(/[()]/g, "").replace(" WHERE ", " where ")

const outboxesOf = async (context: Context): Promise<ReadonlyArray<Outbox>> => {
  const databaseUrl = await context.database("still")
  const found = await install(databaseUrl, { wake: "poll" })
  await dropDatabase(databaseUrl)
  return [
    { label: plain, wake: "poll" },
    { label: publish, wake: "poll", statement: "select realtime.publish($1, $2::text)" },
    { label: keyed, wake: "poll", statement: "select realtime.publish($1, $2::text, $3)" },
    ...found.map(({ definition, name }): Outbox => ({
      label: `without the index on ${coveredBy(definition)}`,
      wake: "poll",
      alter: `drop index ${name}`
    })),
    { label: "wake hybrid", wake: "hybrid" },
    { label: "wake notify", wake: "notify" },
    { label: again, wake: "poll" }
  ]
}

interface Costs {
  /** The cost of a call that writes one message. */
  readonly one: Round
  /** The cost of a row of a statement that writes many. */
  readonly many: Round
}

const payload = messageText(1, 1, 200)
const channel = "bench_1"

const one = `insert into realtime.messages (channel, payload) values ($1, $2)`
const many = (together: number) =>
  `insert into realtime.messages (channel, payload) select $1, $2 from generate_series(1, ${together})`

const round = async (
  outboxes: ReadonlyArray<Outbox>,
  context: Context,
  { slices, statements, together, warmUp }: OutboxOptions
): Promise<Costs> => {
  const opened = await inTurn(outboxes, async (outbox) => {
    const databaseUrl = await context.database("still")
    await install(databaseUrl, outbox)
    const wire = await PgWire.connect(databaseUrl)
    return { ...outbox, databaseUrl, wire }
  })
  try {
    const ones = await inTurn(opened, async ({ label, statement = one, wire }): Promise<Way> => {
      const run = await wire.statement(statement)
      const key = statement.includes("$3") ? (n: number) => [`key ${n}`] : () => []
      return { label, pid: wire.pid, run: (n) => run(channel, payload, ...key(n)) }
    })
    const inserts = opened.filter(({ statement }) => statement === undefined)
    const manys = await inTurn(inserts, async ({ label, wire }): Promise<Way> => {
      const run = await wire.statement(many(together))
      return { label, pid: wire.pid, run: () => run(channel, payload) }
    })
    const single = await roundOfSlices(ones, { slices, statements, warmUp })
    const count = Math.max(2, Math.ceil(statements / together))
    const amount = { statements: count, slices: Math.min(slices, count), warmUp: 2 }
    const several = await roundOfSlices(manys, amount)
    return {
      one: single,
      many: new Map([...several].map(([label, micros]) => [label, micros / together]))
    }
  } finally {
    await inTurn(opened, async ({ databaseUrl, wire }) => {
      wire.close()
      await dropDatabase(databaseUrl)
    })
  }
}

export const measureOutbox = async (
  context: Context,
  options: OutboxOptions = { ...optionsOf(context), together: 1000 }
): Promise<Report> => {
  const outboxes = (await outboxesOf(context)).filter(
    ({ label }) => label === plain || (options.labels?.includes(label) ?? true)
  )
  const rounds = await inTurn(Array.from({ length: options.rounds }).keys(), (index) => {
    context.say(`T1 round ${index + 1}`)
    return round(outboxes, context, options)
  })
  const ones = rounds.map(({ one }) => one)
  const manys = rounds.map(({ many }) => many)
  const x = (label: string) => (costs: Round) => costs.get(label)! / costs.get(plain)!
  const result = (subject: string, costs: ReadonlyArray<Round>, noisy: boolean): Result =>
    spreadOf(
      {
        workload: "T1",
        subject,
        measure: costs === ones ? "cpu-per-call" : "cpu-per-row",
        baseline: plain,
        goal: costs === ones ? (goals[subject] ?? null) : null,
        noisy
      },
      costs,
      x(subject)
    )
  const labels = [...ones[0]!.keys()]
  const noisy = isTooNoisy(labels.includes(again) ? result(again, ones, false) : undefined)
  return {
    costs: labels.map((label) => ({
      workload: "T1",
      subject: label,
      columns: {
        "us/call": microsOf(ones, (costs) => costs.get(label)!),
        [`us/row of ${options.together}`]: manys[0]!.has(label)
          ? microsOf(manys, (costs) => costs.get(label)!)
          : ""
      }
    })),
    results: [
      ...labels.map((label) => result(label, ones, noisy)),
      ...[...manys[0]!.keys()].map((label) => result(label, manys, noisy))
    ].filter(({ subject }) => subject !== plain)
  }
}
