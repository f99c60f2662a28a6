/**
 * The defaults of all options, a group for each noun, under the names of its options.
 *
 * Times are milliseconds, sizes are bytes, rates are per second. A comment names the unit of every other
 * number. The policies of `backoff` are in `Backoff.ts`. `test/defaults.test.ts` compares docs and guides
 * with both files.
 */

// -----------------------------------------------------------------------------------------------
// what clients have

// Single constants, because bundlers inline them and keep objects.

/** `linger` of a client's connection. */
export const clientLinger = 1000

/** `ackTimeout` of `RealtimeClient`. */
export const ackTimeout = 10_000

/** `maxStreamBuffer` of `RealtimeClient`: events. */
export const maxStreamBuffer = 16_384

/** `maxMessages` of `PublishQueue`. */
export const queueMaxMessages = 1000

/** `maxBytes` of `PublishQueue`. */
export const queueMaxBytes = 1_048_576

/** `maxAge` of `PublishQueue`. */
export const queueMaxAge = 60_000

/** `limit` of `history`, in clients and servers: events. */
export const historyLimit = 50

// -----------------------------------------------------------------------------------------------
// what servers have

/** `limits` of both servers. */
export const limits = {
  maxFrameBytes: 64 * 1024,
  /** Levels. */
  maxFrameDepth: 64,
  /** Messages. */
  frameRate: { perSecond: 200, burst: 400 },
  /** Requests. */
  maxUnanswered: 100,
  maxUnansweredBytes: 256 * 1024,
  /** Tokens. */
  authenticateRate: { perSecond: 1, burst: 5 },
  /** Requests. */
  subscribeRate: { perSecond: 50, burst: 100 },
  /** Requests. */
  publishRate: { perSecond: 20, burst: 50 },
  /** Requests. */
  volatileRate: { perSecond: 60, burst: 120 },
  helloTimeout: 10_000,
  pingInterval: 25_000,
  pingTimeout: 10_000,
  maxMailboxBytes: 1024 * 1024,
  /** Events. */
  maxVolatileKeys: 1000,
  blockedTimeout: 30_000,
  /** Subscriptions. */
  maxSubscriptions: 100,
  /** Sessions. */
  maxSessions: 10_000,
  /** Sessions. */
  maxSessionsPerIdentity: 20,
  /** Sessions. */
  maxSessionsPerAddress: 100,
  /** Upgrades. */
  upgradeRate: { perSecond: 500, burst: 500 },
  /** Upgrades. */
  upgradeRatePerAddress: { perSecond: 20, burst: 40 },
  /** Channels. */
  channelOpenRate: { perSecond: 200, burst: 1000 },
  /** Calls. */
  authorizeRate: { perSecond: 1000, burst: 1000 },
  /** Keys. */
  maxPublishKeys: 500_000,
  /** Keys. */
  maxPublishKeysPerIdentity: 10_000,
  maxPublishKeyAge: 600_000,
  sourceTimeout: 10_000,
  authorizeTimeout: 5000,
  /** As long as the token is valid. */
  maxTokenAge: Infinity,
  drainTimeout: 10_000
}

/** `RealtimeServer` of both kinds, beside `limits`. */
export const server = {
  /** Proxies. */
  trustProxy: 0,
  control: false
}

/** The class of `./node`. */
export const nodeServer = {
  /** Connections. */
  maxConnections: 4,
  startPatience: 10_000
}

/** The gateway of the command line. */
export const gateway = {
  host: "127.0.0.1",
  port: 8080
}

/** `Realtime`. */
export const realtime = {
  linger: 120_000,
  /** Channels. */
  maxChannels: 10_000,
  /** Filters of one channel. */
  maxFilters: 1000,
  /** Rows. */
  maxStateRows: 10_000,
  maxStateBytes: 8 * 1024 * 1024,
  /** Events. */
  maxMemoryEvents: 256,
  maxMemoryAge: 120_000,
  maxMemoryBytes: 64 * 1024 * 1024,
  batchWindow: 0,
  announceSource: true,
  presenceGrace: 10_000,
  /** Members. */
  maxMembers: 1000,
  /** Changes. */
  memberRate: 5
}

/** `PgNotificationSource`. */
export const pgNotificationSource = {
  heartbeatInterval: 5000,
  heartbeatTimeout: 2000,
  selfTest: true,
  startPatience: 10_000
}

/** `NodeBus` of each kind. */
export const nodeBus = {
  heartbeatInterval: 1000,
  silentAfter: 3000,
  forgetAfter: 60_000,
  batchWindow: 50
}

/** `NatsConnection`. */
export const natsConnection = {
  name: "effect-realtime",
  root: "effect_realtime",
  connectTimeout: 5000,
  heartbeatInterval: 2000,
  heartbeatTimeout: 2000,
  startWithout: false
}

/** `OutboxReader`, and `MemoryOutbox` where it has the same options. */
export const outboxReader = {
  heartbeatTimeout: 2000,
  startPatience: 10_000,
  idleInterval: 1000,
  busyInterval: 5,
  /** Messages. */
  maxPageMessages: 1000,
  maxPageBytes: 1024 * 1024,
  /** Batches. */
  maxBacklog: 64,
  positionInterval: 3_600_000,
  /** Events. */
  maxReplayEvents: 10_000,
  maxReplayBytes: 8 * 1024 * 1024,
  /** Replays. */
  maxReplays: 8,
  /** Replays. */
  maxReplayQueue: 1000,
  maxReplayMemory: 64 * 1024 * 1024,
  /** Events. */
  maxMemoryEvents: 256,
  maxMemoryAge: 120_000,
  maxMemoryBytes: 64 * 1024 * 1024,
  flushed: false,
  upkeep: true
}

/** `idleInterval` of an `OutboxReader` that polls. */
export const pollInterval = 250

/** `PgInstaller`; `retention` is also that of `MemoryOutbox`. */
export const pgInstaller = { retention: 86_400_000, lockTimeout: 5000 }

/** `jwt`. */
export const jwt = { clockTolerance: 5000 }

/** `RealtimeTest`. */
export const realtimeTest = {
  /** Nodes. */
  nodes: 1,
  socketBytes: 64 * 1024
}
