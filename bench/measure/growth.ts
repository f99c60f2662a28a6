/**
 * How costs grow: a curve that bends shows here first.
 */
import { inTurn } from "../lib/inTurn.ts"
import { connected, type Window } from "../lib/Rig.ts"
import type { Audience, SubjectName } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { cpuOf, warm } from "./fanOut.ts"
import { measureSockets } from "./idle.ts"
import { median } from "./ratio.ts"

export interface Curve {
  readonly title: string
  readonly unit: string
  readonly points: ReadonlyArray<{
    readonly at: string
    readonly values: Readonly<Record<string, number>>
  }>
}

export interface GrowthOptions {
  /** Numbers of sockets, all on one channel. */
  readonly sockets: ReadonlyArray<number>
  /** Numbers of channels, which `crowd` sockets share. */
  readonly channels: ReadonlyArray<number>
  readonly crowd: number
  /** Sockets that subscribe to 100 channels each. */
  readonly subscribers: ReadonlyArray<{
    readonly at: string
    readonly sockets: number
    readonly channels: number
  }>
  /** Deliveries before anything is measured. */
  readonly warmUp: number
}

const all: GrowthOptions = {
  sockets: [100, 1000, 10_000],
  channels: [1, 100, 10_000],
  crowd: 10_000,
  subscribers: [
    { at: "to 100 channels that 1,000 sockets share", sockets: 1000, channels: 100 },
    { at: "each to a channel of its own (10,000)", sockets: 100, channels: 10_000 }
  ],
  // As many as in C.
  warmUp: 150_000
}

const bytes = 200
const subjects: ReadonlyArray<SubjectName> = ["effect-realtime", "ws"]

/** The same deliveries per second at every point, so that only the number differs. */
const costAt = async (
  subject: SubjectName,
  audience: Audience,
  perSecond: number,
  messages: number,
  warmUp: number
): Promise<number> => {
  const rig = await connected({ subject, audience })
  const window: Window = { pace: { kind: "rate", perSecond }, messages, millis: 0 }
  try {
    await warm(rig, window, warmUp)
    const costs = [cpuOf(await rig.window(window)), cpuOf(await rig.window(window))]
    return median([...costs, cpuOf(await rig.window(window))])
  } finally {
    await rig[Symbol.asyncDispose]()
  }
}

const bySubject = async (
  measure: (subject: SubjectName) => Promise<number>
): Promise<Readonly<Record<string, number>>> => {
  const values = await inTurn(
    subjects,
    async (subject) => [subject, await measure(subject)] as const
  )
  return Object.fromEntries(values)
}

const bySockets = async (
  { say, seconds }: Context,
  { sockets: numbers, warmUp }: GrowthOptions
): Promise<Curve> => {
  const points = await inTurn(numbers, async (sockets) => {
    say(`growth: ${sockets} sockets`)
    const perSecond = 50_000 / sockets
    const values = await bySubject((subject) =>
      costAt(subject, { sockets, channels: 1, bytes }, perSecond, perSecond * seconds, warmUp)
    )
    return { at: `${sockets} sockets`, values }
  })
  return { title: "One channel, 50,000 deliveries/s", unit: "us/delivery", points }
}

const byChannels = async (
  { say, seconds }: Context,
  { channels: numbers, crowd: sockets, warmUp }: GrowthOptions
): Promise<Curve> => {
  const points = await inTurn(numbers, async (channels) => {
    say(`growth: ${channels} channels`)
    const perSecond = (15_000 * channels) / sockets
    const messages = channels * Math.max(1, Math.ceil((perSecond * seconds) / channels))
    const values = await bySubject((subject) =>
      costAt(subject, { sockets, channels, bytes }, perSecond, messages, warmUp)
    )
    return { at: `${channels} channels`, values }
  })
  return {
    title: `${sockets.toLocaleString("en")} sockets, 15,000 deliveries/s`,
    unit: "us/delivery",
    points
  }
}

/** `ws` by hand has no subscriptions to compare with. */
const bySubscriptions = async (
  { say }: Context,
  { subscribers }: GrowthOptions
): Promise<Curve> => {
  const subscriptions = 100
  say("growth: memory per subscription")
  const points = await inTurn(subscribers, async ({ at, channels, sockets }) => {
    const audience = { sockets, channels, bytes }
    const none = await measureSockets("effect-realtime", { ...audience, subscriptions: 0 })
    const some = await measureSockets("effect-realtime", { ...audience, subscriptions })
    return { at, values: { "effect-realtime": (some.heap - none.heap) / subscriptions } }
  })
  return { title: "Memory of one subscription", unit: "bytes of heap", points }
}

export const measureGrowth = async (
  context: Context,
  options: GrowthOptions = all
): Promise<ReadonlyArray<Curve>> => [
  await bySockets(context, options),
  await byChannels(context, options),
  await bySubscriptions(context, options)
]
