/**
 * The server of the system in memory: a hub and a door over a source, one generation after the other.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Door from "../../server/internal/door/door.ts"
import type { ChannelConflict } from "../../server/internal/door/registry.ts"
import { NotificationSource } from "../../server/NotificationSource.ts"
import * as Realtime from "../../server/Realtime.ts"
import type { InvalidOption, Options } from "../../server/ServerOptions.ts"
import type { Entrance } from "./network.ts"

interface Generation {
  readonly scope: Scope.Closeable
  readonly realtime: Realtime.Realtime["Service"]
  readonly door: Door.Door
  /** Done when this server is gone. */
  readonly gone: Deferred.Deferred<void>
}

export interface Server {
  readonly current: () => Generation
  /** Sockets held open, also by one that drains. */
  readonly size: () => number
  readonly entrance: Entrance
  /** Drains, and when everybody has left or been cut, starts anew. */
  readonly restart: Effect.Effect<void>
  /** Starts anew, and drains the old one meanwhile. */
  readonly replace: Effect.Effect<void>
  /** Ends without a word, and starts anew. `forget` takes the sessions from their sockets. */
  readonly kill: (forget: () => void) => Effect.Effect<void>
}

/** As a client on this machine. */
const address = "127.0.0.1"

const defaultMaxSessions = 10_000

export const make = <I, R>(
  source: NotificationSource["Service"],
  options: Options<I, R>,
  hub: Realtime.Options | undefined
): Effect.Effect<Server, ChannelConflict | InvalidOption, R | Scope.Scope> =>
  Effect.gen(function* () {
    const services = yield* Effect.context<R>()
    // One for all generations, so that the latest does not close before what was made after the first.
    const outer = yield* Effect.flatMap(Effect.scope, (scope) => Scope.fork(scope))
    const turn = yield* Semaphore.make(1)
    const maxSessions = options.limits?.sessions ?? defaultMaxSessions
    let draining = false

    const start = Effect.gen(function* () {
      const scope = yield* Scope.fork(outer)
      return yield* Effect.gen(function* () {
        const realtime = yield* Realtime.Realtime.make(hub)
        const door = yield* Effect.provideService(Door.make(options), Realtime.Realtime, realtime)
        return { scope, realtime, door, gone: yield* Deferred.make<void>() }
      }).pipe(
        Effect.provideService(NotificationSource, source),
        Effect.provideContext(Context.add(services, Scope.Scope, scope))
      )
    })
    let current: Generation = yield* start

    /** The generations that did not end yet. */
    const alive = new Set([current])

    const end = (generation: Generation) =>
      Effect.gen(function* () {
        // First, so that whoever hears of the hub's end knows why.
        yield* Deferred.succeed(generation.gone, undefined)
        yield* Scope.close(generation.scope, Exit.void)
        alive.delete(generation)
      })

    const begin = Effect.gen(function* () {
      // What conflicts would have done so the first time.
      current = yield* Effect.orDie(start)
      alive.add(current)
      draining = false
    })

    return {
      current: () => current,
      entrance: (peer, headers) =>
        draining || current.door.size() >= maxSessions
          ? undefined
          : current.door.accept(peer, { headers, address }),
      size: () => [...alive].reduce((sum, { door }) => sum + door.size(), 0),
      restart: turn.withPermit(
        Effect.suspend(() => {
          const old = current
          draining = true
          return old.door.drain.pipe(Effect.andThen(end(old)), Effect.andThen(begin))
        })
      ),
      replace: turn.withPermit(
        Effect.suspend(() => {
          const old = current
          return begin.pipe(Effect.andThen(old.door.drain), Effect.andThen(end(old)))
        })
      ),
      kill: (forget) =>
        turn.withPermit(
          Effect.suspend(() => {
            const old = current
            draining = true
            forget()
            return Effect.andThen(end(old), begin)
          })
        )
    }
  })
