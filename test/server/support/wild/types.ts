/**
 * Every type of PostgreSQL, with extreme values, and the types that can be made of them: arrays,
 * ranges, domains, enums, composites. Values are SQL with the same meaning in every session.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"
import type { Random } from "../random.ts"

/** A type with SQL for some of its values, NULL not among them. */
export interface Type {
  readonly name: string
  readonly values: ReadonlyArray<string>
}

const of = (name: string, ...texts: ReadonlyArray<string>): readonly [string, Type] => [
  name,
  { name: `pg_catalog.${name}`, values: texts.map((text) => `${text}::pg_catalog.${name}`) }
]

const base: ReadonlyMap<string, Type> = new Map([
  of("bit", "B'0'", "B'1'"),
  of("bool", "true", "false"),
  of("box", "'(1.1,2.2),(0.30000000000000004,-1e300)'"),
  of("bpchar", "'a  '", "''", `E'\\u00e9"\\\\\\t'`),
  of(
    "bytea",
    "decode('', 'hex')",
    "decode('00ff5c27225c30', 'hex')",
    "decode(repeat('ab', 400), 'hex')"
  ),
  of("cidr", "'10.1/16'", "'2001:db8::/32'"),
  of("circle", "'<(0.1,0.2),1e-300>'"),
  of("date", "'2026-03-29'", "'infinity'", "'4713-01-01 BC'", "'5874897-12-31'"),
  of("float4", "'0.1'", "'3.4028235e38'", "'1e-45'", "'NaN'", "'16777217'", "'-0'"),
  of(
    "float8",
    "'0.30000000000000004'",
    "'1.7976931348623157e308'",
    "'5e-324'",
    "'-Infinity'",
    "'-0'",
    "'123456789.12345678'"
  ),
  of("inet", "'::1'", "'192.168.0.1/24'"),
  of("int2", "'-32768'", "'32767'", "'0'"),
  of("int4", "'-2147483648'", "'2147483647'", "'0'"),
  of("int8", "'-9223372036854775808'", "'9223372036854775807'", "'9007199254740993'"),
  of(
    "interval",
    "make_interval(years => 1, days => -2, secs => 3.004)",
    "make_interval(months => -14, hours => 25)",
    "make_interval()"
  ),
  of(
    "json",
    `E'{"a": "\\\\u0000", "b":[1.0,1e999999,  {"a":1,"a":2}]}'`,
    `E'"\\\\ud800"'`,
    "'null'",
    "'12345678901234567890'"
  ),
  of("jsonb", `E'{"b": 1.50, "a": [true, null, "\\\\u2028"]}'`, "'null'", "'1e30'", `'""'`),
  of("jsonpath", `'$.a[*] ? (@ > 1)'`),
  of("line", "'{1,-1,0.1}'"),
  of("lseg", "'[(0.1,0),(1e-7,2)]'"),
  of("macaddr", "'08:00:2b:01:02:03'"),
  of("macaddr8", "'08:00:2b:01:02:03:04:05'"),
  of("money", "(-1234567.5)::numeric", "0.01::numeric"),
  of("name", "'pg'", "''"),
  of(
    "numeric",
    "'2.50'",
    "'NaN'",
    "'1e-300'",
    "'123456789012345678901234567890.10'",
    "'0.000'",
    "'99999999999999999999e100'"
  ),
  of("oid", "'4294967295'", "'0'"),
  of("oidvector", "'1 2 4294967295'"),
  of("int2vector", "'1 -2 3'"),
  of("path", "'[(0.1,0),(1,1)]'", "'((0,0),(0.30000000000000004,1))'"),
  of("pg_lsn", "'FFFFFFFF/FFFFFFFF'"),
  of("pg_snapshot", "'10:20:10,14,15'"),
  of("point", "'(0.1,1e300)'", "'(NaN,-0)'"),
  of("polygon", "'((0,0),(0.1,1),(1,0))'"),
  of("refcursor", `'"x"'`),
  of("regclass", "'pg_catalog.pg_class'", "'4294967295'"),
  of("regcollation", `'pg_catalog."C"'`),
  of("regconfig", "'pg_catalog.english'"),
  of("regdictionary", "'pg_catalog.simple'"),
  of("regnamespace", "'pg_catalog'"),
  of("regoper", "'15'"),
  of("regoperator", "'pg_catalog.+(integer,integer)'"),
  of("regproc", "'pg_catalog.now'"),
  of("regprocedure", "'pg_catalog.abs(numeric)'"),
  of("regrole", "'10'", "'0'"),
  of("regtype", "'pg_catalog.int4'", "'timestamp with time zone[]'"),
  of(
    "text",
    "''",
    "'plain'",
    `E'\\u0001\\u2028"\\\\ \\'%s $1 é😀\\r\\n'`,
    "repeat('xy', 60)",
    `'{"operation":"TRUNCATE"}'`
  ),
  of("tid", "'(4294967295,65535)'"),
  of("time", "'24:00:00'", "'00:00:00.000001'"),
  of(
    "timestamp",
    "'2026-03-29 02:30:00.5'",
    "'-infinity'",
    "'4713-01-01 00:00:00 BC'",
    "'294276-12-31 23:59:59.999999'"
  ),
  of(
    "timestamptz",
    "'2026-03-29 01:30:00.123456+00'",
    "'infinity'",
    "'1880-01-01 00:00:00+00'",
    "'0044-03-15 00:00:00+00 BC'"
  ),
  of("timetz", "'12:34:56.1+05:30'", "'24:00:00-15:59'"),
  of("tsquery", "'''it''''s'' & !b:*A <2> c'"),
  of("tsvector", `E'a:1A b \\'it\\'\\'s\\':3'`, "''"),
  of("txid_snapshot", "'10:20:10,14,15'"),
  of("uuid", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
  of("varbit", "B''", "B'10101'"),
  of("varchar", "'v'", "'É'"),
  of("xid", "'4294967295'"),
  of("xid8", "'18446744073709551615'"),
  of("cid", "'4294967295'"),
  of("xml", "xmlparse(content '<a b=\"1\">&lt;</a>')", "xmlparse(content 'é')"),
  [
    "char",
    {
      name: `pg_catalog."char"`,
      values: [`'a'::pg_catalog."char"`, `''::pg_catalog."char"`, `'"'::pg_catalog."char"`]
    }
  ]
])

/** Types of columns that only the server itself writes. */
const unwritable =
  /^(aclitem|gtsvector|pg_.*_summary|pg_dependencies|pg_mcv_list|pg_ndistinct|pg_node_tree)$/

const array = ({ name, values }: Type): Type => ({
  name: `${name}[]`,
  values: [
    `array[${values.join(", ")}, null]::${name}[]`,
    `'{}'::${name}[]`,
    `array[[${values[0]!}], [null]]::${name}[]`,
    // Bounds of its own.
    `array_prepend(${values[0]!}, array_fill(${values[0]!}, array[2], array[5]))`
  ]
})

const range = (name: string, { values }: Type, multi: string | null): ReadonlyArray<Type> => {
  const call = `pg_catalog.${name}`
  const [a, b] = [values[0]!, values[1] ?? values[0]!]
  const whole = `${call}(null, null)`
  const some = `${call}(least(${a}, ${b}), greatest(${a}, ${b}), '[)')`
  return [
    { name: call, values: [some, whole, `'empty'::${call}`] },
    ...(multi === null
      ? []
      : [
          {
            name: `pg_catalog.${multi}`,
            values: [`pg_catalog.${multi}(${some})`, `pg_catalog.${multi}()`]
          }
        ])
  ]
}

/** Every type of the server, and the names of those without values here. */
export const typesOf = (db: PgConnection.PgConnection) =>
  Effect.gen(function* () {
    const found = yield* db.query(
      `select t.typname::text as name, t.typtype::text as kind, s.typname::text as subtype, m.typname::text as multi, t.typarray <> 0 as arrays
        from pg_type t left join pg_range r on r.rngtypid = t.oid left join pg_type s on s.oid = r.rngsubtype
        left join pg_type m on m.typname = regexp_replace(t.typname, 'range$', 'multirange') and m.typtype = 'm'
        where t.typnamespace = 'pg_catalog'::regnamespace and t.typtype in ('b', 'r') and (t.typcategory <> 'A' or t.typname in ('int2vector', 'oidvector'))
        order by 1`
    )
    const types: Array<Type> = []
    const unknown: Array<string> = []
    for (const row of found.rows) {
      const name = String(row["name"])
      if (row["kind"] === "r") {
        const made = range(name, base.get(String(row["subtype"]))!, row["multi"] as string | null)
        types.push(...made, array(made[0]!))
        continue
      }
      const type = base.get(name)
      if (type !== undefined) {
        types.push(type)
        if (row["arrays"] === true && !name.endsWith("vector")) types.push(array(type))
      } else if (!unwritable.test(name)) unknown.push(name)
    }
    return { types, unknown }
  })

/** Types of its own in a schema: statements that create them, and the types. */
export const ownTypes = (
  schema: string,
  r: Random,
  types: ReadonlyArray<Type>
): { readonly make: ReadonlyArray<string>; readonly types: ReadonlyArray<Type> } => {
  const [a, b, c] = [r.pick(types), r.pick(types), r.pick(types)]
  const mood = {
    name: `${schema}.mood`,
    values: [`'fine'::${schema}.mood`, `E'it\\'s "ok"'::${schema}.mood`]
  }
  const domain = {
    name: `${schema}.domain`,
    values: a.values.map((value) => `(${value})::${schema}.domain`)
  }
  const pair: Type = {
    name: `${schema}.pair`,
    values: b.values.map(
      (value, at) => `row(${value}, ${c.values[at % c.values.length]!}, null)::${schema}.pair`
    )
  }
  return {
    make: [
      `create type ${schema}.mood as enum ('fine', E'it\\'s "ok"')`,
      `create domain ${schema}.domain as ${a.name}`,
      `create type ${schema}.pair as ("A b" ${b.name}, b ${c.name}, m ${schema}.mood)`
    ],
    types: [mood, domain, pair, array(mood), array(pair), array(domain)]
  }
}
