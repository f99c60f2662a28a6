/**
 * The cost of the reader of the outbox to its node: a rate of events, in small transactions,
 * through to a socket that receives every one of them.
 */
import { start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import { channelName, messageText } from "../lib/messages.ts"
import type { ProbeApi, ServerApi, WritersApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { prepare } from "./durable.ts"
import { median } from "./ratio.ts"
import { absolute, type Report } from "./result.ts"

export interface ReaderOptions {
  readonly perSecond: number
  /** Events of one transaction. */
  readonly together: number
}

interface Window {
  readonly perSecond: number
  /** Microseconds of the node's CPU. */
  readonly cost: number
  /** The share of one core, at the requested rate. */
  readonly share: number
  /** Bytes of heap after garbage collection. */
  readonly before: number
  readonly after: number
}

const megabytes = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1)

export const measureReader = async (
  context: Context,
  { perSecond, together }: ReaderOptions = { perSecond: 20_000, together: 20 }
): Promise<Report> => {
  const databaseUrl = await context.database()
  await prepare(databaseUrl, "hybrid")
  await using server = start<ServerApi>("server/main.ts")
  await using writers = start<WritersApi>("writers.ts")
  await using probe = start<ProbeApi>("probe.ts")
  const { port } = await server.call("open", {
    subject: "effect-realtime-durable",
    audience: { sockets: 1, channels: 1, bytes: 200 },
    databaseUrl
  })
  const channel = channelName(1)
  await probe.call("open", { databaseUrl, port, channels: [channel] })
  // Not by `realtime.publish`, which would be the slower one.
  const statement = `insert into realtime.messages (channel, payload)
    select '${channel}', '${messageText(1, 1, 200)}' from generate_series(1, ${together})`
  await writers.call("open", { databaseUrl, writers: 4, statement })

  let written = 0
  const window = async (): Promise<Window> => {
    const { heap: before } = await server.call("memory", {})
    const profile = context.profile("R")
    await server.call("start", profile === undefined ? {} : { profile: `${profile}.cpuprofile` })
    const begun = performance.now()
    const run = await writers.call("run", {
      millis: context.seconds * 1000,
      perSecond: perSecond / together
    })
    const events = run.commits * together
    written += events
    await probe.call("arrive", { events: written })
    const { system, user } = await server.call("stop", {})
    const seconds = (performance.now() - begun) / 1000
    const { heap: after } = await server.call("memory", {})
    return {
      perSecond: events / seconds,
      cost: (user + system) / events,
      share: ((user + system) / events) * (perSecond / 1e6),
      before,
      after
    }
  }

  await window()
  const windows = await inTurn(
    Array.from({ length: context.pairs }, (_, index) => index + 1),
    (index) => {
      context.say(`R window ${index}`)
      return window()
    }
  )
  const of = (valueOf: (window: Window) => number) => median(windows.map(valueOf))
  const shares = windows.map(({ share }) => share)
  const first = windows[0]!.before
  const heaps = windows.map(({ after }) => after / first)
  const common = { workload: "R", subject: "effect-realtime" } as const
  return {
    costs: [
      {
        ...common,
        columns: {
          "events/s": of((one) => one.perSecond).toFixed(0),
          "us/event": of(({ cost }) => cost).toFixed(1),
          "MB of heap, first": megabytes(first),
          "MB of heap, last": megabytes(windows.at(-1)!.after)
        }
      }
    ],
    results: [
      absolute(
        { ...common, measure: "cpu", baseline: "one core", goal: 1 },
        median(shares),
        shares
      ),
      absolute(
        {
          ...common,
          measure: "heap-after",
          baseline: "first heap",
          // A tenth and 2 MB more, however long it runs.
          goal: 1.1 + (2 * 1024 * 1024) / first
        },
        heaps.at(-1)!,
        heaps
      )
    ]
  }
}
