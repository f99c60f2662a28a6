/**
 * Changes of rows in memory, typed by the definition of their table, each in the transaction of its caller.
 */
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import type { InvalidPayload } from "../../../RealtimeError.ts"
import { type Draft, type HeldTable, RowConflict } from "./memoryRows.ts"
import type { MemoryTable, TransactionError } from "./memoryTable.ts"
import type { MemoryRow } from "./memoryTrigger.ts"

/**
 * A definition of `Channel.table` whose rows are in memory: a durable one.
 *
 * @category models
 * @since 0.1.0
 */
export type DurableTable = Channel.AnyTable & { readonly delivery: "durable" }

/**
 * Why a change of a row was not made.
 *
 * @category errors
 * @since 0.1.0
 */
export type ChangeError = InvalidPayload | TransactionError

/**
 * Changes and reads the rows of tables in memory. Each change is a transaction of its own, or part of the `transaction` in
 * which it runs. It writes what the trigger of `PgInstaller` writes for it in PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export interface RowWriter {
  /** Inserts a row. Fails with `RowConflict` when the table has one with this primary key. */
  readonly insert: <T extends DurableTable>(
    table: T,
    row: Channel.RowOf<T>
  ) => Effect.Effect<void, ChangeError>
  /**
   * Changes the columns that `patch` has, of the row whose key columns `key` has. Returns whether there is
   * such a row. An UPDATE of the key is a DELETE and an INSERT, and so is a move to another route.
   */
  readonly update: <T extends DurableTable>(
    table: T,
    key: Partial<Channel.RowOf<T>>,
    patch: Partial<Channel.RowOf<T>>
  ) => Effect.Effect<boolean, ChangeError>
  /** Deletes the row whose key columns `key` has. Returns whether there is such a row. */
  readonly delete: <T extends DurableTable>(
    table: T,
    key: Partial<Channel.RowOf<T>>
  ) => Effect.Effect<boolean, ChangeError>
  /** Removes all rows. Subscribers receive a gap with the reason `truncate`. */
  readonly truncate: (table: DurableTable) => Effect.Effect<void, TransactionError>
  /** The rows in the order of the primary key. A transaction sees its own changes. */
  readonly all: <T extends DurableTable>(
    table: T
  ) => Effect.Effect<ReadonlyArray<Channel.RowOf<T>>, InvalidPayload>
  /** How many changes were of rows on no route, as `realtime.unrouted()` counts them. */
  readonly unrouted: (table: DurableTable) => Effect.Effect<number>
}

/** `timed` gives a commit its clock. */
export const make = (
  table: MemoryTable,
  timed: (commit: Effect.Effect<void, TransactionError>) => Effect.Effect<void, TransactionError>
): RowWriter => {
  const change = <A, E>(
    { table: definition }: DurableTable,
    body: (held: HeldTable, draft: Draft) => Effect.Effect<A, E>
  ) => table.change((draft) => body(table.rows.held(definition), draft), timed)

  /** Puts a row in the place of another one, unless its key is that of a third. */
  const put = (
    held: HeldTable,
    draft: Draft,
    before: MemoryRow | undefined,
    columns: ReadonlyMap<string, string>
  ) => {
    const after = held.trigger.row(columns)
    const { key } = after
    if (key !== before?.key && draft.find(held, key) !== undefined) {
      const { channel } = held.trigger.table
      return Effect.fail(new RowConflict({ channel, key, reason: "exists" }))
    }
    return Effect.sync(() => draft.change(held, before, after))
  }

  /** Whether there is a row with the key; `found` handles it. */
  const at = <E>(
    held: HeldTable,
    draft: Draft,
    key: object,
    found: (row: MemoryRow) => Effect.Effect<void, E>
  ) =>
    Effect.flatMap(Effect.fromResult(held.trigger.key(key)), (key) => {
      const row = draft.find(held, key)
      return row === undefined ? Effect.succeed(false) : Effect.as(found(row), true)
    })

  return {
    insert: (table, row) =>
      change(table, (held, draft) =>
        Effect.flatMap(Effect.fromResult(held.trigger.columns(row as object)), (columns) =>
          put(held, draft, undefined, columns)
        )
      ),
    update: (table, key, patch) =>
      change(table, (held, draft) =>
        at(held, draft, key as object, (row) =>
          Effect.flatMap(
            Effect.fromResult(held.trigger.columns(patch, Object.keys(patch))),
            (columns) => put(held, draft, row, new Map([...row.columns, ...columns]))
          )
        )
      ),
    delete: (table, key) =>
      change(table, (held, draft) =>
        at(held, draft, key as object, (row) =>
          Effect.sync(() => draft.change(held, row, undefined))
        )
      ),
    truncate: (table) => change(table, (held, draft) => Effect.sync(() => draft.truncate(held))),
    all: <T extends DurableTable>(definition: T) =>
      Effect.flatMap(table.seen, (draft) =>
        Effect.fromResult(table.rows.values(table.rows.held(definition.table), draft))
      ) as Effect.Effect<ReadonlyArray<Channel.RowOf<T>>, InvalidPayload>,
    unrouted: ({ table: definition }) => Effect.sync(() => table.rows.held(definition).unrouted)
  }
}
