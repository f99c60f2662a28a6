/**
 * A node of the system in memory, as a test controls it.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Realtime } from "../../server/Realtime.ts"
import type { RealtimeServer } from "../../server/RealtimeServer.ts"
import type { BusEnd } from "./busNetwork.ts"
import type { Ground } from "./network.ts"
import * as Running from "./running.ts"
import type { Server } from "./server.ts"

/**
 * A node of the system in memory: its faults and deploys, and what it serves.
 *
 * @category models
 * @since 0.1.0
 */
export interface Node extends Pick<
  RealtimeServer["Service"],
  "revoke" | "reauthorize" | "disconnect" | "stats"
> {
  /**
   * A deploy: the node drains until the last client has left or was cut at the limit `drainTimeout`. Then a
   * new one starts, without the events that live channels had in memory; durable channels resume where each
   * client was. Attempts to connect fail meanwhile, unless another node accepts them. Takes no time when the
   * network has no delay and few clients are connected; otherwise fork it.
   */
  readonly restart: Effect.Effect<void>
  /** A rolling deploy: as `restart`, but the new node accepts clients while the old one drains. */
  readonly replace: Effect.Effect<void>
  /**
   * A crash: the node ends without closing and without a goodbye to the others, its sockets are reset, and a
   * new one starts.
   */
  readonly kill: Effect.Effect<void>
  /**
   * The node ends: as `kill`, but no new one starts. Attempts to connect fail until `start`, `restart`,
   * `replace` or `kill` starts one, unless another node accepts them.
   */
  readonly stop: Effect.Effect<void>
  /** Starts a node after `stop`. Does nothing while one runs. */
  readonly start: Effect.Effect<void>
  /** Whether the node accepts new clients and its events flow. */
  readonly isReady: Effect.Effect<boolean>
  /**
   * Whether the bus loses everything from this node and to it. The others notice after 3 s. Its clients and
   * its database stay. Without a bus it has no effect.
   */
  readonly isolate: (yes: boolean) => Effect.Effect<void>
  /** What programs on this node use, as the service `Realtime` is that of the first node. */
  readonly realtime: Realtime["Service"]
}

/** `inside` runs an Effect by the clock of the system. */
export const make = (
  server: Server,
  end: BusEnd | undefined,
  ground: Ground,
  index: number,
  clock: Clock.Clock,
  inside: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Node & Running.Running => {
  const { current } = server
  const forget = () => ground.links.forEach((link) => link.node === index && link.forgetServer())
  return {
    ...Running.make(current, clock),
    restart: inside(server.restart),
    replace: inside(server.replace),
    kill: inside(server.kill(forget)),
    stop: inside(server.stop(forget)),
    start: inside(server.start),
    isReady: Effect.sync(() => server.running() && current().door.isReady()),
    isolate: (yes) => Effect.sync(() => end?.silence(yes)),
    revoke: (whose, options) =>
      inside(Effect.suspend(() => current().control.revoke(whose, options))),
    reauthorize: (key) => inside(Effect.suspend(() => current().control.reauthorize(key))),
    disconnect: (whose) => inside(Effect.suspend(() => current().control.disconnect(whose))),
    stats: inside(Effect.suspend(() => current().control.stats))
  }
}
