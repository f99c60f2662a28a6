/** Every kind of SQL change to the rows of a table, generated from the catalog. */
import type { Table } from "./tables.ts"

/** Statements that one session runs in order. */
export interface Step {
  readonly statements: ReadonlyArray<string>
  /** A foreign key may reject it, as it would without a watch. */
  readonly refusable?: boolean
}

const list = (names: ReadonlyArray<string>, prefix = ""): string =>
  names.map((name) => `${prefix}${name}`).join(", ")

const same = (a: string, b: string, { keys }: Table): string =>
  keys.map((key) => `${a}.${key} = ${b}.${key}`).join(" and ")

/** Copies all free columns from another row: values of the right type that satisfy every foreign key. */
const swap = (table: Table, row: string, order: "asc" | "desc"): string =>
  `(${list(table.free)}) = (select ${list(table.free, "o.")} from ${table.name} o
    where not (${same("o", row, table)}) order by ${table.keys.map((key) => `o.${key} ${order}`).join(", ")} limit 1)`

/** An unused key. */
const moved = ({ name, type }: { readonly name: string; readonly type: string }): string => {
  if (type.startsWith("timestamp")) return `${name} - interval '10 days'`
  return type === "character" || type === "character varying" || type === "text"
    ? `concat('Z', ${name})`
    : `${name} + 100`
}

const first = ({ keys, name }: Table, order: "asc" | "desc"): string =>
  `(${list(keys)}) = (select ${list(keys)} from ${name} order by ${keys.map((key) => `${key} ${order}`).join(", ")} limit 1)`

const kept = ({ name }: Table): ReadonlyArray<string> => [
  `drop table if exists pg_temp.kept`,
  `create temp table kept as select * from ${name}`
]

/** Statements of any kind, after which the table has as many rows as before. `merge`: from PostgreSQL 15 on. */
export const changes = (table: Table, merge: boolean): ReadonlyArray<Step> => {
  const { columns, free, keys, name, own } = table
  const target = keys.join(", ")
  const nothing = `${keys[0]} = ${keys[0]}`
  const on = same("t", "s", table)
  const insert = `insert (${list(columns)}) values (${list(columns, "s.")})`
  return [
    { statements: [`update ${name} set ${nothing}`] },
    ...(free.length === 0
      ? []
      : [
          { statements: [`update ${name} t set ${swap(table, "t", "asc")}`] },
          {
            statements: [
              `insert into ${name} as t select * from ${name} on conflict (${target}) do update set ${swap(table, "t", "desc")}`
            ]
          }
        ]),
    { statements: [`insert into ${name} select * from ${name} on conflict do nothing`] },
    // A row is deleted and inserted again: in two statements, in one, in a transaction.
    {
      refusable: true,
      statements: [
        ...kept(table),
        `delete from ${name} where ${first(table, "desc")}`,
        `insert into ${name} select * from kept on conflict do nothing`
      ]
    },
    {
      refusable: true,
      statements: [
        `with gone as (delete from ${name} where ${first(table, "asc")} returning *) insert into ${name} select * from gone`
      ]
    },
    {
      refusable: true,
      statements: [
        ...kept(table),
        "begin",
        `delete from ${name} where ${first(table, "asc")}`,
        "savepoint s",
        `delete from ${name}`,
        "rollback to savepoint s",
        `insert into ${name} select * from kept on conflict (${target}) do update set ${nothing.replace("=", `= ${name}.`)}`,
        "commit"
      ]
    },
    ...(merge
      ? [
          {
            refusable: true,
            statements: [
              ...kept(table),
              `delete from ${name} where ${first(table, "desc")}`,
              `merge into ${name} t using kept s on ${on}
                when matched then update set ${free.length === 0 ? nothing.replace("=", "= t.") : `${swap(table, "t", "asc")}`}
                when not matched then ${insert}`
            ]
          },
          {
            refusable: true,
            statements: [
              ...kept(table),
              `merge into ${name} t using (select * from kept where ${first(table, "desc")}) s on ${on} when matched then delete`,
              `merge into ${name} t using kept s on ${on} when matched then do nothing when not matched then ${insert}`
            ]
          }
        ]
      : []),
    ...(own === undefined
      ? []
      : [{ refusable: true, statements: [`update ${name} set ${own.name} = ${moved(own)}`] }])
  ]
}

/** The server's folder for COPY files. */
const file = (folder: string, { bare }: Table): string => `${folder}_${bare}.copy`

/**
 * Copies all rows to files of the server, empties all tables, referring tables first, and copies the rows
 * back. One transaction, because of the circle of foreign keys. The driver has no COPY FROM STDIN.
 */
export const copies = (
  tables: ReadonlyArray<Table>,
  folder: string
): { readonly out: Step; readonly empty: ReadonlyArray<Step>; readonly back: Step } => ({
  out: {
    statements: tables.map(
      (table) => `copy (select * from ${table.name}) to '${file(folder, table)}'`
    )
  },
  empty: tables.toReversed().map((table) => ({ statements: [`truncate ${table.name} cascade`] })),
  back: {
    statements: [
      "begin",
      "set constraints all deferred",
      ...tables.map(
        (table) =>
          `copy ${table.name} from program 'cat ${file(folder, table)}; rm ${file(folder, table)}'`
      ),
      "commit"
    ]
  }
})

/** Statements that change the action of every foreign key, from the catalog. */
export const foreignKeys = (how: "deferrable" | "cascade"): string =>
  how === "deferrable"
    ? `select format('alter table %s alter constraint %I deferrable', conrelid::regclass, conname) as statement
        from pg_constraint where contype = 'f' and conparentid = 0 order by 1`
    : `select format('alter table %s drop constraint %I, add constraint %2$I %s on update cascade on delete cascade', conrelid::regclass, conname,
        regexp_replace(pg_get_constraintdef(oid), ' (ON |NOT DEFERRABLE|DEFERRABLE|INITIALLY ).*$', '')) as statement
        from pg_constraint where contype = 'f' and conparentid = 0 order by 1`

/** Updates keys that cascade, then deletes rows that cascade, until the tables are empty. */
export const cascades = (tables: ReadonlyArray<Table>): ReadonlyArray<Step> => [
  ...tables.flatMap(({ name, own }) =>
    own === undefined ? [] : [{ statements: [`update ${name} set ${own.name} = ${moved(own)}`] }]
  ),
  ...tables.map((table) => ({
    statements: [`delete from ${table.name} where ${first(table, "asc")}`]
  })),
  ...tables.map(({ name }) => ({ statements: [`delete from ${name}`] }))
]
