/** Triggers of a table's owner, which change the rows of the same table again. "§" stands for its schema here. */
import type { Random } from "../random.ts"
import { quoted, type Table } from "./table.ts"

interface Behaviour {
  readonly when: string
  readonly body: string
}

/** Runs SQL on the table that fired, with its row as $1. */
const run = (sql: string, row: string): string =>
  `execute format($q$${sql}$q$, tg_table_schema, tg_table_name) using ${row};`

const behaviours = (r: Random, table: Table): ReadonlyArray<Behaviour> => {
  const mine = table.keys.map(({ name }) => `t.${quoted(name)} = $1.${quoted(name)}`).join(" and ")
  const limit = 2 + r.int(6)
  const columns = [...table.keys, ...table.writable].map(({ name }) => quoted(name)).join(", ")
  // In a format string.
  const [own, all] = [mine, columns].map((text) => text.replaceAll("%", "%%"))
  return [
    {
      when: "after insert or update",
      body: run(`update %I.%I t set n = t.n + 1 where ${own} and t.n < ${limit}`, "new")
    },
    {
      when: "after insert or update",
      body: `if new.flag then ${run(`update %I.%I t set flag = false where t.flag and not (${own})`, "new")} end if;`
    },
    {
      when: "after update",
      body: run(`update %I.%I t set n = t.n + 1 where not (${own}) and t.n < ${limit}`, "new")
    },
    {
      when: "after insert",
      body: run(`delete from %I.%I t where ${own} and t.n %% 4 = 3`, "new")
    },
    {
      when: "after insert or update",
      body: run(`delete from %I.%I t where t.n > ${limit + 3}`, "new")
    },
    {
      when: "after delete",
      body: run(`update %I.%I t set flag = not t.flag where t.n < 2`, "old")
    },
    {
      when: "after insert or update",
      body: `if pg_catalog.pg_trigger_depth() = 1 then
        ${run(`delete from %I.%I t where ${own}`, "new")}
        ${run(`insert into %1$I.%2$I (${all}, n, flag) select $1.*`.replace("select $1.*", `select ${[...table.keys, ...table.writable].map(({ name }) => `$1.${quoted(name).replaceAll("%", "%%")}`).join(", ")}, 5, true`), "new")}
      end if;`
    },
    {
      when: "after insert or update",
      body: `begin
        ${run(`update %I.%I t set n = 99 where ${own}`, "new")}
        raise exception 'no';
      exception when raise_exception then null; end;`
    },
    { when: "before insert or update", body: `new.n := new.n + 1;` },
    { when: "before update", body: `new.flag := not old.flag;` },
    {
      when: "statement",
      body: run(`update %I.%I t set n = t.n + 1 where t.n < ${limit}`, "1")
    },
    {
      when: "deferred",
      body: run(`update %I.%I t set n = t.n + 1 where ${own} and t.n < ${limit}`, "new")
    }
  ]
}

/** Statements that give a table triggers; those that fire before ours by their names, and those after. */
export const owners = (r: Random, table: Table): ReadonlyArray<string> =>
  Array.from({ length: 1 + r.int(3) }, (_, at) => {
    const { body, when } = r.pick(behaviours(r, table))
    const row = when.startsWith("before")
    // A name is taken once.
    const name = quoted(`${r.pick(["!!", "A", "~"])}${at}`)
    const make = `create function §${at}() returns trigger language plpgsql as $own$ begin
      if pg_catalog.pg_trigger_depth() > 4 then return ${row ? "new" : "null"}; end if;
      ${body}
      return ${row ? "new" : "null"};
    end $own$`
    const events =
      when === "statement"
        ? `create trigger ${name} after insert or update on § for each statement`
        : when === "deferred"
          ? `create constraint trigger ${name} after insert or update on § deferrable initially deferred for each row`
          : `create trigger ${name} ${when} on § for each row`
    return [make, `${events} execute function §${at}()`]
  }).flat()
