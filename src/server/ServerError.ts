/**
 * Errors that several modules of the server share. An error of one module is exported by that module.
 *
 * @since 0.1.0
 */
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  InvalidDatabaseUrl
} from "./internal/link/databaseUrl.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  DatabaseRefused,
  /**
   * @category errors
   * @since 0.1.0
   */
  NotPrimary
} from "./internal/link/databaseRefusal.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  InvalidOption
} from "./internal/options.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  OtherOutbox
} from "./internal/outbox/outboxErrors.ts"
