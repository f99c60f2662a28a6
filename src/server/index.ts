/**
 * The server side: sources, the outbox, the hub, the WebSocket door of an Effect HTTP app.
 *
 * @since 0.1.0
 */
export * as FrameSchema from "./FrameSchema.ts"
export { ConsumerConflict, ConsumerGap } from "./internal/outbox/consumers.ts"
export { NoOutbox, NoSource, NotDurable, TooManyChannels } from "./internal/hub/errors.ts"
export { ChannelConflict } from "./internal/session/registry.ts"
export { RowMismatch } from "./internal/outbox/rows.ts"
export { NestedSnapshot } from "./internal/outbox/snapshot.ts"
export { type AuthenticateJwt, type Claims, jwt } from "./jwt.ts"
export { type MemoryMessage, MemoryOutbox, type MemoryOutboxOptions } from "./MemoryOutbox.ts"
export {
  type Heard,
  layerMemory,
  type Listener,
  lost,
  MemorySource,
  NotificationSource,
  SourceError,
  type SourceState
} from "./NotificationSource.ts"
export * as OutboxReader from "./OutboxReader.ts"
export * as PgInstaller from "./PgInstaller.ts"
export * as PgNotificationSource from "./PgNotificationSource.ts"
export * as PgTls from "./PgTls.ts"
export { QueryResults } from "./QueryResults.ts"
export { maxNotifyBytes, Realtime } from "./Realtime.ts"
export { RealtimeServer } from "./RealtimeServer.ts"
export {
  allowAll,
  type AnonymousOptions,
  type Authenticate,
  type Authenticated,
  AuthRefused,
  type Authorize,
  type Credentials,
  type IdentityKey,
  type IdentityOptions,
  InvalidOption,
  type Limits,
  type Request
} from "./ServerOptions.ts"
