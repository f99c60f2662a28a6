/**
 * What one reader for all nodes saves: the statements of nodes that NATS feeds beside those of one node
 * without NATS, and the CPU of a fed node beside that of a node that reads for itself.
 *
 * The nodes whose statements are counted are in one process. The node whose CPU is measured is one more,
 * in a process of its own, with one socket, so that nothing else hides the cost of reading.
 */
import { type Broker, natsConfig, startBroker } from "../lib/broker.ts"
import { type Child, start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import { channelName, messageText } from "../lib/messages.ts"
import type { ProbeApi, ReadersApi, ServerApi, WritersApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { prepare } from "./durable.ts"
import { type Goals, medianOf, type Report, type Result, resultsOf } from "./result.ts"
import { type Contestant, type Runner, takeTurns } from "./rounds.ts"

export interface GainsOptions {
  readonly nodes: number
  /** Commits per second, at random. */
  readonly rates: ReadonlyArray<number>
}

interface Window {
  /** Statements per second of the counted nodes. */
  readonly statements: number
  /** Microseconds of the measured node for each event at its socket. */
  readonly cost: number
}

/** By the rate of commits. */
type Sample = ReadonlyMap<number, Window>

const writers = 4

export const measureGains = async (
  context: Context,
  { nodes, rates }: GainsOptions = { nodes: 8, rates: [50, 500] }
): Promise<Report> => {
  if (!context.has("nats-server")) {
    context.say("G is left out: no nats-server")
    return { costs: [], results: [] }
  }
  await using nats = await startBroker("nats-server", natsConfig)
  const alone = "1 node, no NATS"
  const fed = `${nodes} nodes, NATS`
  const goals: Readonly<Record<"queries" | "cpu-per-event", Goals>> = {
    queries: { [fed]: { [alone]: 1.3 } },
    "cpu-per-event": { [fed]: { [alone]: 1.1 } }
  }
  const contestant = (label: string, count: number, broker?: Broker): Contestant<Sample> => ({
    label,
    open: () => open(context, count, rates, broker)
  })
  const again = `${alone} (again)`
  const trials = await takeTurns(
    contestant(alone, 1),
    [contestant(fed, nodes, nats), ...(context.pairs > 1 ? [contestant(again, 1)] : [])],
    {
      pairs: context.pairs,
      roundsPerProcess: context.roundsPerProcess,
      interleaved: false,
      onTrial: (label) => context.say(`G ${label}`)
    }
  )
  const subjects = [...new Set(trials.map(({ label }) => label))]
  const row = (subject: string, rate: number) => `${subject}, ${rate} commits/s`
  const valueOf = { queries: "statements", "cpu-per-event": "cost" } as const
  return {
    costs: rates.flatMap((rate) =>
      subjects.map((subject) => ({
        workload: "G",
        subject: row(subject, rate),
        columns: {
          "statements/s": medianOf(
            trials,
            subject,
            (sample) => sample.get(rate)!.statements
          ).toFixed(0),
          "us/event": medianOf(trials, subject, (sample) => sample.get(rate)!.cost).toFixed(0)
        }
      }))
    ),
    results: rates.flatMap((rate) =>
      (["queries", "cpu-per-event"] as const).flatMap((measure) =>
        resultsOf({
          workload: "G",
          trials,
          measure,
          valueOf: (sample) => sample.get(rate)![valueOf[measure]],
          goals: goals[measure],
          baselines: [alone],
          again: context.pairs > 1 ? again : undefined
        }).map((result): Result => Object.assign(result, { subject: row(result.subject, rate) }))
      )
    )
  }
}

const open = async (
  context: Context,
  nodes: number,
  rates: ReadonlyArray<number>,
  nats: Broker | undefined
): Promise<Runner<Sample>> => {
  const databaseUrl = await context.database()
  await prepare(databaseUrl, "hybrid")
  await using started = new AsyncDisposableStack()
  const reading = started.use(start<ReadersApi>("readers.ts"))
  const server = started.use(start<ServerApi>("server/main.ts"))
  const committing = started.use(start<WritersApi>("writers.ts"))
  const probe = started.use(start<ProbeApi>("probe.ts"))
  const channel = channelName(1)
  const feed = nats === undefined ? {} : { nats: nats.tcp }
  // The node that reads for all is one of these, because they are the first.
  await reading.call("open", { databaseUrl, channel, nodes, ...feed })
  const { port } = await server.call("open", {
    subject: "effect-realtime-durable",
    audience: { sockets: 1, channels: 1, bytes: 200 },
    databaseUrl,
    ...feed
  })
  await probe.call("open", { databaseUrl, port, channels: [channel] })
  const statement = `select realtime.publish('${channel}', '${messageText(1, 1, 200)}'::text)`
  await committing.call("open", { databaseUrl, writers, statement })
  let written = 0
  const commit = async (millis: number, perSecond: number): Promise<number> => {
    const { commits } = await committing.call("run", { millis, perSecond, random: true })
    written += commits
    await probe.call("arrive", { events: written })
    return commits
  }
  // Elects, connects, plans and compiles.
  const warmUp = Math.min(1500, context.seconds * 1000)
  await commit(warmUp, 200)
  const stack = started.move()
  return {
    run: async () =>
      new Map(
        await inTurn(rates, async (rate) => {
          await commit(Math.min(500, warmUp), rate)
          return [
            rate,
            await measured(reading, server, context.seconds * 1000, (millis) =>
              commit(millis, rate)
            )
          ] as const
        })
      ),
    [Symbol.asyncDispose]: async () => {
      await stack.disposeAsync()
    }
  }
}

const measured = async (
  reading: Child<ReadersApi>,
  server: Child<ServerApi>,
  millis: number,
  commit: (millis: number) => Promise<number>
): Promise<Window> => {
  const before = await reading.call("count", {})
  const begun = performance.now()
  await server.call("start", {})
  const events = await commit(millis)
  const { system, user } = await server.call("stop", {})
  const after = await reading.call("count", {})
  const took = performance.now() - begun
  return {
    statements: ((after.statements - before.statements) * 1000) / took,
    cost: (user + system) / events
  }
}
