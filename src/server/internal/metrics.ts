/** Every metric of the server wing: its name, its unit, and what it measures. */
import * as Metric from "effect/Metric"

/** Messages that did not match their channel's schema and were delivered as gaps. */
export const notificationsInvalid = Metric.counter("effect_realtime_notifications_invalid_total", {
  description: "Messages delivered as gaps because they did not match their channel's schema",
  incremental: true
})

/**
 * How full PostgreSQL's notification queue is, 0 to 1, as read by a node that does the upkeep of the
 * outbox. All databases of a server share one queue. When it is full, every transaction that notifies
 * fails.
 */
export const notificationQueue = Metric.gauge("effect_realtime_notification_queue_ratio", {
  description: "How full PostgreSQL's notification queue is, 0 to 1"
})

/** WebSocket sessions open now. */
export const sessions = Metric.gauge("effect_realtime_sessions", {
  description: "WebSocket sessions open now"
})

/** Times a session's backlog was dropped because its socket did not keep up. */
export const backlogsDropped = Metric.counter("effect_realtime_backlogs_dropped_total", {
  description: "Backlogs dropped because a socket did not keep up",
  incremental: true
})

/**
 * Upgrades, sessions and requests that the server rejected or ended. The attribute `reason` is the name of
 * the limit that was crossed, as in the options (`subscribeRate`, `maxSessionsPerAddress`, ...), or else
 * the answer: an error code (`auth/invalid`), a close code (`4101`), or an HTTP status (`403`). Further
 * values: `reset` for a cursor from which a client could not resume, `replay` for one whose messages could
 * not be read, `upgrade-untaken` for an upgrade request of no door that no other listener answered within
 * 10 s.
 */
export const refused = Metric.counter("effect_realtime_refused_total", {
  description: "Upgrades, sessions and requests refused or ended, by reason",
  incremental: true
})

/**
 * Seats in presence channels that this node holds for its own sessions and programs. A session has one in each
 * channel of which it is a member, and keeps it for the grace after its socket closed.
 */
export const presenceSeats = Metric.gauge("effect_realtime_presence_seats", {
  description: "Seats in presence channels that this node holds"
})

/** Messages about presence that this node sent to other nodes, heartbeats apart. */
export const presenceMessages = Metric.counter("effect_realtime_presence_messages_total", {
  description: "Messages about presence sent to other nodes",
  incremental: true
})

/**
 * Times this node sent all its seats to another node, because the differences did not reach back far enough.
 * A few follow each start of a node. More mean that the bus loses messages for long.
 */
export const presenceWholeLists = Metric.counter("effect_realtime_presence_whole_lists_total", {
  description: "Times all seats of this node were sent to another node",
  incremental: true
})
