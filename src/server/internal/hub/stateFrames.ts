/**
 * The rows of a table as frames of a state.
 *
 * Each row is decoded with its Schema and encoded for the wire, in steps of the event loop. A row that does
 * not match is left out, and named by its key in the last frame.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Table } from "../../../ChannelBase.ts"
import * as Exact from "../../../internal/exact.ts"
import { encodeState } from "../../../internal/frameText.ts"
import { most, turns } from "../eventLoopTurns.ts"
import type { RowsAt } from "../outbox/state.ts"
import { rowText } from "../reading/reading.ts"
import { keyOnWire } from "../reading/rowKey.ts"
import type { Unfit } from "../reading/mismatch.ts"
import type { StateFrame } from "./delivery.ts"
import { Outgoing } from "./outgoing.ts"
import { rowJson } from "./rowChange.ts"

/** Bytes of the rows of a frame, unless one row has more. */
const frameBytes = 64 * 1024
/** The most rows that are left out and named. */
const mostInvalid = 100

/** A frame that drops its text when a transport has made its bytes. */
class StateText extends Outgoing {
  #given: string

  constructor(text: string) {
    super()
    this.#given = text
  }

  protected override write(): string {
    const text = this.#given
    this.#given = ""
    return text
  }
}

export const frameOf = (text: string, rows: number): StateFrame => ({
  message: new StateText(text),
  bytes: Buffer.byteLength(text),
  rows
})

/** The key of a row as JSON; `undefined` if its text is no JSON. */
const keyOf = (text: string, table: Table): string | undefined => {
  try {
    const row = Object(Exact.parse(text, rowText)) as Readonly<Record<string, unknown>>
    const raw = Object.fromEntries(table.key.map((column) => [column, row[column]]))
    return JSON.stringify(keyOnWire(table, raw))
  } catch {
    return undefined
  }
}

/** A state as frames, and what did not match. */
export interface FramedState {
  readonly frames: ReadonlyArray<StateFrame>
  /** Bytes of the frames. */
  readonly bytes: number
  /** How many rows were left out, and what the first of them does not match. */
  readonly leftOut: number
  readonly unfit: Unfit | undefined
}

/** Groups of rows that one step of the loop handles. */
const steps = function* (rows: ReadonlyArray<string>) {
  for (let start = 0; start < rows.length;) {
    let [end, bytes] = [start, 0]
    do bytes += rows[end++]!.length
    while (
      end < rows.length &&
      end - start < most.events &&
      bytes + rows[end]!.length <= most.bytes
    )
    yield { rows: rows.slice(start, end), size: { events: end - start, bytes } }
    start = end
  }
}

/** `cursor`: that of the view. */
export const framesOf = (
  { label, name }: { readonly name: string; readonly label: string | undefined },
  table: Table,
  { cursor, rows }: RowsAt
): Effect.Effect<FramedState> =>
  Effect.gen(function* () {
    const frames: Array<StateFrame> = []
    const invalid: Array<string> = []
    let leftOut = 0
    let unfit: Unfit | undefined
    let texts: Array<string> = []
    let size = 0
    const flush = (named: ReadonlyArray<string>, more: boolean) => {
      frames.push(frameOf(encodeState(name, label, cursor, texts, named, more), texts.length))
      texts = []
      size = 0
    }
    for (const step of steps(rows)) {
      yield* turns.take(step.size)
      for (const text of step.rows) {
        const json = rowJson(table, name, text)
        if (Result.isFailure(json)) {
          leftOut++
          unfit ??= json.failure
          const key = invalid.length < mostInvalid ? keyOf(text, table) : undefined
          if (key !== undefined) invalid.push(key)
          continue
        }
        if (size > 0 && size + json.success.length > frameBytes) flush([], true)
        texts.push(json.success)
        size += json.success.length
      }
    }
    flush(invalid, false)
    const bytes = frames.reduce((sum, frame) => sum + frame.bytes, 0)
    return { frames, bytes, leftOut, unfit }
  })
