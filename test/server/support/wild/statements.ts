/** Random statements that change rows. */
import type { Random } from "../random.ts"
import { quoted, type Table } from "./table.ts"

/** The most rows of a table. */
const most = 9

const insert = (r: Random, table: Table, rows: ReadonlyArray<number>): string => {
  const columns = table.writable.filter(() => r.chance(0.8))
  const names = [...table.keys, ...columns].map(({ name }) => quoted(name)).join(", ")
  const values = rows.map(
    (n) =>
      `(${[...table.keys.map(({ value }) => value(n)), ...columns.map((column) => table.value(column)), r.int(4), r.chance(0.3)].join(", ")})`
  )
  return `insert into § as t (${names}, n, flag) values ${values.join(", ")}`
}

const sets = (r: Random, table: Table): string => {
  const columns = table.writable.filter(() => r.chance(0.5))
  return [
    "n = t.n + 1",
    ...columns.map((column) => `${quoted(column.name)} = ${table.value(column)}`)
  ].join(", ")
}

const distinct = (r: Random): ReadonlyArray<number> => [
  ...new Set(Array.from({ length: 1 + r.int(3) }, () => r.int(most)))
]

/** Rows by the columns that every table has. */
const some = (r: Random): string =>
  r.pick(["t.n % 2 = 0", "t.flag", "true", `t.n < ${r.int(5)}`, "t.n % 3 = 1"])

/** Rows of the key's numbers, as a table "s" with the columns of the key. */
const source = (table: Table, rows: ReadonlyArray<number>): string =>
  `(values ${rows.map((n) => `(${table.keys.map(({ value, type }) => `${value(n)}::${type.name}`).join(", ")})`).join(", ")}) s (${table.keyNames})`

const matches = (table: Table): string =>
  table.keys.map(({ name }) => `t.${quoted(name)} = s.${quoted(name)}`).join(" and ")

/**
 * `merge`: whether the server has MERGE. A list of several statements runs as one, in a transaction
 * or not.
 */
export const statement = (r: Random, table: Table, merge: boolean): ReadonlyArray<string> => {
  const n = r.int(most)
  const fresh = most + r.int(90)
  const where = table.where(n)
  const all = [...table.keys, ...table.writable].map(({ name }) => quoted(name)).join(", ")
  if (!table.keyed) {
    // Two rows with one key cannot be distinguished.
    return [
      r.pick([
        `update § t set ${sets(r, table)} where ${where}`,
        `delete from § where ${where}`,
        `update § t set n = n`,
        `truncate §`
      ])
    ]
  }
  switch (r.int(21)) {
    case 0:
    case 1:
      return [insert(r, table, [r.chance(0.7) ? fresh : n])]
    case 2:
    case 3:
    case 4:
      return [`${insert(r, table, distinct(r))} on conflict do nothing`]
    case 5:
    case 6:
      return [
        `${insert(r, table, distinct(r))} on conflict (${table.keyNames}) do update set ${sets(r, table)}, flag = not excluded.flag`
      ]
    case 7:
    case 8:
      return [`update § t set ${sets(r, table)} where ${where}`]
    case 9:
      return [`update § t set ${sets(r, table)}, flag = not flag where ${some(r)}`]
    case 10:
      return [r.pick([`update § set n = n`, `update § set flag = flag where ${where}`])]
    case 11: {
      const moved = table.keys
        .map(({ name, value }) => `${quoted(name)} = ${value(r.chance(0.5) ? fresh : r.int(most))}`)
        .join(", ")
      return [`update § t set ${moved}, ${sets(r, table)} where ${where}`]
    }
    case 12:
      return [`delete from § t where ${r.chance(0.6) ? where : some(r)}`]
    case 13:
      return [
        `with gone as (delete from § where ${where} returning *) insert into § (${all}, n, flag) select ${all}, n + 1, flag from gone`
      ]
    case 14:
      return [
        `with changed as (update § t set ${sets(r, table)} where ${where} returning *) delete from § t where not (${where}) and ${some(r)}`
      ]
    case 15:
    case 20:
      // To and fro in one transaction: two equal events must both arrive.
      return [
        `do $flip$ begin for i in 1 .. 4 loop update § t set flag = not flag where ${r.chance(0.5) ? where : some(r)}; end loop; end $flip$`
      ]
    case 16:
      return [
        `select from § where ${where} for update`,
        r.pick([`update § set n = n + 1 where flag`, `delete from § where n > 9`])
      ]
    case 17:
      return r.chance(0.2) ? ["truncate §"] : [`update § set n = n + 1 where flag`]
    case 18:
      return merge
        ? [
            `merge into § t using ${source(table, distinct(r))} on ${matches(table)}
              when matched and t.flag then delete
              when matched then update set ${sets(r, table)}
              when not matched then insert (${table.keyNames}, n) values (${table.keys.map(({ name }) => `s.${quoted(name)}`).join(", ")}, 7)`
          ]
        : [`update § set flag = not flag`]
    default: {
      const texts = table.writable.filter(({ type }) => type.name === "pg_catalog.text")
      // Larger than any text that is built without a check, and not compressible.
      return texts.length === 0
        ? [`update § set n = n + 1 where n < 3`]
        : [
            `update § set ${quoted(r.pick(texts).name)} = (select string_agg(md5(i::text), '"') from generate_series(1, ${r.pick([40, 300, 2500])}) i) where ${where}`
          ]
    }
  }
}

/** Another table with triggers, as a dump may leave them, and statements on it. */
export const stranger = (
  r: Random,
  table: Table
): { readonly make: ReadonlyArray<string>; readonly statements: ReadonlyArray<string> } => {
  const alike = r.chance(0.5)
  const values = (n: number) => table.keys.map(({ value }) => value(n)).join(", ")
  const [names, first, second] = alike ? [table.keyNames, values(1), values(4)] : ["id", "1", "4"]
  return {
    make: alike
      ? [
          `create table §s (like § including defaults)`,
          `alter table §s add primary key (${table.keyNames})`
        ]
      : [`create table §s (id int primary key, n int)`],
    statements: [
      `insert into §s (${names}, n) values (${first}, 1), (${second}, 2) on conflict (${names}) do update set n = 3`,
      `insert into §s (${names}, n) values (${second}, 1) on conflict do nothing`,
      `update §s set n = n + 1`,
      `delete from §s where n > 2`,
      `truncate §s`
    ]
  }
}
