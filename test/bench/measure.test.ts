/**
 * The benchmark's comparisons, and its clients' checks for wrong bytes and missing events.
 */
import { once } from "node:events"
import type { AddressInfo, Socket } from "node:net"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { WebSocketServer } from "ws"
import { Connection } from "../../bench/client/Connection.ts"
import { Crowd } from "../../bench/client/Crowd.ts"
import { dialects } from "../../bench/client/dialects.ts"
import { Feed } from "../../bench/client/Feed.ts"
import { Check } from "../../bench/listener/Check.ts"
import { messageText } from "../../bench/lib/messages.ts"
import { commandOf, parseOptions } from "../../bench/lib/options.ts"
import { Tally } from "../../bench/lib/Tally.ts"
import { compare, isTooNoisy, median, percentile, quartiles } from "../../bench/measure/ratio.ts"
import { failureOf, resultsOf } from "../../bench/measure/result.ts"
import { roundOf, takeTurns } from "../../bench/measure/rounds.ts"
import { type Way, roundOfSlices, spreadOf } from "../../bench/measure/slices.ts"
import { readmeWith } from "../../bench/report/record.ts"
import type { Run } from "../../bench/report/run.ts"
import { tablesOf } from "../../bench/report/table.ts"
import { Publisher } from "../../bench/server/publisher.ts"
import { textFrame } from "../support/messages.ts"

describe("a comparison", () => {
  const trials = [
    { label: "ws", sample: 10 },
    { label: "ours", sample: 8 },
    { label: "other", sample: 15 },
    { label: "ws", sample: 20 },
    { label: "ours", sample: 18 },
    { label: "ws", sample: 30 }
  ]
  const identity = (value: number) => value

  it("divides each trial by the nearest trial of the baseline", () => {
    expect(compare(trials, "ours", "ws", identity)).toEqual({
      ratio: (0.8 + 0.9) / 2,
      low: 0.8,
      high: 0.9,
      pairs: 2
    })
    expect(compare(trials, "other", "ws", identity)?.ratio).toBe(0.75)
    expect(compare(trials, "absent", "ws", identity)).toBeUndefined()
  })

  it("computes medians, percentiles and quartiles", () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 2, 3])).toBe(2.5)
    expect(percentile([5, 1, 4, 2, 3], 0.5)).toBe(3)
    expect(percentile([5, 1, 4, 2, 3], 0.99)).toBe(5)
    expect(quartiles([5, 1, 4, 2, 3])).toEqual([2, 4])
    expect(quartiles([4, 1, 2, 3])).toEqual([1.75, 3.25])
    expect(quartiles([7])).toEqual([7, 7])
  })

  it("runs the ways in slices, forwards and backwards, each with its next statements", async () => {
    const ran: Array<string> = []
    const way = (label: string): Way => ({
      label,
      pid: process.pid,
      run: async (n) => void ran.push(`${label}${n}`)
    })
    const round = await roundOfSlices([way("a"), way("b")], {
      statements: 4,
      slices: 2,
      warmUp: 1
    })
    expect(ran.join(" ")).toBe("a0 b0 a1 a2 b1 b2 b3 b4 a3 a4")
    expect([...round.keys()]).toEqual(["a", "b"])
  })

  it("compares a goal of T with the upper quartile of the rounds' ratios", () => {
    const rounds = [1, 2, 3, 4, 5].map((value) => new Map([["ours", value]]))
    const verdictOf = (goal: number, noisy = false) =>
      spreadOf(
        { workload: "T", subject: "ours", baseline: "x", measure: "added-cpu", goal, noisy },
        rounds,
        (round) => round.get("ours")!
      )
    expect(verdictOf(4)).toMatchObject({ ratio: 3, low: 2, high: 4, pairs: 5, verdict: "met" })
    expect(verdictOf(3.9).verdict).toBe("missed")
    expect(verdictOf(4, true).verdict).toBe("too-noisy")
  })

  it("runs the baseline beside every trial, and reverses the order in turn", async () => {
    expect(roundOf("ws", ["a", "b", "c"])).toEqual(["ws", "a", "b", "ws", "c", "ws"])
    const opened: Array<string> = []
    const contestant = (label: string) => ({
      label,
      open: async () => {
        opened.push(label)
        return { run: async () => 1, [Symbol.asyncDispose]: async () => undefined }
      }
    })
    const turns = await takeTurns(contestant("ws"), [contestant("a"), contestant("b")], {
      pairs: 3,
      roundsPerProcess: 2
    })
    expect(turns.map(({ label }) => label).join(" ")).toBe("ws a b ws b a ws ws a b ws")
    expect(opened).toEqual(["ws", "a", "b", "ws", "a", "b"])
  })

  it("returns no verdict when the baseline differs too much from itself", () => {
    const verdicts = (again: number) =>
      resultsOf({
        workload: "W1",
        trials: [...trials, { label: "again", sample: again }],
        measure: "cpu-per-delivery",
        valueOf: identity,
        goals: { ours: { ws: 0.9 }, other: { ws: 0.7 } },
        baselines: ["ws"],
        again: "again"
      }).map(({ subject, verdict }) => `${subject} ${verdict}`)
    expect(verdicts(30)).toEqual(["ours met", "other missed", "again null"])
    expect(verdicts(36)).toEqual(["ours too-noisy", "other too-noisy", "again null"])
    expect(isTooNoisy({ ratio: 0.89, low: 0.5, high: 1, pairs: 2 })).toBe(true)
    expect(isTooNoisy(undefined)).toBe(false)
  })
})

describe("a client of the benchmark", () => {
  const text = (number: number) => messageText(0, number, 200)

  /** Two sockets of one channel, after their handshakes. */
  const pair = (dialect: "plain" | "realtime") => {
    const feed = new Feed(0, dialects[dialect], text)
    const failures: Array<string> = []
    const open = (number: number) => {
      const connection = new Connection(number, [0], dialects[dialect], feed, {
        onReady: () => undefined,
        onProgress: () => undefined,
        onFailure: (error) => failures.push(error.message)
      })
      connection.receive(Buffer.from("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
      return connection
    }
    return { feed, failures, one: open(0), two: open(1) }
  }

  const event = (number: number) =>
    `{"id":"e:${number + 1}","at":"2026-01-01T00:00:00.000Z","data":${text(number)}}`
  const eventsText = (...numbers: ReadonlyArray<number>) =>
    `{"type":"events","channel":"bench_0","cursor":"e:${numbers.at(-1)! + 1}","events":[${numbers.map(event).join(",")}]}`
  const events = (...numbers: ReadonlyArray<number>) => textFrame(eventsText(...numbers))
  const subscribed = textFrame('{"type":"subscribed","id":0}')
  const ping = textFrame('{"type":"ping"}')

  it("counts a message once every socket has received it", () => {
    const { failures, feed, one, two } = pair("plain")
    one.receive(textFrame(text(0)))
    expect(feed.isComplete(1)).toBe(false)
    two.receive(textFrame(text(0)))
    expect(feed.isComplete(1)).toBe(true)
    expect(failures).toEqual([])
  })

  it("reads frames in any pieces, with pings between them", () => {
    const { failures, feed, one, two } = pair("realtime")
    one.receive(Buffer.concat([subscribed, events(0), ping, events(1, 2), events(3)]))
    const same = Buffer.concat([subscribed, ping, events(0), events(1, 2), ping, events(3), ping])
    for (const byte of same) two.receive(Buffer.from([byte]))
    expect(failures).toEqual([])
    expect(feed.isComplete(4)).toBe(true)
  })

  it.each([
    ["another text", textFrame(text(1))],
    ["one byte too many", textFrame(`${text(0)} `)],
    ["a frame that is cut", textFrame(text(0)).subarray(1)]
  ])("detects %s", (_, bytes) => {
    const { failures, one } = pair("plain")
    one.receive(bytes)
    expect(failures).toHaveLength(1)
  })

  it("detects a socket that receives other bytes than the other one", () => {
    const { failures, one, two } = pair("realtime")
    one.receive(Buffer.concat([subscribed, events(0, 1)]))
    two.receive(Buffer.concat([subscribed, events(0), events(1)]))
    expect(failures).toHaveLength(1)
    expect(failures[0]).toContain("different bytes")
  })

  it.each([
    ["a cursor that is none", eventsText(0, 1).replace('"cursor":"e:2"', '"cursor":"NONSENSE"')],
    ["a cursor that is behind", eventsText(0, 1).replace('"cursor":"e:2"', '"cursor":"e:1"')],
    ["the number of another event", eventsText(0).replaceAll('"e:1"', '"e:77"')],
    ["an id that is none", eventsText(0).replaceAll('"e:1"', '"1"')],
    ["two epochs in a frame", eventsText(0, 1).replace('"id":"e:1"', '"id":"f:1"')],
    ["two epochs in a feed", `${eventsText(0)}\n${eventsText(1).replaceAll('"e:', '"f:')}`]
  ])("detects %s", (_, text) => {
    const { failures, one } = pair("realtime")
    one.receive(Buffer.concat([subscribed, textFrame(text)]))
    expect(failures).toHaveLength(1)
  })

  it("detects a missing message, with a gap or without one", () => {
    const silent = pair("realtime")
    silent.one.receive(Buffer.concat([subscribed, events(0), events(2)]))
    expect(silent.failures).toHaveLength(1)
    const told = pair("realtime")
    const gap = textFrame('{"type":"gap","channel":"bench_0","reason":"slow","cursor":"e:3"}')
    told.one.receive(Buffer.concat([subscribed, events(0), gap]))
    expect(told.failures).toHaveLength(1)
  })
})

describe("the check of a client library", () => {
  const event = (number: number) => JSON.parse(messageText(0, number, 200)) as unknown
  const after = async (...payloads: ReadonlyArray<unknown>) => {
    const check = new Check(200)
    const arrived = check.arrive(payloads.length)
    for (const payload of payloads) check.take(payload)
    return arrived
  }

  it("passes when 1,200 events arrive in order", async () => {
    const all = Array.from({ length: 1200 }, (_, number) => event(number))
    await expect(after(...all)).resolves.toBeUndefined()
  })

  it.each([
    ["a missing event", event(0), event(2)],
    ["a repeated event", event(0), event(0)],
    ["another text", { ...(event(0) as object), note: "x" }],
    ["a text instead of an event", "text"]
  ])("fails with %s", async (_, ...payloads) => {
    await expect(after(...payloads)).rejects.toThrow("event ")
  })

  it("fails when more events arrive than the benchmark sent", async () => {
    const check = new Check(200)
    for (const number of [0, 1, 2]) check.take(event(number))
    await expect(check.arrive(2)).rejects.toThrow("3 events came instead of 2")
  })
})

describe("a crowd", () => {
  const text = (number: number) => messageText(0, number, 200)

  const right = textFrame(text(0))

  /** Two sockets of one channel, and the server's side of each. */
  const withCrowd = async <A>(run: (crowd: Crowd, ends: ReadonlyArray<Socket>) => Promise<A>) => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" })
    const sockets: Array<Socket> = []
    server.on("connection", (_, { socket }) => sockets.push(socket))
    await once(server, "listening")
    const crowd = new Crowd({
      dialect: "plain",
      port: (server.address() as AddressInfo).port,
      audience: { sockets: 2, channels: 1, bytes: 200 },
      first: 0,
      count: 2,
      timed: false
    })
    try {
      await crowd.open()
      return await run(crowd, sockets)
    } finally {
      crowd.close()
      server.close()
    }
  }

  /** One socket receives its message, then the other one receives `last` in one piece. */
  const arriveWith = (last: Uint8Array) =>
    withCrowd(async (crowd, [one, two]) => {
      const arrived = crowd.arrive(1)
      one!.write(right)
      await vi.waitFor(() => expect(crowd.progress).toBe(0.5))
      two!.write(last)
      await arrived
      return crowd.settle()
    })

  it("reports a wrong byte even when no caller waits for the arrival", async () => {
    await withCrowd(async (crowd, [one]) => {
      one!.write(textFrame(text(1)))
      await expect(crowd.broken).rejects.toThrow("differs from what was published")
    })
  })

  it("passes when both sockets receive the published message", async () => {
    await expect(arriveWith(right)).resolves.toBeUndefined()
  })

  it.each([
    ["the same message twice", right, "differs from what was published"],
    ["a frame of something else", textFrame("rubbish"), "differs from what was published"],
    ["a frame that is cut", textFrame(text(1)).subarray(0, 50), "50 bytes came behind"],
    ["a message that was not published", textFrame(text(1)), "more came than was published"]
  ])("fails in the same window with %s behind it", async (_, bytes, reason) => {
    await expect(arriveWith(Buffer.concat([right, bytes]))).rejects.toThrow(reason)
  })
})

describe("a measuring window without progress", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  /** "well", or the error's message. */
  const endOf = (run: Promise<unknown>): Promise<string> =>
    run.then(
      () => "well",
      (error: Error) => error.message
    )

  it("fails at the publisher, 10 s after the last progress of the clients", async () => {
    const publisher = new Publisher({ sockets: 1, channels: 1, bytes: 200 }, () => undefined)
    publisher.prepare(0, 1000)
    // More than the limit of unconfirmed messages, so it waits at once.
    const end = endOf(publisher.run({ kind: "turn", burst: 300 }, 60_000))
    await vi.advanceTimersByTimeAsync(9000)
    publisher.arrived(1)
    await vi.advanceTimersByTimeAsync(9999)
    expect(await Promise.race([end, Promise.resolve("under way")])).toBe("under way")
    await vi.advanceTimersByTimeAsync(1)
    expect(await end).toContain("have 1 of 300 messages, and nothing new for 10 s")
  })

  it("fails at the receiver, 10 s after the last notification", async () => {
    const tally = new Tally()
    const end = endOf(tally.arrive(10))
    await vi.advanceTimersByTimeAsync(9000)
    tally.take(7)
    await vi.advanceTimersByTimeAsync(9999)
    expect(await Promise.race([end, Promise.resolve("under way")])).toBe("under way")
    await vi.advanceTimersByTimeAsync(2)
    expect(await end).toBe("7 of 10 notifications came")
  })

  it("fails at the receiver when the source says that something may be lost", async () => {
    const tally = new Tally()
    const end = endOf(tally.arrive(10))
    tally.fail(new Error("some may be lost"))
    await vi.advanceTimersByTimeAsync(1)
    expect(await end).toBe("some may be lost")
  })

  it("passes at the receiver when exactly all notifications arrived", async () => {
    const tally = new Tally()
    const all = endOf(tally.arrive(10))
    tally.take(4)
    tally.take(6)
    await vi.advanceTimersByTimeAsync(1)
    expect(await all).toBe("well")
    const more = endOf(tally.arrive(5))
    tally.take(6)
    await vi.advanceTimersByTimeAsync(1)
    expect(await more).toBe("6 of 5 notifications came")
  })
})

describe("the report", () => {
  const run: Run = {
    machine: {
      cpu: "a processor",
      cores: 2,
      memoryGiB: 24,
      os: "Linux",
      node: "v24",
      date: "2026-01-01",
      load: 0,
      versions: { ws: "8" }
    },
    how: {
      command: "npm run bench -- --pairs 5",
      seconds: 3,
      pairs: 5,
      workloads: ["W1", "C"],
      absent: ["nats-server"]
    },
    sections: [],
    curves: [],
    failures: [{ workload: "C", reason: "client/main.ts: Error: socket 3: a frame differs" }],
    minutes: 12.3
  }

  it("names the machine, the command, the workloads and the missing subjects", () => {
    expect(tablesOf(run))
      .toBe(`2026-01-01, 2 cores of a processor, 24 GiB, Linux, Node v24, load 0 at the start.
ws 8.
\`npm run bench -- --pairs 5\`: W1, C, 5 pairs, windows of 3 s, 12 minutes. Not there: nats-server.

**C failed**: client/main.ts: Error: socket 3: a frame differs`)
  })

  it("reports a failure in one line", () => {
    const error = new Error("a frame differs\n  got 1\n  wanted 2")
    expect(failureOf("W1", error)).toEqual({ workload: "W1", reason: "a frame differs" })
  })

  it("names the command without paths", () => {
    const options = parseOptions(["--quick", "--workload", "W1,C", "--json", "/tmp/x"])
    expect(commandOf(options)).toBe("npm run bench -- --quick --workload W1,C")
    expect(commandOf(parseOptions([]))).toBe("npm run bench")
  })

  it.each([["--quick"], ["--workload", "W1"], ["--workload", "T"], ["--workload", "T,T1,T2,C"]])(
    "rejects --record for a partial run: %s %s",
    (...args) => {
      expect(() => parseOptions([...args, "--record"])).toThrow("--record is for a full run")
    }
  )

  const marked = (full: string, watch: string) =>
    `<!-- the last full run begins -->${full}<!-- the last full run ends -->
text
<!-- the last run of T begins -->${watch}<!-- the last run of T ends -->`

  it("keeps the other tables when only the cost of nodes was measured", () => {
    const { workloads } = parseOptions(["--workload", "P,D1,G", "--record"])
    const only = { ...run, how: { ...run.how, workloads: workloads! }, failures: [] }
    const mark = (text: string) =>
      `${marked("old", "old")}<!-- the last run of nodes begins -->${text}<!-- the last run of nodes ends -->`
    expect(readmeWith(mark("old"), only)).toBe(mark(`\n\n${tablesOf(only)}\n\n`))
  })

  it("keeps the other tables when only T was measured", () => {
    const { record, workloads } = parseOptions(["--workload", "T,T1,T2", "--record"])
    expect(record).toBe(true)
    const only = { ...run, how: { ...run.how, workloads: workloads! }, failures: [] }
    expect(readmeWith(marked("old", "old"), only)).toBe(marked("old", `\n\n${tablesOf(only)}\n\n`))
  })

  it("puts the tables of T and those of the other workloads in their places", () => {
    const section = (workload: string) => ({ workload, title: "title", costs: [], results: [] })
    const all = {
      ...run,
      how: { ...run.how, workloads: ["W1", "C", "T"] },
      sections: [section("W1"), section("T")]
    }
    const [others, watch] = readmeWith(marked("old", "old"), all).split("\ntext\n")
    expect(others).toContain("### W1: title")
    expect(others).toContain("**C failed**")
    expect(others).not.toContain("### T")
    expect(watch).toContain("### T: title")
    expect(watch).not.toContain("C failed")
  })

  it("fails when the README has lost its marks", () => {
    expect(() => readmeWith("no marks", run)).toThrow("lost its marks")
  })

  it("has a column for a baseline only if a row of the table has a ratio to it", () => {
    const result = {
      workload: "T",
      measure: "added-cpu",
      ratio: 1,
      low: 1,
      high: 2,
      pairs: 3,
      verdict: "missed",
      goal: 1.5
    } as const
    const text = tablesOf({
      ...run,
      failures: [],
      sections: [
        {
          workload: "T",
          title: "title",
          costs: [{ workload: "T", subject: "here", columns: { us: "1" } }],
          results: [
            { ...result, subject: "here", baseline: "one" },
            { ...result, subject: "elsewhere", baseline: "two" }
          ]
        }
      ]
    })
    expect(text).toMatch(
      /\| elsewhere +\| added-cpu +\| two +\| <= 1\.50 +\| +1\.00 \(1\.00-2\.00\) \| +3 \| MISSED/
    )
    expect(text).toContain("|      | us |            x one |")
  })
})
