/**
 * Faults of the network, for one client or for all.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ServerFrame } from "../../Frame.ts"
import type { Path, Weather } from "./network.ts"

/**
 * Faults of the network between clients and server. Each takes effect at once.
 *
 * @category models
 * @since 0.1.0
 */
export interface Network {
  /** Cuts all sockets without a close frame. Both ends notice at once; the client sees 1006. */
  readonly cut: Effect.Effect<void>
  /**
   * Drops everything in both directions without an error: no message, close or connection attempt arrives
   * until `resume`.
   */
  readonly silence: Effect.Effect<void>
  /**
   * Delivers again. A socket that lost something stays dead, because a stream of bytes never has a hole:
   * its ends must notice by themselves.
   */
  readonly resume: Effect.Effect<void>
  /** Delays each message by this time, in both directions and in order. Default 0. */
  readonly delay: (duration: Duration.Input) => Effect.Effect<void>
  /** Whether attempts to connect fail. Open sockets stay. */
  readonly refuse: (yes: boolean) => Effect.Effect<void>
  /**
   * Loses the next message of the server that has a frame of this type, default `events`, once for each
   * client. Earlier messages arrive. Later ones do not arrive on that socket, in either direction and
   * without an error, because a stream of bytes never has a hole. Attempts to connect succeed.
   */
  readonly loseFrame: (type?: ServerFrame["type"]) => Effect.Effect<void>
}

type Faulty = Pick<Path, "cut" | "loseNext" | "silence"> & { readonly weather: Weather }

/** The faults of some paths. `weather` has those of paths to come. */
export const networkOf = (
  each: (change: (path: Faulty) => void) => void,
  weather: Weather
): Network => {
  const become = (change: Partial<Weather>) =>
    Effect.sync(() => {
      Object.assign(weather, change)
      each((path) => void Object.assign(path.weather, change))
    })
  return {
    cut: Effect.sync(() => each((path) => path.cut())),
    silence: Effect.andThen(
      become({ silent: true }),
      Effect.sync(() => each((path) => path.silence()))
    ),
    resume: become({ silent: false }),
    delay: (duration) => become({ delay: Duration.toMillis(Duration.fromInputUnsafe(duration)) }),
    refuse: (refusing) => become({ refusing }),
    loseFrame: (type = "events") =>
      Effect.sync(() => each((path) => path.loseNext((frame) => frame.type === type)))
  }
}
