/**
 * The socket of a client as its user sees it: the options that say where to connect, and its state.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Backoff from "../Backoff.ts"
import type {
  ConnectionStopped,
  HelloRefused,
  Reason,
  TokenFailed,
  UrlFailed
} from "./ClientError.ts"
import type { WebSocketConstructor } from "./internal/platform.ts"

export type { Reason } from "./ClientError.ts"
export type { WebSocketConstructor, WebSocketLike } from "./internal/platform.ts"

/**
 * What the socket of a client is doing, with the reason as a code for programs, and as a sentence for
 * people, without its full stop.
 *
 * - `idle`: nothing needs it, so there is none.
 * - `connecting`: the client opens a socket; `attempt` counts from 1 since the last healthy session.
 * - `open`: the server said welcome.
 * - `waiting`: the client makes the next attempt at `until` (milliseconds since 1970), or sooner when the
 *   page is shown, is online again or is restored. While the browser is offline, the client makes an attempt
 *   every 30 s, in case the browser is wrong.
 * - `stopped`: no attempt will follow, until `reconnect`; `code` is the close code.
 *
 * @category models
 * @since 0.1.0
 */
export type State = { readonly reason: Reason; readonly message: string } & (
  | { readonly status: "idle" }
  | { readonly status: "connecting"; readonly attempt: number }
  | { readonly status: "open"; readonly session: string }
  | { readonly status: "waiting"; readonly attempt: number; readonly until: number }
  | { readonly status: "stopped"; readonly code: number }
)

/**
 * One address, or the addresses of the nodes of one server, at least one.
 *
 * @category options
 * @since 0.1.0
 */
export type Url = string | ReadonlyArray<string>

/**
 * What `onMetric` receives.
 *
 * @category models
 * @since 0.1.0
 */
export type Measurement = "gap" | "queue" | "reconnect" | "roundTrip"

/**
 * How a client finds its server and keeps the connection.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * Where the server is: an address, a list of the addresses of its nodes, or a function that gives one of
   * the two. `http` and `https` become `ws` and `wss`; a relative address such as `/realtime` is resolved
   * against the page. An address that cannot be used is `InvalidUrl` when the client is made.
   *
   * Each client has a random order of its list, and keeps its node while that works. It goes on to the next
   * one after two failures in a row, where an attempt or the loss of a session is a failure, or after one if
   * the node answered 503. Only the class of `ws` shows that answer. Any attempt waits for `backoff` first.
   * When its node drains (`bye`), the client goes on to the next one at once; if it has been there for less
   * than `backoff.resetAfter`, after the delay that the node said.
   *
   * The client calls a function before each attempt. It has 10 s; when it fails or is late, the attempt
   * counts as failed, and `onError` receives `UrlFailed`. The order stays while the function gives the same
   * list.
   */
  readonly url: Url | (() => Url | Promise<Url> | Effect.Effect<Url, unknown>)
  /**
   * Gives the token for `hello`. The client calls it before the first attempt, again when the token is
   * 80 % into its life (it then sends the new token over the same socket), and after a close with
   * 4100-4199. Default: none. It has 10 s; when it fails or is late, the attempt counts as failed. The
   * client retries a renewal that failed, or that the server rejected, after `backoff` while the old token
   * lives.
   */
  readonly token?: (() => string | Promise<string> | Effect.Effect<string, unknown>) | undefined
  /**
   * The WebSocket class, default the platform's (browsers, Node 22.19 and newer). With Node's own
   * class a client cannot destroy a link that is dead without a word: it lets go of it, but the TCP
   * connection stays, and a process with it, until the system gives up, which takes minutes. The class
   * of `ws` avoids that: it destroys such a connection at once when the client has noticed, 30 s after
   * `close` otherwise.
   */
  readonly webSocket?: WebSocketConstructor | undefined
  /**
   * When to try again, default `Backoff.client`: full jitter, first retry within 2 s, then 250 ms
   * doubling to 30 s, forgiven after 10 s open, for ever.
   */
  readonly backoff?: Backoff.Policy | undefined
  /**
   * How long the client keeps an unused subscription, and then the unused socket, for the next listener,
   * default 1 s.
   */
  readonly linger?: Duration.Input | undefined
  /**
   * Calls back when the link may have changed, so that the client looks at it at once. Default: `offline`,
   * `online`, `pageshow` and becoming visible, where the platform has them.
   */
  readonly signals?: ((check: () => void) => () => void) | undefined
  /**
   * Called with each measurement, for a program that collects them: `reconnect` (1 for each session after the
   * first one), `gap` (1 for each gap that the server reports, and for each position from which it cannot
   * resume), `queue` (how many messages wait to be published, unanswered ones included, at each change), and
   * `roundTrip` (milliseconds from a request to its answer). What it throws is reported, and harms nothing.
   * Default: none, and nothing is measured.
   */
  readonly onMetric?: ((name: Measurement, value: number) => void) | undefined
  /**
   * Called once when the connection has stopped; once when the token callback or the `url` function fails,
   * until it works again; and once when the server rejects the client for now, until it lets it in. Not when
   * the client is closed. Default: a line in the log.
   */
  readonly onError?:
    | ((error: ConnectionStopped | HelloRefused | TokenFailed | UrlFailed) => void)
    | undefined
}
