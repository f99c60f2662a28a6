/**
 * A server of the system in memory: a hub, a reader of the outbox and a door over a database, and the bus to
 * the other servers. Each restart begins a new generation, which is another node on the bus.
 *
 * @since 0.1.0
 */
import { limits as Defaults, server as Shared } from "../../internal/defaults.ts"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Control from "../../server/internal/control/control.ts"
import * as Door from "../../server/internal/door/door.ts"
import type { ChannelConflict } from "../../server/internal/session/registry.ts"
import * as MemoryReader from "../../server/internal/outbox/memoryReader.ts"
import type { MemoryTable } from "../../server/internal/outbox/memoryTable.ts"
import { NodeBus } from "../../server/NodeBus.ts"
import { NotificationSource } from "../../server/NotificationSource.ts"
import { OutboxReader } from "../../server/OutboxReader.ts"
import * as Realtime from "../../server/Realtime.ts"
import type { Options } from "../../server/ServerOptions.ts"
import type { InvalidOption } from "../../server/internal/options.ts"
import type { Entrance } from "./network.ts"

export interface Generation {
  readonly scope: Scope.Closeable
  readonly realtime: Realtime.Realtime["Service"]
  readonly reader: OutboxReader["Service"]
  readonly door: Door.Door
  readonly control: Control.Control
  /** Completes when this server has ended. */
  readonly gone: Deferred.Deferred<void>
}

export interface Server {
  /** The latest generation, which may be stopped. */
  readonly current: () => Generation
  readonly running: () => boolean
  /** Open sockets, including those of a generation that drains. */
  readonly size: () => number
  readonly entrance: Entrance
  /** Drains until all clients have left or been cut, then starts a new generation. */
  readonly restart: Effect.Effect<void>
  /** Starts a new generation while the old one drains. */
  readonly replace: Effect.Effect<void>
  /** Ends without closing. `forget` takes the sessions from their sockets. */
  readonly stop: (forget: () => void) => Effect.Effect<void>
  /** Starts a new generation after `stop`. */
  readonly start: Effect.Effect<void>
  /** `stop`, then `start`. */
  readonly kill: (forget: () => void) => Effect.Effect<void>
}

/** What every generation reads. */
export interface Database {
  readonly source: NotificationSource["Service"]
  readonly table: MemoryTable
  readonly outbox: MemoryReader.MemoryReaderOptions | undefined
  readonly revocations: Control.RevocationStore
}

/** How a server reaches the others; `undefined` in a system without a bus. */
export type BusLink =
  | {
      /** The bus of a generation. */
      readonly bus: Effect.Effect<NodeBus["Service"], never, Scope.Scope>
      /** From now on no other server hears the generations so far: they end without a goodbye. */
      readonly mute: () => void
    }
  | undefined

/** The address of a client on this machine. */
const address = "127.0.0.1"

export const make = <I, R>(
  { outbox, revocations, source, table }: Database,
  link: BusLink,
  options: Options<I, R>,
  hub: Realtime.Options | undefined
): Effect.Effect<Server, ChannelConflict | InvalidOption, R | Scope.Scope> =>
  Effect.gen(function* () {
    const services = yield* Effect.context<R>()
    // One scope for all generations, so that the latest does not close before what was made after the
    // first.
    const outer = yield* Effect.flatMap(Effect.scope, (scope) => Scope.fork(scope))
    const turn = yield* Semaphore.make(1)
    const maxSessions = options.limits?.maxSessions ?? Defaults.maxSessions
    let draining = false

    const generation = Effect.gen(function* () {
      const scope = yield* Scope.fork(outer)
      return yield* Effect.gen(function* () {
        const reader = yield* MemoryReader.make(table, outbox)
        const bus = link === undefined ? Context.empty() : Context.make(NodeBus, yield* link.bus)
        return yield* Effect.gen(function* () {
          const realtime = yield* Realtime.make(hub)
          const prepared = yield* Control.prepare(options.control ?? Shared.control, revocations)
          const door = yield* Effect.provideService(
            Door.make(options, prepared.door),
            Realtime.Realtime,
            realtime
          )
          const control = yield* prepared.over(door)
          const gone = yield* Deferred.make<void>()
          return { scope, realtime, reader, door, control, gone }
        }).pipe(Effect.provideService(OutboxReader, reader), Effect.provideContext(bus))
      }).pipe(
        // There is a bus of its own, and no table that could be missing.
        Effect.catchTag(["NoControl", "NotInstalled", "TopicTaken"], Effect.die),
        Effect.provideService(NotificationSource, source),
        Effect.provideContext(Context.add(services, Scope.Scope, scope))
      )
    })
    let current: Generation = yield* generation

    /** The generations that have not ended. */
    const alive = new Set([current])

    const end = (generation: Generation) =>
      Effect.gen(function* () {
        // First, so that a subscriber that notices the hub's end finds the reason.
        yield* Deferred.succeed(generation.gone, undefined)
        yield* Scope.close(generation.scope, Exit.void)
        alive.delete(generation)
      })

    const begin = Effect.gen(function* () {
      // A conflict would have failed the first generation.
      current = yield* Effect.orDie(generation)
      alive.add(current)
      draining = false
    })

    const leave = (forget: () => void) =>
      Effect.suspend(() => {
        draining = true
        link?.mute()
        forget()
        return alive.has(current) ? end(current) : Effect.void
      })

    /** Drains and ends a generation, unless it was stopped and has no clients. */
    const drained = (old: Generation) =>
      alive.has(old) ? Effect.andThen(old.door.drain, end(old)) : Effect.void

    return {
      current: () => current,
      running: () => alive.has(current),
      entrance: (peer, headers) =>
        draining || current.door.size() >= maxSessions
          ? undefined
          : current.door.accept(peer, { headers, address }),
      size: () => [...alive].reduce((sum, { door }) => sum + door.size(), 0),
      restart: turn.withPermit(
        Effect.suspend(() => {
          draining = true
          return Effect.andThen(drained(current), begin)
        })
      ),
      replace: turn.withPermit(
        Effect.suspend(() => {
          const old = current
          return Effect.andThen(begin, drained(old))
        })
      ),
      stop: (forget) => turn.withPermit(leave(forget)),
      start: turn.withPermit(Effect.suspend(() => (alive.has(current) ? Effect.void : begin))),
      kill: (forget) => turn.withPermit(Effect.andThen(leave(forget), begin))
    }
  })
