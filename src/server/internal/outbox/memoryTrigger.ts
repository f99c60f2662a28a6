/**
 * The trigger of a table in memory.
 *
 * In: a definition of `Channel.table`, and rows as values of its Schema. Out: the texts that the trigger of
 * `realtime.generate` writes for a change: channel, payload and match, byte by byte, as far as the Schema
 * says how PostgreSQL spells a value. `memoryRows.ts` keeps the rows.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type { Table } from "../../../Channel.ts"
import { errorText } from "../../../internal/errorText.ts"
import * as Exact from "../../../internal/exact.ts"
import { once } from "../../../internal/payloadCodec.ts"
import { type InvalidChannelName, InvalidPayload } from "../../../RealtimeError.ts"
import { formsOf } from "../columnTexts.ts"
import type { Filter, Texts } from "../filter.ts"
import { gapTexts } from "../gapText.ts"
import { under } from "../reading/mismatch.ts"
import { maxPayloadBytes } from "../sql/schema.ts"
import { maxLiveBytes } from "../sql/triggers.ts"
import { InvalidFilter, noRoute } from "./state.ts"

/** What a watch says of a table beside its definition. */
export interface RowOptions {
  /** Whether an UPDATE also carries the row as it was, default `false`. */
  readonly old?: boolean | undefined
  /**
   * The largest event in bytes of UTF-8, default 8 MiB. A larger row travels as its key with
   * `truncated: true`.
   */
  readonly maxBytes?: number | undefined
}

/** A row with everything that its events are made of. */
export interface MemoryRow {
  /** JSON of each column, as PostgreSQL writes it. Without the columns that are NULL by omission. */
  readonly columns: ReadonlyMap<string, string>
  /** JSON of the columns that travel. */
  readonly data: string
  /** JSON of the primary key. */
  readonly key: string
  /** The channel of its events; `undefined` for a row on no route. */
  readonly channel: string | undefined
  /** JSON of the texts by which it is routed and filtered; `undefined` for a table without such columns. */
  readonly texts: string | undefined
}

/** A message of the trigger. */
export interface RowMessage {
  /** `undefined` for a row on no route. */
  readonly channel: string | undefined
  readonly text: string
  readonly match: string | undefined
}

type RowSchema = Schema.Codec<unknown, unknown> & { readonly fields: Schema.Struct.Fields }
type Field = Schema.Codec<unknown, unknown>

type Operation = "INSERT" | "UPDATE" | "DELETE"

const maxMatchBytes = 65_536
const maxNameBytes = 63

const bytes = (text: string): number => Buffer.byteLength(text)

const tagsOf = (ast: SchemaAST.AST): ReadonlyArray<string> =>
  ast._tag === "Union" ? ast.types.flatMap(tagsOf) : [ast._tag]

/** Whether one of these reads a number and a string: a number that travels as a string when it is large. */
const readsNumbers = (asts: ReadonlyArray<SchemaAST.AST>): boolean => {
  const tags = new Set(asts.flatMap(tagsOf))
  return tags.has("Number") && tags.has("String")
}

/** JSON of an encoded value, in which numbers have all of their digits. */
const jsonOf = (value: unknown, asts: ReadonlyArray<SchemaAST.AST>): string => {
  if (typeof value === "string") {
    const isNumber = Exact.isNumber(value) && !Exact.staysNumber(value, { row: true })
    return isNumber && readsNumbers(asts) ? value : JSON.stringify(value)
  }
  if (Array.isArray(value)) {
    return `[${value.map((item, index) => jsonOf(item, under(asts, index).asts)).join(",")}]`
  }
  if (typeof value !== "object" || value === null) return JSON.stringify(value ?? null)
  return objectOf(
    Object.entries(value).map(([name, item]) => [name, jsonOf(item, under(asts, name).asts)])
  )
}

const objectOf = (members: ReadonlyArray<readonly [name: string, json: string]>): string =>
  `{${members.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`

/** How a column is written as JSON, and which texts it may have. */
const columnOf = (field: Field) => {
  const json = once(() => Schema.toCodecJson(field))
  const encoder = once(() => Schema.encodeUnknownResult(json(), { errors: "first" }))
  const decoder = once(() => Schema.decodeUnknownResult(json()))
  const asts = once(() => [SchemaAST.toEncoded(field.ast)])
  const write = (value: unknown): Result.Result<string, unknown> =>
    Result.map(encoder()(value), (encoded) => jsonOf(encoded, asts()))
  return {
    optional: SchemaAST.isOptional(field.ast),
    /** Whether two texts of it are compared as numbers. */
    numeric: once(() => readsNumbers(asts())),
    write,
    /** Whether PostgreSQL would write a value of this column as this text. */
    has: (text: string): boolean =>
      formsOf(text).some((form) => {
        const decoded = decoder()(form)
        if (Result.isFailure(decoded)) return false
        const written = write(decoded.success)
        return Result.isSuccess(written) && textOf(written.success) === text
      })
  }
}

/** The text of a column from its JSON: PostgreSQL writes no other for the types that route and filter. */
const textOf = (json: string): string | null =>
  json === "null" ? null : json.startsWith('"') ? (JSON.parse(json) as string) : json

const integer = /^-?\d+$/

export class MemoryTrigger {
  readonly table: Table
  readonly #options: RowOptions
  /** The columns in their order in the table, which is that of the Schema. */
  readonly #columns: ReadonlyMap<string, ReturnType<typeof columnOf>>
  readonly #travelling: ReadonlyArray<string>
  readonly #key: ReadonlyArray<string>
  /** The columns whose texts stand beside an event, each once. */
  readonly #matched: ReadonlyArray<string>
  readonly #decode = once(() =>
    Schema.decodeUnknownResult(Schema.toCodecJson(this.table.row), { errors: "first" })
  )

  constructor(table: Table, options: RowOptions = {}) {
    this.table = table
    this.#options = options
    const fields = Object.entries((table.row as RowSchema).fields)
    this.#columns = new Map(fields.map(([name, field]) => [name, columnOf(field as Field)]))
    const inOrder = (names: ReadonlyArray<string>) =>
      [...this.#columns.keys()].filter((name) => names.includes(name))
    this.#travelling = inOrder(table.columns ?? [...this.#columns.keys()])
    this.#key = inOrder(table.key)
    this.#matched = [...new Set([...table.by, ...table.filter, ...table.boundary])]
  }

  /** The JSON of the columns that `values` has, or of those named. Others are dropped. */
  columns(
    values: object,
    names: Iterable<string> = this.#columns.keys()
  ): Result.Result<ReadonlyMap<string, string>, InvalidPayload> {
    const given = values as Readonly<Record<string, unknown>>
    const columns = new Map<string, string>()
    for (const name of names) {
      const column = this.#columns.get(name)
      if (column === undefined || (column.optional && given[name] === undefined)) continue
      const written = column.write(given[name])
      if (Result.isFailure(written)) {
        const issue = `column "${name}": ${errorText(written.failure)}`
        return Result.fail(
          new InvalidPayload({ channel: this.table.channel, direction: "encode", issue })
        )
      }
      columns.set(name, written.success)
    }
    return Result.succeed(columns)
  }

  /** The JSON of the primary key that `values` has. */
  key(values: object): Result.Result<string, InvalidPayload> {
    return Result.map(this.columns(values, this.#key), (columns) => this.#keyOf(columns))
  }

  #keyOf(columns: ReadonlyMap<string, string>): string {
    return this.#object(columns, this.#key)
  }

  #object(columns: ReadonlyMap<string, string>, names: ReadonlyArray<string>): string {
    return objectOf(names.map((name) => [name, columns.get(name) ?? "null"]))
  }

  row(columns: ReadonlyMap<string, string>): MemoryRow {
    const text = (name: string) => textOf(columns.get(name) ?? "null")
    return {
      columns,
      data: this.#object(columns, this.#travelling),
      key: this.#keyOf(columns),
      channel: this.#route(this.table.by.map(text)),
      texts:
        this.#matched.length === 0
          ? undefined
          : objectOf(this.#matched.map((name) => [name, JSON.stringify(text(name))]))
    }
  }

  #route(texts: ReadonlyArray<string | null>): string | undefined {
    const { channel } = this.table
    if (texts.length === 0) return channel
    const fits = texts.every((text) => text !== null && /^[A-Za-z0-9_.-]+$/.test(text))
    const name = `${channel}:${texts.join(":")}`
    return fits && bytes(name) <= maxNameBytes ? name : undefined
  }

  /** The value of the Schema. */
  value(row: MemoryRow): Result.Result<unknown, InvalidPayload> {
    const { channel } = this.table
    const json = Exact.parse(objectOf([...row.columns]), { row: true })
    return Result.mapError(
      this.#decode()(json),
      (error) => new InvalidPayload({ channel, direction: "decode", issue: errorText(error) })
    )
  }

  /** The messages of a change: no row before is an INSERT, none after a DELETE. */
  messages(before: MemoryRow | undefined, after: MemoryRow | undefined): ReadonlyArray<RowMessage> {
    const inserted = (row: MemoryRow) => this.#message("INSERT", undefined, row)
    const deleted = (row: MemoryRow) => this.#message("DELETE", row, undefined)
    if (before === undefined) return after === undefined ? [] : [inserted(after)]
    if (after === undefined) return [deleted(before)]
    const moves = this.table.by.some((name) => before.columns.get(name) !== after.columns.get(name))
    if (moves || before.key !== after.key) {
      return [deleted(before), inserted(after)]
    }
    return before.data === after.data && before.texts === after.texts
      ? []
      : [this.#message("UPDATE", before, after)]
  }

  #message(
    operation: Operation,
    before: MemoryRow | undefined,
    after: MemoryRow | undefined
  ): RowMessage {
    const row = (after ?? before)!
    const old = this.#options.old === true && after !== undefined ? before : undefined
    const sides = [
      ["old", before?.texts],
      ["new", after?.texts]
    ] as const
    const known = sides.flatMap(([side, texts]) =>
      texts === undefined ? [] : [[side, texts] as const]
    )
    const match = known.length === 0 ? undefined : objectOf(known)
    return {
      channel: row.channel,
      text: this.#text(operation, row, old),
      match: match !== undefined && bytes(match) <= maxMatchBytes ? match : undefined
    }
  }

  /** As the trigger function, and where the row is too large for it as `realtime.change`. */
  #text(operation: Operation, { data, key }: MemoryRow, old: MemoryRow | undefined): string {
    const maxBytes = Math.trunc(this.#options.maxBytes ?? maxPayloadBytes)
    const head = `{"operation":"${operation}","data":`
    const whole = (old: string) => `${head}${data}${old},"key":${key}}`
    const wholes = old === undefined ? [whole("")] : [whole(`,"old":${old.data}`)]
    // An old row that is too large is left out.
    if (old !== undefined && this.#textBytes(old) > maxBytes) wholes.push(whole(""))
    const short = `${head}${key},"key":${key},"truncated":true}`
    return (
      wholes.find((text) => bytes(text) <= maxBytes) ??
      (bytes(short) <= Math.max(maxBytes, maxLiveBytes) ? short : `${head}null,"truncated":true}`)
    )
  }

  /** The size of the texts of a row that travel, before they are JSON. */
  #textBytes({ columns }: MemoryRow): number {
    return this.#travelling.reduce((sum, name) => {
      const json = columns.get(name)
      return json?.startsWith('"') === true ? sum + bytes(textOf(json)!) : sum
    }, 0)
  }

  /** The message of a TRUNCATE. */
  get truncated(): RowMessage {
    return { channel: this.table.channel, text: gapTexts.truncate, match: undefined }
  }

  /** The texts by which a row is routed and filtered. */
  texts(row: MemoryRow): Texts {
    return row.texts === undefined ? {} : (JSON.parse(row.texts) as Texts)
  }

  /** What is wrong with a route or a filter, without its values; `undefined` where rows can be read by both. */
  fault(
    channel: string,
    filter: Filter | undefined
  ): InvalidFilter | InvalidChannelName | undefined {
    const { by, channel: whole } = this.table
    const route = channel === whole ? [] : channel.slice(whole.length + 1).split(":")
    const unlike = by.find((name, index) => {
      const text = route[index]
      return route.length > 0 && (text === undefined || !this.#columns.get(name)!.has(text))
    })
    if (unlike !== undefined || route.length > by.length) {
      return noRoute(channel, unlike ?? by.join())
    }
    for (const [column, texts] of filter?.columns ?? []) {
      const held = this.#matched.includes(column) ? this.#columns.get(column) : undefined
      const invalid = (issue: string) =>
        new InvalidFilter({ channel, column, issue: `column "${column}" ${issue}` })
      if (held === undefined) return invalid("is not one to filter by")
      for (const text of texts) {
        if (text !== null && !held.has(text)) return invalid("has no such value")
      }
    }
    return undefined
  }

  /** Compares two rows by their primary keys. */
  readonly compare = (one: MemoryRow, other: MemoryRow): number => {
    for (const name of this.#key) {
      const [left = "null", right = "null"] = [one.columns.get(name), other.columns.get(name)]
      if (left === right) continue
      const [a, b] = [textOf(left) ?? "", textOf(right) ?? ""]
      const numeric = !left.startsWith('"') || this.#columns.get(name)!.numeric()
      if (!numeric || a === b) return a < b ? -1 : 1
      if (!integer.test(a) || !integer.test(b)) return Number(a) - Number(b)
      return BigInt(a) < BigInt(b) ? -1 : 1
    }
    return 0
  }
}
