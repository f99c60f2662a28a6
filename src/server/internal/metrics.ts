/** Every metric of the server wing: its name, its unit, and what it measures. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

const counter = (name: string, description: string) =>
  Metric.counter(name, { description, incremental: true })

const gauge = (name: string, description: string) => Metric.gauge(name, { description })

const histogram = (name: string, description: string, boundaries: ReadonlyArray<number>) =>
  Metric.histogram(name, { description, boundaries })

/** Counts a metric by a label. The series of all its values are there from the start, with 0. */
export const countBy = <Value extends string>(
  metric: Metric.Counter<number>,
  label: string,
  values: ReadonlyArray<Value>
): Effect.Effect<(value: Value, more?: number) => void> =>
  Effect.map(Effect.context<never>(), (context) => {
    const counters = new Map(
      values.map((value) => [value, Metric.withAttributes(metric, { [label]: value })])
    )
    const count = (value: Value, more = 1): void => counters.get(value)?.updateUnsafe(more, context)
    for (const value of values) count(value, 0)
    return count
  })

/** Boundaries of events in a batch. */
export const batchBounds = [1, 2, 4, 8, 16, 32, 64, 128, 256]

/** Boundaries of durations in seconds, from 1 ms to 30 s. */
export const secondBounds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]

export const notificationsInvalid = counter(
  "effect_realtime_notifications_invalid_total",
  "Messages delivered as gaps because they did not match their channel's schema"
)

/**
 * How full PostgreSQL's notification queue is, 0 to 1, as read by a node that does the upkeep of the
 * outbox. All databases of a server share one queue. When it is full, every transaction that notifies
 * fails.
 */
export const notificationQueue = gauge(
  "effect_realtime_notification_queue_ratio",
  "How full PostgreSQL's notification queue is, 0 to 1"
)

/** Volatile events that were dropped because too many with different keys waited, here or for other nodes. */
export const volatileDropped = counter(
  "effect_realtime_volatile_dropped_total",
  "Volatile events dropped because too many with different keys waited"
)

/**
 * Ticks of the elected reader. The attribute `outcome` is `fed` for those that the node handed out,
 * `repaired` for reads of the outbox because something was missing, and `refused` for ticks of an earlier
 * term or of another database.
 */
export const feedTicks = counter(
  "effect_realtime_feed_ticks_total",
  "Ticks of the elected reader, by outcome"
)

/**
 * Leases that this node holds, by `lease`: `reader` reads the outbox for all nodes, `listener` listens to their
 * live channels, `consumer` runs a consumer.
 */
export const leasesHeld = gauge(
  "effect_realtime_leases_held",
  "Leases that this node holds, by lease"
)

/** Leases that this node took, by `lease`: each is another term. */
export const leasesTaken = counter(
  "effect_realtime_leases_taken_total",
  "Leases that this node took, by lease"
)

/** Renewals of a lease that PostgreSQL did not confirm in time, or that another holder made impossible. */
export const leaseRenewalsFailed = counter(
  "effect_realtime_lease_renewals_failed_total",
  "Renewals of a lease that failed, by lease"
)

export const natsUp = gauge(
  "effect_realtime_nats_up",
  "Whether this node has a connection to NATS, 1 or 0"
)

export const natsReconnects = counter(
  "effect_realtime_nats_reconnects_total",
  "Connections to NATS that this node opened after its first one"
)

/**
 * Messages over NATS that this node dropped, by `reason`: `forged` (no node of this database sent it, or with a
 * secret that does not hold, or that this node has not read yet), `late` (more than 30 s off), `replayed`.
 */
export const natsDropped = counter(
  "effect_realtime_nats_dropped_total",
  "Messages over NATS that this node dropped, by reason"
)

export const sessions = gauge("effect_realtime_sessions", "WebSocket sessions open now")

export const subscriptions = gauge("effect_realtime_subscriptions", "Subscriptions of all sessions")

/** Open channels by `delivery`, also those that linger after their last subscriber. */
export const channelsOpen = gauge("effect_realtime_channels", "Open channels, by delivery")

/**
 * Events that arrived for open channels of this node, by `delivery`: notifications of the link, messages that
 * the reader handed out, and volatile events of clients, programs and other nodes.
 */
export const eventsIn = counter(
  "effect_realtime_events_in_total",
  "Events that arrived for open channels, by delivery"
)

/** Events that sessions were sent: one event for 100 subscribers counts 100. Replays count too. */
export const eventsOut = counter(
  "effect_realtime_events_out_total",
  "Events sent to sessions, replays included"
)

/** Bytes of messages that clients sent, without the framing of WebSocket. */
export const bytesIn = counter(
  "effect_realtime_bytes_in_total",
  "Bytes of messages that clients sent"
)

/** Bytes of frames that were written to sockets, with the framing of WebSocket. */
export const bytesOut = counter("effect_realtime_bytes_out_total", "Bytes written to sockets")

/** The events of each batch that a channel handed to its subscribers; a batch has at most 256. */
export const batchEvents = histogram(
  "effect_realtime_batch_events",
  "Events of a batch",
  batchBounds
)

/**
 * Seconds from the write of a durable event, by the clock of the database, until it was written to the sockets
 * of this node, by the clock of the node. Only channels with a socket count. A transaction that stays open
 * after the write counts until its commit.
 */
export const deliverySeconds = histogram(
  "effect_realtime_delivery_seconds",
  "Seconds from the write of a durable event to its sockets",
  secondBounds
)

/** Bytes that wait for sockets that are busy, of all sessions: events, answers and volatile events. */
export const mailboxBytes = gauge(
  "effect_realtime_mailbox_bytes",
  "Bytes that wait for busy sockets"
)

/** Seconds that replays took, from the request of a client until the last event of it was sent or waits. */
export const replaySeconds = histogram(
  "effect_realtime_replay_seconds",
  "Seconds from a resume to the end of its replay",
  secondBounds
)

export const replayEvents = counter(
  "effect_realtime_replay_events_total",
  "Events of replays sent to sessions"
)

/** Gaps that subscriptions of clients were sent, by `reason`, as in the frame. */
export const gaps = counter("effect_realtime_gaps_total", "Gaps sent to subscriptions, by reason")

/**
 * Cursors from which a client could not resume, by `reason`: `malformed`, `identity` (another database),
 * `witness` (its event was lost in a crash or a restore), `future`, `retention`, `bounds` (more follows than
 * `maxReplayEvents` and `maxReplayBytes`), and `memory` for a live channel, of which the node remembers less.
 */
export const resets = counter(
  "effect_realtime_resets_total",
  "Cursors that could not be resumed, by reason"
)

/** Times that a session with PostgreSQL was up again after a loss, by `session`: `link` or `reader`. */
export const reconnects = counter(
  "effect_realtime_reconnects_total",
  "Returns of a session with PostgreSQL after its loss, by session"
)

export const linkUp = gauge(
  "effect_realtime_link_up",
  "Whether the link to PostgreSQL listens, 1 or 0"
)

export const readerUp = gauge(
  "effect_realtime_reader_up",
  "Whether the reader of the outbox reads, 1 or 0"
)

/**
 * Seconds since the node had handed out everything that the last look could see. It looks at least once a
 * second; a node that is fed hears of each look of the elected reader.
 */
export const readerLag = gauge(
  "effect_realtime_reader_lag_seconds",
  "Seconds since the reader of the outbox stood at the present"
)

/**
 * Age of the event that a consumer of this node handles, or at which it failed, the oldest of all of them; 0 while
 * they wait.
 */
export const consumerLag = gauge(
  "effect_realtime_consumer_lag_seconds",
  "Age of the event that the slowest consumer handles, or at which it failed"
)

/**
 * Messages in the outbox at most: ids from the oldest to the newest one. Transactions that were rolled back
 * used ids too. Read every 10 s by a node that does the upkeep.
 */
export const outboxRows = gauge("effect_realtime_outbox_rows", "Messages in the outbox at most")

/** Bytes of the outbox on disk, with its indexes. As `outboxRows`. */
export const outboxBytes = gauge("effect_realtime_outbox_bytes", "Bytes of the outbox on disk")

/**
 * How long the oldest transaction is open that writes, as far as the reader of this node has seen it: 0 on a
 * node that is fed, which looks at nothing. It keeps PostgreSQL from vacuuming, and consumers from what it wrote.
 */
export const oldestTransaction = gauge(
  "effect_realtime_oldest_transaction_seconds",
  "Seconds that the oldest transaction that writes is open"
)

export const backlogsDropped = counter(
  "effect_realtime_backlogs_dropped_total",
  "Backlogs dropped because a socket did not keep up"
)

/**
 * Upgrades, sessions and requests that the server rejected or ended. The attribute `reason` is the name of
 * the limit that was crossed, as in the options (`subscribeRate`, `maxSessionsPerAddress`, ...), or else
 * the answer: an error code (`auth/invalid`), a close code (`4101`), or an HTTP status (`403`). Further
 * values: `reset` for a cursor from which a client could not resume, `replay` for one whose messages could
 * not be read, `upgrade-untaken` for an upgrade request of no door that no other listener answered within
 * 10 s.
 */
export const refused = counter(
  "effect_realtime_refused_total",
  "Upgrades, sessions and requests refused or ended, by reason"
)

/** Envelopes that this node sent to the others over the bus; a heartbeat is one. */
export const busSent = counter(
  "effect_realtime_bus_sent_total",
  "Envelopes sent over the bus between nodes"
)

/** Envelopes of other nodes that this node took from the bus. */
export const busReceived = counter(
  "effect_realtime_bus_received_total",
  "Envelopes taken from the bus between nodes"
)

/**
 * What the bus dropped, by `reason`. Received: `forged` (no node of this database sent it, or with a secret
 * that no longer holds), `late` (more than 30 s off), `replayed`, `over` (of an incarnation that ended),
 * `malformed`, `incomplete` (a cut message whose pieces did not all arrive). To send: `too-large`, `full`
 * (too much waits), `unsent` (the carrier failed).
 */
export const busDropped = counter(
  "effect_realtime_bus_dropped_total",
  "Envelopes and messages that the bus between nodes dropped, by reason"
)

export const busNodes = gauge("effect_realtime_bus_nodes", "Other nodes that this node hears")

/** 1 while this node hears its own heartbeats, else 0. */
export const busUp = gauge(
  "effect_realtime_bus_up",
  "Whether the bus between nodes delivers, 1 or 0"
)

/**
 * Seats in presence channels that this node holds for its own sessions and programs. A session has one in each
 * channel of which it is a member, and keeps it for the grace after its socket closed.
 */
export const presenceSeats = gauge(
  "effect_realtime_presence_seats",
  "Seats in presence channels that this node holds"
)

/** Messages about presence that this node sent to other nodes, heartbeats apart. */
export const presenceMessages = counter(
  "effect_realtime_presence_messages_total",
  "Messages about presence sent to other nodes"
)

/**
 * Times this node sent all its seats to another node, because the differences did not reach back far enough.
 * A few follow each start of a node. More mean that the bus loses messages for long.
 */
export const presenceWholeLists = counter(
  "effect_realtime_presence_whole_lists_total",
  "Times all seats of this node were sent to another node"
)
