/**
 * The browser's and Node's side of the wire, with and without Effect. Safe in browsers.
 *
 * @since 0.1.0
 */
export * from "./ChannelStore.ts"
export * from "./ClientError.ts"
export * from "./Collector.ts"
export * from "./Connection.ts"
export type { Readable } from "./internal/cell.ts"
export type { PublishError, PublishOptions } from "./internal/publisher.ts"
export type { Listener, SubscribeError } from "./internal/subscriptions.ts"
export * from "./PublishQueue.ts"
export * from "./RealtimeClient.ts"
