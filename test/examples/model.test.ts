/**
 * The model of a cluster: its numbers are those of the benchmark, it predicts what did not calibrate it, its
 * storm is that of the real backoff and door, and the guide has what it prints.
 */
import { describe, expect, it, vi } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assumed, costsOf, cpuOfDelivery, stormOf } from "../../examples/cluster/costs.ts"
import * as Numbers from "../../examples/cluster/measured.ts"
import * as Backoff from "../../src/Backoff.ts"
import { limits } from "../../src/internal/defaults.ts"
import { Bucket } from "../../src/server/internal/limits/tokenBucket.ts"
import { random, seed } from "../server/support/random.ts"

const root = Path.resolve(import.meta.dirname, "../..")
const read = (path: string) => Fs.readFileSync(Path.join(root, path), "utf8")

const benchmark = read("bench/README.md")

const cellsOf = (line: string) => line.split("|").map((cell) => cell.trim())

/** The number in the tables below a heading; in the last ones of the document, if it is there twice. */
const inBenchmark = ({ column, heading, row }: Numbers.Measured): number => {
  const lines = benchmark.split("\n")
  const start = lines.findLastIndex((line) => /^#+ /.test(line) && line.endsWith(` ${heading}`))
  expect(start, heading).toBeGreaterThan(-1)
  const size = lines.slice(start + 1).findIndex((line) => line.startsWith("#"))
  const tables = lines.slice(start + 1, size === -1 ? undefined : start + 1 + size)
  let at = -1
  for (const line of tables) {
    const cells = cellsOf(line)
    if (cells.includes(column)) at = cells.indexOf(column)
    if (at !== -1 && cells[1] === row) return Number(cells[at])
  }
  return NaN
}

/** How long 999 of 1,000 clients are away: each by itself, with the backoff of the client and real buckets. */
const stormOfClients = (lost: number, nodes: number, first: number) => {
  const { next } = random(first)
  const buckets = Array.from({ length: nodes }, () => new Bucket(limits.upgradeRate, 0))
  /** For each millisecond, the clients that come then, by their attempt. */
  const coming: Array<Array<number>> = []
  const retry = (now: number, attempt: number) => {
    const at = now + Math.ceil(next() * Backoff.ceiling(Backoff.client, attempt))
    ;(coming[at] ??= []).push(attempt)
  }
  for (let client = 0; client < lost; client++) retry(0, 1)
  let away = lost
  let now = 0
  for (; away > lost / 1000; now++) {
    for (const attempt of coming[now] ?? []) {
      const bucket = buckets[Math.floor(next() * nodes)]!
      if (bucket.take(limits.upgradeRate, now) === 0) away--
      else retry(now + 1, attempt + 1)
    }
  }
  return now / 1000
}

describe("the model of a cluster", () => {
  it("takes its numbers from the tables of the benchmark", () => {
    const { calibration, predicted, ...others } = Numbers
    const all = [
      ...[...Object.values(calibration), ...predicted].map(({ cpu }) => cpu),
      ...Object.values(others)
    ]
    for (const number of all) {
      expect(inBenchmark(number), `${number.heading}, ${number.row}`).toBe(number.value)
    }
  })

  it("takes the limits that it assumes from the defaults", () => {
    expect(limits.upgradeRate).toEqual({
      perSecond: assumed.upgradesPerSecond,
      burst: assumed.upgradesPerSecond
    })
    expect(limits.pingInterval).toBe(assumed.pingEvery * 1000)
  })

  it("goes through the points that calibrate it", () => {
    for (const { cpu, fanOut, sockets } of Object.values(Numbers.calibration)) {
      expect(cpuOfDelivery(sockets, fanOut)).toBeCloseTo(cpu.value, 9)
    }
  })

  it.each(
    Numbers.predicted.map((point) => [`${point.cpu.heading}, ${point.cpu.row}`, point] as const)
  )("predicts %s within 25 %", (_, { cpu, fanOut, sockets }) => {
    const ratio = cpuOfDelivery(sockets, fanOut) / cpu.value
    expect(ratio).toBeGreaterThan(0.75)
    expect(ratio).toBeLessThan(1.25)
  })

  it.each([
    [20_000, 4],
    [10_000, 99],
    [50_000, 10]
  ])(
    `brings %i clients back to %i nodes as fast as one by one (REALTIME_TEST_SEED=${seed})`,
    (lost, nodes) => {
      // The last client of one storm is late by chance.
      const storms = Array.from({ length: 5 }, (_, n) => stormOfClients(lost, nodes, seed + n))
      const one = storms.toSorted((left, right) => left - right)[2]!
      const { seconds } = stormOf(lost, nodes)
      expect(seconds).toBeGreaterThan(0.8 * one)
      expect(seconds).toBeLessThan(1.25 * one)
    }
  )

  it("has one room, one node and no other member where there is one node", () => {
    const costs = costsOf(
      { sockets: 1000, roomSize: 1000, eventsPerSocket: 50, presenceEvery: Infinity },
      1
    )
    expect(costs).toMatchObject({ fanOut: 1000, nats: { busOut: 0 } })
    expect(costs.core.deliveries).toBeCloseTo(50_000 * 8.5e-6, 9)
    expect(costs.memory.members).toBe(1000 * Numbers.heapOfMember.value)
  })

  it("prints what the guide has", async () => {
    const print = vi.spyOn(console, "log").mockReturnValue()
    await import("../../examples/cluster/model.ts")
    const printed = print.mock.calls.flat().join("\n")
    print.mockRestore()
    const [, shown] = /prints begins -->\n\n([^]*)\n<!-- what/.exec(
      read("examples/cluster/README.md")
    )!
    expect(shown!.trimEnd()).toBe(printed)
  })
})
