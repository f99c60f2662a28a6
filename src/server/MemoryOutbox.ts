/**
 * The outbox in memory: durable channels without a database, for tests.
 *
 * It keeps the contract of `OutboxReader` with cursors of the same kind, in one process and for as long as
 * that lives. Nothing has a transaction of its own there, so `Realtime.consume`, `Realtime.snapshot` and
 * `Realtime.rows`, which write to the app's database or read it, need a `PgClient` as ever: they do not
 * compile without one. `EmbeddedPostgres` of `effect-realtime/testing` is one for tests.
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
 * Options of the outbox in memory: those of `OutboxReader.layer` that concern no session, with the same
 * defaults, and `retention` as of `PgInstaller.install`.
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
 * What a test may do to the outbox in memory.
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
     * One transaction that writes these messages, as triggers and other programs do: any JSON text, on
     * any durable channel, also one of a table. It commits before this completes, all of it or nothing.
     */
    readonly commit: (
      ...messages: ReadonlyArray<Message>
    ) => Effect.Effect<void, OutboxPublishError>
    /** The readers lose their sessions: their state is `down`, and what commits from now on waits. */
    readonly lose: Effect.Effect<void>
    /** The database is gone: as `lose`, and publishing fails with `SourceError`. */
    readonly stop: Effect.Effect<void>
    /**
     * The database crashes: as `stop`, and the last transactions are gone, as many as `losing` says
     * (default 0), as those are that commit with `synchronous_commit = off` or are told by a standby that
     * was behind. Whoever was told of them is told a gap after `restore`, and their cursors are `reset`.
     */
    readonly crash: (options?: { readonly losing?: number | undefined }) => Effect.Effect<void>
    /** The readers stand again, and hand out what was committed meanwhile. */
    readonly restore: Effect.Effect<void>
    /**
     * Forgets every message so far, as when their retention is over: an older cursor is `reset`, except at
     * a reader that handed out what follows it within the last 2 minutes and remembers.
     */
    readonly prune: Effect.Effect<void>
    /** One more reader of the same outbox, as another node has, until the scope closes. */
    readonly reader: Effect.Effect<OutboxReader["Service"], never, Scope.Scope>
  }
>()("effect-realtime/server/MemoryOutbox") {}

/**
 * The outbox and a reader of it. Beside `MemorySource.layer`, the source of live channels, it is all that
 * `Realtime.layer()` needs. Empty at first; messages older than the retention go every hour, or every
 * quarter of the retention where that is less. Fails with `InvalidOption` where an option is none.
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
          // Of options that were found right.
          reader: Effect.orDie(reader)
        })
      )
    })
  )
