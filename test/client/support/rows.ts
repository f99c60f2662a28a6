/** Cursors and frames of a table's channel with a filter, for tests that play the server. */
import { Schema } from "effect"
import { Channel } from "effect-realtime"
import * as PgType from "../../../src/PgType.ts"
import * as Cursor from "../../../src/internal/cursorText.ts"
import type { ServerFrame } from "../../../src/Frame.ts"

export const Order = Schema.Struct({
  id: PgType.int8,
  status: Schema.Literals(["new", "packed"]),
  owner: Schema.NullOr(Schema.String)
})
export const Orders = Channel.table("orders", Order, { key: "id", filter: ["status", "owner"] })
export const channel = Orders.name

/** The position behind transactions 1 to `tx`. */
export const at = (tx: number, digest = "") =>
  Cursor.formatDurable({
    identity: "AAAAAAAA",
    position: Cursor.whole({ xmax: BigInt(tx) + 1n, running: [] }),
    witness: { tx: BigInt(tx), id: 1n, at: 1n }
  }) + (digest && `.${digest}`)

/** The position in the middle of a tick, behind the first events of transaction `tx`. */
export const amid = (tx: number) =>
  Cursor.formatDurable({
    identity: "AAAAAAAA",
    position: Cursor.midway(
      { xmax: BigInt(tx), running: [] },
      { xmax: BigInt(tx) + 1n, running: [] },
      1n
    ),
    witness: { tx: BigInt(tx), id: 1n, at: 1n }
  })

/** A row as the wire has it. */
export const row = (id: number | string, status = "new", owner: string | null = null) => ({
  id,
  status,
  owner
})

type Change = readonly ["INSERT" | "UPDATE" | "DELETE", ReturnType<typeof row>]

/** The changes of the transaction `tx`, one event for each. */
export const events = (
  tx: number,
  changes: ReadonlyArray<Change | { readonly data: unknown }>,
  view?: string
): ServerFrame => ({
  type: "events",
  channel,
  ...(view === undefined ? {} : { view }),
  cursor: at(tx),
  events: changes.map((change, index) => ({
    id: `${tx * 100 + index}`,
    at: "2026-11-29T00:00:00.000Z",
    tx: `${tx}`,
    data: Array.isArray(change)
      ? {
          operation: change[0],
          // A row that leaves a filter has its key only.
          ...(change[0] === "DELETE" ? {} : { data: change[1] }),
          key: { id: change[1].id }
        }
      : (change as { readonly data: unknown }).data
  }))
})

export const state = (
  tx: number,
  rows: ReadonlyArray<unknown>,
  rest?: {
    readonly view?: string
    readonly more?: boolean
    readonly id?: number
    readonly invalid?: ReadonlyArray<unknown>
  }
): ServerFrame => ({ type: "state", channel, cursor: at(tx), rows, more: false, ...rest })

export const gap = (
  tx: number,
  reason = "source",
  rest?: { readonly view?: string; readonly now?: string }
): ServerFrame => ({ type: "gap", channel, reason, cursor: at(tx), ...rest })
