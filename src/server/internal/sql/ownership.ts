/**
 * The owner of a schema, as SQL text: the checks of an install before it changes anything, and the
 * statements of an uninstall.
 *
 * The comment on the table `settings` marks a schema of ours. A schema of the same name without it belongs
 * to another application and is left alone, unless it is empty or of version 2, which had no mark.
 */
import { literal } from "./literal.ts"
import { schemaVersion } from "./schema.ts"
import { path } from "./triggers.ts"

/** The comment on the table `settings`. */
export const comment = "effect-realtime"

/** The SQLSTATE for a schema of another application. */
export const foreign = "RT008"

/** Whether the schema holds anything. */
const inhabited = `exists (select from pg_depend d where d.refclassid = 'pg_namespace'::regclass and d.refobjid = to_regnamespace('realtime') and d.deptype = 'n')`

const isForeign = `to_regnamespace('realtime') is not null
    and obj_description(to_regclass('realtime.settings'), 'pg_class') is distinct from ${literal(comment)}
    and ${inhabited}
    and (select count(*) from pg_attribute a where (a.attrelid, a.attname) in (
      (to_regclass('realtime.settings'), 'digest'), (to_regclass('realtime.settings'), 'max_messages'), (to_regclass('realtime.messages'), 'txid'))) < 3`

const refuseForeign = `if ${isForeign} then
    raise exception 'the schema "realtime" of this database is not one of effect-realtime: nothing was changed'
      using errcode = ${literal(foreign)}, hint = 'Install into another schema with the option "schema".';
  end if;`

/** Fails for a schema of another application. */
export const recognise = `do $$ begin
  ${refuseForeign}
end $$`

/** Fails where a newer version is installed. */
export const refuseOlder = `do $$
declare
  installed int;
begin
  if to_regclass('realtime.settings') is not null then
    select version into installed from realtime.settings;
    if installed > ${schemaVersion} then
      raise exception 'a newer version of effect-realtime is installed (% where this is ${schemaVersion}): nothing was changed', installed
        using errcode = 'RT009', hint = 'Install with the newest library of those that use this database.';
    end if;
  end if;
end $$`

/**
 * Records the functions that the schema has before the objects are created, and whether the schema itself
 * was given.
 */
export const before = `select set_config('realtime.was', coalesce((select string_agg(p.oid::text, ',') from pg_proc p where p.pronamespace = to_regnamespace('realtime')), ''), true),
  set_config('realtime.given', (to_regnamespace('realtime') is not null and to_regclass('realtime.settings') is null)::text, true)`

export const marked: ReadonlyArray<string> = [
  `comment on table realtime.settings is ${literal(comment)}`,

  `alter table realtime.settings add column if not exists functions text[], add column if not exists given boolean not null default false`,

  `-- Version 2 did not check for a newer version: this stops its SQL, and lets the rows of a dump pass.
create or replace function realtime.refuse_older() returns trigger
language plpgsql ${path} as $$ begin
  raise exception 'a newer version of effect-realtime is installed: nothing was changed'
    using errcode = 'RT009', hint = 'Install with the newest library of those that use this database.';
end $$`,
  `do $$ begin
  if not exists (select from pg_trigger where tgrelid = 'realtime.settings'::regclass and tgname = 'refuse_older') then
    create trigger refuse_older before insert on realtime.settings
      for each row when (new.version = 0) execute function realtime.refuse_older();
  end if;
end $$`
]

/** The names that the statements create. */
const created = (kind: string, statements: ReadonlyArray<string>): string =>
  [
    ...new Set(
      statements.flatMap((statement) =>
        [...statement.matchAll(new RegExp(`create ${kind} realtime\\.(\\w+)`, "g"))].map((match) =>
          literal(match[1]!)
        )
      )
    )
  ].join(", ")

/**
 * Records the functions that these statements created: new ones, those recorded before, and where an
 * install recorded none, those with names of ours.
 */
export const noted = (statements: ReadonlyArray<string>): string => `update realtime.settings s set
  given = s.given or current_setting('realtime.given') = 'true',
  functions = array(select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'realtime'::regnamespace
    and p.proname in (${created("or replace function", statements)})
    and (p.oid::regprocedure::text = any(s.functions) or p.oid::text <> all(string_to_array(current_setting('realtime.was'), ',')) or s.functions is null))`

/**
 * Drops what these statements created, the generated functions, and the schema if it is then empty. Fails,
 * and changes nothing, where another object depends on a table of ours.
 */
export const remove = (statements: ReadonlyArray<string>): string => `do $$
declare
  o record;
  ours boolean;
begin
  ${refuseForeign}
  if to_regclass('realtime.settings') is null then
    return;
  end if;
  create temporary table effect_realtime_functions on commit drop as
    select p.oid from pg_proc p where p.pronamespace = to_regnamespace('realtime')
      and (p.proname ~ '^w[0-9]+_(row|insert|update|delete)$' and p.prorettype = 'trigger'::regtype
        or p.proname ~ '^w[0-9]+_state$' and p.proretset
        or exists (select from realtime.settings s where p.oid::regprocedure::text = any(s.functions)
          or s.functions is null and p.proname in (${created("or replace function", statements)})));
  select not s.given into ours from realtime.settings s;
  for o in select t.tgrelid::regclass rel, t.tgname from pg_trigger t where t.tgfoid in (select f.oid from effect_realtime_functions f) and t.tgparentid = 0 loop
    execute format('drop trigger %I on %s', o.tgname, o.rel);
  end loop;
  for o in select f.oid::regprocedure signature from effect_realtime_functions f loop
    execute format('drop function %s', o.signature);
  end loop;
  for o in select c.oid::regclass rel from pg_class c where c.relnamespace = to_regnamespace('realtime') and c.relkind = 'r'
    and c.relname in (${created("(?:unlogged )?table if not exists", statements)}) loop
    execute format('drop table %s', o.rel);
  end loop;
  for o in select c.oid::regclass rel from pg_class c where c.relnamespace = to_regnamespace('realtime') and c.relkind = 'S'
    and (c.relname in (${created("sequence if not exists", statements)}) or c.relname ~ '^w[0-9]+_unrouted$') loop
    execute format('drop sequence %s', o.rel);
  end loop;
  drop table effect_realtime_functions;
  if ours and not ${inhabited} then
    drop schema realtime;
  end if;
end $$`
