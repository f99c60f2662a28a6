/**
 * What nodes say to each other over NATS. Needs `@nats-io/transport-node`.
 *
 * @since 0.1.0
 */
export * as Nats from "./Nats.ts"
export * as NatsBus from "./NatsBus.ts"
export * as NatsConnection from "./NatsConnection.ts"
export * as NatsFeed from "./NatsFeed.ts"
export * as NatsNotificationSource from "./NatsNotificationSource.ts"
