/**
 * For tests: a real PostgreSQL without an installation, and the system in memory with faults.
 *
 * @since 0.1.0
 */
export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export {
  type ClientOptions,
  type Network,
  RealtimeTest,
  type SystemOptions,
  type TestClient,
  type TestMessage
} from "./RealtimeTest.ts"
export {
  type MemoryMessage,
  MemoryOutbox,
  type MemoryOutboxOptions
} from "../server/MemoryOutbox.ts"
export { layerMemory, MemorySource } from "../server/NotificationSource.ts"
