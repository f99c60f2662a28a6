/**
 * For tests: a real PostgreSQL without an installation, and the system in memory with faults.
 *
 * @since 0.1.0
 */
export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export * as RealtimeTest from "./RealtimeTest.ts"
