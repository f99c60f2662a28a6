/**
 * Runs every workload of the benchmark at a small size, for this library and for every peer. Each
 * message arrives byte for byte. This file measures no times.
 */
import { Effect, Exit, Scope } from "effect"
import { afterAll, describe, expect, it } from "vitest"
import { Databases } from "../../bench/lib/database.ts"
import { has, install } from "../../bench/lib/install.ts"
import { inTurn } from "../../bench/lib/inTurn.ts"
import { Line } from "../../bench/lib/Line.ts"
import { Rig, type RigOptions, type Window } from "../../bench/lib/Rig.ts"
import type { Audience, SubjectName } from "../../bench/lib/types.ts"
import type { Context } from "../../bench/measure/context.ts"
import { measureBurst } from "../../bench/measure/burst.ts"
import { measureDelay } from "../../bench/measure/delay.ts"
import { measureDurable } from "../../bench/measure/durable.ts"
import { measureFilters } from "../../bench/measure/filters.ts"
import { measureGains } from "../../bench/measure/gains.ts"
import { measureGrowth } from "../../bench/measure/growth.ts"
import { measureOutbox } from "../../bench/measure/outbox.ts"
import { measurePrimary } from "../../bench/measure/primary.ts"
import { measureReader } from "../../bench/measure/reader.ts"
import { decodings, libraryNames } from "../../bench/measure/decode.ts"
import { stalledWindow } from "../../bench/measure/stalled.ts"
import { measureReturn } from "../../bench/measure/return.ts"
import { measureWatch } from "../../bench/measure/watch.ts"
import { measureWatchedWriters } from "../../bench/measure/watchedWriters.ts"
import { workloads } from "../../bench/measure/workloads.ts"
import { long } from "../server/support/random.ts"
import { database } from "../support/database.ts"

/** With REALTIME_TEST_LONG=1 only, for the time that they take. */
const slow: ReadonlySet<SubjectName> = new Set([
  "effect-realtime-seen",
  "socket.io",
  "effect-rpc",
  "effect-stream",
  "ws+pg-listen",
  "floor"
])

/** Each test starts processes that share the cores with other tests. */
const patient = { timeout: 180_000 }

const reason = install(15_000)
if (reason !== undefined) {
  // Not by console.log, which the reporter hides when all tests pass.
  process.stderr.write(`SKIP peers of the benchmark: they could not be installed (${reason})\n`)
}

const smaller = (audience: Audience): Audience => ({
  ...audience,
  sockets: Math.min(audience.sockets, 20),
  channels: Math.min(audience.channels, 20)
})

/** The same kind of pace, but short. */
const shorter = ({ pace }: Window, channels: number): Window =>
  pace.kind === "rate"
    ? {
        pace: { kind: "rate", perSecond: Math.max(500, pace.perSecond) },
        messages: 20 * channels,
        millis: 0
      }
    : // Ends when all are sent, so a slow machine sends as many.
      { pace, messages: 160, millis: 60_000 }

const subjects: ReadonlyArray<SubjectName> = [
  "effect-realtime",
  "effect-realtime-route",
  "effect-realtime-seen",
  "ws",
  "floor",
  "ws+pg-listen",
  "socket.io",
  "effect-rpc",
  "effect-stream",
  // Only if they are installed.
  ...(["nats-server", "mosquitto"] as const).filter(has)
]

const fromDatabase: ReadonlySet<SubjectName> = new Set([
  "effect-realtime",
  "ws+pg-listen",
  "socket.io"
])

const withoutDatabase = (subject: SubjectName): boolean => subject !== "ws+pg-listen"

/** V1 and VC are W1 and C, with another subject. */
const inMemory = workloads.filter(({ baseline }) => baseline === "ws")

const scope = Scope.makeUnsafe()
const rigs: Array<Rig> = []

afterAll(async () => {
  await Promise.all(rigs.map((rig) => rig[Symbol.asyncDispose]()))
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

/** One server and one client process per subject, for all of its workloads. */
const processesOf = (subject: SubjectName) => {
  let rig: Rig | undefined
  return async (options: Omit<RigOptions, "subject">): Promise<Rig> => {
    if (rig === undefined) {
      rig = new Rig({ ...options, subject })
      rigs.push(rig)
      await rig.join(await rig.open())
    } else await rig.reopen({ ...options, subject })
    return rig
  }
}

/** The clients check every byte, and a window ends only when it is exact. */
const bringEveryByte = async (rig: Rig, audience: Audience, window: Window, name: string) => {
  const { bytes, deliveries } = await rig.window(window)
  const wanted = window.messages * (audience.sockets / audience.channels)
  expect({ name, deliveries }).toEqual({ name, deliveries: wanted })
  expect(bytes).toBeGreaterThan(deliveries * audience.bytes)
}

type RigFor = ReturnType<typeof processesOf>

/** The tested workloads, by name. */
const bringMessages = async (rigFor: RigFor): Promise<ReadonlyArray<string>> => {
  const names = await inTurn(inMemory, async ({ audience, name, warmUp }) => {
    const small = smaller(audience)
    const window = shorter(warmUp, small.channels)
    const rig = await rigFor({ audience: small, flow: window.pace.kind === "turn" })
    await bringEveryByte(rig, small, window, name)
    return name
  })
  const idle = { sockets: 20, channels: 1, subscriptions: 0, bytes: 0 }
  expect((await (await rigFor({ audience: idle })).memory()).rss).toBeGreaterThan(0)
  return [...names, "I"]
}

const bringNotifications = async (rigFor: RigFor): Promise<ReadonlyArray<string>> => {
  const audience = { sockets: 20, channels: 1, bytes: 200 }
  const { url } = await Effect.runPromise(Scope.provide(database, scope))
  const rig = await rigFor({ audience, databaseUrl: url, timed: true })
  const window = { pace: { kind: "rate", perSecond: 200 }, messages: 40, millis: 0 } as const
  const { deliveries, latencies } = await rig.window(window)
  expect(deliveries).toBe(800)
  expect(latencies.filter((micros) => micros > 0)).toHaveLength(800)
  return ["N", "L"]
}

const contextOf = (databases: Databases): Context => ({
  quick: true,
  pairs: 1,
  asked: undefined,
  roundsPerProcess: 1,
  seconds: 0.2,
  profile: () => undefined,
  has,
  database: (kind = "fleeting") => databases.fresh(kind),
  say: () => undefined
})

// Subjects run at the same time in their own processes, the workloads of each in order.
describe.concurrent("the benchmark", patient, () => {
  for (const subject of subjects) {
    it.skipIf(!has(subject) || (slow.has(subject) && !long))(
      `brings every byte with ${subject}`,
      async () => {
        const rigFor = processesOf(subject)
        const wanted = [
          ...(withoutDatabase(subject) ? [...inMemory.map(({ name }) => name), "I"] : []),
          ...(fromDatabase.has(subject) ? ["N", "L"] : [])
        ]
        const brought = [
          ...(withoutDatabase(subject) ? await bringMessages(rigFor) : []),
          ...(fromDatabase.has(subject) ? await bringNotifications(rigFor) : [])
        ]
        expect(brought).toEqual(wanted)
      }
    )
  }
})

describe("growth", patient, () => {
  it.skipIf(!long)("reports a cost at every point, and the memory of a subscription", async () => {
    await using databases = new Databases()
    const curves = await measureGrowth(
      { ...contextOf(databases), seconds: 0.05 },
      {
        sockets: [20],
        channels: [2],
        crowd: 20,
        subscribers: [{ at: "a few", sockets: 20, channels: 100 }],
        warmUp: 1
      }
    )
    const positive = { at: expect.any(String), values: expect.any(Object) }
    expect(curves.map(({ points }) => points)).toEqual([[positive], [positive], [positive]])
    const costs = curves.slice(0, 2).flatMap(({ points }) => Object.values(points[0]!.values))
    expect(costs.filter((cost) => cost > 0)).toHaveLength(4)
    expect(curves[2]!.points[0]!.values["effect-realtime"]).toBeGreaterThan(0)
  })
})

describe("the durable side of the benchmark", patient, () => {
  // One server of a kind for all, because this file measures no times.
  const databases = new Databases()
  afterAll(() => databases[Symbol.asyncDispose]())

  it("commits with and without the library, and delivers the probes to a socket", async () => {
    const { costs, results } = await measureDurable(contextOf(databases), {
      subjects: ["without us", "hybrid"],
      writers: [0, 2],
      heldMillis: 100
    })
    const rows = costs.map(({ columns, subject }) => ({
      subject,
      commits: Number(columns["commits/s"]) > 0,
      latency: columns["p50 ms"] !== "" && columns["p50 beside 2 s"] !== ""
    }))
    expect(rows).toEqual([
      { subject: "hybrid, idle", commits: false, latency: true },
      { subject: "outbox, no wake, no node, 2 writers", commits: true, latency: false },
      { subject: "without us, 2 writers", commits: true, latency: false },
      { subject: "hybrid, 2 writers", commits: true, latency: true }
    ])
    expect(results.map(({ baseline, subject }) => `${subject} x ${baseline}`)).toEqual([
      "outbox, no wake, no node, 2 writers x without us",
      "without us, 2 writers x outbox, no wake, no node",
      "hybrid, 2 writers x outbox, no wake, no node",
      "hybrid, 2 writers x without us"
    ])
  })

  it("counts what each number of nodes costs PostgreSQL", async () => {
    const { costs } = await measurePrimary(contextOf(databases), { nodes: [0, 2], rates: [0, 100] })
    const statements = costs.map(({ columns, subject }) => [
      subject,
      Number(columns["statements/s at 100/s"]) > 0
    ])
    expect(statements).toEqual([
      ["0 nodes", false],
      ["2 nodes", true],
      ["1 node, looks every 5 ms", true]
    ])
  })

  it("delivers every commit to a socket, woken and by looks every 5 ms", async () => {
    const { costs } = await measureDelay(contextOf(databases), {
      loads: [{ label: "few", beside: 20 }]
    })
    expect(costs.map(({ columns, subject }) => [subject, Number(columns["p50 ms"]) > 0])).toEqual([
      ["looks every 5 ms, few", true],
      ["woken, few", true]
    ])
  })

  it.skipIf(!has("nats-server"))("delivers every commit to a fed node", async () => {
    const { results } = await measureGains(contextOf(databases), { nodes: 2, rates: [100] })
    expect(
      results.filter(({ goal, ratio }) => goal !== null && ratio > 0).map(({ measure }) => measure)
    ).toEqual(["queries", "cpu-per-event"])
  })

  it("receives every notification of a transaction while it listens to more channels", async () => {
    const { costs, results } = await measureBurst(contextOf(databases), {
      channels: 20,
      notifications: 2000
    })
    expect(costs.map(({ subject }) => subject)).toEqual(["pg", "effect-realtime", "pg (again)"])
    expect(results.map(({ baseline, subject }) => `${subject} x ${baseline}`)).toEqual([
      "effect-realtime x pg",
      "pg (again) x pg",
      "effect-realtime x 1 s",
      "pg x 1 s"
    ])
  })

  it("delivers every event of the reader to a socket", async () => {
    const { results } = await measureReader(contextOf(databases), { perSecond: 2000, together: 5 })
    expect(results).toMatchObject([
      { baseline: "one core", pairs: 1 },
      { baseline: "first heap", pairs: 1 }
    ])
  })
})

describe("a crowd that reconnects", patient, () => {
  const databases = new Databases()
  afterAll(() => databases[Symbol.asyncDispose]())

  it("receives the missed events, while other sessions are measured", async () => {
    const options = { clients: 5, events: 300, sessions: 3, perSecond: 20, millis: 300 }
    const { costs, results } = await measureReturn(contextOf(databases), options)
    expect(costs.map(({ subject }) => subject)).toEqual(["quiet", "returning", "opening"])
    expect(costs[2]!.columns["answers"]).toMatch(/^subscribed \d+$/)
    expect(results.map(({ measure, subject }) => [subject, measure])).toEqual(
      ["returning", "opening"].flatMap((subject) =>
        ["latency-p99", "longest-stand", "peak-memory"].map((measure) => [subject, measure])
      )
    )
    for (const { ratio } of results) expect(ratio).toBeGreaterThan(0)
  })
})

describe("filters", patient, () => {
  const databases = new Databases()
  afterAll(() => databases[Symbol.asyncDispose]())

  it("are delivered to and counted for all sockets, and a state is read for many", async () => {
    const { costs, results } = await measureFilters(contextOf(databases), {
      sockets: 20,
      filters: 5,
      perSecond: 1000,
      many: 200,
      writes: 100,
      clients: 20,
      rows: 30
    })
    expect(costs.map(({ subject }) => subject)).toEqual([
      "no filter",
      "5 filters",
      "no filter (again)",
      "a write, 10 filters",
      "a write, 200 filters",
      "a write, 10 filters (again)"
    ])
    const states = results.at(-1)!
    expect(states).toMatchObject({ measure: "queries", verdict: "met" })
    expect(states.ratio).toBeGreaterThan(0)
  })
})

const inMicros = /^-?\d+\.\d$/

describe("the cost of a watched row", patient, () => {
  // One server for all, because this file measures no times.
  const databases = new Databases()
  afterAll(() => databases[Symbol.asyncDispose]())
  const context: Context = {
    ...contextOf(databases),
    seconds: 0.05,
    database: () => databases.fresh("still")
  }
  const little = { rounds: 1, statements: 20, slices: 2, warmUp: 1 }

  it("is reported for each case and each way, and each way writes its messages", async () => {
    const titles = [
      "UPDATE of 1,000 rows, 5 columns, per row",
      "UPDATE that moves a row to another partition, 5 columns"
    ]
    const { costs, results } = await measureWatch(context, { ...little, titles })
    expect(costs.map(({ subject }) => subject)).toEqual(titles)
    for (const { columns } of costs) {
      expect(columns).toMatchObject({
        "us unwatched": expect.stringMatching(inMicros),
        "+ by hand": expect.stringMatching(inMicros),
        "+ row level": expect.stringMatching(inMicros),
        "+ row level, live": expect.stringMatching(inMicros)
      })
    }
    const [many, move] = titles
    expect(results.map(({ baseline, goal, subject }) => [subject, baseline, goal])).toEqual([
      [`row level: ${many}`, "by hand", 2.2],
      [`row level, live: ${many}`, "by hand", 2.2],
      [`statement level: ${many}`, "by hand", null],
      [`statement level: ${many}`, "row level", 0.6],
      [`row level: ${move}`, "by hand", 4],
      [`row level, live: ${move}`, "by hand", 4],
      ["by hand (again)", "by hand", null]
    ])
  })

  it("is reported for a message, with and without an index", async () => {
    const labels = ["realtime.publish", "without the index on channel, id"]
    const { costs, results } = await measureOutbox(context, { ...little, together: 10, labels })
    expect(costs.map(({ subject }) => subject)).toEqual(["plain insert", ...labels])
    expect(costs.every(({ columns }) => inMicros.test(columns["us/call"]!))).toBe(true)
    expect(results.filter(({ goal }) => goal !== null)).toMatchObject([
      { subject: "realtime.publish", baseline: "plain insert", goal: 1.3, pairs: 1 }
    ])
  })

  it("is reported for each number of writers", async () => {
    const options = { writers: [2], rows: 100, labels: ["statement level"] }
    const { costs } = await measureWatchedWriters(context, options)
    const subjects = costs.map(({ subject }) => subject)
    expect(subjects).toEqual(["unwatched, 2 writers", "statement level, 2 writers"])
    expect(costs.filter(({ columns }) => Number(columns["commits/s"]) > 0)).toHaveLength(2)
  })
})

// In turn, because each has two processes beside those of the subjects above.
describe("a client library", patient, () => {
  for (const library of libraryNames) {
    it.skipIf(!has(library))(`delivers every event as it was sent: ${library}`, async () => {
      await using line = await Line.open({ library, bytes: 200 })
      // A window ends only when it is exact.
      const windows = await inTurn(decodings, ({ perSecond, together }) =>
        line.window({ events: 1050, perSecond, together })
      )
      expect(windows.map(({ events }) => events)).toEqual([1050, 1050])
    })
  }
})

describe.concurrent("a socket that stalls", patient, () => {
  const audience = { sockets: 2, channels: 1, bytes: 4096 }
  /** More than the kernel buffers for one socket. */
  const messages = 3000

  const stall = async (subject: SubjectName) => {
    const rig = await processesOf(subject)({ audience, flow: true })
    const sample = await stalledWindow(rig, 1, { messages, millis: 5000 })
    expect(sample.deliveries).toBe(messages * audience.sockets)
    return sample
  }

  it("receives a gap for what it missed, and costs the server less than 4 MiB", async () => {
    const { held, missed } = await stall("effect-realtime")
    expect(missed).toBeGreaterThan(0)
    // A session's backlog is at most 1 MiB. The socket's own buffer is on top.
    expect(held).toBeLessThan(4 * 1024 * 1024)
  })

  it("receives everything from bare ws, which keeps all of it", async () => {
    expect((await stall("ws")).missed).toBe(0)
  })
})
