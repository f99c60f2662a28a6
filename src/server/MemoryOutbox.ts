/**
 * The outbox in memory: durable channels without a database, for tests.
 *
 * It keeps the contract of `OutboxReader` with cursors of the same kind, within one process. It has no
 * transactions of the application. So `Realtime.consume`, `Realtime.snapshot` and `Realtime.rows`, which
 * use the application's database, still need a `PgClient` and do not compile without one.
 * `EmbeddedPostgres` of `effect-realtime/testing` provides one for tests.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { InvalidOption } from "./internal/options.ts"
import * as Reader from "./internal/outbox/memoryReader.ts"
import { MemoryTable, type Written } from "./internal/outbox/memoryTable.ts"
import { OutboxReader, type OutboxPublishError } from "./OutboxReader.ts"

/**
 * Options of the outbox in memory: those of `OutboxReader.layer` that concern no PostgreSQL session, with
 * the same defaults, and `retention` as in `PgInstaller.install`.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends Reader.MemoryReaderOptions {}

/**
 * One message of a transaction.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message extends Written {}

/**
 * Controls the outbox in memory, for tests.
 *
 * **Example** (A Stream that goes on after the database was away)
 *
 * ```ts
 * const program = Effect.gen(function* () {
 *   const outbox = yield* MemoryOutbox.MemoryOutbox
 *   yield* outbox.lose
 *   yield* Realtime.publish(Orders, { n: 1 })
 *   yield* outbox.restore
 * }).pipe(
 *   Effect.provide(Realtime.layer().pipe(
 *     Layer.provideMerge(MemoryOutbox.layer()),
 *     Layer.provideMerge(MemorySource.layer)
 *   ))
 * )
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class MemoryOutbox extends Context.Service<
  MemoryOutbox,
  {
    /**
     * Commits one transaction that writes these messages, as triggers and other programs do: any JSON
     * text, on any durable channel, including channels of tables. Completes after the commit. Commits all
     * messages or none.
     */
    readonly commit: (
      ...messages: ReadonlyArray<Message>
    ) => Effect.Effect<void, OutboxPublishError>
    /** The readers lose their sessions: their state is `down`, and events that commit from now on wait. */
    readonly lose: Effect.Effect<void>
    /** The database is unavailable: as `lose`, and publishing fails with `SourceError`. */
    readonly stop: Effect.Effect<void>
    /**
     * The database crashes: as `stop`, and the last transactions are lost, as many as `losing` says
     * (default 0). Real databases lose transactions that commit with `synchronous_commit = off`, or that
     * a promoted standby did not have. Subscribers that received their events receive a gap after
     * `restore`, and their cursors are `reset`.
     */
    readonly crash: (options?: { readonly losing?: number | undefined }) => Effect.Effect<void>
    /** The readers reconnect, and deliver what was committed meanwhile. */
    readonly restore: Effect.Effect<void>
    /**
     * Removes every message so far, as when the retention is over. An older cursor is `reset`, except at
     * a reader that delivered the events after it within the last 2 minutes and still has them in memory.
     */
    readonly prune: Effect.Effect<void>
    /** Makes one more reader of the same outbox, like that of another node, until the scope closes. */
    readonly reader: Effect.Effect<OutboxReader["Service"], never, Scope.Scope>
  }
>()("effect-realtime/server/MemoryOutbox") {}

/**
 * The outbox and a reader of it. With `MemorySource.layer`, the source of live channels,
 * `Realtime.layer()` needs nothing else. It starts empty. Messages older than the retention are removed
 * every hour, or every quarter of the retention when that is shorter. Fails with `InvalidOption` when an
 * option is invalid.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<OutboxReader | MemoryOutbox, InvalidOption> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const table = new MemoryTable()
      const reader = Reader.make(table, options)
      return Context.make(OutboxReader, yield* reader).pipe(
        Context.add(MemoryOutbox, {
          commit: (...messages) => table.commit(messages),
          lose: table.lose("unheard"),
          stop: table.lose("gone"),
          crash: (how) => table.crash(how?.losing ?? 0),
          restore: table.restore,
          prune: Effect.sync(() => table.forget(Infinity)),
          // The options were validated above.
          reader: Effect.orDie(reader)
        })
      )
    })
  )
