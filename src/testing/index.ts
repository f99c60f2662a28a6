/**
 * For tests: a real PostgreSQL without an installation, and the system in memory.
 *
 * @since 0.1.0
 */
export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export { layerMemory, MemorySource } from "../server/NotificationSource.ts"
