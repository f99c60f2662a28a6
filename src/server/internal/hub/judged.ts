/**
 * One event of a table for views with filters: for each view it is another event, or none.
 *
 * It is decoded at most once, and the JSON of each variant is made once, however many views have it. A
 * variant has nothing of a row that is outside of the filter: an event of a row that enters has no `old`, and
 * one of a row that leaves has the key, and the row only as it was inside.
 */
import * as Exact from "../../../internal/exact.ts"
import type { DurableEvent } from "../../OutboxReader.ts"
import { type Filter, judge, type MatchTexts, parseMatch } from "../filter.ts"
import { rowText } from "../reading/reading.ts"
import { keyOnWire } from "../reading/rowKey.ts"
import type { BatchEvent } from "./batch.ts"
import { Missing, toldBy } from "./invalidMessage.ts"
import { isKey } from "./rowChange.ts"
import type { View } from "./view.ts"

/** The payload of a table's event, typed or as JSON. */
interface ChangeParts {
  readonly operation?: unknown
  readonly data?: unknown
  readonly old?: unknown
  readonly key?: unknown
  readonly truncated?: unknown
}

/** Reads an event as all views of a codec do. */
export type Decoder = Pick<View, "decode" | "channel">

const unmatched = {
  path: "",
  expected: "the columns of the filter beside the row",
  cure: "the table was watched by an older definition, or those columns have more than 65,536 bytes: watch it again, or re-read the table"
}

const unnamed = {
  path: "",
  expected: "the key of a row that left the filter",
  cure: "the key is too large to travel: re-read the table"
}

export class Judged {
  readonly #event: DurableEvent
  readonly #decoder: Decoder
  /** The texts of the row; `undefined` when every view has a gap. */
  readonly match: MatchTexts | undefined
  /** The gap of every view. */
  readonly gap: Missing | undefined
  #whole: BatchEvent | Missing | undefined
  #entering: BatchEvent | Missing | undefined
  #leaving: BatchEvent | Missing | undefined
  #unknown: Missing | undefined

  constructor(event: DurableEvent, decoder: Decoder) {
    this.#event = event
    this.#decoder = decoder
    const gap = toldBy(event.text, event.id, event.tx)
    this.match = gap === undefined ? parseMatch(event.match) : undefined
    this.gap = gap ?? (this.match === undefined ? this.#notMatched : undefined)
  }

  /** What a view with this filter has of the event; `undefined` for nothing. */
  of(filter: Filter): BatchEvent | Missing | undefined {
    if (this.gap !== undefined) return this.gap
    switch (judge(filter, this.match)) {
      case "outside":
        return undefined
      case "unknown":
        return this.#notMatched
      case "stays":
        return this.#stays
      case "enters":
        return (this.#entering ??= this.#enters())
      case "leaves":
        return (this.#leaving ??= this.#leaves())
    }
  }

  get #notMatched(): Missing {
    return (this.#unknown ??= this.#missing(unmatched))
  }

  #missing(unfit: Missing["unfit"]): Missing {
    return new Missing("invalid", this.#event.id, this.#event.tx, unfit)
  }

  /** The event as it is. */
  get #stays(): BatchEvent | Missing {
    const { at, id, text, tx } = this.#event
    return (this.#whole ??= this.#decoder.decode(id, at, tx, text, true))
  }

  /** The row was not there before. */
  #enters(): BatchEvent | Missing {
    const whole = this.#stays
    if (whole instanceof Missing) return whole
    const { data, key, old, operation, truncated } = whole.payload as ChangeParts
    if (operation === "INSERT" && old === undefined) return whole
    const json = JSON.parse(whole.json!) as ChangeParts
    return this.#variant(
      { operation: "INSERT", data, ...named({ key, truncated }) },
      { operation: "INSERT", data: json.data, key: json.key, truncated: json.truncated }
    )
  }

  /** The row is not there any more. Its key is enough, so also a row that does not match may leave. */
  #leaves(): BatchEvent | Missing {
    let raw: ChangeParts
    try {
      raw = Object(Exact.parse(this.#event.text, rowText)) as ChangeParts
    } catch {
      return this.#stays
    }
    const { key, old, operation, truncated } = raw
    const deleted = operation === "DELETE"
    const whole = truncated !== true && (deleted || old !== undefined) ? this.#stays : undefined
    if (whole !== undefined && !(whole instanceof Missing)) {
      if (deleted) return whole
      const payload = whole.payload as ChangeParts
      const json = JSON.parse(whole.json!) as ChangeParts
      return this.#variant(
        { operation: "DELETE", data: payload.old, ...named({ key: payload.key }) },
        { operation: "DELETE", data: json.old, key: json.key }
      )
    }
    if (!isKey(key)) return whole ?? this.#missing(unnamed)
    const { table } = this.#decoder.channel
    const gone = { operation: "DELETE", key: table === undefined ? key : keyOnWire(table, key) }
    return this.#variant(gone, gone)
  }

  #variant(payload: ChangeParts, json: ChangeParts): BatchEvent {
    const { at, id, tx } = this.#event
    return { id, at, payload, json: JSON.stringify(json), tx }
  }
}

/** Without the fields that are not there. */
const named = (fields: ChangeParts): ChangeParts =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
