/**
 * The WebSocket door of an Effect HTTP app: one layer, beside the other routes.
 *
 * The app's middleware runs at the handshake as for any request; the session then runs on a fiber of
 * its own, and the request ends. For a plain `node:http` server there is `effect-realtime/node`.
 *
 * @since 0.1.0
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Channel from "../Channel.ts"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import { claim, pathOf } from "./internal/door/claims.ts"
import * as Door from "./internal/door/door.ts"
import { checkOptions } from "./internal/limits/limits.ts"
import { checked, type InvalidOption } from "./internal/options.ts"
import type { ChannelConflict } from "./internal/session/registry.ts"
import { requireSources } from "./internal/door/sources.ts"
import type { ReadyError } from "./internal/hub/delivery.ts"
import type { NoOutbox, NoSource } from "./internal/hub/errors.ts"
import type { NeedsOf, Realtime } from "./Realtime.ts"
import { neighboursOf } from "./internal/door/neighbours.ts"
import { enter, refuse } from "./internal/door/upgrade.ts"
import type { AnonymousOptions, IdentityKey, IdentityOptions, Options } from "./ServerOptions.ts"

export type {
  /**
   * @category errors
   * @since 0.1.0
   */
  ReadyError
} from "./internal/hub/delivery.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ChannelConflict
} from "./internal/session/registry.ts"
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
  type Request
} from "./ServerOptions.ts"

/**
 * What clients may know of.
 *
 * @category models
 * @since 0.1.0
 */
export type Definitions = ReadonlyArray<Channel.Definition>

/**
 * A door is a route of the app.
 *
 * @category models
 * @since 0.1.0
 */
export type DoorLayer<R> = Layer.Layer<
  RealtimeServer,
  ChannelConflict | InvalidOption | NoOutbox | NoSource,
  HttpRouter.HttpRouter | Realtime | R
>

/**
 * The door while it is open.
 *
 * @category services
 * @since 0.1.0
 */
export class RealtimeServer extends Context.Service<
  RealtimeServer,
  {
    /** WebSocket sessions open now. */
    readonly sessions: Effect.Effect<number>
    /**
     * Waits until this node takes clients and its events flow: `isReady`. For as long as the database is
     * away, and for ever once it drains. Fails with the reason and the cure when PostgreSQL refuses before
     * it was up once, as far as that is known; the node goes on trying all the same.
     */
    readonly ready: Effect.Effect<void, ReadyError>
    /**
     * Whether this node takes newcomers and its events flow: not while it drains, and not while the
     * source is down: the link if a live channel is served here, the reader of the outbox if a
     * durable one is. For health checks.
     */
    readonly isReady: Effect.Effect<boolean>
    /**
     * Closes every session of an identity on this node with 4101. `key` is what `identityKey` gives for
     * it: the identity itself when that is a string. It may come back with a fresh token if
     * `authenticate` lets it.
     */
    readonly revoke: (key: string) => Effect.Effect<void>
    /**
     * Asks `authorize` again about every subscription of an identity on this node; those it refuses
     * now end with `channel/forbidden`. `key`: as for `revoke`.
     */
    readonly reauthorize: (key: string) => Effect.Effect<void>
    /**
     * Refuses newcomers with 503, tells everybody `bye`, closes all sessions, and cuts those that do
     * not leave within the limit `drainTimeout`. Runs by itself when the HTTP server closes.
     */
    readonly drain: Effect.Effect<void>
  }
>()("effect-realtime/server/RealtimeServer") {}

/**
 * Adds the door to the app's router. A durable channel asks for an `OutboxReader`, where the compiler
 * knows the definitions. Fails with `InvalidOption` when an option cannot be, or the router has a door on
 * this path already, with `NoOutbox` when a channel is durable and `Realtime` has no `OutboxReader`
 * beneath it, and with `NoSource` when one is live and it has no `NotificationSource`.
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
  <R = never, const Channels extends Definitions = Definitions>(
    options: AnonymousOptions<R, Channels>
  ): DoorLayer<R | NeedsOf<Channels[number]>>
  // Last, because the compiler explains what the last one misses.
  <I, R = never, const Channels extends Definitions = Definitions>(
    options: IdentityOptions<I, R, Channels> & IdentityKey<NoInfer<I>>
  ): DoorLayer<R | NeedsOf<Channels[number]>>
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
      const door = yield* Door.make(options)
      return Layer.merge(
        Layer.succeed(RealtimeServer, {
          sessions: Effect.sync(door.size),
          ready: door.ready,
          isReady: Effect.sync(door.isReady),
          revoke: (key) => Effect.sync(() => door.revoke(key)),
          reauthorize: door.reauthorize,
          drain: door.drain
        }),
        HttpRouter.add("GET", pathOf(options), (request) => upgrade(door, request))
      )
    })
  )

const upgrade = (
  door: Door.Door,
  request: HttpServerRequest.HttpServerRequest
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.map(Effect.all([Effect.context<never>(), Clock.Clock]), ([services, clock]) => {
    const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
    // Only Node knows: an `Upgrade` header without `Connection: Upgrade` is an ordinary request.
    if (!("upgrade" in incoming && incoming.upgrade === true)) {
      return HttpServerResponse.text("This is a WebSocket.", {
        status: 426,
        headers: { upgrade: "websocket", connection: "Upgrade" }
      })
    }
    const { socket } = incoming
    const { server } = socket as { readonly server?: Server }
    drainBefore(door, server)
    // Effect writes nothing over a response that has ended; detached first, so that nothing of it
    // reaches the wire between the frames.
    const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    if (!response.writableEnded) {
      response.detachSocket(socket)
      response.end()
    }
    // The router also matches other spellings of the path.
    if (!door.owns(incoming)) {
      refuse(socket, { status: 404, reason: "There is no WebSocket here." })
      return HttpServerResponse.empty({ status: 404 })
    }
    // Effect keeps what came behind the request to itself. A client must not send anything before the
    // 101 (RFC 6455, 4.1); what one sends all the same is lost, and the session ends without a hello.
    let status = 400
    const come = (ours: typeof socket) => {
      status = enter(door, incoming, ours, Buffer.alloc(0))
    }
    if (server === undefined) come(socket)
    else {
      const tell = (line: string) => Effect.runForkWith(services)(Effect.logWarning(line))
      const now = () => clock.currentTimeMillisUnsafe()
      neighboursOf(server, tell, now).keepOff(door.path, socket, come)
    }
    // For the access log and the span; nothing is written.
    return HttpServerResponse.empty({ status })
  })

const closing = new WeakMap<Server, Set<Door.Door>>()

/**
 * An HTTP server waits for its open sockets when it closes, up to 20 s, before the layers inside it
 * close. So its `close` drains the door first, and only then waits.
 */
const drainBefore = (door: Door.Door, server: Server | undefined): void => {
  if (server === undefined) return
  const known = closing.get(server)
  if (known !== undefined) {
    known.add(door)
    return
  }
  const doors = new Set([door])
  closing.set(server, doors)
  const close = server.close.bind(server)
  server.close = (done) => {
    for (const open of doors) Effect.runFork(open.drain)
    return close(done)
  }
}
