/**
 * The WebSocket door of an Effect HTTP app: one layer, beside the other routes.
 *
 * The app's middleware runs at the handshake as for any request. The session then runs on its own fiber,
 * and the request ends. For a plain `node:http` server use `effect-realtime/node`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Channel from "../Channel.ts"
import { health as Health, server as Defaults } from "../internal/defaults.ts"
import * as Control from "./internal/control/control.ts"
import type { Reached, Stats } from "./internal/control/control.ts"
import type { NoControl, RevokeFailed } from "./internal/control/controlErrors.ts"
import type { RevokeOptions, Whose } from "./internal/control/whose.ts"
import { claim, pathOf } from "./internal/door/claimedPaths.ts"
import * as Door from "./internal/door/door.ts"
import { type HealthAnswer, liveness, readiness } from "./internal/door/health.ts"
import { checkOptions } from "./internal/limits/limits.ts"
import { checked, type InvalidOption } from "./internal/options.ts"
import type { ChannelConflict } from "./internal/session/registry.ts"
import { requireSources } from "./internal/door/requireSources.ts"
import type { ReadyError } from "./internal/hub/delivery.ts"
import type { NoOutbox, NoSource } from "./internal/hub/errors.ts"
import type { NotInstalled } from "./PgInstaller.ts"
import type { NeedsOf, Realtime } from "./Realtime.ts"
import { upgrade } from "./internal/door/route.ts"
import type { Rules, RuleServices } from "./Rule.ts"
import type {
  AnonymousOptions,
  AnonymousRules,
  IdentityKey,
  IdentityOptions,
  IdentityRules,
  Options
} from "./ServerOptions.ts"

export type {
  /**
   * @category errors
   * @since 0.1.0
   */
  ReadyError
} from "./internal/hub/delivery.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  NodeStats,
  /**
   * @category models
   * @since 0.1.0
   */
  Reached,
  /**
   * @category models
   * @since 0.1.0
   */
  Stats
} from "./internal/control/control.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  RevokeOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  Whose
} from "./internal/control/whose.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  NoControl,
  /**
   * @category errors
   * @since 0.1.0
   */
  RevokeFailed
} from "./internal/control/controlErrors.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ChannelConflict
} from "./internal/session/registry.ts"
export {
  /**
   * @category models
   * @since 0.1.0
   */
  type Allowed,
  /**
   * @category models
   * @since 0.1.0
   */
  type CompleteRules,
  /**
   * @category models
   * @since 0.1.0
   */
  type Limited,
  /**
   * @category models
   * @since 0.1.0
   */
  type Presenting,
  /**
   * @category models
   * @since 0.1.0
   */
  type Publishing,
  /**
   * @category models
   * @since 0.1.0
   */
  type Rule,
  /**
   * @category models
   * @since 0.1.0
   */
  type RuleAction,
  /**
   * @category models
   * @since 0.1.0
   */
  type RuleAnswer,
  /**
   * @category models
   * @since 0.1.0
   */
  type RuleMaker,
  /**
   * @category errors
   * @since 0.1.0
   */
  RuleRefused,
  /**
   * @category models
   * @since 0.1.0
   */
  type Rules,
  /**
   * @category models
   * @since 0.1.0
   */
  type RuleServices,
  /**
   * @category models
   * @since 0.1.0
   */
  type Subscribing
} from "./Rule.ts"
export {
  /**
   * @category authorization
   * @since 0.1.0
   */
  allowAll,
  /**
   * @category models
   * @since 0.1.0
   */
  type AnonymousOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  type AnonymousRules,
  /**
   * @category models
   * @since 0.1.0
   */
  type Action,
  /**
   * @category models
   * @since 0.1.0
   */
  type Authenticate,
  /**
   * @category models
   * @since 0.1.0
   */
  type Authenticated,
  /**
   * @category errors
   * @since 0.1.0
   */
  AuthRefused,
  /**
   * @category models
   * @since 0.1.0
   */
  type Authorize,
  /**
   * @category models
   * @since 0.1.0
   */
  type Credentials,
  /**
   * @category models
   * @since 0.1.0
   */
  type DoorOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  type IdentityKey,
  /**
   * @category models
   * @since 0.1.0
   */
  type IdentityOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  type IdentityRules,
  /**
   * @category models
   * @since 0.1.0
   */
  type Limits,
  /**
   * @category models
   * @since 0.1.0
   */
  type Options,
  /**
   * @category models
   * @since 0.1.0
   */
  type Rate,
  /**
   * @category models
   * @since 0.1.0
   */
  type Request,
  /**
   * @category models
   * @since 0.1.0
   */
  type RuleOptions
} from "./ServerOptions.ts"

/**
 * The channels and families that clients may use.
 *
 * @category models
 * @since 0.1.0
 */
export type Definitions = ReadonlyArray<Channel.Definition>

/**
 * A layer that adds a door to the app's router.
 *
 * @category models
 * @since 0.1.0
 */
export type DoorLayer<R> = Layer.Layer<
  RealtimeServer,
  ChannelConflict | InvalidOption | NoControl | NoOutbox | NoSource | NotInstalled,
  HttpRouter.HttpRouter | Realtime | R
>

/**
 * The open door of a node.
 *
 * @category services
 * @since 0.1.0
 */
export class RealtimeServer extends Context.Service<
  RealtimeServer,
  {
    /** The number of open WebSocket sessions. */
    readonly sessions: Effect.Effect<number>
    /**
     * Completes when this node accepts clients and its events flow: `isReady`. Waits while the database
     * is unavailable, and for ever once the door drains. Fails with the reason and the cure when
     * PostgreSQL rejects the node before it was up once, if the sources can find that. The node keeps
     * retrying.
     */
    readonly ready: Effect.Effect<void, ReadyError>
    /**
     * Whether this node accepts new clients and its events flow: not while it drains, and not while a
     * source is down. The link counts when a live channel is served here, and the reader of the outbox
     * when a durable one is. For health checks.
     */
    readonly isReady: Effect.Effect<boolean>
    /**
     * Closes sessions with 4101: of an identity by the text of `identityKey`, with one token by its name, or
     * one session. Events that were published before arrive before the close. Clients may reconnect with a
     * fresh token if `authenticate` accepts it.
     *
     * With the option `control` it reaches all nodes, and no node opens a session with what was revoked until
     * it expires: for an identity the tokens that were issued before. Fails with `RevokeFailed` when
     * the database does not store it, and with `InvalidOption` for an end that is over. Otherwise it answers within 5 s, with the names of the nodes that did
     * not. In a transaction of yours it holds within 2 s after the commit. Without `control` it closes sessions of this node, at once.
     */
    readonly revoke: (
      whose: Whose,
      options?: RevokeOptions
    ) => Effect.Effect<Reached, InvalidOption | RevokeFailed>
    /**
     * Calls `authorize` or the rule again for every subscription of an identity, on all nodes with the option
     * `control`, else on this one. Subscriptions that it now rejects end with `channel/forbidden`. Fails with
     * `InvalidOption` for an empty text.
     */
    readonly reauthorize: (key: string) => Effect.Effect<Reached, InvalidOption>
    /**
     * Closes sessions with 4205, after which clients stop and do not reconnect by themselves: on all nodes
     * with the option `control`, else on this one. It refuses nothing later. Fails with `InvalidOption` for
     * what names no sessions, such as a token whose name is `undefined`.
     */
    readonly disconnect: (whose: Whose) => Effect.Effect<Reached, InvalidOption>
    /** What the nodes say of themselves, with the option `control` all of them, within a second. */
    readonly stats: Effect.Effect<Stats>
    /**
     * Rejects new clients with 503, sends every client `bye`, closes all sessions, and cuts those that do
     * not leave within the limit `drainTimeout`. Runs by itself when the HTTP server closes.
     */
    readonly drain: Effect.Effect<void>
  }
>()("effect-realtime/server/RealtimeServer") {}

/**
 * Adds the door to the app's router. A durable channel requires an `OutboxReader`, when the compiler
 * knows the definitions. Fails with `InvalidOption` when an option is invalid or the router already has a
 * door on this path. Fails with `NoOutbox` when a channel is durable and `Realtime` has no `OutboxReader`
 * beneath it, and with `NoSource` when a channel is live and it has no `NotificationSource`. With the option
 * `control` it fails with `NoControl` without a `NodeBus` or a `PgClient`, and with `NotInstalled`.
 *
 * **Example** (Opening a door to one channel)
 *
 * ```ts
 * const Door = RealtimeServer.layer({ channels: [Orders], authorize: RealtimeServer.allowAll })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: {
  <
    R = never,
    const Channels extends Definitions = Definitions,
    const List extends Rules = Rules<never>
  >(
    options: AnonymousOptions<R, Channels> | AnonymousRules<Channels, List>
  ): DoorLayer<R | RuleServices<List[number]> | NeedsOf<Channels[number]>>
  // Last, because the compiler reports errors of the last overload.
  <
    I,
    R = never,
    const Channels extends Definitions = Definitions,
    const List extends Rules = Rules<never>
  >(
    options: (IdentityOptions<I, R, Channels> | IdentityRules<I, R, Channels, List>) &
      IdentityKey<NoInfer<I>>
  ): DoorLayer<R | RuleServices<List[number]> | NeedsOf<Channels[number]>>
} = <I, R>(options: Options<I, R>): DoorLayer<R> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const router = yield* HttpRouter.HttpRouter
      yield* Effect.acquireRelease(
        checked(() => {
          checkOptions(options)
          return claim(router, pathOf(options))
        }),
        (leave) => Effect.sync(leave)
      )
      yield* requireSources(options.channels)
      const prepared = yield* Control.prepare(options.control ?? Defaults.control)
      const door = yield* Door.make(options, prepared.door)
      const control = yield* prepared.over(door)
      return Layer.merge(
        Layer.succeed(RealtimeServer, {
          sessions: Effect.sync(door.size),
          ready: door.ready,
          isReady: Effect.sync(door.isReady),
          ...control,
          drain: door.drain
        }),
        HttpRouter.add("GET", pathOf(options), (request) => upgrade(door, request))
      )
    })
  )

/**
 * Options of `layerHealth`.
 *
 * @category models
 * @since 0.1.0
 */
export interface HealthOptions {
  /** The path of the answer about readiness, default `/health`; `/live` after it is that about life. */
  readonly path?: `/${string}` | undefined
}

/**
 * Adds two GET routes for those that watch the node. `path` answers 200 while the node accepts clients and
 * its events flow (`isReady`), else 503: for a load balancer. `path` and `/live` answer 200 while the process
 * serves requests: for what restarts it, because a restart does not bring a database back. The bodies are
 * `{ "status": "ready" | "not ready" | "live" }`, without names or errors. The start dies, with the path, where
 * the router has a GET route at one of the two, such as a door.
 *
 * **Example** (A door with its health)
 *
 * ```ts
 * RealtimeServer.layerHealth().pipe(Layer.provideMerge(Door))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerHealth = (
  options?: HealthOptions
): Layer.Layer<never, never, RealtimeServer | HttpRouter.HttpRouter> =>
  HttpRouter.use((router) =>
    Effect.gen(function* () {
      const { isReady } = yield* RealtimeServer
      const path: `/${string}` = options?.path ?? Health.path
      const live: `/${string}` = path === "/" ? "/live" : `${path}/live`
      const answer = ({ body, status }: HealthAnswer) =>
        HttpServerResponse.jsonUnsafe(body, { status })
      yield* router.add(
        "GET",
        path,
        Effect.map(isReady, (ready) => answer(readiness(ready)))
      )
      yield* router.add("GET", live, answer(liveness))
    })
  )
