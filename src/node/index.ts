/**
 * The door for a plain `node:http` server.
 *
 * @since 0.1.0
 */
export {
  allowAll,
  type Authenticated,
  AuthRefused,
  type Credentials,
  type IdentityKey,
  InvalidOption,
  type Limits,
  type Request
} from "../server/ServerOptions.ts"
export { DatabaseRefused } from "../server/PgNotificationSource.ts"
export { type Options, RealtimeServer, RefusedToStart, ServerClosed } from "./RealtimeServer.ts"
