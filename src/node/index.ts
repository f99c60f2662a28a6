/**
 * The door for a plain `node:http` server.
 *
 * @since 0.1.0
 */
export { DatabaseRefused, InvalidOption } from "../server/ServerError.ts"
export { ConsumerConflict, NoOutbox, NotDurable, RowMismatch } from "../server/Realtime.ts"
export { RuleRefused } from "../server/Rule.ts"
export { AuthRefused } from "../server/ServerOptions.ts"
export { RealtimeServer, RefusedToStart, ServerClosed, TransactionError } from "./RealtimeServer.ts"
