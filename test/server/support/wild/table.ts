/**
 * A random, unusual table: its present columns, and SQL that creates it. "§" stands for its name.
 */
import type { Random } from "../random.ts"
import type { Type } from "./types.ts"

export interface Column {
  readonly name: string
  readonly type: Type
  /** Its place, which it keeps and by which a list of columns refers to it. */
  readonly id: number
  /** Generated from "n": no statement writes it, and triggers see it only where it is stored. */
  readonly generated?: "stored" | "virtual" | undefined
}

/** A part of a key: SQL for the value of a number. */
export interface KeyColumn extends Column {
  readonly value: (n: number) => string
}

interface KeyType {
  readonly type: string
  /** One value may be written in several ways that are equal and yet different. */
  readonly value: (n: number, r: Random) => string
}

/** A column with another column of the key beside it. */
const few: ReadonlyArray<KeyType> = [
  { type: "bool", value: (n) => String(n % 2 === 0) },
  { type: "varchar(40)", value: (n) => `'${n}'::varchar` },
  { type: `"char"`, value: (n) => `${(n % 90) + 32}::"char"` }
]

/** `schema`: has a collation "ci", where the server can have one, and a domain "code". */
const keyTypes = (schema: string, icu: boolean): ReadonlyArray<KeyType> => [
  { type: "int4", value: (n) => String(n) },
  { type: "int8", value: (n) => `(9007199254740990 + ${n})::int8` },
  { type: "text", value: (n) => `E'k"\\\\${n}\\u00e9'::text` },
  { type: "uuid", value: (n) => `'00000000-0000-0000-0000-${String(n).padStart(12, "0")}'::uuid` },
  {
    type: "timestamptz",
    value: (n) => `('2026-03-29 00:59:59.5+00'::timestamptz + make_interval(secs => ${n}))`
  },
  { type: "date", value: (n) => `('2026-11-28'::date + ${n})` },
  { type: "numeric", value: (n, r) => `${n}.5${"0".repeat(r.int(3))}::numeric` },
  {
    type: "float8",
    value: (n, r) => (n === 0 && r.chance(0.5) ? `'-0'::float8` : `(${n} * 0.1::float8)`)
  },
  { type: "bytea", value: (n) => `decode('5c00${n.toString(16).padStart(8, "0")}', 'hex')` },
  {
    type: "interval",
    value: (n, r) =>
      r.chance(0.5) ? `make_interval(months => ${n})` : `make_interval(days => ${30 * n})`
  },
  { type: "bpchar", value: (n, r) => `'${n}${" ".repeat(r.int(3))}'::bpchar` },
  { type: `${schema}.code`, value: (n) => `${n}::${schema}.code` },
  ...(icu
    ? [
        {
          type: `text collate ${schema}.ci`,
          value: (n: number, r: Random) => `${r.pick(["'k", "'K"])}${n}'::text collate ${schema}.ci`
        }
      ]
    : [])
]

/** Statements that create the types of keys. */
export const keySupport = (schema: string, icu: boolean): ReadonlyArray<string> => [
  `create domain ${schema}.code as int check (value >= 0)`,
  ...(icu
    ? [
        `create collation ${schema}.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`
      ]
    : [])
]

/** Names that a careless trigger would take for its own. */
const names = [
  "new",
  "old",
  "r",
  "data",
  "key",
  "body",
  "channel",
  'Of, f"ice',
  "it's",
  "%s",
  "$1",
  "w",
  "é",
  "tg_op",
  "x",
  "select",
  "op",
  "d",
  "k",
  "o",
  "s",
  "there",
  "told",
  "row_",
  "id"
]

export const quoted = (name: string): string => `"${name.replaceAll(`"`, `""`)}"`

/** The features of the server. */
export interface Server {
  readonly merge: boolean
  /** Generated columns that are not stored. */
  readonly virtual: boolean
  readonly icu: boolean
}

/** A column as SQL defines it. */
export const declared = ({ generated, name, type }: Column): string =>
  `${quoted(name)} ${type.name}${generated === undefined ? "" : ` generated always as (n::int4 * 2) ${generated}`}`

export class Table {
  name: string
  keys: ReadonlyArray<KeyColumn>
  payload: ReadonlyArray<Column>
  /** The numbers of the partitions that are attached, if it has any: of the key's first column. */
  parts: ReadonlyArray<number> | undefined
  /** Whether it has its primary key now. */
  keyed = true
  #next = 0
  readonly #names: Array<string>
  readonly #types: ReadonlyArray<Type>
  readonly #r: Random
  readonly #server: Server

  constructor(r: Random, types: ReadonlyArray<Type>, server: Server, schema: string) {
    this.#r = r
    this.#types = types
    this.#names = [...names].toSorted(() => r.next() - 0.5)
    this.name = r.chance(0.3) ? `T "${r.int(9)}` : "things"
    this.parts = r.chance(0.2) ? [0, 1, 2] : undefined
    this.#server = server
    const usual = keyTypes(schema, server.icu)
    const count = 1 + r.int(3)
    this.keys = Array.from({ length: count }, (_, at): KeyColumn => {
      // One column of several is unique, with the place of its row in a list of partitions first.
      const kind =
        this.parts !== undefined && at === 0
          ? usual[0]!
          : r.pick(at === count - 1 ? usual : [...usual, ...few])
      const alone = at === count - 1
      const value = (n: number) =>
        this.parts !== undefined && at === 0
          ? String(alone ? n : n % 3)
          : kind.value(alone ? n : Math.floor(n / 2), r)
      return { ...this.column({ name: kind.type, values: [] }), value }
    })
    // A key of one column is a number of its own, and falls into one of many partitions: by default.
    if (count === 1 && this.parts !== undefined) this.parts = undefined
    this.payload = Array.from({ length: 1 + r.int(6) }, () =>
      r.chance(0.1) ? this.generated() : this.column()
    )
  }

  /** A column that the table does not have yet. */
  column(type: Type = this.#r.pick(this.#types)): Column {
    const id = this.#next++
    return { id, type, name: this.newName() }
  }

  /** Neither is possible for every column of a partitioned table. */
  generated(): Column {
    return {
      ...this.column({ name: "int4", values: [] }),
      generated:
        this.#server.virtual && this.parts === undefined && this.#r.chance(0.5)
          ? "virtual"
          : "stored"
    }
  }

  /** Columns that a statement may write, without the key. */
  get writable(): ReadonlyArray<Column> {
    return this.payload.filter(({ generated }) => generated === undefined)
  }

  newName(): string {
    return this.#names.pop() ?? `c${this.#next}${this.#r.int(1000)}`
  }

  /** A type for a column. */
  type(): Type {
    return this.#r.pick(this.#types)
  }

  /** Columns that are sent, with those that every table here has: "n" and "flag". */
  get columns(): ReadonlyArray<string> {
    return [...this.keys, ...this.payload]
      .filter(({ generated }) => generated !== "virtual")
      .map(({ name }) => name)
      .concat("n", "flag")
  }

  /** Columns of the key or not, after the alteration. */
  change(column: Column, to: Partial<Column>): void {
    const changed = <A extends Column>(one: A): A =>
      one.id === column.id ? { ...one, ...to } : one
    this.keys = this.keys.map(changed)
    this.payload = this.payload.map(changed)
  }

  /** Restores the present state of the table. */
  keep(): () => void {
    const { keyed, keys, name, parts, payload } = this
    return () => Object.assign(this, { keyed, keys, name, parts, payload })
  }

  /** SQL that creates the table. */
  create(): ReadonlyArray<string> {
    const columns = [
      ...this.keys.map(({ name, type }) => `${quoted(name)} ${type.name} not null`),
      "dropped int",
      "n int not null default 0",
      ...this.payload.map(declared),
      "flag boolean not null default false"
    ]
    const key = `primary key (${this.keys.map(({ name }) => quoted(name)).join(", ")})`
    return [
      `create table § (${columns.join(", ")}, ${key}) ${this.parts === undefined ? "with (autovacuum_enabled = off)" : `partition by list (${quoted(this.keys[0]!.name)})`}`,
      `alter table § drop column dropped`,
      ...(this.parts ?? []).map(
        (part) => `create table §${part} partition of § for values in (${part})`
      )
    ]
  }

  /** The condition that finds the row with a number. */
  where(n: number): string {
    return this.keys.map(({ name, value }) => `${quoted(name)} = ${value(n)}`).join(" and ")
  }

  get keyNames(): string {
    return this.keys.map(({ name }) => quoted(name)).join(", ")
  }

  value(column: Column): string {
    return this.#r.chance(0.1) ? "null" : this.#r.pick(column.type.values)
  }
}
