/**
 * The error of calls that `close` precedes or interrupts.
 */
import * as Data from "effect/Data"

/**
 * The server was closed before it became ready, published, checked rights, read a state, rows or history, or consumed.
 *
 * @category errors
 * @since 0.1.0
 */
export class ServerClosed extends Data.TaggedError("ServerClosed")<{
  /** What the server had not done yet. */
  readonly before:
    | "it was ready"
    | "it was published"
    | "rights were checked"
    | "sessions were closed"
    | "nodes were asked"
    | "the state was read"
    | "the rows were read"
    | "the history was read"
    | "the members were read"
    | "the server was a member"
    | "the consumer began"
    | "the work began"
}> {
  override get message(): string {
    return `The server was closed before ${this.before}. Await that before you call close().`
  }
}
