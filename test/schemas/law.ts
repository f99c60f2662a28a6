/**
 * The law of a watched table, checked by PostgreSQL itself: its events, applied in order, yield the
 * table. Each channel has a copy of its table that only its events write, and each event is compared
 * with its row.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import type { Table } from "./tables.ts"

/** A public model: its statements in order, and a few rows for each table. */
export interface ForeignSchema {
  readonly name: string
  readonly ddl: ReadonlyArray<string>
  readonly rows: ReadonlyArray<string>
}

export interface Watched {
  readonly table: Table
  readonly channel: string
  readonly level: "row" | "statement"
  readonly delivery: "durable" | "live"
  readonly old: boolean
}

const canonical = `set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres'
  set bytea_output = 'hex' set extra_float_digits = 1`

/** Reports wrong events in the order of the channel, one text each, and wrong rows at the end. */
const keeper = ({ channel, delivery, old, table }: Watched): ReadonlyArray<string> => {
  const copy = `law."${channel}"`
  const source = delivery === "durable" ? "realtime.messages" : "law.heard"
  const same = (a: string, b: string) =>
    table.keys.map((key) => `${a}.${key} = ${b}.${key}`).join(" and ")
  return [
    `create table ${copy} (like ${table.name} including indexes)`,
    `insert into ${copy} select * from ${table.name}`,
    `insert into law.channels (channel) values ('${channel}')`,
    `create function law."keep ${channel}"(strict boolean) returns setof text language plpgsql ${canonical} as $keep$
declare
  e record; j json; r ${table.name}%rowtype; s ${table.name}%rowtype; here boolean; n int := 0; seen bigint;
begin
  select c.seen into seen from law.channels c where c.channel = '${channel}';
  for e in select m.id, m.payload from ${source} m where m.channel = '${channel}' and m.id > seen order by m.id loop
    n := n + 1;
    update law.channels c set seen = e.id where c.channel = '${channel}';
    if rtrim(e.payload, concat(' ', chr(9))) = '${gapTexts.truncate}' then
      delete from ${copy};
      continue;
    end if;
    j := e.payload::json;
    r := json_populate_record(null::${table.name}, j -> 'data');
    select c.* into s from ${copy} c where ${same("c", "r")};
    here := found;
    if (j -> 'key')::text is distinct from (select row_to_json(k)::text from (select ${table.keys.map((key) => `r.${key}`).join(", ")}) k) then
      return next 'another key: ' || e.payload;
    end if;
    if strict and here <> (j ->> 'operation' <> 'INSERT') then
      return next case when here then 'begins again: ' else 'not there: ' end || e.payload;
    end if;
    case j ->> 'operation'
      when 'DELETE' then
        if strict and r *<> s then return next format('ends as %s, was %s', e.payload, row_to_json(s)); end if;
        delete from ${copy} c where ${same("c", "r")};
      when 'INSERT', 'UPDATE' then
        if strict and j ->> 'operation' = 'UPDATE' and r *= s then return next 'changes nothing: ' || e.payload; end if;
        if strict and ${old} and j ->> 'operation' = 'UPDATE' and json_populate_record(null::${table.name}, j -> 'old') *<> s then
          return next format('says it was another: %s, was %s', e.payload, row_to_json(s));
        end if;
        delete from ${copy} c where ${same("c", "r")};
        insert into ${copy} values (r.*);
      else return next 'no event: ' || e.payload;
    end case;
  end loop;
  update law.channels c set events = events + n where c.channel = '${channel}';
  return query select format('the table has %s, the events say %s', row_to_json(t), row_to_json(c))
    from ${table.name} t full join ${copy} c on ${same("t", "c")} where t is null or c is null or t *<> c;
  -- One fault is told once.
  if found then
    delete from ${copy};
    insert into ${copy} select * from ${table.name};
  end if;
exception when others then
  return next sqlerrm;
end $keep$`
  ]
}

const common: ReadonlyArray<string> = [
  `create schema law`,
  `create table law.channels (channel text primary key, seen bigint not null default 0, events int not null default 0)`,
  `create table law.heard (id bigint generated always as identity primary key, channel text not null, payload text not null)`
]

/** Creates the copies and their triggers beside the tables, which have no rows yet. */
export const enact = (db: PgConnection.PgConnection, watched: ReadonlyArray<Watched>) =>
  Effect.forEach(
    [
      ...common,
      ...watched.flatMap(keeper),
      `create function law.keep(strict boolean, bare text) returns table (complaint text) language plpgsql as $$ begin
        ${watched
          .map(
            ({ channel, table }) =>
              `if coalesce(bare = '${table.bare}', true) then return query select '${channel}: ' || k from law."keep ${channel}"(strict) k; end if;`
          )
          .join("\n")}
      end $$`
    ],
    (statement) => db.query(statement, [], false),
    { discard: true }
  )

/**
 * The violations so far, of one table or of all. With `strict`, events of a row must arrive in the order
 * of its changes. Without it, only the last event of a row in a transaction must have its final state.
 */
export const complaints = (db: PgConnection.PgConnection, strict: boolean, table?: Table) =>
  Effect.map(
    db.query(`select complaint from law.keep($1::boolean, $2::text)`, [
      strict,
      table?.bare ?? null
    ]),
    ({ rows }) => rows.map((row) => String(row["complaint"]))
  )
