/**
 * What a process counts for its metrics: plain numbers, because some change with every event.
 *
 * Each part of a node adds to them, and a scrape reads them: nothing is copied in between. All nodes of a
 * process that have the same registry of metrics share one tally, so that their numbers add up. The series
 * are there from the start, with 0: a reason that was not seen yet is no hole in a graph.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { type GapReason, gapReasons } from "../../RealtimeEvent.ts"
import * as metrics from "./metrics.ts"

/** A histogram as plain numbers. */
export class Distribution {
  readonly #bounds: ReadonlyArray<number>
  readonly #counts: Array<number>
  #count = 0
  #sum = 0
  #min = Number.MAX_VALUE
  #max = -Number.MAX_VALUE

  /** `bounds`: in rising order. */
  constructor(bounds: ReadonlyArray<number>) {
    this.#bounds = bounds
    this.#counts = bounds.map(() => 0)
  }

  add(value: number): void {
    this.#count++
    this.#sum += value
    if (value < this.#min) this.#min = value
    if (value > this.#max) this.#max = value
    const bounds = this.#bounds
    let index = 0
    while (index < bounds.length && value > bounds[index]!) index++
    if (index < bounds.length) this.#counts[index]!++
  }

  get state(): Metric.HistogramState {
    let below = 0
    return {
      buckets: this.#bounds.map((bound, index) => [bound, (below += this.#counts[index]!)]),
      count: this.#count,
      sum: this.#sum,
      min: this.#min,
      max: this.#max
    }
  }
}

/** Why a client could not resume. `memory`: of a live channel. */
const resetReasons = [
  "malformed",
  "identity",
  "witness",
  "future",
  "retention",
  "bounds",
  "memory"
] as const

/** Why the bus drops what it received, or has to send. */
export const busDropReasons = [
  "forged",
  "late",
  "replayed",
  "over",
  "malformed",
  "incomplete",
  "too-large",
  "full",
  "unsent"
] as const

/** Why a node drops what it received over NATS. */
export const natsDropReasons = ["forged", "late", "replayed"] as const

/** What becomes of a tick of the elected reader. */
export const feedOutcomes = ["fed", "repaired", "refused"] as const

/** The deliveries with events. */
const withEvents = ["live", "durable", "volatile"] as const
const deliveries = [...withEvents, "presence"] as const

const zeros = <Key extends string>(keys: ReadonlyArray<Key>): Record<Key, number> =>
  Object.fromEntries(keys.map((key) => [key, 0])) as Record<Key, number>

/** How the values of several parts of a process are one value. */
const ways = {
  sum: (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0),
  most: (values: ReadonlyArray<number>) => Math.max(...values),
  least: (values: ReadonlyArray<number>) => Math.min(...values)
}

/** What is read at a scrape, and how the values of several nodes of a process are one. */
const gauges = {
  sessions: [metrics.sessions, "sum"],
  subscriptions: [metrics.subscriptions, "sum"],
  mailboxBytes: [metrics.mailboxBytes, "sum"],
  linkUp: [metrics.linkUp, "least"],
  readerUp: [metrics.readerUp, "least"],
  readerLag: [metrics.readerLag, "most"],
  consumerLag: [metrics.consumerLag, "most"],
  oldestTransaction: [metrics.oldestTransaction, "most"],
  presenceSeats: [metrics.presenceSeats, "sum"],
  busUp: [metrics.busUp, "least"],
  busNodes: [metrics.busNodes, "least"],
  natsUp: [metrics.natsUp, "least"]
} as const

const sessionsOfDatabase = ["link", "reader"] as const

/** What this version of a node takes leases for. */
const leases = ["reader", "listener", "consumer"]

/** Counters that change so seldom that their parts update them. */
const seldom = [
  metrics.backlogsDropped,
  metrics.busReceived,
  metrics.busSent,
  metrics.natsReconnects,
  metrics.notificationsInvalid,
  metrics.presenceMessages,
  metrics.presenceWholeLists,
  metrics.volatileDropped
]

/** Work of a consumer that is not done. */
export interface InHand {
  /** When its first event was written, in milliseconds since 1970. */
  readonly at: number
  /** Where the consumer stands before it, as the database has it. */
  readonly cursor: string | undefined
}

/** Seconds since a time in milliseconds since 1970. */
export const secondsSince = (clock: Clock.Clock, at: number): number =>
  Math.max(0, clock.currentTimeMillisUnsafe() - at) / 1000

/** Those that say what is true of a node also where it has no such part: 0. */
const ofAnyNode = [
  "sessions",
  "subscriptions",
  "mailboxBytes",
  "consumerLag",
  "presenceSeats",
  "busNodes"
] as const

export class Tally {
  eventsOut = 0
  bytesIn = 0
  bytesOut = 0
  replayEvents = 0
  readonly eventsIn = zeros(withEvents)
  readonly channels = zeros(deliveries)
  readonly gaps: Record<GapReason, number> = zeros(gapReasons)
  readonly resets = zeros(resetReasons)
  readonly reconnects = zeros(sessionsOfDatabase)
  readonly batchEvents = new Distribution(metrics.batchBounds)
  readonly deliverySeconds = new Distribution(metrics.secondBounds)
  readonly replaySeconds = new Distribution(metrics.secondBounds)
  /** Consumers that failed and were not started again, by what names them. */
  readonly failedConsumers = new Map<string, InHand>()
  /** How many workers of each consumer run, by what names it. */
  readonly workers = new Map<string, number>()
  readonly #context: Context.Context<never> | undefined
  readonly #parts = new Map<keyof typeof gauges, Set<() => number>>()

  /** Without a context no metric shows it. */
  constructor(context?: Context.Context<never>) {
    this.#context = context
    if (context === undefined) return
    for (const metric of seldom) metric.updateUnsafe(0, context)
    for (const lease of leases) {
      for (const metric of [
        metrics.leasesHeld,
        metrics.leasesTaken,
        metrics.leaseRenewalsFailed
      ] as const) {
        Metric.withAttributes<number, unknown>(metric, { lease }).modifyUnsafe(0, context)
      }
    }
    this.#zeros(metrics.busDropped, "reason", busDropReasons)
    this.#zeros(metrics.feedTicks, "outcome", feedOutcomes)
    this.#zeros(metrics.natsDropped, "reason", natsDropReasons)
    for (const name of ofAnyNode) this.#partsOf(name)
    const clock = Context.get(context, Clock.Clock)
    this.#partsOf("consumerLag").add(() =>
      Math.max(0, ...Array.from(this.failedConsumers.values(), ({ at }) => secondsSince(clock, at)))
    )
    this.#count(metrics.eventsOut, () => this.eventsOut)
    this.#count(metrics.bytesIn, () => this.bytesIn)
    this.#count(metrics.bytesOut, () => this.bytesOut)
    this.#count(metrics.replayEvents, () => this.replayEvents)
    this.#countEach(metrics.eventsIn, "delivery", this.eventsIn)
    this.#countEach(metrics.gaps, "reason", this.gaps)
    this.#countEach(metrics.resets, "reason", this.resets)
    this.#countEach(metrics.reconnects, "session", this.reconnects)
    for (const delivery of deliveries) {
      const of = Metric.withAttributes(metrics.channelsOpen, { delivery })
      register(of, context, () => ({ value: this.channels[delivery] }))
    }
    register(metrics.batchEvents, context, () => this.batchEvents.state)
    register(metrics.deliverySeconds, context, () => this.deliverySeconds.state)
    register(metrics.replaySeconds, context, () => this.replaySeconds.state)
  }

  /** Shows a value, read at each scrape, until the scope closes. */
  show(name: keyof typeof gauges, read: () => number): Effect.Effect<void, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => void this.#partsOf(name).add(read)),
      () => Effect.sync(() => void this.#parts.get(name)?.delete(read))
    )
  }

  /** A value that parts show, as it is now; `undefined` while none does. */
  read(name: keyof typeof gauges): number | undefined {
    const parts = this.#parts.get(name)
    if (parts === undefined || parts.size === 0) return undefined
    return ways[gauges[name][1]](Array.from(parts, (read) => read()))
  }

  #partsOf(name: keyof typeof gauges): Set<() => number> {
    let parts = this.#parts.get(name)
    if (parts === undefined) {
      parts = new Set()
      this.#parts.set(name, parts)
      const [metric] = gauges[name]
      if (this.#context !== undefined) {
        register(metric, this.#context, () => ({ value: this.read(name) ?? 0 }))
      }
    }
    return parts
  }

  /** For counters that others update. */
  #zeros(metric: Metric.Counter<number>, label: string, values: ReadonlyArray<string>): void {
    for (const value of values) {
      Metric.withAttributes(metric, { [label]: value }).updateUnsafe(0, this.#context!)
    }
  }

  #count(metric: Metric.Counter<number>, read: () => number): void {
    register(metric, this.#context!, () => ({ count: read(), incremental: true }))
  }

  #countEach<Key extends string>(
    metric: Metric.Counter<number>,
    attribute: string,
    counts: Readonly<Record<Key, number>>
  ): void {
    for (const key in counts) {
      this.#count(Metric.withAttributes(metric, { [attribute]: key }), () => counts[key])
    }
  }
}

const register = <Input, State>(
  metric: Metric.Metric<Input, State>,
  context: Context.Context<never>,
  get: () => State
): void => {
  Metric.registerUnsafe(metric, context, { get, update: ignore, modify: ignore })
}

const ignore = (): void => undefined

/** By registry, and by the attributes that all metrics of a part of the program have. */
const tallies = new WeakMap<object, WeakMap<object, Tally>>()

/** The tally of a context. */
export const tallyOf = (context: Context.Context<never>): Tally => {
  const registry = Context.get(context, Metric.MetricRegistry)
  const attributes = Context.get(context, Metric.CurrentMetricAttributes)
  let tallied = tallies.get(registry)
  if (tallied === undefined) tallies.set(registry, (tallied = new WeakMap()))
  let tally = tallied.get(attributes)
  if (tally === undefined) tallied.set(attributes, (tally = new Tally(context)))
  return tally
}

/** The tally of the fiber. */
export const tally: Effect.Effect<Tally> = Effect.map(Effect.context<never>(), tallyOf)
