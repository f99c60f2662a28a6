/**
 * The services of the server that runs when they are called, by the clock of the system.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { OutboxReader } from "../../server/OutboxReader.ts"
import type { Realtime } from "../../server/Realtime.ts"
import type { Generation } from "./server.ts"

export interface Running {
  readonly realtime: Realtime["Service"]
  readonly reader: OutboxReader["Service"]
}

export const make = (current: () => Generation, clock: Clock.Clock): Running => {
  /** A Stream of the server that runs when the Stream begins. */
  const ofServer = <A, E, R>(
    stream: (generation: Generation) => Stream.Stream<A, E, R>
  ): Stream.Stream<A, E, R> =>
    Stream.unwrap(
      Effect.sync(() => {
        const generation = current()
        const { gone } = generation
        if (Deferred.isDoneUnsafe(gone)) return Stream.empty
        return Stream.interruptWhen(stream(generation), Deferred.await(gone)).pipe(
          // A hub that closes interrupts its waiting subscribers.
          Stream.catchCause((cause) =>
            Deferred.isDoneUnsafe(gone) && Cause.hasInterruptsOnly(cause)
              ? Stream.empty
              : Stream.failCause(cause)
          )
        )
      })
    ).pipe(Stream.provideService(Clock.Clock, clock))

  /** Calls the server that runs at that time, by the clock of the system. */
  const byServer = <A, E, R>(
    effect: (generation: Generation) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R> =>
    Effect.suspend(() => effect(current())).pipe(Effect.provideService(Clock.Clock, clock))

  return {
    realtime: {
      publish: (channel, payload, options) =>
        byServer(({ realtime }) => realtime.publish(channel, payload, options)),
      events: (channel, from) => ofServer(({ realtime }) => realtime.events(channel, from)),
      batches: (channel, from) => ofServer(({ realtime }) => realtime.batches(channel, from)),
      subscribe: (channel) => ofServer(({ realtime }) => realtime.subscribe(channel)),
      rows: (table, options) => ofServer(({ realtime }) => realtime.rows(table, options)),
      source: ofServer(({ realtime }) => realtime.source),
      get "~effect-realtime/server/Realtime"() {
        return current().realtime["~effect-realtime/server/Realtime"]
      }
    },
    reader: {
      routed: (table) => byServer(({ reader }) => reader.routed(table)),
      follow: (channel) => byServer(({ reader }) => reader.follow(channel)),
      join: (...args) => byServer(({ reader }) => reader.join(...args)),
      // The reader in memory has both.
      rows: (request) => byServer(({ reader }) => reader.rows!(request)),
      secret: byServer(({ reader }) => reader.secret!),
      batches: (...args) => ofServer(({ reader }) => reader.batches(...args)),
      publish: (...args) => byServer(({ reader }) => reader.publish(...args)),
      published: (...it) => byServer((now) => now.reader.published?.(...it) ?? Effect.undefined),
      position: byServer(({ reader }) => reader.position),
      get state() {
        return current().reader.state
      }
    }
  }
}
