/**
 * The cost of durable channels to the transactions that publish, and the delay of their events.
 *
 * Writers commit as fast as PostgreSQL lets them, with every commit flushed to disk. The baseline
 * writes to the outbox too, but without a wake and without a reader; beside it stands the app
 * without an outbox.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { type Child, start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import { channelName, messageText } from "../lib/messages.ts"
import type { ProbeApi, ServerApi, WritersApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { percentile } from "./ratio.ts"
import { type Goals, medianOf, type Report, type Result, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

type Wake = "poll" | "hybrid" | "notify"

interface Subject {
  readonly label: string
  /** The wake of the readers; without it nothing is published. */
  readonly wake: Wake | undefined
  /** Milliseconds between two looks of a reader that only polls; without it the library decides. */
  readonly poll?: number
  /** Whether a node reads, and if so whether its sockets subscribe to the writers' channel. */
  readonly node: "none" | "probed" | "everything"
}

const bare = "outbox, no wake, no node"
const without = "without us"
const again = `${bare} (again)`
const polling = "looks every 5 ms"

const subjects: ReadonlyArray<Subject> = [
  { label: without, wake: undefined, node: "none" },
  { label: "poll", wake: "poll", node: "probed" },
  { label: polling, wake: "poll", poll: 5, node: "probed" },
  { label: "hybrid", wake: "hybrid", node: "probed" },
  { label: "notify", wake: "notify", node: "probed" },
  { label: "hybrid, all read", wake: "hybrid", node: "everything" },
  { label: again, wake: "poll", node: "none" }
]

/** By the number of writers. */
const goals: Readonly<Record<number, Goals>> = {
  32: { poll: { [bare]: 0.9 }, hybrid: { [bare]: 0.7 } }
}

/** Of the time from commit to socket, by the label and the one it is held against. */
const latencyGoals: Goals = { hybrid: { [polling]: 1.1 } }

/** While a transaction is open elsewhere. */
const heldMillis = 2000

interface Window {
  readonly commits: number
  /** Microseconds from commit to socket. */
  readonly latencies: ReadonlyArray<number>
  /** And beside a transaction that stays open. */
  readonly beside: ReadonlyArray<number>
  /** The node's share of one core. */
  readonly cpu: number
}

/** By the number of writers. */
type Sample = ReadonlyMap<number, Window>

/**
 * The transaction of the app, with and without us: 200 bytes of its own, and 200 bytes of an event.
 */
const statementOf = (wake: Wake | undefined): string => {
  const note = messageText(1, 1, 200)
  const insert = `insert into orders (note) values ('${note}')`
  return wake === undefined
    ? insert
    : `with written as (${insert}) select realtime.publish('${channelName(1)}', '${note}'::text)`
}

/** Installs the objects, and creates the app's table. */
export const prepare = (databaseUrl: string, wake: Wake): Promise<void> =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    yield* sql`create table orders (id bigint generated always as identity primary key, note text)`
    yield* PgInstaller.install({ wake })
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(databaseUrl) })), Effect.runPromise)

export interface DurableOptions {
  /** Labels of those beside the baseline; default all. */
  readonly subjects?: ReadonlyArray<string>
  readonly writers: ReadonlyArray<number>
  readonly heldMillis: number
}

export const measureDurable = async (
  context: Context,
  options: DurableOptions = { writers: [0, 1, 8, 32], heldMillis }
): Promise<Report> => {
  await using writers = start<WritersApi>("writers.ts")
  await using probe = start<ProbeApi>("probe.ts")
  const contestant = (subject: Subject): Contestant<Sample> => ({
    label: subject.label,
    open: () => open(subject, context, options, writers, probe)
  })
  const trials = await takeTurns(
    contestant({ label: bare, wake: "poll", node: "none" }),
    subjects.filter(({ label }) => options.subjects?.includes(label) ?? true).map(contestant),
    {
      pairs: context.pairs,
      roundsPerProcess: context.roundsPerProcess,
      onTrial: (label) => context.say(`D ${label}`)
    }
  )
  const labels = [...new Set(trials.map(({ label }) => label))]
  const row = (label: string, count: number) =>
    `${label}, ${count === 0 ? "idle" : `${count} writer${count === 1 ? "" : "s"}`}`
  const delays = (count: number): ReadonlyArray<Result> =>
    (["latency-p50", "latency-p99"] as const).flatMap((measure) =>
      resultsOf({
        workload: "D",
        trials: trials.filter(({ label }) => label === polling || label in latencyGoals),
        measure,
        valueOf: (sample) =>
          percentile(sample.get(count)!.latencies, measure === "latency-p50" ? 0.5 : 0.99),
        goals: latencyGoals,
        baselines: [polling]
      }).map((result): Result => Object.assign(result, { subject: row(result.subject, count) }))
    )
  const costs = options.writers.flatMap((count) => {
    const some = trials.filter(({ sample }) => sample.has(count))
    return labels
      .filter((label) => some.some((trial) => trial.label === label))
      .map((label) => {
        const of = (valueOf: (window: Window) => number) =>
          medianOf(some, label, (sample) => valueOf(sample.get(count)!))
        const millis = (valueOf: (window: Window) => ReadonlyArray<number>, share: number) => {
          const value = of((window) => percentile(valueOf(window), share)) / 1000
          return Number.isNaN(value) ? "" : value.toFixed(1)
        }
        const latencies = ({ latencies }: Window) => latencies
        const beside = ({ beside }: Window) => beside
        return {
          workload: "D",
          subject: row(label, count),
          columns: {
            "commits/s": count === 0 ? "" : of(({ commits }) => commits).toFixed(0),
            "p50 ms": millis(latencies, 0.5),
            "p99 ms": millis(latencies, 0.99),
            "p50 beside 2 s": millis(beside, 0.5),
            "p99 beside 2 s": millis(beside, 0.99),
            "node's core":
              millis(latencies, 0.5) === "" ? "" : `${of(({ cpu }) => 100 * cpu).toFixed(0)} %`
          }
        }
      })
  })
  const results = options.writers
    .filter((count) => count > 0)
    .flatMap((count) =>
      resultsOf({
        workload: "D",
        trials,
        measure: "commits-per-second",
        valueOf: (sample) => sample.get(count)!.commits,
        goals: goals[count] ?? {},
        baselines: [bare, without],
        again
      }).map((result): Result => Object.assign(result, { subject: row(result.subject, count) }))
    )
  return { costs, results: [...results, ...options.writers.flatMap(delays)] }
}

const open = async (
  { node, poll, wake }: Subject,
  { database, seconds }: Context,
  { heldMillis, writers: counts }: DurableOptions,
  writers: Child<WritersApi>,
  probe: Child<ProbeApi>
) => {
  const databaseUrl = await database("flushed")
  await prepare(databaseUrl, wake ?? "poll")
  const server = node === "none" ? undefined : start<ServerApi>("server/main.ts")
  const port =
    server === undefined
      ? 0
      : (
          await server.call("open", {
            subject: "effect-realtime-durable",
            audience: { sockets: 1, channels: 1, bytes: 200 },
            databaseUrl,
            ...(poll === undefined ? {} : { poll })
          })
        ).port
  const channels = [channelName(0), ...(node === "everything" ? [channelName(1)] : [])]

  const probed = async (millis: number, hold: boolean): Promise<ReadonlyArray<number>> =>
    server === undefined ? [] : (await probe.call("run", { millis, hold })).latencies

  const window = async (count: number): Promise<Window> => {
    const commit = async (millis: number) =>
      count === 0 ? 0 : (await writers.call("run", { millis })).perSecond
    if (count > 0) {
      await writers.call("open", { databaseUrl, writers: count, statement: statementOf(wake) })
    }
    // Brings everything to full speed.
    await commit(Math.min(300, seconds * 1000))
    const millis = seconds * 1000
    // Collects garbage.
    await server?.call("prepare", { from: 0, count: 0 })
    await server?.call("start", {})
    const [commits, latencies] = await Promise.all([commit(millis), probed(millis, false)])
    const used = await server?.call("stop", {})
    const beside = (
      await Promise.all([
        server === undefined ? undefined : commit(heldMillis),
        probed(heldMillis, true)
      ])
    )[1]
    await writers.call("close", {})
    const cpu = used === undefined ? 0 : (used.user + used.system) / 1000 / millis
    return { commits, latencies, beside, cpu }
  }

  return {
    run: async (): Promise<Sample> => {
      if (server !== undefined) await probe.call("open", { databaseUrl, port, channels })
      try {
        const windows = await inTurn(
          counts.filter((count) => count > 0 || server !== undefined),
          async (count) => [count, await window(count)] as const
        )
        return new Map(windows)
      } finally {
        await probe.call("close", {})
      }
    },
    [Symbol.asyncDispose]: async () => server?.[Symbol.asyncDispose]()
  }
}
