/**
 * What server and client share. Safe in browsers.
 *
 * @since 0.1.0
 */
export * as Backoff from "./Backoff.ts"
export * as Channel from "./Channel.ts"
export * as Cursor from "./Cursor.ts"
export * as Exact from "./Exact.ts"
export * as Frame from "./Frame.ts"
export * as Protocol from "./Protocol.ts"
export * as RealtimeError from "./RealtimeError.ts"
export * as RealtimeEvent from "./RealtimeEvent.ts"
