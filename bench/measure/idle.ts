/**
 * The cost of an idle socket: memory of the server with 10,000 of them.
 */
import { Rig } from "../lib/Rig.ts"
import type { Audience, Memory, SubjectName } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { type Report, medianOf, resultsOf, type Result } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

/** Heap over a bare `ws` socket, in bytes. */
const goals: Readonly<Record<string, number>> = {
  "effect-realtime": 2048,
  "effect-realtime-route": 6144
}

/** Handshakes leave garbage and timers behind. */
const settleMillis = 1500

/** Per socket: bytes, and microseconds of the server to accept it. */
export interface IdleSample extends Memory {
  readonly handshake: number
}

export const measureSockets = async (
  subject: SubjectName,
  audience: Audience
): Promise<IdleSample> => {
  await using rig = new Rig({ subject, audience })
  const port = await rig.open()
  const before = await rig.memory()
  const handshake = await rig.joinAtCost(port)
  await new Promise((resolve) => setTimeout(resolve, settleMillis))
  const after = await rig.memory()
  return {
    handshake,
    heap: (after.heap - before.heap) / audience.sockets,
    rss: (after.rss - before.rss) / audience.sockets
  }
}

const subjects: ReadonlyArray<SubjectName> = [
  "effect-realtime",
  "effect-realtime-route",
  "socket.io",
  "effect-rpc",
  "effect-stream"
]

export const measureIdle = async (
  context: Context,
  audience: Audience = { sockets: 10_000, channels: 1, subscriptions: 0, bytes: 0 }
): Promise<Report> => {
  const contestant = (subject: SubjectName, label: string = subject): Contestant<IdleSample> => ({
    label,
    // A trial has its own processes: memory is not returned as it was.
    open: async () => ({
      run: () => measureSockets(subject, audience),
      [Symbol.asyncDispose]: async () => undefined
    })
  })
  const wanted = context.quick ? subjects.slice(0, 3) : subjects
  const again = "ws (again)"
  const trials = await takeTurns(
    contestant("ws"),
    [...wanted.filter(context.has).map((subject) => contestant(subject)), contestant("ws", again)],
    {
      pairs: context.pairs,
      roundsPerProcess: context.pairs,
      interleaved: false,
      onTrial: (label) => context.say(`I ${label}`)
    }
  )
  const heapOf = ({ heap }: Memory): number => heap
  const bare = medianOf(trials, "ws", heapOf)
  const labels = [...new Set(trials.map(({ label }) => label))]
  return {
    costs: labels.map((subject) => ({
      workload: "I",
      subject,
      columns: {
        "heap/socket": Math.round(medianOf(trials, subject, heapOf)).toString(),
        "over ws": Math.round(medianOf(trials, subject, heapOf) - bare).toString(),
        "us/handshake": medianOf(trials, subject, ({ handshake }) => handshake).toFixed(0),
        "RSS/socket": Math.round(medianOf(trials, subject, ({ rss }) => rss)).toString()
      }
    })),
    results: resultsOf({
      workload: "I",
      trials,
      measure: "heap-per-socket",
      valueOf: heapOf,
      baselines: ["ws"],
      again,
      // The goals are bytes over a bare socket; as ratios they depend on the bare socket's size.
      goals: Object.fromEntries(
        Object.entries(goals).map(([subject, over]) => [subject, { ws: (bare + over) / bare }])
      )
    }) satisfies ReadonlyArray<Result>
  }
}
