/**
 * The outbox in memory: durable channels without a database, for tests.
 *
 * It keeps the contract of `OutboxReader` with cursors of the same kind, within one process, and the rows of
 * tables that `Channel.table` defines. It has no transactions of the application. So `Realtime.consume`,
 * `Realtime.snapshot` and `Realtime.readRows`, which use the application's database, still need a `PgClient` and
 * do not compile without one. `EmbeddedPostgres` of `effect-realtime/testing` provides one for tests.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { InvalidOption } from "./internal/options.ts"
import * as Reader from "./internal/outbox/memoryReader.ts"
import type { Written } from "./internal/outbox/memoryRows.ts"
import { MemoryTable, type TransactionError } from "./internal/outbox/memoryTable.ts"
import type { RowOptions } from "./internal/outbox/memoryTrigger.ts"
import {
  type DurableTable,
  make as writes,
  type RowWriter
} from "./internal/outbox/memoryWrites.ts"
import { OutboxReader, type OutboxPublishError } from "./OutboxReader.ts"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  RowConflict
} from "./internal/outbox/memoryRows.ts"
export type {
  /**
   * @category errors
   * @since 0.1.0
   */
  TransactionError
} from "./internal/outbox/memoryTable.ts"
export type {
  /**
   * @category errors
   * @since 0.1.0
   */
  ChangeError,
  /**
   * @category models
   * @since 0.1.0
   */
  DurableTable,
  /**
   * @category models
   * @since 0.1.0
   */
  RowWriter
} from "./internal/outbox/memoryWrites.ts"

/**
 * Options of the outbox in memory: those of `OutboxReader.layer` that concern no PostgreSQL session, with
 * the same defaults, and `retention` as in `PgInstaller.install`.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends Reader.MemoryReaderOptions {
  /**
   * Tables whose events differ from what their definition says, as in `watch` of `PgInstaller`. A table
   * needs no entry to have rows.
   */
  readonly watch?: ReadonlyArray<Watch> | undefined
}

/**
 * How the changes of a table become events, besides its definition.
 *
 * @category options
 * @since 0.1.0
 */
export interface Watch extends RowOptions {
  readonly channel: DurableTable
}

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
     * messages or none. It does not change `rows`.
     */
    readonly commit: (
      ...messages: ReadonlyArray<Message>
    ) => Effect.Effect<void, OutboxPublishError>
    /** The rows of tables. */
    readonly rows: RowWriter
    /**
     * Runs an Effect as one transaction. The changes of `rows` in it, and what it publishes on durable
     * channels, are committed together when it succeeds, and none of them when it fails. Within another
     * transaction it is a savepoint. Transactions do not wait for each other: with `RowConflict` fails the
     * one that commits second, when both changed one row.
     */
    readonly transaction: <A, E, R>(
      effect: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E | TransactionError, R>
    /** The readers lose their sessions: their state is `down`, and events that commit from now on wait. */
    readonly lose: Effect.Effect<void>
    /** The database is unavailable: as `lose`, and publishing fails with `SourceError`. */
    readonly stop: Effect.Effect<void>
    /**
     * The database crashes: as `stop`, and the last transactions are lost, as many as `losing` says
     * (default 0). Real databases lose transactions that commit with `synchronous_commit = off`, or that
     * a promoted standby did not have. The rows that they changed are as before. Subscribers that received
     * their events receive a gap after `restore`, and their cursors are `reset`.
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
      const table = new MemoryTable(options?.watch)
      const reader = Reader.make(table, options)
      return Context.make(OutboxReader, yield* reader).pipe(
        Context.add(MemoryOutbox, {
          commit: (...messages) => table.commit(messages),
          rows: writes(table, identity),
          transaction: (effect) => table.transaction(effect, identity),
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
