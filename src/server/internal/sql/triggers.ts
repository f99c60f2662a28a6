/**
 * Watching tables, as SQL text: what the triggers fall back on.
 *
 * Each watched table has trigger functions of its own, written by `realtime.generate` with everything
 * they need as constants. Where a constant does not hold any more, where a row may be large, or where a
 * row was changed again before it was told, the functions here look everything up in the catalog. They
 * cost more and are always right; what even they cannot tell becomes a gap, and never an error of the
 * user's statement.
 *
 * A change is built as `json` and never as `jsonb`: a `json` column may hold what jsonb refuses. Sizes
 * are looked at before anything is built from a large row. Everything here runs inside the trigger
 * functions only, which fix the search path and every setting that reaches a text, with the rights of
 * the schema's owner. Whoever owns a watched table could attach code to its types: watch the tables of
 * owners that you trust.
 */
import { gapTexts } from "../gapText.ts"
import { literal } from "./literal.ts"
import { rowSettings } from "./rowText.ts"
import { maxPayloadBytes } from "./schema.ts"

/** The largest payload of a NOTIFY in bytes of UTF-8. */
const maxNotifyBytes = 7999

/** What is put behind a notification of a trigger, in bytes: see `mark`. */
const markBytes = 32

/** The largest event that a trigger tells by NOTIFY, in bytes of UTF-8. */
export const maxLiveBytes = maxNotifyBytes - markBytes

/**
 * NOTIFY folds equal payloads of one transaction into one. A number that no other notification of the
 * transaction has, in white space, which JSON does not count: 32 binary digits as blanks and tabs.
 */
export const mark = `translate(nextval('realtime.notified')::bit(${markBytes})::text, '01', ' ' || chr(9))`

/** Of every function that runs with the rights of the owner. */
export const path = "set search_path = pg_catalog, pg_temp"

/** In a stored row no xml is still to be written. */
const settings = Object.entries(rowSettings).filter(([name]) => name !== "xmlbinary")

/** Every setting that reaches the text of a value: who writes must not change what is told. */
export const exact = `${path} ${settings.map(([name, value]) => `set ${name} = '${value}'`).join(" ")}`

/**
 * What is hidden is not gone: reading a table again raises an error where a policy would hide a row.
 */
const everyRow = "set row_security = off"

const around = [...settings, ["row_security", "off"]] as const

/** The same as expressions, for a function that has nothing to do most of the time: what they are. */
export const settingsNow = `array[${around.map(([name]) => `current_setting('${name}')`).join(", ")}]`

/** Sets them, to the values of an array or to the exact ones. */
export const settingsTo = (values?: string): string =>
  around
    .map(([name, value], index) => {
      const to = values === undefined ? `'${value}'` : `${values}[${index + 1}]`
      return `set_config('${name}', ${to}, true)`
    })
    .join(" || ")

/** How deep in triggers a change of the watched table was told, for the rest of the transaction. */
export const deepest = (id: string): string =>
  `nullif(current_setting('realtime.depth_' || ${id}, true), '')::int`

export const triggers: ReadonlyArray<string> = [
  `-- One row per watched table and channel. A table and its columns are kept by number, which survives a
-- rename, and by name, which survives a dump: "relid" differs from "rel" in a restored database.
-- "signature" is what the trigger functions were written for, "trouble" what keeps them from telling.
create table if not exists realtime.watched (
  id int generated always as identity primary key,
  rel regclass not null,
  relid oid not null,
  channel text collate "C" not null,
  columns int2[],
  names text[],
  old boolean not null,
  max_bytes int not null check (max_bytes between 0 and ${maxPayloadBytes}),
  level text not null check (level in ('row', 'statement')),
  delivery text not null check (delivery in ('durable', 'live')),
  definition jsonb not null
)`,
  `alter table realtime.watched
  add column if not exists name text not null default '',
  add column if not exists signature text,
  add column if not exists trouble text,
  drop constraint if exists watched_relid_channel_key`,
  `create unique index if not exists watched_rel on realtime.watched (rel, channel)`,
  `create index if not exists watched_channel on realtime.watched (channel)`,

  `create or replace function realtime.is_part(rel oid, whole oid) returns boolean
language sql stable ${path} as $$
  select rel = whole or exists (select from pg_partition_ancestors(rel::regclass) a where a.relid = whole)
$$`,

  `create sequence if not exists realtime.notified as bigint cache 64`,

  `-- The text that travels. Without "data" the row is too large: then, and when the text itself is, it is
-- the key and the mark; and the mark alone when the key is too large for NOTIFY.
create or replace function realtime.change(operation text, data text, old text, key text, max_bytes int) returns text
language plpgsql immutable as $$
declare
  head text := '{"operation":"' || change.operation || '","data":';
  body text;
begin
  if change.data is not null then
    body := head || change.data || coalesce(',"old":' || change.old, '') || ',"key":' || change.key || '}';
    if octet_length(body) <= change.max_bytes then
      return body;
    end if;
  end if;
  body := head || change.key || ',"key":' || change.key || ',"truncated":true}';
  if octet_length(body) <= greatest(change.max_bytes, ${maxLiveBytes}) then
    return body;
  end if;
  return head || 'null,"truncated":true}';
end $$`,

  `create or replace function realtime.emit(channel text, delivery text, payload text) returns void
language plpgsql as $$ begin
  if emit.delivery = 'durable' then
    insert into realtime.messages (channel, payload) values (emit.channel, emit.payload);
  else
    perform pg_notify(emit.channel, emit.payload || ${mark});
  end if;
end $$`,

  `-- What cannot be told is a gap, once in a transaction: its subscribers read the table again.
create or replace function realtime.emit_unknown(id int, channel text, delivery text) returns void
language plpgsql as $$ begin
  if coalesce(current_setting('realtime.unknown_' || id, true), '') = '' then
    perform set_config('realtime.unknown_' || id, '1', true);
    perform realtime.emit(emit_unknown.channel, emit_unknown.delivery, ${literal(gapTexts.invalid)});
  end if;
end $$`,

  `-- For rows that may be large, and for many rows at a time: SQL over the row "alias" that takes the
-- wanted columns, the key, and tells beforehand whether the row is worth building. Text and bytes know
-- their size without being read; anything else may grow 255-fold when it is stored compressed. Rows
-- around it are named "x.*" and not "x", which could be one of the columns.
create or replace function realtime.projection(
  in rel oid, in names text[], in keys text[], in alias text, in max_bytes int, out fields text, out key text, out fits text
) language sql stable ${path} as $$
  select
    coalesce(string_agg(c.field, ', ' order by c.attnum) filter (where c.wanted), ''),
    coalesce(string_agg(c.field, ', ' order by c.attnum) filter (where c.attname = any(keys)), ''),
    format('%s <= %s and %s <= 100000000',
      coalesce(string_agg(case when c.atttypid in (25, 1042, 1043) then format('coalesce(octet_length(%s.%I), 0)', alias, c.attname)
        when c.atttypid = 17 then format('coalesce(2 * octet_length(%s.%I)::bigint, 0)', alias, c.attname) end, ' + ')
        filter (where c.wanted and c.atttypid in (17, 25, 1042, 1043)), '0'), max_bytes,
      coalesce(string_agg(case when current_setting('server_version_num')::int >= 140000
        then format('coalesce(pg_column_size(%1$s.%2$I) * case when pg_column_compression(%1$s.%2$I) is null then 1 else 255 end::bigint, 0)', alias, c.attname)
        else format('coalesce(pg_column_size(%s.%I) * 100::bigint, 0)', alias, c.attname) end, ' + ')
        filter (where c.wanted and c.attlen < 0 and c.atttypid not in (17, 25, 1042, 1043)), '0'))
  from (
    select a.*, names is null or a.attname = any(names) wanted, format('%s.%I as %I', alias, a.attname, a.attname) field
    from pg_attribute a where a.attrelid = rel and a.attnum > 0 and not a.attisdropped
  ) c
$$`,

  `-- Whether a table was altered since the transaction took its snapshot. The rows of the catalog are then
-- those of before, and give a column the name that another one has now, while the functions that describe
-- an object tell of today. Before version 14 they raise an error where there is none.
create or replace function realtime.outdated(rel oid) returns boolean
language plpgsql stable ${path} as $$ begin
  begin
    if exists (select from pg_attribute a where a.attrelid = rel and a.attnum > 0
        and (pg_identify_object_as_address(1259, rel, a.attnum)).object_names[3] is distinct from a.attname::text)
      or not exists (select from pg_index i where i.indrelid = rel and i.indisprimary and pg_describe_object(1259, i.indexrelid, 0) is not null) then
      return true;
    end if;
  exception when internal_error then
    return true;
  end;
  return pg_describe_object(1259, rel, (select max(a.attnum) + 1 from pg_attribute a where a.attrelid = rel)) is not null;
exception when internal_error then
  return false;
end $$`,

  `-- What is true of a watched table now: the columns that travel and those of the key by their names. A
-- trigger sees nothing in a column that is generated and not stored ('v'), and what an index includes is
-- no part of the key. No key where they cannot be known. No row where "rel" is neither the table nor a part of it: a trigger that a dump left
-- on another table.
create or replace function realtime.facts(in id int, in rel oid, out w realtime.watched, out names text[], out keys text[], out equals text[])
language plpgsql stable ${path} as $$
begin
  select t.* into w from realtime.watched t where t.id = facts.id and realtime.is_part(facts.rel, t.rel);
  if w.id is null then
    return;
  end if;
  names := case when w.columns is not null and w.relid <> w.rel::oid then w.names else array(
    select a.attname::text from pg_attribute a where a.attrelid = w.rel and a.attnum > 0 and not a.attisdropped
      and a.attgenerated <> 'v' and (w.columns is null or a.attnum = any(w.columns)) order by a.attnum) end;
  -- "equals": the operators of the key itself.
  select coalesce(array_agg(a.attname::text order by a.attnum), '{}'), array_agg(format('operator(%I.%s)', n.nspname, o.oprname) order by a.attnum)
    into keys, equals
    from pg_index i cross join lateral unnest(i.indkey[0:i.indnkeyatts - 1], i.indclass[0:i.indnkeyatts - 1]) k(attnum, class)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_opclass c on c.oid = k.class
    join pg_amop m on m.amopfamily = c.opcfamily and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype and m.amopstrategy = 3
    join pg_operator o on o.oid = m.amopopr join pg_namespace n on n.oid = o.oprnamespace
    where i.indrelid = w.rel and i.indisprimary and i.indimmediate;
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') and realtime.outdated(w.rel) then
    keys := '{}';
  end if;
end $$`,

  `-- Compares the key of a row "t" with that of another one.
create or replace function realtime.same_key(keys text[], equals text[], other text) returns text
language sql immutable ${path} as $$
  select string_agg(format('t.%1$I %2$s %3$s.%1$I', k.name, k.operator, other), ' and ') from unnest(keys, equals) k(name, operator)
$$`,

  `-- One row whose trigger function could not tell it. Where a deeper trigger has changed the table since,
-- the row is told as it is now: the last event of a row in a transaction has its state at commit. A row
-- that is gone by then was told as DELETE by the trigger that saw it go. False where the table is not watched
-- under this number, or was not when the transaction took its snapshot.
create or replace function realtime.row_slow(id int, rel oid, op text, o record, n record) returns boolean
language plpgsql ${path} ${everyRow} as $$
#variable_conflict use_variable
declare
  f record;
  p record;
  take text;
  now_ text;
  depth int := pg_trigger_depth();
  deeper int;
  o_data text; o_key text;
  n_data text; n_key text;
  found_ boolean;
  bodies text[] := '{}';
begin
  f := realtime.facts(id, rel);
  if (f.w).id is null then
    return false;
  end if;
  begin
    deeper := ${deepest("id")};
    if depth > 1 then
      perform set_config('realtime.depth_' || id, greatest(depth, deeper)::text, true);
    end if;
    if f.keys = '{}' or (deeper > depth and coalesce((f.w).definition ->> 'insert', (f.w).definition ->> 'update', (f.w).definition ->> 'delete') is not null) then
      raise exception 'nothing tells which row this is, or whether its condition holds now';
    end if;
    p := realtime.projection((f.w).rel, f.names, f.keys, '($1)', (f.w).max_bytes);
    take := format('select case when %s then (select row_to_json(x.*)::text from (select %s) x) end, (select row_to_json(k.*)::text from (select %s) k)', p.fits, p.fields, p.key);
    if op <> 'INSERT' then execute take into o_data, o_key using o; end if;
    if op <> 'DELETE' then execute take into n_data, n_key using n; end if;
    if coalesce(deeper, 0) <= depth then
      if op <> 'UPDATE' then
        bodies := array[realtime.change(op, coalesce(n_data, o_data), null, coalesce(n_key, o_key), (f.w).max_bytes)];
      elsif o_key <> n_key then
        bodies := array[realtime.change('DELETE', o_data, null, o_key, (f.w).max_bytes), realtime.change('INSERT', n_data, null, n_key, (f.w).max_bytes)];
      elsif o_data is null or n_data is null or o_data <> n_data then
        bodies := array[realtime.change('UPDATE', n_data, case when (f.w).old then o_data end, n_key, (f.w).max_bytes)];
      end if;
    else
      p := realtime.projection((f.w).rel, f.names, f.keys, 't', (f.w).max_bytes);
      now_ := format('select true, case when %s then (select row_to_json(x.*)::text from (select %s) x) end from %s t where %s', p.fits, p.fields, (f.w).rel, realtime.same_key(f.keys, f.equals, '($1)'));
      if o_key is not null and n_key is distinct from o_key then
        execute now_ into found_, n_data using o;
        bodies := bodies || case when found_ then realtime.change('UPDATE', n_data, null, o_key, (f.w).max_bytes)
          else realtime.change('DELETE', o_data, null, o_key, (f.w).max_bytes) end;
      end if;
      if n_key is not null then
        execute now_ into found_, n_data using n;
        if found_ then
          bodies := bodies || realtime.change(case when o_key = n_key then 'UPDATE' else 'INSERT' end, n_data,
            case when (f.w).old and o_key = n_key then o_data end, n_key, (f.w).max_bytes);
        end if;
      end if;
    end if;
  exception when others then
    bodies := null;
  end;
  if bodies is null or array_position(bodies, null) is not null then
    perform realtime.emit_unknown(id, (f.w).channel, (f.w).delivery);
    return true;
  end if;
  for i in 1 .. cardinality(bodies) loop
    perform realtime.emit((f.w).channel, (f.w).delivery, bodies[i]);
  end loop;
  return true;
end $$`,

  `-- The same for a whole statement, as SQL over its transition tables, which only the trigger function
-- itself can read; '-' where the table is not watched under this number.
create or replace function realtime.rows_slow(id int, rel oid, op text) returns text
language plpgsql as $$
#variable_conflict use_variable
declare
  f record;
  p record;
  side text;
  now_ text;
  changes text;
  depth int := pg_trigger_depth();
  deeper int := ${deepest("id")};
begin
  f := realtime.facts(id, rel);
  if (f.w).id is null then
    return '-';
  end if;
  if depth > 1 then
    perform set_config('realtime.depth_' || id, greatest(depth, deeper)::text, true);
  end if;
  if f.keys = '{}' then
    raise exception 'nothing tells which row this is';
  end if;
  p := realtime.projection((f.w).rel, f.names, f.keys, 'r', (f.w).max_bytes);
  -- A column of the key, which may stand beside these, has another name.
  side := format('select case when %s then (select row_to_json(x.*)::text from (select %s) x) end "realtime d", (select row_to_json(k.*)::text from (select %s) k) "realtime k"', p.fits, p.fields, p.key);
  if coalesce(deeper, 0) <= depth then
    changes := case op
      when 'UPDATE' then format($q$select case when n."realtime k" is null then 'DELETE' when o."realtime k" is null then 'INSERT' else 'UPDATE' end op,
          case when n."realtime k" is null then o."realtime d" else n."realtime d" end d,
          case when %s and n."realtime k" = o."realtime k" then o."realtime d" end od, coalesce(n."realtime k", o."realtime k") k
        from (%s from realtime_old r) o full join (%s from realtime_new r) n on n."realtime k" = o."realtime k"
        where n."realtime k" is null or o."realtime k" is null or o."realtime d" is null or n."realtime d" is null or o."realtime d" <> n."realtime d"$q$, (f.w).old::text, side, side)
      else format('select %L op, s."realtime d" d, null::text od, s."realtime k" k from (%s from %s r) s', op, side, case op when 'INSERT' then 'realtime_new' else 'realtime_old' end)
    end;
  else
    p := realtime.projection((f.w).rel, f.names, f.keys, 't', (f.w).max_bytes);
    now_ := format('select true there, case when %s then (select row_to_json(x.*)::text from (select %s) x) end d from %s t where %s',
      p.fits, p.fields, (f.w).rel, realtime.same_key(f.keys, f.equals, 's'));
    side := side || (select string_agg(format(', r.%I', k), '') from unnest(f.keys) k);
    changes := case op
      when 'UPDATE' then format($q$select case when n."realtime k" is null then 'DELETE' when o."realtime k" is null then 'INSERT' else 'UPDATE' end "realtime op",
          o."realtime d", coalesce(n."realtime k", o."realtime k") "realtime k", %s
        from (%s from realtime_old r) o full join (%s from realtime_new r) n on n."realtime k" = o."realtime k"$q$,
        (select string_agg(format('coalesce(n.%1$I, o.%1$I) %1$I', k), ', ') from unnest(f.keys) k), side, side)
      else format('select %L "realtime op", s.* from (%s from %s r) s', op, side, case op when 'INSERT' then 'realtime_new' else 'realtime_old' end)
    end;
    -- What is gone was told by who took it away, unless that was this statement.
    changes := format($q$select case when c.there is null or s."realtime op" <> 'DELETE' then s."realtime op" else 'UPDATE' end op,
        case when c.there then c.d else s."realtime d" end d, null::text od, s."realtime k" k
      from (%s) s left join lateral (%s) c on true where c.there or s."realtime op" = 'DELETE'$q$, changes, now_);
  end if;
  changes := format('select realtime.change(c.op, c.d, c.od, c.k, %s) body from (%s) c', (f.w).max_bytes, changes);
  return case (f.w).delivery
    when 'durable' then format('insert into realtime.messages (channel, payload) select %L, e.body from (%s) e', (f.w).channel, changes)
    else format('select pg_notify(%L, e.body || %s) from (%s) e', (f.w).channel, ${literal(mark)}, changes) end;
end $$`,

  `-- No event can say that all rows are gone: its subscribers are told, and read the table again.
create or replace function realtime.table_truncated() returns trigger
language plpgsql security definer ${path} as $$
declare
  w realtime.watched;
begin
  select t.* into w from realtime.watched t where t.id = tg_argv[0]::int and realtime.is_part(tg_relid, t.rel);
  if w.id is not null then
    perform realtime.emit(w.channel, w.delivery, ${literal(gapTexts.truncate)});
  elsif realtime.is_part(tg_relid, tg_argv[1]::oid) then
    -- The transaction took its snapshot before the table was watched.
    perform realtime.emit(tg_argv[2], tg_argv[3], ${literal(gapTexts.truncate)});
  end if;
  return null;
end $$`,

  `-- Notes a change of the table inside a trigger, where a condition keeps the change itself from being told.
create or replace function realtime.row_nested() returns trigger
language plpgsql ${path} as $$ begin
  perform set_config('realtime.depth_' || tg_argv[0], greatest(pg_trigger_depth(), ${deepest("tg_argv[0]")})::text, true);
  return null;
end $$`,

  `-- The triggers of version 2 call these until their tables are watched again.
create or replace function realtime.row_changed() returns trigger
language plpgsql security definer ${exact} as $$ begin
  perform realtime.row_slow(tg_argv[0]::int, tg_relid, tg_op, old, new);
  return null;
end $$`,
  `create or replace function realtime.rows_changed() returns trigger
language plpgsql security definer ${exact} ${everyRow} as $$
declare
  w realtime.watched;
begin
  begin
    execute coalesce(nullif(realtime.rows_slow(tg_argv[0]::int, tg_relid, tg_op), '-'), 'select');
    return null;
  exception when others then
    select t.* into w from realtime.watched t where t.id = tg_argv[0]::int;
  end;
  perform realtime.emit_unknown(w.id, w.channel, w.delivery);
  return null;
end $$`
]
