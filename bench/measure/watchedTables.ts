/**
 * The tables and statements of T: the same table several times over, one for each way to send its
 * changes.
 */

/** How a change is sent: not at all, by the app's own statement, or by our triggers. */
export const tellings = ["unwatched", "by hand", "row", "live", "statement"] as const
/** At row level, with the column `part` as the route, and as a filter. */
export const definitions = ["by", "filter"] as const
export type Telling = (typeof tellings)[number] | (typeof definitions)[number]

export type Width = 5 | 30

export interface Case {
  readonly title: string
  readonly width: Width
  /** Rows of one statement; the costs are per row where there is one. */
  readonly rows: number
  /** Messages by hand, per statement. */
  readonly messages: number
  readonly tellings: ReadonlyArray<Telling>
  /** By level, the upper quartile that is the goal, relative to the way by hand. */
  readonly goals: Partial<Record<Telling, number>>
  /** The operation of the message by hand. */
  readonly operation: "INSERT" | "UPDATE" | "DELETE"
  /** Rows that exist before a round with this many runs. */
  readonly filled: (runs: number) => number
  readonly statement: (table: string) => string
  /** Its parameter in the n-th run. */
  readonly parameter: (n: number) => number
  readonly partitioned: boolean
}

/** Rows that are updated over and over. */
const few = 1000

const kinds = [
  ["int", "4711"],
  ["text", "'ten bytes.'"],
  ["numeric", "12.50"],
  ["timestamptz", "'2026-01-01 12:00:00+00'"],
  ["text", "'sixteen bytes so'"]
] as const

/** All columns besides the key: name, type and value. */
const columnsOf = (width: Width): ReadonlyArray<readonly [string, string, string]> => [
  ["amount", "numeric", "10.00"],
  ["part", "int", "1"],
  ...Array.from({ length: width - 3 }, (_, index) => {
    const [type, value] = kinds[(index + 1) % kinds.length]!
    return [`field_${index + 1}`, type, value] as const
  })
]

const valuesOf = (width: Width): string =>
  columnsOf(width)
    .map(([, , value]) => value)
    .join(", ")

/** Creates the table and fills it. */
export const definitionOf = (table: string, one: Case, runs: number): string => {
  const columns = columnsOf(one.width)
    .map(([name, type]) => `${name} ${type} not null`)
    .join(", ")
  const body = `(id int, ${columns}, primary key (id${one.partitioned ? ", part" : ""}))`
  const made = one.partitioned
    ? `create table ${table} ${body} partition by list (part);
       create table ${table}_1 partition of ${table} for values in (1);
       create table ${table}_2 partition of ${table} for values in (2)`
    : `create table ${table} ${body}`
  return `${made};
    insert into ${table} select n, ${valuesOf(one.width)} from generate_series(1, ${one.filled(runs)}) n;
    analyze ${table}`
}

/** The statement, with the message written by the same statement: the way without us. */
export const messageOf = (statement: string, operation: string, channel: string): string =>
  `with changed as (${statement} returning *)
   insert into realtime.messages (channel, payload)
   select '${channel}', '{"operation":"${operation}","data":' || row_to_json(c.*)::text || ',"key":{"id":' || c.id || '}}'
   from changed c`

export const statementOf = (one: Case, telling: Telling, table: string, channel: string): string =>
  telling === "by hand"
    ? messageOf(one.statement(table), one.operation, channel)
    : one.statement(table)

const oneOf = (n: number) => 1 + (n % few)
const plain = { rows: 1, messages: 1, tellings, partitioned: false } as const
const oneRow = { row: 2.2, live: 2.2, statement: 3.5 }
const waysOf = (width: Width) => (width === 5 ? [...tellings, ...definitions] : tellings)

const casesOf = (width: Width): ReadonlyArray<Case> => [
  {
    ...plain,
    title: `UPDATE of 1 row, ${width} columns`,
    width,
    tellings: waysOf(width),
    goals: oneRow,
    operation: "UPDATE",
    filled: () => few,
    statement: (table) => `update ${table} set amount = amount + 1 where id = $1`,
    parameter: oneOf
  },
  {
    ...plain,
    title: `INSERT of 1 row, ${width} columns`,
    width,
    tellings: waysOf(width),
    goals: oneRow,
    operation: "INSERT",
    filled: () => 0,
    statement: (table) => `insert into ${table} values ($1, ${valuesOf(width)})`,
    parameter: (n) => n
  },
  {
    ...plain,
    title: `DELETE of 1 row, ${width} columns`,
    width,
    tellings: waysOf(width),
    goals: oneRow,
    operation: "DELETE",
    filled: (runs) => runs,
    statement: (table) => `delete from ${table} where id = $1`,
    parameter: (n) => n + 1
  },
  {
    ...plain,
    title: `UPDATE of no row, ${width} columns`,
    width,
    messages: 0,
    goals: { row: 2.2, live: 2.2, statement: 2.5 },
    operation: "UPDATE",
    filled: () => few,
    statement: (table) => `update ${table} set amount = amount + 1 where id = $1`,
    parameter: () => -1
  },
  {
    ...plain,
    title: `UPDATE of 1,000 rows, ${width} columns, per row`,
    width,
    rows: few,
    messages: few,
    goals: { row: 2.2, live: 2.2 },
    operation: "UPDATE",
    filled: () => few,
    statement: (table) => `update ${table} set amount = amount + 1 where id <= $1`,
    parameter: () => few
  },
  {
    ...plain,
    title: `UPDATE of the key, ${width} columns`,
    width,
    goals: { row: 4, live: 4 },
    operation: "UPDATE",
    filled: () => few,
    // Each row goes to and fro.
    statement: (table) => `update ${table} set id = -id where id = $1`,
    parameter: (n) => (Math.floor(n / few) % 2 === 0 ? oneOf(n) : -oneOf(n))
  }
]

const moved: Case = {
  ...plain,
  title: "UPDATE that moves a row to another partition, 5 columns",
  width: 5,
  tellings: ["unwatched", "by hand", "row", "live"],
  goals: { row: 4, live: 4 },
  operation: "UPDATE",
  filled: () => few,
  statement: (table) => `update ${table} set part = 3 - part where id = $1`,
  parameter: oneOf,
  partitioned: true
}

export const cases: ReadonlyArray<Case> = [...casesOf(5), moved, ...casesOf(30)]
