/** What a scrape shows, and which metrics the tests of a file have held against a load. */
import { expect } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"

/** Registers metrics apart from those of other tests. */
export const apart = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

/** The series of a scrape, by their names with labels. */
export type Series = Readonly<Record<string, number>>

export const scrape: Effect.Effect<Series> = Effect.map(PrometheusMetrics.format(), (text) => {
  const series: Record<string, number> = {}
  for (const line of text.split("\n")) {
    const found = /^effect_realtime_(\S+) (\S+)$/.exec(line)
    if (found !== null) series[found[1]!] = Number(found[2])
  }
  return series
})

/** Scrapes until a condition holds, every so many milliseconds. */
export const untilScraped = (
  condition: (series: Series) => boolean,
  every = 10
): Effect.Effect<Series> => Effect.repeat(Effect.delay(scrape, every), { until: condition })

/** The metrics that a test of this file has compared with a load, by their names. */
export const held = new Set<string>()

/** The name of the metric of a series, without its labels and the endings of a histogram. */
const metricOf = (series: string): string =>
  `effect_realtime_${series.replace(/\{.*/, "").replace(/_(sum|count)$/, "")}`

/** Compares series with what a load makes of them. What is 0 is what it was without the load. */
export const holds = (series: Series, load: Readonly<Record<string, number>>): void => {
  expect(series).toMatchObject(load)
  for (const [name, value] of Object.entries(load)) if (value !== 0) held.add(metricOf(name))
}

/** The same for a value that no load makes exactly: it is between these two, which are above 0. */
export const holdsBetween = (series: Series, name: string, least: number, most: number): void => {
  expect(least).toBeGreaterThan(0)
  expect(series[name]).toBeGreaterThanOrEqual(least)
  expect(series[name]).toBeLessThanOrEqual(most)
  held.add(metricOf(name))
}

/** Scrapes until series are what a load makes of them. */
export const untilHolds = (load: Readonly<Record<string, number>>): Effect.Effect<Series> =>
  Effect.tap(
    untilScraped((series) => Object.entries(load).every(([name, value]) => series[name] === value)),
    (series) => Effect.sync(() => holds(series, load))
  )
