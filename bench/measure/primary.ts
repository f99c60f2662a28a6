/**
 * The cost of nodes to the primary: readers of one outbox beside random commits, and what
 * PostgreSQL does for them.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { Effect, Redacted } from "effect"
import { parentOf, serverNanos } from "../lib/backend.ts"
import { type Child, start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import { channelName, messageText } from "../lib/messages.ts"
import type { ReadersApi, WritersApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { prepare } from "./durable.ts"
import { median } from "./ratio.ts"
import { absolute, type Report } from "./result.ts"

export interface PrimaryOptions {
  readonly nodes: ReadonlyArray<number>
  /** Commits per second, at random; 0 for none. */
  readonly rates: ReadonlyArray<number>
}

interface Window {
  /** Statements per second of all readers. */
  readonly statements: number
  /** The share of one core that PostgreSQL used, for the writers too. */
  readonly cpu: number
}

/** The old pace, for comparison: one node that looks every 5 ms. */
const polling = { label: "1 node, looks every 5 ms", nodes: 1, poll: 5 } as const

/** Statements per second of one node, at most, at a rate of commits per second. */
const goal = { rate: 50, statements: 60 }

const writers = 4

export const measurePrimary = async (
  context: Context,
  { nodes, rates }: PrimaryOptions = { nodes: [0, 1, 2, 4, 8, 16], rates: [0, 50, 500] }
): Promise<Report> => {
  const databaseUrl = await context.database()
  await prepare(databaseUrl, "hybrid")
  await using committing = start<WritersApi>("writers.ts")
  await using reading = start<ReadersApi>("readers.ts")
  const server = await Effect.runPromise(
    PgConnection.make({ url: Redacted.make(databaseUrl) }).pipe(
      Effect.map(({ processId }) => parentOf(processId)),
      Effect.scoped
    )
  )
  const channel = channelName(0)
  const statement = `select realtime.publish('${channel}', '${messageText(0, 1, 200)}'::text)`
  await committing.call("open", { databaseUrl, writers, statement })
  const subjects = [
    ...nodes.map((count) => ({
      label: `${count} node${count === 1 ? "" : "s"}`,
      nodes: count,
      poll: undefined
    })),
    polling
  ]
  const windows = new Map<string, Array<Window>>()
  await inTurn(
    Array.from({ length: context.pairs }, (_, round) =>
      round % 2 === 0 ? subjects : subjects.toReversed()
    ).flat(),
    async ({ label, nodes, poll }) => {
      context.say(`P ${label}`)
      await reading.call("open", {
        databaseUrl,
        channel,
        nodes,
        ...(poll === undefined ? {} : { poll })
      })
      await inTurn(rates, async (rate) => {
        const window = await measured(reading, committing, server, rate, context, nodes)
        const key = `${label} ${rate}`
        windows.set(key, [...(windows.get(key) ?? []), window])
      })
      await reading.call("close", {})
    }
  )
  await committing.call("close", {})
  const costs = subjects.map(({ label }) => ({
    workload: "P",
    subject: label,
    columns: Object.fromEntries(
      rates.flatMap((rate) => {
        const of = (valueOf: (window: Window) => number) =>
          median(windows.get(`${label} ${rate}`)!.map(valueOf))
        return [
          [`statements/s at ${rate}/s`, of((one) => one.statements).toFixed(0)],
          [`core at ${rate}/s`, `${(100 * of(({ cpu }) => cpu)).toFixed(1)} %`]
        ]
      })
    )
  }))
  const results = rates.includes(goal.rate)
    ? [...windows].flatMap(([key, all]) => {
        if (key !== `1 node ${goal.rate}`) return []
        const parts = all.map(({ statements }) => statements / goal.statements)
        return [
          absolute(
            {
              workload: "P",
              subject: `1 node, ${goal.rate} commits/s`,
              measure: "queries",
              baseline: `${goal.statements} statements/s`,
              goal: 1
            },
            median(parts),
            parts
          )
        ]
      })
    : []
  return { costs, results }
}

const measured = async (
  reading: Child<ReadersApi>,
  committing: Child<WritersApi>,
  server: number,
  rate: number,
  { seconds }: Context,
  nodes: number
): Promise<Window> => {
  const millis = seconds * 1000
  const commit = async (millis: number) =>
    rate === 0
      ? new Promise<{ readonly commits: number }>((resolve) =>
          setTimeout(() => resolve({ commits: 0 }), millis)
        )
      : await committing.call("run", { millis, perSecond: rate, random: true })
  // Connections and plans are made by then.
  let written = (await commit(Math.min(1000, millis))).commits
  const before = { ...(await reading.call("count", {})), nanos: serverNanos(server) }
  const begun = performance.now()
  written += (await commit(millis)).commits
  const took = performance.now() - begun
  const after = { ...(await reading.call("count", {})), nanos: serverNanos(server) }
  const used = [...after.nanos].map(([pid, nanos]) => nanos - (before.nanos.get(pid) ?? 0))
  if (written > 0 && nodes > 0 && after.events === 0) throw new Error("no node received an event")
  return {
    statements: ((after.statements - before.statements) * 1000) / took,
    cpu: used.reduce((sum, nanos) => sum + nanos, 0) / 1e6 / took
  }
}
