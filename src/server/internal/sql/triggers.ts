/**
 * Watching tables, as SQL text: the slow path of the triggers.
 *
 * Each watched table has its own trigger functions, written by `realtime.generate` with everything they
 * need as constants. The functions here read everything from the catalog instead, where a constant no
 * longer holds, where a row may be large, or where a row was changed again before its event. They cost more
 * and are always right. A change that even they cannot describe becomes a gap, and never an error of the
 * user's statement.
 *
 * A change is built as `json` and never as `jsonb`: a `json` column may hold what jsonb rejects. Sizes are
 * checked before anything is built from a large row. Everything here runs inside the trigger functions
 * only. These fix the search path and every setting that affects a text, and have the rights of the
 * schema's owner. The owner of a watched table could attach code to its types: watch the tables of owners
 * that you trust.
 */
import { gapTexts } from "../gapText.ts"
import { literal } from "./literal.ts"
import { rowSettings } from "./rowText.ts"
import { maxPayloadBytes } from "./schema.ts"

/** The largest payload of a NOTIFY in bytes of UTF-8. */
const maxNotifyBytes = 7999

/** The bytes after a notification of a trigger: see `mark`. */
const markBytes = 32

/** The largest event that a trigger sends by NOTIFY, in bytes of UTF-8. */
export const maxLiveBytes = maxNotifyBytes - markBytes

/**
 * A number that no other notification of the transaction has, because NOTIFY folds equal payloads of one
 * transaction into one. It is white space, which JSON ignores: 32 binary digits as blanks and tabs.
 */
export const mark = `translate(nextval('realtime.notified')::bit(${markBytes})::text, '01', ' ' || chr(9))`

/** For every function that runs with the rights of the owner. */
export const path = "set search_path = pg_catalog, pg_temp"

/** SQL for the `match` of a row's message. One of more than 65,536 bytes of UTF-8 is unknown. */
export const kept = (match: string): string =>
  `case when octet_length(${match}) <= 65536 then ${match} end`

/** A stored row has no xml left to write. */
const settings = Object.entries(rowSettings).filter(([name]) => name !== "xmlbinary")

/** Every setting that affects the text of a value: the writer's session must not change an event. */
export const exact = `${path} ${settings.map(([name, value]) => `set ${name} = '${value}'`).join(" ")}`

/** A policy that would hide a row raises an error instead: a hidden row is not a deleted one. */
export const everyRow = "set row_security = off"

const around = [...settings, ["row_security", "off"]] as const

/** The current values as an expression, for a function that mostly has nothing to do. */
export const settingsNow = `array[${around.map(([name]) => `current_setting('${name}')`).join(", ")}]`

/** Sets them, to the values of an array or to the exact ones. */
export const settingsTo = (values?: string): string =>
  around
    .map(([name, value], index) => {
      const to = values === undefined ? `'${value}'` : `${values}[${index + 1}]`
      return `set_config('${name}', ${to}, true)`
    })
    .join(" || ")

/** The depth of the deepest trigger that changed the watched table, for the rest of the transaction. */
export const deepest = (id: string): string =>
  `nullif(current_setting('realtime.depth_' || ${id}, true), '')::int`

export const triggers: ReadonlyArray<string> = [
  `-- One row per watched table and channel. A table and its columns are kept by number, which survives a
-- rename, and by name, which survives a dump: "relid" differs from "rel" in a restored database.
-- "signature" is the state of the table for which the trigger functions were written, "trouble" what
-- prevents events.
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
  add column if not exists routes text[],
  add column if not exists matches text[],
  drop constraint if exists watched_relid_channel_key`,
  `create unique index if not exists watched_rel on realtime.watched (rel, channel)`,
  `create index if not exists watched_channel on realtime.watched (channel)`,

  `create or replace function realtime.is_part(rel oid, whole oid) returns boolean
language sql stable ${path} as $$
  select rel = whole or exists (select from pg_partition_ancestors(rel::regclass) a where a.relid = whole)
$$`,

  `create sequence if not exists realtime.notified as bigint cache 64`,

  `-- The text of an event. Without "data" the row is too large. Then, or when the text itself is too large,
-- the event has the key and the mark, and only the mark when the key is too large for NOTIFY.
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

  `-- Sends the event of a row. Without a channel its row is on no route, which is counted.
create or replace function realtime.emit_row(id int, channel text, delivery text, payload text, match text) returns void
language plpgsql as $$ begin
  if emit_row.delivery <> 'durable' then
    perform pg_notify(emit_row.channel, emit_row.payload || ${mark});
  elsif emit_row.channel is null then
    perform nextval(format('realtime.w%s_unrouted', emit_row.id));
  else
    insert into realtime.messages (channel, payload, match) values (emit_row.channel, emit_row.payload, ${kept("emit_row.match")});
  end if;
end $$`,

  `-- SQL for the channel of a row: NULL where the values of its route are NULL or no part of a name. Routes
-- are found by the present names of their columns, as the row itself is read.
create or replace function realtime.route_sql(channel text, routes text[], alias text) returns text
language sql immutable ${path} as $$
  select coalesce((select format($f$case when octet_length(%1$s) <= %2$s and (%1$s) collate "C" ~ %3$L then %4$L || %1$s end$f$,
      '(' || string_agg(format('%s.%I::text', alias, c), ' || '':'' || ' order by i) || ')',
      62 - octet_length(channel), '^[A-Za-z0-9_.-]+' || repeat(':[A-Za-z0-9_.-]+', count(*)::int - 1) || '$', channel || ':')
    from unnest(routes) with ordinality t(c, i) having count(*) > 0), quote_literal(channel))
$$`,

  `-- SQL for a JSON object of the texts of some columns of a row; NULL without columns.
create or replace function realtime.texts_sql(names text[], alias text) returns text
language sql immutable ${path} as $$
  select coalesce(string_agg(quote_literal(case when i = 1 then '{' else ',' end || to_json(c)::text || ':')
    || format(' || coalesce(to_json(%s.%I::text)::text, ''null'')', alias, c), ' || ' order by i) || ' || ''}''', 'null::text')
  from unnest(names) with ordinality t(c, i)
$$`,

  `-- The texts of the columns before and after a change, as one object.
create or replace function realtime.match_of(old text, new text) returns text
language sql stable as $$
  select '{' || nullif(concat_ws(',', '"old":' || old, '"new":' || new), '') || '}'
$$`,

  `-- Sends a gap for a change without an event, once in a transaction: subscribers read the table again.
create or replace function realtime.emit_unknown(id int, channel text, delivery text) returns void
language plpgsql as $$ begin
  if coalesce(current_setting('realtime.unknown_' || id, true), '') = '' then
    perform set_config('realtime.unknown_' || id, '1', true);
    perform realtime.emit(emit_unknown.channel, emit_unknown.delivery, ${literal(gapTexts.invalid)});
  end if;
end $$`,

  `-- For rows that may be large, and for many rows at a time: SQL over the row "alias" that reads the wanted
-- columns, the key, and whether the row is small enough to build. Text and bytes know their size without
-- being read; any other value may grow 255-fold when it is stored compressed. Rows around it are written
-- "x.*" and not "x", which could be one of the columns.
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

  `-- Whether a table was altered since the transaction took its snapshot. The catalog's rows are then the
-- earlier ones, and give a column a name that another one has now, while the functions that describe an
-- object use the current ones. Before version 14 these raise an error where the object is gone.
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

  `-- The current facts of a watched table: the columns that travel and those of the key, by name. A trigger
-- cannot read a generated column that is not stored ('v'), and the included columns of an index are no
-- part of the key. Without a key where the names cannot be known. Without a row where "rel" is neither
-- the table nor a part of it: a dump left its trigger on another table.
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

  `-- Handles one row that the trigger function could not. Where a deeper trigger has changed the table
-- since, the event has the row as it is now: the last event of a row in a transaction has its state at
-- commit. For a row that is gone by then, the trigger that saw the DELETE has written the event. False
-- where the table is not watched under this number, or was not when the transaction took its snapshot.
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
  o_data text; o_key text; o_topic text; o_match text;
  n_data text; n_key text; n_topic text; n_match text;
  w_data text; w_topic text; w_match text;
  found_ boolean;
  bodies text[] := '{}';
  topics text[] := '{}';
  matches text[] := '{}';
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
    take := format('select case when %s then (select row_to_json(x.*)::text from (select %s) x) end, (select row_to_json(k.*)::text from (select %s) k), %s, %s',
      p.fits, p.fields, p.key, realtime.route_sql((f.w).channel, (f.w).routes, '($1)'), realtime.texts_sql((f.w).matches, '($1)'));
    if op <> 'INSERT' then execute take into o_data, o_key, o_topic, o_match using o; end if;
    if op <> 'DELETE' then execute take into n_data, n_key, n_topic, n_match using n; end if;
    if coalesce(deeper, 0) <= depth then
      if op <> 'UPDATE' then
        bodies := array[realtime.change(op, coalesce(n_data, o_data), null, coalesce(n_key, o_key), (f.w).max_bytes)];
        topics := array[coalesce(n_topic, o_topic)];
        matches := array[realtime.match_of(o_match, n_match)];
      elsif o_key <> n_key or o_topic is distinct from n_topic then
        bodies := array[realtime.change('DELETE', o_data, null, o_key, (f.w).max_bytes), realtime.change('INSERT', n_data, null, n_key, (f.w).max_bytes)];
        topics := array[o_topic, n_topic];
        matches := array[realtime.match_of(o_match, null), realtime.match_of(null, n_match)];
      elsif o_data is null or n_data is null or o_data <> n_data or o_match <> n_match then
        bodies := array[realtime.change('UPDATE', n_data, case when (f.w).old then o_data end, n_key, (f.w).max_bytes)];
        topics := array[n_topic];
        matches := array[realtime.match_of(o_match, n_match)];
      end if;
    else
      p := realtime.projection((f.w).rel, f.names, f.keys, 't', (f.w).max_bytes);
      now_ := format('select true, case when %s then (select row_to_json(x.*)::text from (select %s) x) end, %s, %s from %s t where %s',
        p.fits, p.fields, realtime.route_sql((f.w).channel, (f.w).routes, 't'), realtime.texts_sql((f.w).matches, 't'), (f.w).rel, realtime.same_key(f.keys, f.equals, '($1)'));
      if o_key is not null and n_key is distinct from o_key then
        execute now_ into found_, w_data, w_topic, w_match using o;
        if found_ is not true or w_topic is distinct from o_topic then
          bodies := bodies || realtime.change('DELETE', o_data, null, o_key, (f.w).max_bytes);
          topics := topics || o_topic;
          matches := matches || realtime.match_of(o_match, null);
        end if;
        if found_ then
          bodies := bodies || realtime.change('UPDATE', w_data, null, o_key, (f.w).max_bytes);
          topics := topics || w_topic;
          matches := matches || realtime.match_of(o_match, w_match);
        end if;
      end if;
      if n_key is not null then
        execute now_ into found_, w_data, w_topic, w_match using n;
        -- The deeper trigger knew the row as it was after this change, and said nothing of where it was before.
        if o_key = n_key and (o_topic is distinct from n_topic or o_match is distinct from n_match) and (found_ is not true or w_topic is distinct from o_topic) then
          bodies := bodies || realtime.change('DELETE', o_data, null, o_key, (f.w).max_bytes);
          topics := topics || o_topic;
          matches := matches || realtime.match_of(o_match, null);
        end if;
        if found_ then
          found_ := coalesce(o_key = n_key and o_topic is not distinct from w_topic, false);
          bodies := bodies || realtime.change(case when found_ then 'UPDATE' else 'INSERT' end, w_data,
            case when (f.w).old and found_ then o_data end, n_key, (f.w).max_bytes);
          topics := topics || w_topic;
          matches := matches || realtime.match_of(case when found_ then o_match end, w_match);
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
    perform realtime.emit_row(id, topics[i], (f.w).delivery, bodies[i], matches[i]);
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
  -- How the old and the new rows of an UPDATE are joined. A row that moved between routes has no other side.
  paired text;
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
  side := format('select case when %s then (select row_to_json(x.*)::text from (select %s) x) end "realtime d", (select row_to_json(k.*)::text from (select %s) k) "realtime k", %s "realtime t", %s "realtime m"',
    p.fits, p.fields, p.key, realtime.route_sql((f.w).channel, (f.w).routes, 'r'), realtime.texts_sql((f.w).matches, 'r'));
  paired := 'n."realtime k" = o."realtime k"' || case when (f.w).routes is null then '' else ' and coalesce(n."realtime t", '''') = coalesce(o."realtime t", '''')' end;
  if coalesce(deeper, 0) <= depth then
    changes := case op
      when 'UPDATE' then format($q$select case when n."realtime k" is null then 'DELETE' when o."realtime k" is null then 'INSERT' else 'UPDATE' end op,
          case when n."realtime k" is null then o."realtime d" else n."realtime d" end d,
          case when %s and n."realtime k" = o."realtime k" then o."realtime d" end od, coalesce(n."realtime k", o."realtime k") k,
          case when n."realtime k" is null then o."realtime t" else n."realtime t" end topic, o."realtime m" om, n."realtime m" nm
        from (%s from realtime_old r) o full join (%s from realtime_new r) n on %s
        where n."realtime k" is null or o."realtime k" is null or o."realtime d" is null or n."realtime d" is null or o."realtime d" <> n."realtime d" or o."realtime m" <> n."realtime m"$q$, (f.w).old::text, side, side, paired)
      else format('select %L op, s."realtime d" d, null::text od, s."realtime k" k, s."realtime t" topic, %s om, %s nm from (%s from %s r) s', op,
        case op when 'DELETE' then 's."realtime m"' else 'null::text' end, case op when 'INSERT' then 's."realtime m"' else 'null::text' end,
        side, case op when 'INSERT' then 'realtime_new' else 'realtime_old' end)
    end;
  else
    p := realtime.projection((f.w).rel, f.names, f.keys, 't', (f.w).max_bytes);
    now_ := format('select true there, case when %s then (select row_to_json(x.*)::text from (select %s) x) end d, %s topic, %s m from %s t where %s',
      p.fits, p.fields, realtime.route_sql((f.w).channel, (f.w).routes, 't'), realtime.texts_sql((f.w).matches, 't'), (f.w).rel, realtime.same_key(f.keys, f.equals, 's'));
    side := side || (select string_agg(format(', r.%I', k), '') from unnest(f.keys) k);
    changes := case op
      when 'UPDATE' then format($q$select case when n."realtime k" is null then 'DELETE' when o."realtime k" is null then 'INSERT' else 'UPDATE' end "realtime op",
          o."realtime d", coalesce(n."realtime k", o."realtime k") "realtime k", o."realtime t", o."realtime m" "realtime om", n."realtime m" "realtime nm", %s
        from (%s from realtime_old r) o full join (%s from realtime_new r) n on %s$q$,
        (select string_agg(format('coalesce(n.%1$I, o.%1$I) %1$I', k), ', ') from unnest(f.keys) k), side, side, paired)
      else format('select %L "realtime op", s.*, %s "realtime om", %s "realtime nm" from (%s from %s r) s', op,
        case op when 'DELETE' then 's."realtime m"' else 'null::text' end, case op when 'INSERT' then 's."realtime m"' else 'null::text' end,
        side, case op when 'INSERT' then 'realtime_new' else 'realtime_old' end)
    end;
    -- For a deleted row the statement that deleted it writes the event. A deeper trigger knew a row as it was
    -- after this statement, and said nothing of where it was before.
    changes := format($q$select x.op, x.d, null::text od, s."realtime k" k, x.topic, x.om, x.nm
      from (%s) s left join lateral (%s) c on true cross join lateral (
        select 'DELETE' op, s."realtime d" d, s."realtime t" topic, s."realtime om" om, null::text nm
          where (s."realtime op" = 'DELETE' or s."realtime op" = 'UPDATE' and s."realtime om" <> s."realtime nm")
            and (c.there is null or c.topic is distinct from s."realtime t")
        union all
        select case s."realtime op" when 'DELETE' then 'UPDATE' else s."realtime op" end, c.d, c.topic, s."realtime om", c.m where c.there) x$q$, changes, now_);
  end if;
  changes := format('select c.op, realtime.change(c.op, c.d, c.od, c.k, %s) body, c.topic, realtime.match_of(c.om, c.nm) match from (%s) c', (f.w).max_bytes, changes);
  return case
    when (f.w).routes is not null then format('insert into realtime.messages (channel, payload, match) select e.topic, e.body, ${kept("e.match")} from (%s) e where e.topic is not null or nextval(%L) is null order by e.op <> ''DELETE''', changes, format('realtime.w%s_unrouted', id))
    when (f.w).delivery = 'durable' then format('insert into realtime.messages (channel, payload, match) select e.topic, e.body, ${kept("e.match")} from (%s) e', changes)
    else format('select pg_notify(%L, e.body || %s) from (%s) e', (f.w).channel, ${literal(mark)}, changes) end;
end $$`,

  `-- No event can say that all rows are gone: subscribers get a gap, and read the table again.
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

  `-- Records a change of the table inside a trigger, where a condition excludes the change itself.
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
