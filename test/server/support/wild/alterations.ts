/** Random alterations of a table, while sessions have plans from before. */
import type { Random } from "../random.ts"
import { declared, quoted, type Table } from "./table.ts"
import type { Type } from "./types.ts"

export interface Alteration {
  readonly statements: ReadonlyArray<string>
  /** Called after the statements succeeded. */
  readonly done: () => void
  /** Alters a type that both tables use: once, and outside of transactions. */
  readonly shared?: boolean
}

const integer: Type = {
  name: "pg_catalog.int8",
  values: ["7::int8", "'-9223372036854775808'::int8"]
}

const rename = (from: string, to: string): string =>
  `alter table § rename column ${quoted(from)} to ${quoted(to)}`

/** `bound`: functions of the owner know the names of the key and of the columns. */
export const alteration = (
  r: Random,
  table: Table,
  schema: string,
  bound: boolean
): Alteration | undefined => {
  const { payload } = table
  const column = payload.length === 0 ? undefined : r.pick(payload)
  switch (!table.keyed && r.chance(0.5) ? 12 : r.int(bound ? 7 : 16)) {
    case 0: {
      const added = r.chance(0.2) ? table.generated() : table.column()
      const value =
        added.generated === undefined && r.chance(0.5)
          ? ` default ${r.pick(added.type.values)}`
          : ""
      return {
        statements: [`alter table § add column ${declared(added)}${value}`],
        done: () => {
          table.payload = [...payload, added]
        }
      }
    }
    case 1: {
      // A composite type of both tables; its earlier columns keep their places.
      const name = `more${r.int(1e6)}`
      return {
        shared: true,
        statements: [`alter type ${schema}.pair add attribute ${name} int cascade`],
        done: () => undefined
      }
    }
    case 2:
      return {
        shared: true,
        statements: [`alter type ${schema}.mood add value 'new ${r.int(1e6)}'`],
        done: () => undefined
      }
    case 3: {
      const name = r.pick(["things", 'Other "%s"', "orders", "t"])
      if (name === table.name) return undefined
      return {
        statements: [`alter table § rename to ${quoted(name)}`],
        done: () => {
          table.name = name
        }
      }
    }
    case 4: {
      if (table.parts === undefined) return undefined
      const { parts } = table
      const part = r.int(3)
      return parts.includes(part)
        ? {
            statements: [`alter table § detach partition §${part}`],
            done: () => {
              table.parts = parts.filter((one) => one !== part)
            }
          }
        : {
            statements: [`alter table § attach partition §${part} for values in (${part})`],
            done: () => {
              table.parts = [...parts, part]
            }
          }
    }
    case 5:
      return { statements: [`alter table § alter column n type bigint`], done: () => undefined }
    case 6:
      return { statements: [`create index on § (n)`], done: () => undefined }
    case 7: {
      if (column === undefined) return undefined
      const name = table.newName()
      return {
        statements: [rename(column.name, name)],
        done: () => {
          table.change(column, { name })
        }
      }
    }
    case 8: {
      if (column === undefined) return undefined
      return {
        statements: [`alter table § drop column ${quoted(column.name)}`],
        done: () => {
          table.payload = payload.filter((one) => one !== column)
        }
      }
    }
    case 9:
    case 13:
    case 14: {
      const other = r.chance(0.7) ? payload.find((one) => one !== column) : r.pick(table.keys)
      if (column === undefined || other === undefined) return undefined
      const [a, b] = [column.name, other.name]
      return {
        statements: [rename(a, "between"), rename(b, a), rename("between", b)],
        done: () => {
          table.change(column, { name: b })
          table.change(other, { name: a })
        }
      }
    }
    case 10: {
      const key = r.pick(table.keys)
      const name = table.newName()
      return {
        statements: [rename(key.name, name)],
        done: () => {
          table.change(key, { name })
        }
      }
    }
    case 11: {
      if (column === undefined || column.generated !== undefined) return undefined
      const type = r.chance(0.5) ? integer : table.type()
      return {
        statements: [
          `alter table § alter column ${quoted(column.name)} type ${type.name} using ${r.pick(type.values)}`
        ],
        done: () => {
          table.change(column, { type })
        }
      }
    }
    default: {
      if (table.parts !== undefined) return undefined
      if (!table.keyed) {
        // The same columns in another order, or the last one alone, which is unique.
        const keys = table.keys.toSorted(() => r.next() - 0.5)
        const last = table.keys.at(-1)!
        const alone = r.chance(0.5)
        const others = alone ? table.keys.slice(0, -1) : []
        return {
          statements: [
            ...others.map(({ name }) => `alter table § alter column ${quoted(name)} drop not null`),
            `alter table § add constraint key_again primary key (${(alone ? [last] : keys).map(({ name }) => quoted(name)).join(", ")})`
          ],
          done: () => {
            table.keyed = true
            table.keys = alone ? [last] : keys
            table.payload = [
              ...table.payload,
              ...others.map(({ id, name, type, value }) => ({
                id,
                name,
                type: { name: type.name, values: [value(3), value(4)] }
              }))
            ]
          }
        }
      }
      return {
        statements: [
          `do $drop$ begin execute format('alter table %s drop constraint %I', '§'::regclass,
            (select conname from pg_constraint where conrelid = '§'::regclass and contype = 'p')); end $drop$`
        ],
        done: () => {
          table.keyed = false
        }
      }
    }
  }
}
