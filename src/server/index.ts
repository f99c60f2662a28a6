/**
 * The server side: sources, the outbox, the hub, and the WebSocket door of an Effect HTTP app.
 *
 * @since 0.1.0
 */
export * as FrameSchema from "./FrameSchema.ts"
export * as Jwt from "./Jwt.ts"
export * as MemoryBus from "./MemoryBus.ts"
export * as MemoryOutbox from "./MemoryOutbox.ts"
export * as MemorySource from "./MemorySource.ts"
export * as FeedCarrier from "./FeedCarrier.ts"
export * as NodeBus from "./NodeBus.ts"
export * as Nodes from "./Nodes.ts"
export * as NotificationSource from "./NotificationSource.ts"
export * as OutboxReader from "./OutboxReader.ts"
export * as PgInstaller from "./PgInstaller.ts"
export * as PgNodeBus from "./PgNodeBus.ts"
export * as PgNotificationSource from "./PgNotificationSource.ts"
export * as PgTls from "./PgTls.ts"
export * as QueryResults from "./QueryResults.ts"
export * as Realtime from "./Realtime.ts"
export * as RealtimeServer from "./RealtimeServer.ts"
export * as ServerError from "./ServerError.ts"
