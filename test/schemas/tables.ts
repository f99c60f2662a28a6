/** The tables of a model from the catalog, referenced tables first. */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"

export interface Table {
  /** Quoted if necessary, like all names here. */
  readonly name: string
  /** Without quotes, for the name of a channel. */
  readonly bare: string
  readonly partitioned: boolean
  readonly columns: ReadonlyArray<string>
  /** The columns of its primary key, in the order of the table. */
  readonly keys: ReadonlyArray<string>
  /** The key column without a foreign key, with its type. */
  readonly own: { readonly name: string; readonly type: string } | undefined
  /** Columns without a unique index, so two rows may share a value. */
  readonly free: ReadonlyArray<string>
  /** The other tables it refers to. */
  readonly parents: ReadonlyArray<string>
}

const query = `select quote_ident(c.relname) as name, c.relname::text as bare, c.relkind = 'p' as partitioned,
    array(select quote_ident(a.attname) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum) as columns,
    array(select quote_ident(a.attname) from pg_attribute a where a.attrelid = c.oid and a.attnum = any(p.indkey)
      order by a.attnum) as keys,
    (select array[quote_ident(a.attname), format_type(a.atttypid, null)] from pg_attribute a
      where a.attrelid = c.oid and a.attnum = any(p.indkey) and not exists (
        select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f' and a.attnum = any(f.conkey))
      order by a.attnum desc limit 1) as own,
    array(select quote_ident(a.attname) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not exists (
      select from pg_index u where u.indrelid = c.oid and u.indisunique and a.attnum = any(u.indkey)) order by a.attnum) as free,
    array(select distinct f.confrelid::regclass::text from pg_constraint f where f.conrelid = c.oid and f.contype = 'f'
      and f.confrelid <> c.oid) as parents
  from pg_class c join pg_index p on p.indrelid = c.oid and p.indisprimary
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by c.relname`

interface Row extends Omit<Table, "own"> {
  readonly own: readonly [string, string] | null
}

/** Breaks a circle at the first table that repeats. */
const sorted = (tables: ReadonlyArray<Table>): ReadonlyArray<Table> => {
  const done = new Set<Table>()
  const visit = (table: Table, above: ReadonlyArray<Table>): void => {
    if (done.has(table) || above.includes(table)) return
    for (const parent of table.parents) {
      visit(
        tables.find(({ name }) => name === parent)!,
        [...above, table]
      )
    }
    done.add(table)
  }
  for (const table of tables) visit(table, [])
  return [...done]
}

export const tablesOf = (db: PgConnection.PgConnection) =>
  Effect.map(db.query(query), ({ rows }) =>
    sorted(
      (rows as unknown as ReadonlyArray<Row>).map((row) =>
        Object.assign(row, {
          own: row.own === null ? undefined : { name: row.own[0], type: row.own[1] }
        })
      )
    )
  )
