/**
 * The browser's and Node's side of the wire, with and without Effect. Safe in browsers.
 *
 * @since 0.1.0
 */
export * as ClientError from "./ClientError.ts"
export * as Collector from "./Collector.ts"
export * as Connection from "./Connection.ts"
export * as History from "./History.ts"
export * as Members from "./Members.ts"
export * as PlainClient from "./PlainClient.ts"
export { make as createRealtimeClient } from "./PlainClient.ts"
export * as PublishQueue from "./PublishQueue.ts"
export * as QueryStream from "./QueryStream.ts"
export * as Readable from "./Readable.ts"
export * as RealtimeClient from "./RealtimeClient.ts"
export * as Rows from "./Rows.ts"
