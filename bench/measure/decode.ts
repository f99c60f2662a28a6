/**
 * The cost of an event to a client: from the bytes of its socket to its handler, in Node.
 */
import { Line, type LineSample } from "../lib/Line.ts"
import type { LibraryName } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { runner } from "./fanOut.ts"
import { type Goals, medianOf, type Report, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

/** How events arrive: a server may join those that it has at the same time. */
export interface Decoding {
  readonly name: string
  readonly title: string
  readonly perSecond: number
  readonly together: number
  readonly goals: Goals
}

const baseline = "socket.io-client"
const bytes = 200

export const decodings: ReadonlyArray<Decoding> = [
  {
    name: "K",
    title: "one client, 100,000 events/s",
    perSecond: 100_000,
    together: 100,
    goals: { "effect-realtime": { [baseline]: 1, centrifuge: 1 } }
  },
  {
    name: "K1",
    title: "one client, 10,000 events/s, one at a time",
    perSecond: 10_000,
    together: 1,
    // The cost of reading a WebSocket message, which none of these libraries does itself.
    goals: {}
  }
]

export const libraryNames: ReadonlyArray<LibraryName> = [
  "effect-realtime",
  "effect-realtime-schema",
  "socket.io-client",
  "centrifuge"
]

const cpuOf = ({ events, system, user }: LineSample): number => (user + system) / events

export const measureDecoding = async (
  { goals, name, perSecond, together }: Decoding,
  context: Context
): Promise<Report> => {
  const contestant = (library: LibraryName, label: string = library): Contestant<LineSample> => ({
    label,
    open: async () => {
      const line = await Line.open({ library, bytes, profile: context.profile(name) })
      await line.window({ events: 50_000, perSecond, together })
      const events = perSecond * context.seconds
      return runner(line, () => line.window({ events, perSecond, together }))
    }
  })
  const again = `${baseline} (again)`
  const others = libraryNames.filter((library) => library !== baseline && context.has(library))
  if (!context.has(baseline)) throw new Error(`${baseline} is not installed`)
  const trials = await takeTurns(
    contestant(baseline),
    [...others.map((library) => contestant(library)), contestant(baseline, again)],
    {
      pairs: context.pairs,
      roundsPerProcess: context.roundsPerProcess,
      onTrial: (label) => context.say(`${name} ${label}`)
    }
  )
  const labels = [...new Set(trials.map(({ label }) => label))]
  const of = (label: string, valueOf: (sample: LineSample) => number) =>
    medianOf(trials, label, valueOf)
  return {
    costs: labels.map((subject) => ({
      workload: name,
      subject,
      columns: {
        "us/event": of(subject, cpuOf).toFixed(2),
        user: of(subject, ({ events, user }) => user / events).toFixed(2),
        system: of(subject, ({ events, system }) => system / events).toFixed(2),
        "events/s": Math.round(of(subject, ({ events, seconds }) => events / seconds)).toString()
      }
    })),
    results: resultsOf({
      workload: name,
      trials,
      measure: "cpu-per-event",
      valueOf: cpuOf,
      goals,
      baselines: [baseline, "centrifuge"],
      again
    })
  }
}
