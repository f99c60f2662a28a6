/**
 * Every number and every duration among the options: an invalid value is rejected before anything
 * starts, with the name of the option and the values it may have.
 *
 * The tables hold all of them: a new option does not compile until it stands here.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Redacted, Schema } from "effect"
import { HttpRouter } from "effect/http"
import { SqlClient } from "effect/sql"
import { createServer } from "node:http"
import { inspect } from "node:util"
import * as Backoff from "../../src/Backoff.ts"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer as Attached } from "../../src/node/RealtimeServer.ts"
import type { Options as ClassOptions } from "../../src/node/Options.ts"
import * as Jwt from "../../src/server/Jwt.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { InvalidOption } from "../../src/server/ServerError.ts"
import * as RealtimeTest from "../../src/testing/RealtimeTest.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { allowAll, type DoorOptions, type Limits } from "../../src/server/ServerOptions.ts"

/** Options that are a number or a duration. */
type Measured<O> = {
  [K in keyof O]-?: number extends NonNullable<O[K]>
    ? K
    : NonNullable<O[K]> extends { readonly perSecond: number }
      ? K
      : never
}[keyof O]

interface Range {
  readonly kind: "count" | "time" | "rate"
  readonly zero: boolean
  readonly endless: boolean
}

type Table<O> = Readonly<Record<Measured<O>, Range>>

/** `0`: zero is valid, `∞`: infinity is valid. */
const range = (kind: Range["kind"], more = ""): Range => ({
  kind,
  zero: more.includes("0"),
  endless: more.includes("∞")
})
const count = (more?: string) => range("count", more)
const time = (more?: string) => range("time", more)
const rate = range("rate")

const policy: Table<Backoff.Policy> = {
  initial: time(),
  cap: time(),
  first: time("0"),
  resetAfter: time("0∞"),
  atOnceAfter: time("0∞")
}

const linkOptions: Table<PgNotificationSource.Options> = {
  heartbeatInterval: time(),
  heartbeatTimeout: time(),
  startPatience: time("0∞")
}

const outbox: Table<OutboxReader.Options> = {
  idleInterval: time(),
  busyInterval: time(),
  heartbeatTimeout: time(),
  startPatience: time("0∞"),
  maxPageMessages: count(),
  maxPageBytes: count(),
  maxBacklog: count("∞"),
  positionInterval: time("∞"),
  maxMemoryEvents: count("0∞"),
  maxMemoryAge: time("0∞"),
  maxMemoryBytes: count("0∞"),
  maxReplayEvents: count("0∞"),
  maxReplayBytes: count("0∞"),
  maxReplays: count("∞"),
  maxReplayQueue: count("0∞"),
  maxReplayMemory: count()
}

const memory: Table<MemoryOutbox.Options> = {
  maxBacklog: outbox.maxBacklog,
  maxPageBytes: outbox.maxPageBytes,
  maxPageMessages: outbox.maxPageMessages,
  positionInterval: outbox.positionInterval,
  maxMemoryAge: outbox.maxMemoryAge,
  maxMemoryBytes: outbox.maxMemoryBytes,
  maxMemoryEvents: outbox.maxMemoryEvents,
  maxReplayBytes: outbox.maxReplayBytes,
  maxReplayEvents: outbox.maxReplayEvents,
  retention: time()
}

const hubOptions: Table<Realtime.Options> = {
  linger: time("0∞"),
  maxChannels: count("∞"),
  maxFilters: count("∞"),
  maxStateRows: count(),
  maxStateBytes: count(),
  maxMemoryEvents: count("0∞"),
  maxMemoryAge: time("0∞"),
  maxMemoryBytes: count("0∞"),
  batchWindow: time("0"),
  presenceGrace: time("0"),
  maxMembers: count("∞"),
  memberRate: count("∞")
}

const installed: Table<PgInstaller.Options> = {
  retention: time(),
  maxMessages: count(),
  lockTimeout: time()
}

const watched: Table<PgInstaller.Watch> = { maxBytes: count("0") }

const common: Table<Jwt.Common> = { clockTolerance: time("0"), maxAge: time() }

const door: Table<DoorOptions> = { trustProxy: count("0") }

const limits: Table<Limits> = {
  maxFrameBytes: count(),
  maxFrameDepth: count(),
  frameRate: rate,
  maxUnanswered: count("∞"),
  maxUnansweredBytes: count("∞"),
  authenticateRate: rate,
  subscribeRate: rate,
  publishRate: rate,
  volatileRate: rate,
  helloTimeout: time(),
  pingInterval: time(),
  pingTimeout: time(),
  maxMailboxBytes: count(),
  maxVolatileKeys: count(),
  blockedTimeout: time(),
  maxSubscriptions: count(),
  maxSessions: count("∞"),
  maxSessionsPerIdentity: count("∞"),
  maxSessionsPerAddress: count("∞"),
  upgradeRate: rate,
  upgradeRatePerAddress: rate,
  channelOpenRate: rate,
  authorizeRate: rate,
  maxPublishKeys: count("∞"),
  maxPublishKeysPerIdentity: count("∞"),
  maxPublishKeyAge: time("∞"),
  sourceTimeout: time(),
  authorizeTimeout: time(),
  maxTokenAge: time("∞"),
  drainTimeout: time("0")
}

const attached: Table<ClassOptions> = {
  maxChannels: hubOptions.maxChannels,
  maxFilters: hubOptions.maxFilters,
  maxStateRows: hubOptions.maxStateRows,
  maxStateBytes: hubOptions.maxStateBytes,
  presenceGrace: hubOptions.presenceGrace,
  maxMembers: hubOptions.maxMembers,
  memberRate: hubOptions.memberRate,
  maxMemoryAge: outbox.maxMemoryAge,
  maxMemoryBytes: outbox.maxMemoryBytes,
  maxMemoryEvents: outbox.maxMemoryEvents,
  maxReplays: outbox.maxReplays,
  maxReplayQueue: outbox.maxReplayQueue,
  maxReplayMemory: outbox.maxReplayMemory,
  maxConnections: count(),
  startPatience: time("0∞"),
  trustProxy: door.trustProxy
}

// `nodes` has a test of its own: each of them takes time.
const testOptions: Table<Omit<RealtimeTest.SystemOptions, "nodes">> = { socketBytes: count("∞") }

/** Values that are invalid for every option. */
const never = [-1, Number.NaN, -Infinity, true, {}, [], "", "soon", () => 1]

const nonsense = ({ endless, kind, zero }: Range): ReadonlyArray<unknown> => {
  if (kind === "rate") {
    return [
      ...never,
      5,
      { perSecond: 0, burst: 1 },
      { perSecond: 1, burst: 0 },
      { perSecond: -1, burst: 1 },
      { perSecond: Number.NaN, burst: 1 },
      { perSecond: 1, burst: Number.NaN },
      { perSecond: 1, burst: Infinity },
      { perSecond: "1", burst: 1 },
      { perSecond: 1 }
    ]
  }
  const own =
    kind === "count"
      ? [1.5, "8", [8], 2 ** 53]
      : ["-5 seconds", "5 parsecs", { second: 5 }, { seconds: Number.NaN }, { seconds: "5" }, [1]]
  return [...never, ...own, ...(zero ? [] : [0]), ...(endless ? [] : [Infinity])]
}

const sense = ({ endless, kind, zero }: Range): ReadonlyArray<unknown> =>
  kind === "rate"
    ? [{ perSecond: 0.5, burst: 1 }]
    : [
        1,
        5000,
        ...(kind === "time" ? ["5 seconds", { seconds: 5 }] : []),
        ...(zero ? [0] : []),
        ...(endless ? [Infinity] : [])
      ]

/** Options are checked before the database: only the URL of this one is ever read. */
const nowhere = Layer.succeed(PgClient.PgClient, {
  config: { url: Redacted.make("mysql://nowhere") },
  withoutTransforms: () => {
    throw new Error("the database was asked")
  }
} as unknown as PgClient.PgClient)
const nowhereSql = Layer.effect(SqlClient.SqlClient, PgClient.PgClient).pipe(Layer.provide(nowhere))

/** The error of a layer or a call with one option; `undefined` if it succeeds. */
type Start = (option: object) => Effect.Effect<unknown>

const failure = <A, E>(layer: Layer.Layer<A, E>) =>
  Effect.map(Effect.exit(Effect.scoped(Layer.build(layer))), (exit) =>
    Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  )

const thrown = (evaluate: () => unknown) =>
  Effect.map(Effect.exit(Effect.sync(evaluate)), (exit) =>
    Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  )

const Live = Channel.make("prices", Schema.Unknown)
const doors = { channels: [Live], authorize: allowAll }
const http = createServer()

const link = (option: object) =>
  failure(PgNotificationSource.layer(option).pipe(Layer.provide(nowhere)))

const reader = (option: object) => failure(OutboxReader.layer(option).pipe(Layer.provide(nowhere)))

const hub = (option: object) =>
  failure(Realtime.layer(option).pipe(Layer.provide(MemorySource.layer)))

const server = (option: object) =>
  failure(
    RealtimeServer.layer({ ...doors, ...option }).pipe(
      Layer.provide([HttpRouter.layer, Realtime.layer().pipe(Layer.provide(MemorySource.layer))])
    )
  )

/** Another option is invalid, so that no server starts. */
const attach = (option: object) =>
  thrown(() => new Attached(http, "postgres://u@h/x", { ...doors, ...option, wake: "?" as "poll" }))

const system = (option: object) => failure(RealtimeTest.layer({ ...doors, ...option }))

const install = (option: object) =>
  failure(PgInstaller.layer(option).pipe(Layer.provide(nowhereSql)))

const sql = (option: object) => thrown(() => PgInstaller.sql(option))

const watch = (option: object) => ({ channel: "table_updates_orders", ...option })

const tokens = (option: object) =>
  thrown(() => Jwt.authenticate({ keys: Redacted.make("x".repeat(32)), ...option }))

const starts: ReadonlyArray<
  readonly [what: string, prefix: string, options: Readonly<Record<string, Range>>, start: Start]
> = [
  ["PgNotificationSource.layer", "", linkOptions, link],
  [
    "the backoff of PgNotificationSource.layer",
    "backoff.",
    policy,
    (one) => link({ backoff: { ...Backoff.link, ...one } })
  ],
  ["OutboxReader.layer", "", outbox, reader],
  [
    "the backoff of OutboxReader.layer",
    "backoff.",
    policy,
    (one) => reader({ backoff: { ...Backoff.link, ...one } })
  ],
  ["MemoryOutbox.layer", "", memory, (one) => failure(MemoryOutbox.layer(one))],
  ["Realtime.layer", "", hubOptions, hub],
  ["RealtimeServer.layer", "", door, server],
  ["the limits of RealtimeServer.layer", "limits.", limits, (one) => server({ limits: one })],
  ["the class", "", attached, attach],
  ["the limits of the class", "limits.", limits, (one) => attach({ limits: one })],
  ["PgInstaller.layer", "", installed, install],
  ["the watch of PgInstaller.layer", "", watched, (one) => install({ watch: [watch(one)] })],
  ["PgInstaller.sql", "", installed, sql],
  ["the watch of PgInstaller.sql", "", watched, (one) => sql({ watch: [watch(one)] })],
  [
    "PgInstaller.watch",
    "",
    watched,
    (one) =>
      failure(Layer.effectDiscard(PgInstaller.watch(watch(one))).pipe(Layer.provide(nowhereSql)))
  ],
  ["jwt", "jwt.", common, tokens],
  ["RealtimeTest.layer", "", testOptions, system],
  ["the outbox of RealtimeTest.layer", "", memory, (one) => system({ outbox: one })],
  ["the hub of RealtimeTest.layer", "", hubOptions, (one) => system({ realtime: one })]
]

describe("Options that are a number or a duration", () => {
  it.live.each(starts)("%s rejects invalid numbers and durations", ([, prefix, table, start]) =>
    Effect.gen(function* () {
      for (const [name, range] of Object.entries(table)) {
        for (const value of nonsense(range)) {
          const told = yield* start({ [name]: value })
          const what = `${prefix}${name} = ${inspect(value)}`
          expect(told, what).toBeInstanceOf(InvalidOption)
          const { expected, message, option, value: said } = told as InvalidOption
          expect(option, what).toBe(prefix + name)
          expect(said, what).not.toBe("")
          expect(message, what).toBe(`The option ${option} is ${said}. It must be ${expected}.`)
        }
      }
    })
  )

  it.live.each(starts)("%s accepts valid numbers and durations", ([, prefix, table, start]) =>
    Effect.gen(function* () {
      for (const [name, range] of Object.entries(table)) {
        for (const value of sense(range)) {
          const told = yield* start({ [name]: value })
          const refused = told instanceof InvalidOption ? told.option : undefined
          expect(refused, inspect(value)).not.toBe(prefix + name)
        }
      }
    })
  )
})
