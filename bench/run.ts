/**
 * `npm run bench`: measures effect-realtime beside its alternatives, in one run.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Databases } from "./lib/database.ts"
import { inTurn } from "./lib/inTurn.ts"
import { absent, has, install } from "./lib/install.ts"
import { commandOf, type Options, parseOptions, usage } from "./lib/options.ts"
import type { Context } from "./measure/context.ts"
import { measureBurst } from "./measure/burst.ts"
import { measureDelay } from "./measure/delay.ts"
import { measureDurable } from "./measure/durable.ts"
import { measureFanOut } from "./measure/fanOut.ts"
import { decodings, measureDecoding } from "./measure/decode.ts"
import { measureFilters } from "./measure/filters.ts"
import { measureGains } from "./measure/gains.ts"
import { type Curve, measureGrowth } from "./measure/growth.ts"
import { measureIdle } from "./measure/idle.ts"
import { measureLatency } from "./measure/latency.ts"
import { measureOutbox } from "./measure/outbox.ts"
import { measurePrimary } from "./measure/primary.ts"
import { measureReader } from "./measure/reader.ts"
import { type Failure, failureOf, type Report } from "./measure/result.ts"
import { measureReturn } from "./measure/return.ts"
import { measureStalled } from "./measure/stalled.ts"
import { measureWatch } from "./measure/watch.ts"
import { measureWatchedWriters } from "./measure/watchedWriters.ts"
import { workloads } from "./measure/workloads.ts"
import { machine } from "./report/machine.ts"
import { writeJson, writeReadme } from "./report/record.ts"
import type { Run, Section } from "./report/run.ts"
import { tablesOf } from "./report/table.ts"

interface Measurement {
  readonly name: string
  readonly title: string
  readonly measure: (context: Context) => Promise<Report>
}

const measurements: ReadonlyArray<Measurement> = [
  ...workloads.map((workload) => ({
    name: workload.name,
    title: workload.title,
    measure: (context: Context) => measureFanOut(workload, context)
  })),
  { name: "I", title: "10,000 idle sockets", measure: (context) => measureIdle(context) },
  {
    name: "L",
    title: "latency from NOTIFY to 200 sockets, 100 messages/s",
    measure: (context) => measureLatency(context)
  },
  {
    name: "S",
    title: "200 sockets, 1 % of them stalled, 4 KB messages in bursts of 8",
    measure: (context) => measureStalled(context)
  },
  {
    name: "B",
    title: "100,000 notifications of one transaction, and 10,000 LISTENs, on one session",
    measure: (context) => measureBurst(context)
  },
  {
    name: "D",
    title: "commits of 1, 8 and 32 writers, and the time from commit to a socket",
    measure: (context) => measureDurable(context)
  },
  {
    name: "D1",
    title: "the time from a commit to a socket, beside a node that looks every 5 ms",
    measure: (context) => measureDelay(context)
  },
  {
    name: "P",
    title: "what 1 to 16 nodes that read the outbox cost PostgreSQL",
    measure: (context) => measurePrimary(context)
  },
  {
    name: "G",
    title: "what 8 nodes that one reader feeds over NATS cost, beside one node",
    measure: (context) => measureGains(context)
  },
  {
    name: "R",
    title: "20,000 durable events/s in transactions of 20, to a socket",
    measure: (context) => measureReader(context)
  },
  {
    name: "T",
    title: "what a watched row costs its writer, us of the backend's CPU",
    measure: (context) => measureWatch(context)
  },
  {
    name: "T1",
    title: "what a message costs its writer, us of the backend's CPU",
    measure: (context) => measureOutbox(context)
  },
  {
    name: "T2",
    title: "rows that 1 and 8 writers change, each commit flushed to disk",
    measure: (context) => measureWatchedWriters(context)
  },
  {
    name: "Y",
    title: "what others pay while 300 clients come back, and while 110 open channels",
    measure: (context) => measureReturn(context)
  },
  {
    name: "F",
    title: "10,000 sockets with 50 filters, a write beside 10,000 filters, and a state for 1,000",
    measure: (context) => measureFilters(context)
  },
  ...decodings.map((decoding) => ({
    name: decoding.name,
    title: decoding.title,
    measure: (context: Context) => measureDecoding(decoding, context)
  }))
]

const quickNames = ["W1", "W2", "W4", "W5", "C", "I"]

const installMillis = 120_000

const allNames = [...measurements.map(({ name }) => name), "growth"]

const namesOf = ({ quick, workloads }: Options): ReadonlySet<string> => {
  const unknown = workloads?.filter((name) => !allNames.includes(name)) ?? []
  if (unknown.length > 0) throw new Error(`no such workload: ${unknown.join(", ")}\n\n${usage}`)
  return new Set(workloads ?? (quick ? quickNames : allNames))
}

const main = async (): Promise<Run> => {
  const options = parseOptions(process.argv.slice(2))
  const names = namesOf(options)
  const reason = install(installMillis)
  if (reason !== undefined) {
    console.error(
      `The peers could not be installed, so only bare ws and Effect are compared: ${reason}`
    )
  }
  const profile = options.profile === undefined ? undefined : Path.resolve(options.profile)
  if (profile !== undefined) Fs.mkdirSync(profile, { recursive: true })
  // Not when all workloads run: it would be lost.
  if (options.json !== undefined) {
    Fs.mkdirSync(Path.dirname(options.json), { recursive: true })
    Fs.writeFileSync(options.json, "")
  }
  const begun = performance.now()
  const elapsed = () => (performance.now() - begun) / 1000
  const where = machine()
  await using databases = new Databases()
  const context: Context = {
    quick: options.quick,
    pairs: options.pairs ?? (options.quick ? 2 : 6),
    asked: options.pairs,
    roundsPerProcess: 3,
    seconds: options.quick ? 2 : 3,
    profile: (workload) => (profile === undefined ? undefined : Path.join(profile, workload)),
    has,
    database: (kind = "fleeting") => databases.fresh(kind),
    say: (text) => console.error(`${elapsed().toFixed(0).padStart(5)} s  ${text}`)
  }
  const sections: Array<Section> = []
  const failures: Array<Failure> = []
  /** One workload that fails does not take the others with it. */
  const attempt = async (workload: string, run: () => Promise<void>) => {
    if (!names.has(workload)) return
    try {
      await run()
    } catch (error) {
      console.error(`FAILED ${workload}:`, error)
      failures.push(failureOf(workload, error))
    }
  }
  await inTurn(measurements, ({ measure, name, title }) =>
    attempt(name, async () => {
      sections.push({ workload: name, title, ...(await measure(context)) })
    })
  )
  let curves: ReadonlyArray<Curve> = []
  await attempt("growth", async () => {
    curves = await measureGrowth(context)
  })
  const how = {
    command: commandOf(options),
    seconds: context.seconds,
    pairs: context.pairs,
    workloads: allNames.filter((name) => names.has(name)),
    absent: absent()
  }
  const run: Run = { machine: where, how, sections, curves, failures, minutes: elapsed() / 60 }
  console.log(tablesOf(run))
  if (options.json !== undefined) writeJson(options.json, run)
  if (options.record) writeReadme(run)
  return run
}

const { failures } = await main()
// Set, not called: the output must still leave the pipe.
if (failures.length > 0) process.exitCode = 1
