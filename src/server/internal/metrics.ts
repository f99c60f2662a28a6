/** Every metric of the server wing: its name, its unit, and what it tells. */
import * as Metric from "effect/Metric"

/** Messages that did not match their channel's schema and were told as gaps. */
export const notificationsInvalid = Metric.counter("effect_realtime_notifications_invalid_total", {
  description: "Messages told as gaps because they did not match their channel's schema",
  incremental: true
})

/**
 * How full PostgreSQL's queue of notifications is, 0 to 1, as a node saw it that reads the outbox and
 * does upkeep. It is one queue for all databases of a server; when it is full, every transaction that
 * notifies fails.
 */
export const notificationQueue = Metric.gauge("effect_realtime_notification_queue_ratio", {
  description: "How full PostgreSQL's queue of notifications is, 0 to 1"
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
 * Upgrades, sessions and requests that were refused or ended. The attribute `reason` is the name of
 * the limit that was crossed, as in the options (`subscribeRate`, `maxSessionsPerAddress`, ...), or else
 * what was answered: an error code (`auth/invalid`), a close code (`4101`), an HTTP status (`403`), or
 * `reset` for a cursor that could not be honoured, `replay` for one whose messages could not be read,
 * `upgrade-untaken` for an upgrade request of no door that no other listener answered within 10 s.
 */
export const refused = Metric.counter("effect_realtime_refused_total", {
  description: "Upgrades, sessions and requests refused or ended, by reason",
  incremental: true
})
