/**
 * The database of the system in memory: a source of live channels, and a table of durable ones with the
 * rows of watched tables. Both are lost and restored together. Other programs write to them also while no
 * server is connected.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Written } from "../../server/internal/outbox/memoryRows.ts"
import { MemoryTable } from "../../server/internal/outbox/memoryTable.ts"
import { make as writes } from "../../server/internal/outbox/memoryWrites.ts"
import { formatPosition, whole } from "../../server/internal/outbox/position.ts"
import type { Options } from "../../server/MemoryOutbox.ts"
import * as MemorySource from "../../server/MemorySource.ts"
import { NotificationSource, SourceError } from "../../server/NotificationSource.ts"
import * as Revocations from "./revocations.ts"

/** All its times follow the clock of the system. */
export const make = (clock: Clock.Clock, outbox: Options | undefined) =>
  Effect.gen(function* () {
    const memory = yield* Layer.build(Layer.fresh(MemorySource.layer))
    const heard = Context.get(memory, NotificationSource)
    const { listening, lose, restore } = Context.get(memory, MemorySource.MemorySource)
    const table = new MemoryTable(outbox?.watch)
    const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.provideService(effect, Clock.Clock, clock)

    const notify = (channel: string, text: string) =>
      Effect.suspend(() => {
        if (table.state === "heard") return heard.notify(channel, text)
        if (table.state === "unheard") return Effect.void
        const cause = new Error("The database in memory is stopped")
        return Effect.fail(new SourceError({ operation: "notify", channel, cause }))
      })

    const reached = Effect.suspend(() =>
      table.state === "heard"
        ? Effect.void
        : Effect.fail(new Error("The database in memory does not answer"))
    )

    return {
      table,
      revocations: Revocations.make(clock, reached),
      source: { ...heard, notify },
      commit: (messages: ReadonlyArray<Written>) => timed(table.commit(messages)),
      rows: writes(table, timed),
      transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => table.transaction(effect, timed),
      faults: {
        lose: timed(Effect.andThen(table.lose("unheard"), lose)),
        stop: timed(Effect.andThen(table.lose("gone"), lose)),
        crash: (options?: { readonly losing?: number | undefined }) =>
          timed(Effect.andThen(table.crash(options?.losing ?? 0), lose)),
        restore: timed(Effect.andThen(restore, table.restore)),
        prune: Effect.sync(() => table.forget(Infinity)),
        position: Effect.sync(() => formatPosition(table.identity, whole(table.take()))),
        listening
      }
    }
  })
