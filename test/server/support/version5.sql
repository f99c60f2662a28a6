-- The objects of effect-realtime, version 5. May run again, also to upgrade.

begin;

set local client_min_messages = warning;

set local lock_timeout = '5000ms';

select pg_advisory_xact_lock(hashtextextended('effect-realtime install', 0));

do $$ begin
  if to_regnamespace('realtime') is not null
    and obj_description(to_regclass('realtime.settings'), 'pg_class') is distinct from 'effect-realtime'
    and exists (select from pg_depend d where d.refclassid = 'pg_namespace'::regclass and d.refobjid = to_regnamespace('realtime') and d.deptype = 'n')
    and (select count(*) from pg_attribute a where (a.attrelid, a.attname) in (
      (to_regclass('realtime.settings'), 'digest'), (to_regclass('realtime.settings'), 'max_messages'), (to_regclass('realtime.messages'), 'txid'))) < 3 then
    raise exception 'the schema "realtime" of this database is not one of effect-realtime: nothing was changed'
      using errcode = 'RT008', hint = 'Install into another schema with the option "schema".';
  end if;
end $$;

do $$
declare
  installed int;
begin
  if to_regclass('realtime.settings') is not null then
    select version into installed from realtime.settings;
    if installed > 5 then
      raise exception 'a newer version of effect-realtime is installed (% where this is 5): nothing was changed', installed
        using errcode = 'RT009', hint = 'Install with the newest library of those that use this database.';
    end if;
  end if;
end $$;

select set_config('realtime.was', coalesce((select string_agg(p.oid::text, ',') from pg_proc p where p.pronamespace = to_regnamespace('realtime')), ''), true),
  set_config('realtime.given', (to_regnamespace('realtime') is not null and to_regclass('realtime.settings') is null)::text, true);

do $$ begin
  if current_setting('server_version_num')::int < 130000 then
    raise exception 'effect-realtime needs PostgreSQL 13 or newer, this is %', current_setting('server_version');
  end if;
  -- In another encoding a row may have bytes without UTF-8, and one such row would stop every reader.
  if getdatabaseencoding() <> 'UTF8' then
    raise exception 'effect-realtime needs a database in UTF8, this one is in %', getdatabaseencoding();
  end if;
end $$;

create schema if not exists realtime;

-- One row. "version" is that of the objects. "token" is in every cursor, "secret" in none. "identity" is that of the
-- database when a node last opened it, and "origin" the transaction that had written that table: they
-- reveal a copy.
create table if not exists realtime.settings (
  one boolean primary key default true check (one),
  version int not null default 0,
  digest text not null default '',
  wake text not null default 'hybrid' check (wake in ('hybrid', 'notify', 'poll')),
  retention interval not null default '24 hours' check (retention > '0'),
  max_messages bigint check (max_messages > 0),
  identity text
);

insert into realtime.settings (one) select true where not exists (select from realtime.settings);

alter table realtime.settings
  add column if not exists token text, add column if not exists origin text,
  add column if not exists secret text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');

-- One row without data, for the transaction that wrote it. A dump is restored in the order of names, so a
-- session that sees this row has all messages before it.
create table if not exists realtime.origin (one boolean primary key default true check (one));

insert into realtime.origin default values on conflict do nothing;

-- Defaults are evaluated in the order of the columns: "txid" stands before "id", so that a transaction
-- has its number before it draws an id. Readers rely on this for the id from which they read.
create table if not exists realtime.messages (
  txid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity primary key,
  channel text collate "C" not null check (octet_length(channel) between 1 and 63),
  payload text not null check (octet_length(payload) <= 8388608),
  created_at timestamptz not null default clock_timestamp(),
  key text collate "C" check (octet_length(key) between 1 and 500)
) with (
  -- Rows are never updated, and are deleted in the order of their inserts.
  fillfactor = 100,
  -- With the default factors a fifth of a day's table would be dead before a vacuum.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0
);

-- By what a message is compared. Of a row the texts of the columns by which it is routed and filtered,
-- before and after the change: NULL where that is unknown, and of a table without such columns. Of a publish
-- what its payload was made from: two attempts with one key may make two payloads of it. It never
-- leaves a node. One column, because the planner believes that a wider table has fewer rows, and reads it
-- whole. Adding it waits for open transactions, so only where it is missing.
do $$ begin
  if not exists (select from pg_attribute a where a.attrelid = 'realtime.messages'::regclass and a.attname = 'match' and not a.attisdropped) then
    alter table realtime.messages add column match text;
  end if;
end $$;

create index if not exists messages_txid on realtime.messages (txid, id);

create index if not exists messages_channel on realtime.messages (channel, id);

create unique index if not exists messages_key on realtime.messages (channel, key) where key is not null;

create or replace function realtime.refuse_truncate() returns trigger language plpgsql as $$ begin
  raise exception 'realtime.messages cannot be truncated: readers would not notice' using hint = 'Lower the retention, or uninstall.';
end $$;

do $$ begin
  if not exists (select from pg_trigger where tgrelid = 'realtime.messages'::regclass and tgname = 'refuse_truncate') then
    create trigger refuse_truncate before truncate on realtime.messages
      for each statement execute function realtime.refuse_truncate();
  end if;
end $$;

-- PostgreSQL empties an unlogged table after a crash, and so on a promoted standby. Exactly then it may
-- give out the number of an unfinished transaction again.
create unlogged table if not exists realtime.epoch (
  one boolean primary key default true check (one),
  id uuid not null default gen_random_uuid()
);

-- Every message that this snapshot does not see is kept. In normal form: it ends after the highest
-- transaction with a message that it sees, whose last message is kept.
create table if not exists realtime.horizon (
  one boolean primary key default true check (one),
  snapshot pg_snapshot not null
);

insert into realtime.horizon (snapshot) values ('1:1:') on conflict do nothing;

-- Positions that readers took now and then, in normal form. "next" and "drawn": a transaction numbered
-- "next" or above has drawn no id up to "drawn".
create table if not exists realtime.marks (
  at timestamptz primary key default clock_timestamp(),
  snapshot pg_snapshot not null,
  next xid8 not null,
  drawn bigint not null
);

-- Before version 3 snapshots were kept as they were. Every cursor from then is rejected, and every later
-- one sees what was pruned until now.
do $$ begin
  if (select s.version < 3 from realtime.settings s) then
    delete from realtime.marks;
    update realtime.horizon h set snapshot = '1:1:';
  end if;
end $$;

create table if not exists realtime.consumers (
  name text collate "C" primary key check (octet_length(name) between 1 and 200),
  channel text collate "C" not null,
  cursor text collate "C" not null,
  updated_at timestamptz not null default clock_timestamp()
);

-- One row per watched table and channel. A table and its columns are kept by number, which survives a
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
  max_bytes int not null check (max_bytes between 0 and 8388608),
  level text not null check (level in ('row', 'statement')),
  delivery text not null check (delivery in ('durable', 'live')),
  definition jsonb not null
);

alter table realtime.watched
  add column if not exists name text not null default '',
  add column if not exists signature text,
  add column if not exists trouble text,
  add column if not exists routes text[],
  add column if not exists matches text[],
  drop constraint if exists watched_relid_channel_key;

create unique index if not exists watched_rel on realtime.watched (rel, channel);

create index if not exists watched_channel on realtime.watched (channel);

create or replace function realtime.is_part(rel oid, whole oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select rel = whole or exists (select from pg_partition_ancestors(rel::regclass) a where a.relid = whole)
$$;

create sequence if not exists realtime.notified as bigint cache 64;

-- The text of an event. Without "data" the row is too large. Then, or when the text itself is too large,
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
  if octet_length(body) <= greatest(change.max_bytes, 7967) then
    return body;
  end if;
  return head || 'null,"truncated":true}';
end $$;

create or replace function realtime.emit(channel text, delivery text, payload text) returns void
language plpgsql as $$ begin
  if emit.delivery = 'durable' then
    insert into realtime.messages (channel, payload) values (emit.channel, emit.payload);
  else
    perform pg_notify(emit.channel, emit.payload || translate(nextval('realtime.notified')::bit(32)::text, '01', ' ' || chr(9)));
  end if;
end $$;

-- Sends the event of a row. Without a channel its row is on no route, which is counted.
create or replace function realtime.emit_row(id int, channel text, delivery text, payload text, match text) returns void
language plpgsql as $$ begin
  if emit_row.delivery <> 'durable' then
    perform pg_notify(emit_row.channel, emit_row.payload || translate(nextval('realtime.notified')::bit(32)::text, '01', ' ' || chr(9)));
  elsif emit_row.channel is null then
    perform nextval(format('realtime.w%s_unrouted', emit_row.id));
  else
    insert into realtime.messages (channel, payload, match) values (emit_row.channel, emit_row.payload, case when octet_length(emit_row.match) <= 65536 then emit_row.match end);
  end if;
end $$;

-- SQL for the channel of a row: NULL where the values of its route are NULL or no part of a name. Routes
-- are found by the present names of their columns, as the row itself is read.
create or replace function realtime.route_sql(channel text, routes text[], alias text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select coalesce((select format($f$case when octet_length(%1$s) <= %2$s and (%1$s) collate "C" ~ %3$L then %4$L || %1$s end$f$,
      '(' || string_agg(format('%s.%I::text', alias, c), ' || '':'' || ' order by i) || ')',
      62 - octet_length(channel), '^[A-Za-z0-9_.-]+' || repeat(':[A-Za-z0-9_.-]+', count(*)::int - 1) || '$', channel || ':')
    from unnest(routes) with ordinality t(c, i) having count(*) > 0), quote_literal(channel))
$$;

-- SQL for a JSON object of the texts of some columns of a row; NULL without columns.
create or replace function realtime.texts_sql(names text[], alias text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select coalesce(string_agg(quote_literal(case when i = 1 then '{' else ',' end || to_json(c)::text || ':')
    || format(' || coalesce(to_json(%s.%I::text)::text, ''null'')', alias, c), ' || ' order by i) || ' || ''}''', 'null::text')
  from unnest(names) with ordinality t(c, i)
$$;

-- The texts of the columns before and after a change, as one object.
create or replace function realtime.match_of(old text, new text) returns text
language sql stable as $$
  select '{' || nullif(concat_ws(',', '"old":' || old, '"new":' || new), '') || '}'
$$;

-- Sends a gap for a change without an event, once in a transaction: subscribers read the table again.
create or replace function realtime.emit_unknown(id int, channel text, delivery text) returns void
language plpgsql as $$ begin
  if coalesce(current_setting('realtime.unknown_' || id, true), '') = '' then
    perform set_config('realtime.unknown_' || id, '1', true);
    perform realtime.emit(emit_unknown.channel, emit_unknown.delivery, ' {"operation":"UNKNOWN"}');
  end if;
end $$;

-- For rows that may be large, and for many rows at a time: SQL over the row "alias" that reads the wanted
-- columns, the key, and whether the row is small enough to build. Text and bytes know their size without
-- being read; any other value may grow 255-fold when it is stored compressed. Rows around it are written
-- "x.*" and not "x", which could be one of the columns.
create or replace function realtime.projection(
  in rel oid, in names text[], in keys text[], in alias text, in max_bytes int, out fields text, out key text, out fits text
) language sql stable set search_path = pg_catalog, pg_temp as $$
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
$$;

-- Whether a table was altered since the transaction took its snapshot. The catalog's rows are then the
-- earlier ones, and give a column a name that another one has now, while the functions that describe an
-- object use the current ones. Before version 14 these raise an error where the object is gone.
create or replace function realtime.outdated(rel oid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$ begin
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
end $$;

-- The current facts of a watched table: the columns that travel and those of the key, by name. A trigger
-- cannot read a generated column that is not stored ('v'), and the included columns of an index are no
-- part of the key. Without a key where the names cannot be known. Without a row where "rel" is neither
-- the table nor a part of it: a dump left its trigger on another table.
create or replace function realtime.facts(in id int, in rel oid, out w realtime.watched, out names text[], out keys text[], out equals text[])
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
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
end $$;

-- Compares the key of a row "t" with that of another one.
create or replace function realtime.same_key(keys text[], equals text[], other text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select string_agg(format('t.%1$I %2$s %3$s.%1$I', k.name, k.operator, other), ' and ') from unnest(keys, equals) k(name, operator)
$$;

-- Handles one row that the trigger function could not. Where a deeper trigger has changed the table
-- since, the event has the row as it is now: the last event of a row in a transaction has its state at
-- commit. For a row that is gone by then, the trigger that saw the DELETE has written the event. False
-- where the table is not watched under this number, or was not when the transaction took its snapshot.
create or replace function realtime.row_slow(id int, rel oid, op text, o record, n record) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set row_security = off as $$
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
    deeper := nullif(current_setting('realtime.depth_' || id, true), '')::int;
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
end $$;

-- The same for a whole statement, as SQL over its transition tables, which only the trigger function
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
  deeper int := nullif(current_setting('realtime.depth_' || id, true), '')::int;
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
    when (f.w).routes is not null then format('insert into realtime.messages (channel, payload, match) select e.topic, e.body, case when octet_length(e.match) <= 65536 then e.match end from (%s) e where e.topic is not null or nextval(%L) is null order by e.op <> ''DELETE''', changes, format('realtime.w%s_unrouted', id))
    when (f.w).delivery = 'durable' then format('insert into realtime.messages (channel, payload, match) select e.topic, e.body, case when octet_length(e.match) <= 65536 then e.match end from (%s) e', changes)
    else format('select pg_notify(%L, e.body || %s) from (%s) e', (f.w).channel, 'translate(nextval(''realtime.notified'')::bit(32)::text, ''01'', '' '' || chr(9))', changes) end;
end $$;

-- No event can say that all rows are gone: subscribers get a gap, and read the table again.
create or replace function realtime.table_truncated() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  w realtime.watched;
begin
  select t.* into w from realtime.watched t where t.id = tg_argv[0]::int and realtime.is_part(tg_relid, t.rel);
  if w.id is not null then
    perform realtime.emit(w.channel, w.delivery, ' {"operation":"TRUNCATE"}');
  elsif realtime.is_part(tg_relid, tg_argv[1]::oid) then
    -- The transaction took its snapshot before the table was watched.
    perform realtime.emit(tg_argv[2], tg_argv[3], ' {"operation":"TRUNCATE"}');
  end if;
  return null;
end $$;

-- Records a change of the table inside a trigger, where a condition excludes the change itself.
create or replace function realtime.row_nested() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$ begin
  perform set_config('realtime.depth_' || tg_argv[0], greatest(pg_trigger_depth(), nullif(current_setting('realtime.depth_' || tg_argv[0], true), '')::int)::text, true);
  return null;
end $$;

-- The triggers of version 2 call these until their tables are watched again.
create or replace function realtime.row_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set TimeZone = 'UTC' set DateStyle = 'ISO, YMD' set IntervalStyle = 'postgres' set bytea_output = 'hex' set extra_float_digits = '1' set lc_monetary = 'C' set quote_all_identifiers = 'off' as $$ begin
  perform realtime.row_slow(tg_argv[0]::int, tg_relid, tg_op, old, new);
  return null;
end $$;

create or replace function realtime.rows_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set TimeZone = 'UTC' set DateStyle = 'ISO, YMD' set IntervalStyle = 'postgres' set bytea_output = 'hex' set extra_float_digits = '1' set lc_monetary = 'C' set quote_all_identifiers = 'off' set row_security = off as $$
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
end $$;

-- Replaces all names in one pass, because the name of a column may look like one of them.
create or replace function realtime.fill(template text, pieces jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select string_agg(case when i % 2 = 1 then part else pieces ->> part end, '' order by i)
  from unnest(string_to_array(template, '@')) with ordinality t(part, i)
$$;

-- SQL for a JSON object of some columns of a row. Without "null_" it is NULL where one of them is.
create or replace function realtime.members(names text[], alias text, null_ boolean) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select coalesce(string_agg(quote_literal(case when i = 1 then '{' else ',' end || to_json(c)::text || ':')
    || format(case when null_ then ' || coalesce(to_json(%s.%I)::text, ''null'')' else ' || to_json(%s.%I)::text' end, alias, c), ' || ' order by i) || ' || ''}''', '''{}''')
  from unnest(names) with ordinality t(c, i)
$$;

-- SQL that is true while an object of the catalog is unchanged. The first text may be in the language of
-- the session, and is read four times as fast.
create or replace function realtime.still(rel oid, part int) returns text
language sql stable set search_path = pg_catalog, pg_temp set quote_all_identifiers = off as $$
  select format('coalesce(pg_describe_object(1259, %1$s, %2$s) = %3$L or (pg_identify_object(1259, %1$s, %2$s)).identity = %4$L, false)',
    rel, part, pg_describe_object(1259, rel, part), (pg_identify_object(1259, rel, part)).identity)
$$;

-- The facts that the functions of a table rely on.
create or replace function realtime.signature(rel oid) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select concat_ws('|', 4, rel::oid, current_setting('server_version_num')::int / 10000,
    (select string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.attcollation, a.attgenerated), ',' order by a.attnum)
      from pg_attribute a where a.attrelid = rel and a.attnum > 0 and not a.attisdropped),
    (select concat_ws(' ', i.indexrelid, i.indkey, i.indnkeyatts, c.relname) from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = rel and i.indisprimary),
    (select c.relname || '.' || c.relnamespace::regnamespace::text || ' ' || c.relowner from pg_class c where c.oid = rel))
$$;

-- Whether a row travels without changes.
create or replace function realtime.is_plain(w realtime.watched) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select w.columns is null and not exists (select from pg_attribute a where a.attrelid = w.rel and a.attnum > 0 and not a.attisdropped and a.attgenerated = 'v')
$$;

-- SQL that is true once a table has other columns or another key than those of its functions.
create or replace function realtime.altered_sql(w realtime.watched, names text[], keys text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select concat_ws(' or ',
    (select string_agg('not ' || realtime.still(i.indexrelid, 0), ' or ') from pg_index i where i.indrelid = w.rel and i.indisprimary),
    -- Without a list a column that lost its name is not found, unless one that a trigger cannot read took it.
    (select string_agg('not ' || realtime.still(w.rel, a.attnum), ' or ' order by a.attnum) from pg_attribute a
      where a.attrelid = w.rel and not a.attisdropped and (a.attname = any(keys) or w.columns is not null and a.attname = any(names) or w.columns is null and a.attgenerated = 'v')),
    -- A later column is in no list of names, or a trigger may be unable to read it.
    case when w.columns is null and current_setting('server_version_num')::int >= 180000 then format('pg_describe_object(1259, %s, %s) is not null',
      w.rel::oid, (select max(a.attnum) + 1 from pg_attribute a where a.attrelid = w.rel and a.attnum > 0)) end)
$$;

-- Writes the functions of one watched table, or drops them where it has no key. The triggers that would
-- still call them are dropped before.
create or replace function realtime.generate(id int) returns void
language plpgsql set search_path = pg_catalog, pg_temp set quote_all_identifiers = off set standard_conforming_strings = on as $generate$
#variable_conflict use_variable
declare
  f record;
  w realtime.watched;
  rel oid;
  -- The signature for which the functions are written.
  written text;
  version int := current_setting('server_version_num')::int;
  lists boolean;
  plain boolean;
  -- Whether rows have a match, and whether they have routes as well.
  matched boolean;
  routed boolean;
  compared text[];
  last int;
  pieces jsonb;
  op text;
  owner_ name;
  fits record;
  changes text;
  create_ text := 'create or replace function realtime.%I() returns trigger language plpgsql security definer %s as %L';
begin
  -- A node that finds the table altered, and an install, may do this at the same time.
  perform pg_advisory_xact_lock(hashtextextended('effect-realtime generate', id));
  select t.rel into rel from realtime.watched t where t.id = generate.id;
  written := realtime.signature(rel);
  f := realtime.facts(id, rel);
  w := f.w;
  if f.keys = '{}' then
    raise exception 'table % has no primary key, or was altered after this transaction began', rel
      using errcode = 'RT005', hint = 'Watch a table that has one, and try again in a transaction of its own.';
  end if;
  lists := w.columns is not null;
  plain := realtime.is_plain(w);
  matched := w.matches is not null;
  routed := w.routes is not null;
  compared := array(select distinct c from unnest(f.names || f.keys || coalesce(w.matches, '{}')) c);
  last := (select max(a.attnum) from pg_attribute a where a.attrelid = rel and a.attnum > 0);
  pieces := jsonb_build_object(
    'id', id, 'rel', rel, 'cap', w.max_bytes, 'channel', quote_literal(w.channel), 'delivery', quote_literal(w.delivery),
    'nested', format($q$(pg_trigger_depth() > 1 and set_config('realtime.depth_%1$s', greatest(pg_trigger_depth(), %2$s)::text, true) is null)$q$, id, replace('nullif(current_setting(''realtime.depth_'' || @, true), '''')::int', '@', quote_literal(id))),
    'deeper', format('(%s > pg_trigger_depth())', replace('nullif(current_setting(''realtime.depth_'' || @, true), '''')::int', '@', quote_literal(id))),
    'foreign', concat_ws(' or ',
      case when pg_partition_root(rel) = rel then format('(tg_relid <> %1$s and pg_partition_root(tg_relid) is distinct from %1$s)', rel)
        when (select c.relkind from pg_class c where c.oid = rel) = 'p' then format('not realtime.is_part(tg_relid, %s)', rel)
        else format('tg_relid <> %s', rel) end,
      realtime.altered_sql(w, f.names, f.keys)),
    'added', case when lists then 'false' when version >= 140000 then format('pg_describe_object(1259, %s, %s) is not null', rel, last + 1)
      else format('exists (select from pg_attribute where attrelid = %s and attnum = %s)', rel, last + 1) end,
    'declared', case when matched then E'\n  place_ text;\n  left_ text;\n  match_ text;\n  was_match_ text;' else '' end,
    'emit_told', case
      when routed then realtime.fill('
    if @place@ is null then
      perform nextval(''realtime.w@id@_unrouted'');
    else
      insert into realtime.messages (channel, payload, match) values (@place@, @told@, case when octet_length(@match@) <= 65536 then @match@ end);
    end if;', jsonb_build_object('id', id, 'place', 'place_', 'told', 'told', 'match', 'match_'))
      when matched then format('insert into realtime.messages (channel, payload, match) values (%L, told, case when octet_length(match_) <= 65536 then match_ end);', w.channel)
      when w.delivery = 'durable' then format('insert into realtime.messages (channel, payload) values (%L, told);', w.channel)
      else format('perform pg_notify(%L, told || %s);', w.channel, 'translate(nextval(''realtime.notified'')::bit(32)::text, ''01'', '' '' || chr(9))') end,
    'emit_both', case
      when routed then realtime.fill('
    if @place@ is null then
      perform nextval(''realtime.w@id@_unrouted'');
    else
      insert into realtime.messages (channel, payload, match) values (@place@, @told@, case when octet_length(@match@) <= 65536 then @match@ end);
    end if;', jsonb_build_object('id', id, 'place', 'left_', 'told', 'ended', 'match', 'was_match_'))
        || realtime.fill('
    if @place@ is null then
      perform nextval(''realtime.w@id@_unrouted'');
    else
      insert into realtime.messages (channel, payload, match) values (@place@, @told@, case when octet_length(@match@) <= 65536 then @match@ end);
    end if;', jsonb_build_object('id', id, 'place', 'place_', 'told', 'told', 'match', 'match_'))
      when matched then format('insert into realtime.messages (channel, payload, match) values (%1$L, ended, case when octet_length(was_match_) <= 65536 then was_match_ end), (%1$L, told, case when octet_length(match_) <= 65536 then match_ end);', w.channel)
      when w.delivery = 'durable' then format('insert into realtime.messages (channel, payload) values (%1$L, ended), (%1$L, told);', w.channel)
      else format('perform pg_notify(%1$L, ended || %2$s); perform pg_notify(%1$L, told || %2$s);', w.channel, 'translate(nextval(''realtime.notified'')::bit(32)::text, ''01'', '' '' || chr(9))') end);
  if routed then
    execute format('create sequence if not exists realtime.%I', 'w' || id || '_unrouted');
  end if;
  if w.level = 'row' then
    pieces := pieces || jsonb_build_object(
      'changed', case when plain then 'new *<> old' else realtime.images('record_image_ne', compared, 'new', 'old') end,
      'same', realtime.images('record_image_eq', f.keys || coalesce(w.routes, '{}'), 'new', 'old'),
      'moved', realtime.place_sql(w, 'MOVE', 'new', 'old'),
      'updated', realtime.place_sql(w, 'UPDATE', 'new', 'old'),
      'inserted', realtime.place_sql(w, 'INSERT', 'new', 'old'),
      'deleted', realtime.place_sql(w, 'DELETE', 'new', 'old'),
      'new_data', case when plain then 'row_to_json(new)::text' else realtime.members(f.names, 'new', true) end,
      'old_data', case when plain then 'row_to_json(old)::text' else realtime.members(f.names, 'old', true) end,
      'new_key', realtime.members(f.keys, 'new', false),
      'old_key', realtime.members(f.keys, 'old', false));
    pieces := pieces || jsonb_build_object('old_member', case when w.old then ' || '',"old":'' || ' || (pieces ->> 'old_data') else '' end);
    execute format(create_, 'w' || id || '_row', 'set search_path = pg_catalog, pg_temp set TimeZone = ''UTC'' set DateStyle = ''ISO, YMD'' set IntervalStyle = ''postgres'' set bytea_output = ''hex'' set extra_float_digits = ''1'' set lc_monetary = ''C'' set quote_all_identifiers = ''off''', realtime.fill('
#variable_conflict use_variable
declare
  told text;
  -- The DELETE event of the old key or route, where that of the row changed.
  ended text;@declared@
begin
  begin
    if tg_op = ''UPDATE'' then
      told := case
        when @nested@ or @foreign@ or pg_column_size(new) > 65536 or pg_column_size(old) > 65536 then null
        when not (@changed@) then ''-''
        when @deeper@ and ((new.xmax = ''0''::xid) is not true or not (@same@)) then null
        when @same@ then ''{"operation":"UPDATE","data":'' || @new_data@@old_member@ || '',"key":'' || @new_key@ || ''}''
        else ''+'' end;
      if told = ''+'' then
        ended := ''{"operation":"DELETE","data":'' || @old_data@ || '',"key":'' || @old_key@ || ''}'';
        told := ''{"operation":"INSERT","data":'' || @new_data@ || '',"key":'' || @new_key@ || ''}'';@moved@
      end if;@updated@
    elsif tg_op = ''INSERT'' then
      told := case
        when @nested@ or @foreign@ or pg_column_size(new) > 65536 then null
        when @deeper@ and (new.xmax = ''0''::xid) is not true then null
        else ''{"operation":"INSERT","data":'' || @new_data@ || '',"key":'' || @new_key@ || ''}'' end;@inserted@
    else
      told := case
        when @nested@ or @foreign@ or pg_column_size(old) > 65536 then null
        when @deeper@ then null
        else ''{"operation":"DELETE","data":'' || @old_data@ || '',"key":'' || @old_key@ || ''}'' end;@deleted@
    end if;
  exception when others then
    told := null;
    ended := null;
  end;
  if ended is null and octet_length(told) between 3 and @cap@ then
    @emit_told@
  elsif ended is not null and octet_length(told) between 3 and @cap@ and octet_length(ended) <= @cap@ then
    @emit_both@
  elsif told is distinct from ''-'' then
    if not realtime.row_slow(@id@, tg_relid, tg_op, old, new) and realtime.is_part(tg_relid, @rel@) then
      perform realtime.emit_unknown(@id@, @channel@, @delivery@);
    end if;
  end if;
  return null;
end', pieces));
    execute format('revoke all on function realtime.%I() from public', 'w' || id || '_row');
  else
    fits := realtime.projection(rel, f.names, f.keys, 'r', w.max_bytes);
    pieces := pieces || jsonb_build_object(
      'row_data', case when plain then 'row_to_json(row_)::text' else realtime.members(f.names, 'row_', true) end,
      'was_data', case when plain then 'row_to_json(was_)::text' else realtime.members(f.names, 'was_', true) end,
      'row_key', realtime.members(f.keys, 'row_', false),
      'was_key', realtime.members(f.keys, 'was_', false),
      'r_data_all', case when plain then 'row_to_json(r.*)::text' else realtime.members(f.names, 'r', true) end,
      'r_key', realtime.members(f.keys, 'r', false),
      'r_fits', fits.fits,
      'moved', realtime.place_sql(w, 'MOVE', 'row_', 'was_'),
      'updated', realtime.place_sql(w, 'UPDATE', 'row_', 'was_'),
      's_place', case when matched then ', s."realtime place" place, s."realtime match" match' else '' end,
      'e_place', case when matched then ', e.op, nullif(e.place, '''') place, e.match' else '' end,
      'joined_place', case when matched then ', case when n."realtime place" is null then o."realtime place" else n."realtime place" end place, '
        || '''{'' || concat_ws('','', ''"old":'' || o."realtime match", ''"new":'' || n."realtime match") || ''}'' match' else '' end);
    foreach op in array array['INSERT', 'UPDATE', 'DELETE'] loop
      pieces := pieces || jsonb_build_object('op', op, 'side', case op when 'DELETE' then 'realtime_old' else 'realtime_new' end,
        'placed', realtime.place_sql(w, op, 'row_', 'row_'),
        'r_place', case when matched then format(', coalesce(%s, '''') "realtime place", %s "realtime match"', realtime.route_sql(w.channel, w.routes, 'r'),
          case op when 'UPDATE' then realtime.texts_sql(w.matches, 'r') else format($q$'{"%s":' || %s || '}'$q$, case op when 'DELETE' then 'old' else 'new' end, realtime.texts_sql(w.matches, 'r')) end) else '' end);
      if op = 'UPDATE' then
        fits := realtime.projection(rel, f.names, f.keys, 'o', w.max_bytes);
        pieces := pieces || jsonb_build_object(
          'changed', case when plain then 'row_ *<> was_' else realtime.images('record_image_ne', compared, 'row_', 'was_') end,
          'same', realtime.images('record_image_eq', f.keys || coalesce(w.routes, '{}'), 'row_', 'was_'),
          'old_member', case when w.old then ' || '',"old":'' || ' || (pieces ->> 'was_data') else '' end,
          'first', quote_ident(f.keys[1]),
          'r_columns', (select string_agg(format('r.%I', c), ', ') from unnest(compared) c),
          'n_columns', (select string_agg(format('n.%I', c), ', ') from unnest(compared) c),
          'o_columns', (select string_agg(format('o.%I', c), ', ') from unnest(compared) c),
          'ended_data', case when w.old then 'o."realtime data"' else format('case when %s then (select row_to_json(x.*)::text from (select %s) x) end', fits.fits, fits.fields) end,
          'old_data', case when w.old then format('case when n.%1$I is not null and o.%1$I is not null then o."realtime data" end', f.keys[1]) else 'null::text' end,
          'old_data_column', case when w.old then format(', case when pg_column_size(r.*) <= 65536 or (%s) then %s end "realtime data"', pieces ->> 'r_fits', pieces ->> 'r_data_all') else '' end,
          'coalesced_key', (select string_agg(quote_literal(case when i = 1 then '{' else ',' end || to_json(c)::text || ':')
            || format(' || to_json(coalesce(n.%1$I, o.%1$I))::text', c), ' || ' order by i) || ' || ''}''' from unnest(f.keys) with ordinality t(c, i)));
        pieces := pieces || case
          -- Their operator finds equal only what is equal byte by byte.
          when not exists (select from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_collation c on c.oid = a.attcollation
            where a.attrelid = rel and a.attname = any(f.keys) and not (t.typtype = 'e' or (a.atttypid = any(array[16, 18, 20, 21, 23, 25, 26, 1043, 1082, 1114, 1184, 2950]::oid[]) and coalesce(c.collisdeterministic, true))))
          then jsonb_build_object('key_column', '', 'join', (select string_agg(format('n.%1$I = o.%1$I', k), ' and ') from unnest(f.keys) k))
          else jsonb_build_object('key_column', format(', %s "realtime key"', pieces ->> 'r_key'), 'join', 'n."realtime key" = o."realtime key" collate "C"') end;
        if routed then
          -- A row that moved has no other side.
          pieces := pieces || jsonb_build_object('join', (pieces ->> 'join') || ' and n."realtime place" = o."realtime place" collate "C"');
        end if;
        pieces := pieces || jsonb_build_object('one', realtime.fill('
      select * into was_ from realtime_old limit 1;
      told := case
        when pg_column_size(row_) > 65536 or pg_column_size(was_) > 65536 then null
        when not (@changed@) then ''-''
        when @same@ then ''{"operation":"UPDATE","data":'' || @row_data@@old_member@ || '',"key":'' || @row_key@ || ''}''
        else ''+'' end;
      if told = ''+'' then
        ended := ''{"operation":"DELETE","data":'' || @was_data@ || '',"key":'' || @was_key@ || ''}'';
        told := ''{"operation":"INSERT","data":'' || @row_data@ || '',"key":'' || @row_key@ || ''}'';@moved@
      end if;@updated@', pieces));
        changes := realtime.fill('select case when n.@first@ is null then ''DELETE'' when o.@first@ is null then ''INSERT'' else ''UPDATE'' end op,
          case when n.@first@ is null then @ended_data@ else n."realtime data" end d,
          @old_data@ od, @coalesced_key@ k@joined_place@
        from (select @r_columns@@old_data_column@@key_column@@r_place@ from realtime_old r) o
        full join (select @r_columns@, case when pg_column_size(r.*) <= 65536 or (@r_fits@) then @r_data_all@ end "realtime data"@key_column@@r_place@ from realtime_new r) n
          on @join@
        where n.@first@ is null or o.@first@ is null or record_image_ne(row(@n_columns@), row(@o_columns@)) offset 0', pieces);
      else
        pieces := pieces || jsonb_build_object('one', realtime.fill('
      if pg_column_size(row_) <= 65536 then
        told := ''{"operation":"@op@","data":'' || @row_data@ || '',"key":'' || @row_key@ || ''}'';@placed@
      end if;', pieces));
        changes := realtime.fill('select ''@op@'' op, s.d, null::text od, s.k@s_place@ from (
        select case when pg_column_size(r.*) <= 65536 or (@r_fits@) then @r_data_all@ end d, @r_key@ k@r_place@ from @side@ r offset 0) s', pieces);
      end if;
      changes := realtime.fill('select case when octet_length(e.body) <= @cap@ then e.body else realtime.change(e.op, e.d, e.od, e.k, @cap@) end body@e_place@ from (
      select c.*, ''{"operation":"'' || c.op || ''","data":'' || c.d || coalesce('',"old":'' || c.od, '''') || '',"key":'' || c.k || ''}'' body from (
        @changes@
      ) c offset 0) e', pieces || jsonb_build_object('changes', changes));
      pieces := pieces || jsonb_build_object('many', case
        -- Such a row is deleted where it was before it is inserted where it is.
        when routed then format('insert into realtime.messages (channel, payload, match) select b.place, b.body, case when octet_length(b.match) <= 65536 then b.match end from (%s) b where b.place is not null or nextval(%L) is null%s;',
          changes, format('realtime.w%s_unrouted', id), case op when 'UPDATE' then ' order by b.op <> ''DELETE''' else '' end)
        when matched then format('insert into realtime.messages (channel, payload, match) select %L, b.body, case when octet_length(b.match) <= 65536 then b.match end from (%s) b;', w.channel, changes)
        when w.delivery = 'durable' then format('insert into realtime.messages (channel, payload) select %L, b.body from (%s) b;', w.channel, changes)
        else format('perform pg_notify(%L, b.body || %s) from (%s) b;', w.channel, 'translate(nextval(''realtime.notified'')::bit(32)::text, ''01'', '' '' || chr(9))', changes) end);
      execute format(create_, 'w' || id || '_' || lower(op), 'set search_path = pg_catalog, pg_temp', realtime.fill('
#variable_conflict use_variable
declare
  -- No alias of a query below has one of these names.
  row_ record;
  was_ record;
  told text;
  ended text;
  rows_ int;
  late text;
  before_ text[];
  set_ text;@declared@
begin
  select * into row_ from @side@ limit 1;
  if not found then
    return null;
  end if;
  rows_ := (select count(*) from (select from @side@ limit 2) x);
  -- As settings of the function they would cost a statement without rows more than all the rest.
  before_ := array[current_setting(''TimeZone''), current_setting(''DateStyle''), current_setting(''IntervalStyle''), current_setting(''bytea_output''), current_setting(''extra_float_digits''), current_setting(''lc_monetary''), current_setting(''quote_all_identifiers''), current_setting(''row_security'')];
  set_ := set_config(''TimeZone'', ''UTC'', true) || set_config(''DateStyle'', ''ISO, YMD'', true) || set_config(''IntervalStyle'', ''postgres'', true) || set_config(''bytea_output'', ''hex'', true) || set_config(''extra_float_digits'', ''1'', true) || set_config(''lc_monetary'', ''C'', true) || set_config(''quote_all_identifiers'', ''off'', true) || set_config(''row_security'', ''off'', true);
  begin
    if @nested@ or @foreign@ or @added@ or coalesce(@deeper@, false) then
      told := null;
    elsif rows_ = 1 then
      @one@
    else
      @many@
      told := ''-'';
    end if;
  exception when others then
    told := null;
    ended := null;
  end;
  if told is null or octet_length(told) > @cap@ or octet_length(ended) > @cap@ then
    begin
      late := realtime.rows_slow(@id@, tg_relid, tg_op);
      told := ''-'';
      if late <> ''-'' then
        execute late;
      elsif realtime.is_part(tg_relid, @rel@) then
        told := ''!'';
      end if;
    exception when others then
      told := ''!'';
    end;
  end if;
  set_ := set_config(''TimeZone'', before_[1], true) || set_config(''DateStyle'', before_[2], true) || set_config(''IntervalStyle'', before_[3], true) || set_config(''bytea_output'', before_[4], true) || set_config(''extra_float_digits'', before_[5], true) || set_config(''lc_monetary'', before_[6], true) || set_config(''quote_all_identifiers'', before_[7], true) || set_config(''row_security'', before_[8], true);
  if told = ''-'' then
    return null;
  elsif told = ''!'' then
    perform realtime.emit_unknown(@id@, @channel@, @delivery@);
  elsif ended is null then
    @emit_told@
  else
    @emit_both@
  end if;
  return null;
end', pieces));
      execute format('revoke all on function realtime.%I() from public', 'w' || id || '_' || lower(op));
    end loop;
  end if;
  -- The functions write to the outbox, so they have the owner of the outbox.
  select pg_get_userbyid(c.relowner) into owner_ from pg_class c where c.oid = 'realtime.watched'::regclass;
  if owner_ <> current_user then
    for op in select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'realtime'::regnamespace and p.proname ~ format('^w%s_(row|insert|update|delete)$', id) loop
      execute format('alter function %s owner to %I', op, owner_);
    end loop;
    if routed then
      execute format('alter sequence realtime.%I owner to %I', 'w' || id || '_unrouted', owner_);
    end if;
  end if;
  perform realtime.generate_state(id);
  -- The table may have been altered meanwhile, and the functions may mix both states.
  if realtime.signature(rel) is distinct from written then
    raise exception 'table % was altered while its triggers were written', rel
      using errcode = 'RT005', hint = 'Try again.';
  end if;
  update realtime.watched t set signature = written, name = rel::regclass::text, names = case when lists then f.names end where t.id = generate.id;
end $generate$;

-- Statements that find the channel and the match of a change; none for a table without a match.
create or replace function realtime.place_sql(w realtime.watched, op text, new text, old text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select coalesce(case when w.matches is null then '' when op = 'UPDATE' then format(E'\n      if told <> ''-'' and ended is null then%s\n      end if;', string_agg(line, '' order by i)) else string_agg(line, '' order by i) end, '')
  from (values
    (1, case when w.routes is not null then format(E'\n        place_ := %s;', realtime.route_sql(w.channel, w.routes, case op when 'DELETE' then old else new end)) end),
    (2, case when w.routes is not null and op = 'MOVE' then format(E'\n        left_ := %s;', realtime.route_sql(w.channel, w.routes, old)) end),
    (3, format(case op when 'UPDATE' then E'\n        match_ := ''{"old":'' || %2$s || '',"new":'' || %1$s || ''}'';' when 'DELETE' then E'\n        match_ := ''{"old":'' || %2$s || ''}'';' else E'\n        match_ := ''{"new":'' || %1$s || ''}'';' end,
      realtime.texts_sql(w.matches, new), realtime.texts_sql(w.matches, old))),
    (4, case when op = 'MOVE' then format(E'\n        was_match_ := ''{"old":'' || %s || ''}'';', realtime.texts_sql(w.matches, old)) end)
  ) x(i, line)
$$;

-- Compares some columns of two rows byte by byte.
create or replace function realtime.images(compare text, names text[], one text, other text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select format('%s(row(%s), row(%s))', compare, string_agg(format('%s.%I', one, c), ', '), string_agg(format('%s.%I', other, c), ', ')) from unnest(names) c
$$;

-- Writes the function that reads the rows of a watched table, or drops it where there is none to write, or
-- where this role is neither the owner of the table nor a member of it.
create or replace function realtime.generate_state(id int) returns void
language plpgsql set search_path = pg_catalog, pg_temp set quote_all_identifiers = off set standard_conforming_strings = on set client_min_messages = warning as $generate$
#variable_conflict use_variable
declare
  f record;
  w realtime.watched;
  name_ text := format('realtime.w%s_state(text[], text, int, bigint)', id);
  owner_ name;
  outbox name := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = 'realtime.watched'::regclass);
  had name;
  columns_ record;
  body text;
  lends boolean;
begin
  select t.* into w from realtime.watched t where t.id = generate_state.id;
  f := realtime.facts(id, w.rel);
  select pg_get_userbyid(c.relowner) into owner_ from pg_class c where c.oid = w.rel;
  if not (w.delivery = 'durable' and coalesce(w.definition ->> 'insert', w.definition ->> 'update', w.definition ->> 'delete') is null) then
    execute 'drop function if exists ' || name_;
    return;
  end if;
  with recursive base(name, oid) as (
    select a.attname::text, a.atttypid from pg_attribute a where a.attrelid = w.rel and a.attname = any(w.matches) and not a.attisdropped
      and realtime.has_one_text(a.atttypid, a.attcollation)
    union all
    select b.name, t.typbasetype from base b join pg_type t on t.oid = b.oid where t.typtype = 'd')
  select array_agg(b.name order by b.name) names, array_agg(format_type(b.oid, null) order by b.name) types into columns_
    from base b join pg_type t on t.oid = b.oid where t.typtype <> 'd';
  body := realtime.fill('
#variable_conflict use_variable
declare
  columns_ text[] := @columns@;
  types_ text[] := @types@;
  routes_ text[] := @routes@;
  conditions text := '''';
  column_ text;
  type_ text;
  texts text[];
  given text[];
  canonical text[];
  rows_ refcursor;
  row_ text;
  all_ text[] := ''{}'';
  bytes bigint := 0;
begin
  begin
    for column_, texts in
      select r.c, array[r.v] from unnest(routes_, route) r(c, v) where route is not null
      union all
      select e.key, array(select x from json_array_elements_text(e.value) x) from json_each(filter::json) e loop
      type_ := types_[array_position(columns_, column_)];
      given := array_remove(texts, null);
      if type_ is not null then
        execute ''select array_agg(x::'' || type_ || ''::text order by i) from unnest($1) with ordinality u(x, i)'' into canonical using given;
      end if;
      -- Events are compared as texts: another spelling would find rows here that they do not.
      if type_ is null or coalesce(canonical, ''{}'') <> given collate "C" then
        return query select ''filter'', column_;
        return;
      end if;
      -- As a constant, a literal of the array: a parameter would be cast for each row, and hide what it selects.
      conditions := conditions || format('' and (t.%1$I = any(%2$L::%3$s[])%4$s)'', column_, given, type_,
        case when array_position(texts, null) is not null then format('' or t.%I is null'', column_) end);
    end loop;
  exception when data_exception then
    return query select ''filter'', coalesce(column_, '''');
    return;
  end;
  open rows_ no scroll for execute @select@ || @rel@::regclass || '' t where true'' || conditions || @order@
    using max_bytes, max_rows::bigint + 1;
  loop
    -- One at a time: PL/pgSQL would read 50 large rows ahead.
    fetch rows_ into row_;
    exit when not found;
    if cardinality(all_) >= max_rows then
      return query select ''rows'', (max_rows::bigint + 1)::text;
      return;
    end if;
    bytes := bytes + coalesce(octet_length(row_), max_bytes + 1);
    if bytes > max_bytes then
      return query select ''bytes'', bytes::text;
      return;
    end if;
    all_ := all_ || row_;
  end loop;
  -- The table is locked against it by now.
  if @altered@ then
    return query select ''altered'', null::text;
    return;
  end if;
  return query select null::text, x from unnest(all_) x;
end', jsonb_build_object(
    'columns', quote_literal(coalesce(columns_.names, '{}')), 'types', quote_literal(coalesce(columns_.types, '{}')),
    'routes', quote_literal(coalesce(w.routes, '{}')), 'rel', w.rel::oid,
    'select', quote_literal((select format('select case when %s <= $1 and (%s) then %s end from ',
      coalesce((select string_agg(case when a.atttypid = 17 then format('coalesce(2 * octet_length(t.%I)::bigint, 0)', a.attname)
        else format('coalesce(octet_length(t.%I)::bigint, 0)', a.attname) end, ' + ') from pg_attribute a
        where a.attrelid = w.rel and a.attname = any(f.names) and a.atttypid in (17, 25, 1042, 1043)), '0'),
      (realtime.projection(w.rel, f.names, f.keys, 't', 2147483647)).fits,
      case when realtime.is_plain(w) then 'row_to_json(t.*)::text' else realtime.members(f.names, 't', true) end))),
    'order', quote_literal((select ' order by ' || string_agg(format('t.%I', k), ', ') || ' limit $2' from unnest(f.keys) k)),
    'altered', realtime.altered_sql(w, f.names, f.keys)));
  begin
    select pg_get_userbyid(p.proowner) into had from pg_proc p
      where p.pronamespace = 'realtime'::regnamespace and p.proname = format('w%s_state', id);
    if not pg_has_role(had, 'usage') then
      execute 'drop function ' || name_;
      had := null;
    end if;
    execute format('create or replace function realtime.w%s_state(route text[], filter text, max_rows int, max_bytes bigint)
      returns table (fault text, value text) language plpgsql stable security definer %s as %L', id, 'set search_path = pg_catalog, pg_temp set TimeZone = ''UTC'' set DateStyle = ''ISO, YMD'' set IntervalStyle = ''postgres'' set bytea_output = ''hex'' set extra_float_digits = ''1'' set lc_monetary = ''C'' set quote_all_identifiers = ''off'' set row_security = off set cursor_tuple_fraction = 1', body);
    execute format('revoke all on function %s from public', name_);
    if coalesce(had, current_user) <> owner_ then
      -- The new owner of a function needs this right for a moment.
      lends := not has_schema_privilege(owner_, 'realtime'::regnamespace, 'create');
      if lends then
        execute format('grant create on schema realtime to %I', owner_);
      end if;
      execute format('alter function %s owner to %I', name_, owner_);
      if lends then
        execute format('revoke create on schema realtime from %I', owner_);
      end if;
    end if;
    if outbox <> owner_ then
      execute format('grant execute on function %s to %I', name_, outbox);
    end if;
  exception when insufficient_privilege then
    begin
      execute 'drop function if exists ' || name_;
    exception when insufficient_privilege then
      -- It is not used while it has another owner than the table.
      null;
    end;
  end;
end $generate$;

-- The rows of a table, or of one of its routes, that a filter includes: JSON of the texts that each column may
-- have, with null for NULL. Rows without a fault, in the order of the primary key, or one fault: 'none' with the
-- reason, 'filter' with the column, 'rows' and 'bytes' with how many there are at least, or 'altered', which
-- realtime.look() mends.
create or replace function realtime.state(channel text, topic text, schema_ text, table_ text, filter text, max_rows int, max_bytes bigint)
returns table (fault text, value text) language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  w realtime.watched;
  route text[] := case when channel <> topic then string_to_array(substr(channel, length(topic) + 2), ':') end;
begin
  -- A table that was renamed is found by its channel alone.
  select x.* into w from realtime.watched x join pg_class c on c.oid = x.rel
    where x.channel = topic and x.delivery = 'durable' order by (c.relname = table_ and c.relnamespace::regnamespace::text = quote_ident(schema_)) desc limit 1;
  if w.id is null then
    return query select 'none', 'no table is watched for it with delivery durable';
  elsif not (w.delivery = 'durable' and coalesce(w.definition ->> 'insert', w.definition ->> 'update', w.definition ->> 'delete') is null) then
    return query select 'none', 'its table is watched with conditions';
  elsif (select p.oid from pg_proc p join pg_class o on o.oid = w.rel and o.relowner = p.proowner
    where p.pronamespace = 'realtime'::regnamespace and p.proname = format('w%s_state', w.id)) is null and w.signature is distinct from realtime.signature(w.rel) then
    return query select 'altered', null::text;
  elsif (select p.oid from pg_proc p join pg_class o on o.oid = w.rel and o.relowner = p.proowner
    where p.pronamespace = 'realtime'::regnamespace and p.proname = format('w%s_state', w.id)) is null then
    return query select 'none', 'its table was watched by a role that is no member of the owner of the table';
  elsif cardinality(route) <> coalesce(cardinality(w.routes), 0) then
    return query select 'filter', array_to_string(w.routes, ', ');
  else
    return query execute format('select s.fault, s.value from realtime.w%s_state($1, $2, $3, $4) s', w.id) using route, filter, max_rows, max_bytes;
  end if;
end $$;

-- NULL on a standby, whose snapshots omit the transactions in progress, and until realtime.open() has run
-- in this database after a crash, or after it was copied.
create or replace function realtime.identity() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$ begin
  -- A standby cannot read an unlogged table.
  if pg_is_in_recovery() then
    return null;
  end if;
  return (select s.token from realtime.settings s, realtime.epoch where s.identity = concat_ws(' ', (select system_identifier from pg_control_system()),
    (select oid from pg_database where datname = current_database()), 'realtime.messages'::regclass::oid));
end $$;

-- Every node calls this first in a new session, and then every few seconds; "library" is the version of
-- the objects for which the node was made.
create or replace function realtime.open(
  library int, out identity text, out version int, out wake text, out retention_ms float8, out restored boolean, out era text
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  here text := concat_ws(' ', (select system_identifier from pg_control_system()),
    (select oid from pg_database where datname = current_database()), 'realtime.messages'::regclass::oid);
  s realtime.settings;
  wrote text := (select o.xmin::text from realtime.origin o);
begin
  restored := false;
  if pg_is_in_recovery() then
    select o.version, o.wake into version, wake from realtime.settings o;
    return;
  end if;
  insert into realtime.epoch default values on conflict do nothing;
  select * into s from realtime.settings;
  if (s.identity, s.origin) is distinct from (here, wrote) then
    -- Read again under the lock, so that only one of several nodes writes it.
    select * into s from realtime.settings for update;
    if (s.identity, s.origin) is distinct from (here, wrote) then
      -- Without a token it is of version 2, or new.
      restored := s.identity is not null and (s.identity <> here or s.token is not null) and not (
        s.origin is not distinct from wrote and s.token is not null
        and split_part(s.identity, ' ', 1) <> split_part(here, ' ', 1) and split_part(s.identity, ' ', 3) = split_part(here, ' ', 3));
      if restored then
        -- The messages have transaction numbers of another database, and would become visible when the
        -- counter reaches them.
        delete from realtime.messages;
        delete from realtime.marks;
        update realtime.horizon h set snapshot = '1:1:';
      end if;
      if restored then
        update realtime.settings o set secret = default;
      end if;
      if restored or s.token is null then
        update realtime.settings o set token = translate(left(encode(sha256(decode(replace(gen_random_uuid()::text, '-', ''), 'hex')), 'base64'), 8), '+/', '-_');
      end if;
      update realtime.settings o set identity = here, origin = wrote;
    end if;
  end if;
  -- Restored rows have the number of their table in the other database. They may be restored after all the
  -- rest.
  if exists (select from realtime.watched w where w.relid <> w.rel) then
    perform 1 from realtime.settings for update;
    -- Where the table was watched again before this, one row for it is enough.
    delete from realtime.watched w where w.relid <> w.rel and exists (
      select from realtime.watched o where o.id <> w.id and o.relid = w.rel and o.channel = w.channel);
    perform realtime.relocate();
  end if;
  identity := realtime.identity();
  era := (select concat(e.id, ' ', e.tableoid, ' ', round(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint) from realtime.epoch e);
  select o.version, o.wake, extract(epoch from o.retention) * 1000 into version, wake, retention_ms from realtime.settings o;
end $$;

-- Nodes made for version 2 call this. Their positions would not survive a crash.
create or replace function realtime.open(
  out identity text, out version int, out wake text, out retention_ms float8, out restored boolean
) language plpgsql set search_path = pg_catalog, pg_temp as $$ begin
  raise exception 'the database has version 5 of the objects of effect-realtime, and this node was made for version 2'
    using errcode = 'RT006', hint = 'Deploy the version of effect-realtime that installed them.';
end $$;

-- What is wrong with a channel name, or NULL. As in the library: 1-63 bytes of A-Z a-z 0-9 _ . : -
create or replace function realtime.channel_fault(channel text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case
    when channel is null then 'is null'
    when channel = 'realtime' or starts_with(channel, 'realtime:') then 'is reserved'
    when channel collate "C" !~ '^[A-Za-z0-9_.:-]{1,63}$' then 'is not 1-63 bytes of A-Z a-z 0-9 _ . : -'
  end
$$;

-- Without settings of its own, so that PostgreSQL can inline it into the calling expression.
create or replace function realtime.may_carry(channel text, payload text) returns boolean
language sql stable as $$
  select channel collate "C" ~ '^[A-Za-z0-9_.:-]{1,63}$' and channel <> 'realtime' and not starts_with(channel, 'realtime:') and not starts_with(channel, 'table_updates_')
    and octet_length(payload) <= 8388608 and not starts_with(payload, ' {"operation":"') and payload::json is not null
$$;

create or replace function realtime.refuse(channel text, payload text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  fault text := realtime.channel_fault(refuse.channel);
begin
  if fault is not null then
    raise exception 'the channel name "%" %', left(refuse.channel, 80), fault using errcode = 'RT001';
  end if;
  -- Readers of such a channel rely on a real change of the table.
  if starts_with(refuse.channel, 'table_updates_')
    or exists (select from realtime.watched w where w.channel in (refuse.channel, split_part(refuse.channel, ':', 1)) and (w.routes is not null or w.channel = refuse.channel)) then
    raise exception 'channel "%" is written by the triggers of its table only', refuse.channel using errcode = 'RT002';
  end if;
  if octet_length(refuse.payload) > 8388608 then
    raise exception 'the payload for channel "%" is % bytes, at most 8388608 fit', refuse.channel, octet_length(refuse.payload)
      using errcode = 'RT003', hint = 'Publish an id and let the reader fetch the rest.';
  end if;
  if starts_with(refuse.payload, ' {"operation":"') then
    raise exception 'the payload for channel "%" begins as a gap does, with a blank', refuse.channel
      using errcode = '22023', hint = 'Publish it without the blank, or call tell_gap.';
  end if;
  -- An invalid payload fails the publisher, not the readers.
  perform refuse.payload::json;
end $$;

-- The same key is published once: with the same "sent", which is kept as its match, or with the same payload
-- where one of the two has none.
create or replace function realtime.publish_once(channel text, payload text, key text, sent text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  new_id bigint;
  same boolean;
begin
  perform realtime.refuse(publish_once.channel, publish_once.payload);
  loop
    insert into realtime.messages (channel, payload, key, match)
      values (publish_once.channel, publish_once.payload, publish_once.key, publish_once.sent)
      on conflict do nothing returning id into new_id;
    exit when found;
    select m.id, coalesce(m.match = publish_once.sent, m.payload = publish_once.payload) into new_id, same from realtime.messages m
      where m.channel = publish_once.channel and m.key = publish_once.key;
    -- Pruned since the conflict: the key is free now.
    continue when not found;
    if not same then
      raise exception 'the key "%" was used on channel "%" for another payload', publish_once.key, publish_once.channel using errcode = 'RT004';
    end if;
    exit;
  end loop;
  return new_id;
end $$;

-- One query stores a valid message; only an invalid one is examined.
create or replace function realtime.publish(channel text, payload text, key text default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  new_id bigint;
begin
  insert into realtime.messages (channel, payload) select publish.channel, publish.payload
    where publish.key is null and realtime.may_carry(publish.channel, publish.payload)
      and not exists (select from realtime.watched w where w.channel in (publish.channel, split_part(publish.channel, ':', 1)) and (w.routes is not null or w.channel = publish.channel)) returning id into new_id;
  if new_id is not null then
    return new_id;
  end if;
  return realtime.publish_once(publish.channel, publish.payload, publish.key, null);
end $$;

create or replace function realtime.publish(channel text, payload jsonb, key text default null) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select realtime.publish(channel, payload::text, key)
$$;

-- The last wake in milliseconds. A sequence, because reading it takes no lock and writing it is not part
-- of a transaction.
create sequence if not exists realtime.last_wake as bigint minvalue 0 start 0;

-- Fires at the end of the transaction, for each message: with an earlier decision, a transaction that
-- stays open after it would commit without a wake. PostgreSQL refuses PREPARE TRANSACTION after a NOTIFY,
-- so "set realtime.wake = off" silences a session. One expression, because it runs for each message: a
-- variable or a query would cost more than the message.
create or replace function realtime.wake_at_commit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin
  -- "between" also handles a clock that is set back.
  if (date_part('epoch', clock_timestamp()) * 1000)::bigint - coalesce(pg_sequence_last_value('realtime.last_wake'), 0) between 0 and 19
    or current_setting('realtime.wake', true) = 'off' then
    return null;
  end if;
  perform setval('realtime.last_wake', (date_part('epoch', clock_timestamp()) * 1000)::bigint), pg_notify('realtime', '');
  return null;
end $$;

create or replace function realtime.wake_always() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin
  if current_setting('realtime.wake', true) is distinct from 'off' then
    perform pg_notify('realtime', '');
  end if;
  return null;
end $$;

-- A change of the trigger waits until no transaction that wrote a message is open, and new ones wait
-- behind it. So only a real change waits, and with a timeout.
create or replace function realtime.set_wake(wake text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  wanted text := case set_wake.wake when 'hybrid' then 'wake_at_commit' when 'notify' then 'wake_always' end;
  found_ text;
begin
  select p.proname into found_ from pg_trigger t join pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = 'realtime.messages'::regclass and t.tgname = 'wake';
  if found_ is distinct from wanted then
    if found_ is not null then
      drop trigger wake on realtime.messages;
    end if;
    if wanted = 'wake_at_commit' then
      create constraint trigger wake after insert on realtime.messages
        deferrable initially deferred for each row
        execute function realtime.wake_at_commit();
    elsif wanted = 'wake_always' then
      create trigger wake after insert on realtime.messages
        for each statement execute function realtime.wake_always();
    end if;
  end if;
  -- Fires also for an applier of logical replication.
  if exists (select from pg_trigger t where t.tgrelid = 'realtime.messages'::regclass and t.tgname = 'wake' and t.tgenabled <> 'A') then
    alter table realtime.messages enable always trigger wake;
  end if;
  update realtime.settings s set wake = set_wake.wake where s.wake is distinct from set_wake.wake;
  -- Readers that are woken read the setting.
  perform pg_notify('realtime', 'settings');
end $$;

-- Those of versions 2 and 3 had fewer parameters, and a call would match both.
drop function if exists realtime.watch(regclass, text, text[], boolean, int, text, text, text, text, text);

drop function if exists realtime.watch(regclass, text, text[], boolean, int, text, text, text, text, text, boolean, boolean);

-- Whether equal values of a type have one text, and texts are equal only where the values are.
create or replace function realtime.has_one_text(typ oid, coll oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  with recursive base(oid) as (select has_one_text.typ union all select t.typbasetype from base b join pg_type t on t.oid = b.oid where t.typtype = 'd')
  select coalesce((select c.collisdeterministic from pg_collation c where c.oid = has_one_text.coll), true)
    and exists (select from base b join pg_type t on t.oid = b.oid where t.typtype = 'e' or t.oid = any('{16,20,21,23,25,1043,1082,2950}'::oid[]))
$$;

-- The first of these columns that a table cannot be routed or filtered by, or NULL.
create or replace function realtime.unfit_column(rel oid, names text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select n from unnest(names) n where not exists (select from pg_attribute a where a.attrelid = rel and a.attname = n and a.attnum > 0
    and not a.attisdropped and a.attgenerated <> 'v' and realtime.has_one_text(a.atttypid, a.attcollation)) limit 1
$$;

-- PostgreSQL fires triggers in the order of their names, and "!" is first: a trigger of the owner may
-- change the row again, and that event must follow the one of the first change. Triggers of earlier
-- versions have no "!".
create or replace function realtime.watch_triggers(id int, rel regclass) returns setof name
language sql stable set search_path = pg_catalog, pg_temp as $$
  select t.tgname from pg_trigger t where t.tgrelid = watch_triggers.rel and t.tgname ~ format('^!?realtime_%s_', watch_triggers.id)
$$;

-- What is wrong with the triggers of a watched table, its parts included: NULL, 'earlier' when all are
-- there and some are those of version 2, or 'broken'. A part that was attached later has no trigger for
-- its own TRUNCATE until its table is watched again.
create or replace function realtime.fault_of(id int) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select min(x.fault) from realtime.watched w
    cross join lateral (select w.rel::oid rel union select p.relid from pg_partition_tree(w.rel) p) tree
    cross join lateral unnest(
      case when w.level = 'row' and coalesce(w.definition ->> 'insert', w.definition ->> 'update', w.definition ->> 'delete') is null then '{row}'::text[]
        else '{insert,update,delete}' || case when w.level = 'row' then '{nested}'::text[] else '{}' end end
      || case when tree.rel = w.rel then '{truncate}'::text[] else '{}' end) operation
    left join lateral (select t.tgname, t.tgenabled enabled, p.proname from pg_trigger t join pg_proc p on p.oid = t.tgfoid
      where t.tgrelid = tree.rel and p.pronamespace = 'realtime'::regnamespace
        and t.tgname in (format('!realtime_%s_%s', w.id, operation), ltrim(format('!realtime_%s_%s', w.id, operation), '!')) order by t.tgname limit 1) t on true
    cross join lateral (select case
      when operation = 'nested' and t.proname is null then 'earlier'
      when t.proname is null or t.enabled <> 'A' and (t.enabled <> 'O' or (w.definition ->> 'always')::boolean) then 'broken'
      when t.tgname not like '!%' or t.proname in ('row_changed', 'rows_changed') then 'earlier'
    end) x(fault)
  where w.id = fault_of.id
$$;

-- Triggers of ours on a table that is not watched under their number: a dump of it brought them here.
create or replace function realtime.strays() returns table (rel regclass, name name)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select t.tgrelid::regclass, t.tgname from pg_trigger t join pg_proc p on p.oid = t.tgfoid
  where p.pronamespace = 'realtime'::regnamespace and t.tgparentid = 0 and t.tgname ~ '^!?realtime_[0-9]+_'
    and not exists (select from realtime.watched w where realtime.is_part(t.tgrelid, w.rel)
      and w.id::text = substring(t.tgname from '[0-9]+'))
$$;

create or replace function realtime.forget_strays(rel regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  stray record;
begin
  for stray in select s.rel, s.name from realtime.strays() s where realtime.is_part(s.rel, forget_strays.rel) loop
    execute format('drop trigger %I on %s', stray.name, stray.rel);
  end loop;
end $$;

-- "when_..." are SQL conditions over "new" and "old", such as 'new.published'.
create or replace function realtime.watch(
  rel regclass, channel text default null, columns text[] default null, old boolean default false,
  max_bytes int default null, level text default 'row', delivery text default 'live',
  when_insert text default null, when_update text default null, when_delete text default null,
  always boolean default false, shared boolean default false,
  key text[] default null, by text[] default null, filter text[] default null, boundary text[] default null
) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
<<this>>
declare
  relation record;
  topic text := channel;
  fault text;
  cap int := case delivery when 'live' then least(coalesce(max_bytes, 7967), 7967) else coalesce(max_bytes, 8388608) end;
  wanted jsonb;
  routes text[] := nullif(by, '{}');
  matches text[] := nullif(array(select c from unnest(by || filter || boundary) with ordinality u(c, i) group by c order by min(i)), '{}');
  keys text[];
  unfit text;
  found_ record;
  ident int;
  operation text;
  condition text;
  leaf regclass;
begin
  select c.relname, n.nspname, c.relkind, c.relpersistence into relation
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = rel;
  if relation.relkind is null or relation.relkind not in ('r', 'p') or relation.relpersistence = 't' or relation.nspname in ('realtime', 'pg_catalog') then
    raise exception '% is not a table that can be watched', rel using errcode = 'RT005';
  end if;
  if topic is null then
    topic := 'table_updates_' || relation.relname;
    if relation.nspname <> 'public' or realtime.channel_fault(topic) is not null then
      raise exception 'table % needs an explicit channel: it is not in the schema public, or its name does not fit into a channel name', rel using errcode = 'RT005';
    end if;
  end if;
  fault := realtime.channel_fault(topic);
  if fault is null and strpos(topic, ':') > 0 and not exists (select from realtime.watched w where w.channel = topic and w.rel = watch.rel) then
    fault := 'holds a colon, which only the channels of routes have';
  end if;
  -- Two tables may ask for one channel at the same time.
  perform pg_advisory_xact_lock(hashtextextended('effect-realtime watch', 0));
  if fault is not null then
    raise exception 'the channel name "%" %', left(topic, 80), fault using errcode = 'RT001';
  end if;
  if not exists (select from pg_index i where i.indrelid = rel and i.indisprimary) then
    raise exception 'table % has no primary key: its events could not say which row they are about', rel using errcode = 'RT005';
  end if;
  -- With one, two rows may have the same key within a statement, and the DELETE of one would remove the other.
  if exists (select from pg_index i where i.indrelid = rel and i.indisprimary and not i.indimmediate) then
    raise exception 'table % has a deferrable primary key: its events could not say which row they are about', rel using errcode = 'RT005';
  end if;
  if relation.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = rel) then
    raise exception 'table % has tables that inherit from it, whose rows would be missed: use partitions, or watch each of those tables', rel using errcode = 'RT005';
  end if;
  if exists (select from unnest(columns) c where not exists (
    select from pg_attribute a where a.attrelid = rel and a.attname = c and a.attnum > 0 and not a.attisdropped)) then
    raise exception 'table % does not have all of the columns %', rel, columns using errcode = 'RT005';
  end if;
  if exists (select from pg_attribute a where a.attrelid = rel and a.attname = any(columns) and a.attgenerated = 'v') then
    raise exception 'table % has one of the columns % generated and not stored: its triggers cannot read it', rel, columns using errcode = 'RT005';
  end if;
  keys := array(select a.attname::text from pg_index i cross join lateral unnest(i.indkey[0:i.indnkeyatts - 1]) k(attnum)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum where i.indrelid = rel and i.indisprimary order by 1);
  if key is not null and keys <> array(select c from unnest(key) c order by 1) then
    raise exception 'the primary key of table % is %, and not %', rel, keys, key using errcode = 'RT005';
  end if;
  unfit := realtime.unfit_column(rel, matches);
  if unfit is not null then
    raise exception 'table % has no column "%" by which rows can be routed or filtered: a stored one of text or varchar (with a deterministic collation), an integer, boolean, uuid, date or an enum', rel, unfit using errcode = 'RT005';
  end if;
  if matches is not null and delivery = 'live' then
    raise exception 'routes and filters need a durable channel' using errcode = 'RT005';
  end if;
  if cardinality(routes) > 2 or octet_length(topic) > 61 and routes is not null then
    raise exception 'a route has the values of at most two columns, after a name of at most 61 bytes' using errcode = 'RT005';
  end if;
  if level not in ('row', 'statement') or delivery not in ('durable', 'live')
    or coalesce(max_bytes, 0) not between 0 and (case delivery when 'live' then 7999 else 8388608 end) then
    raise exception 'level is row or statement, delivery durable or live, max_bytes 0 to 7999 (live) or 8388608 (durable)' using errcode = 'RT005';
  end if;
  if level = 'statement' then
    if coalesce(when_insert, when_update, when_delete) is not null then
      raise exception 'a condition needs a trigger at row level' using errcode = 'RT005';
    end if;
    -- Statement-level triggers fire for the named table only: a row written directly to a part is missed.
    if relation.relkind = 'p' or exists (select from pg_inherits i where i.inhrelid = rel) then
      raise exception 'table % is partitioned or inherited: watch it at row level', rel using errcode = 'RT005';
    end if;
  end if;
  -- Clients read the rows of a channel as those of one table.
  if not shared and exists (select from realtime.watched w where w.channel = topic and w.rel <> watch.rel and exists (select from pg_class c where c.oid = w.rel)) then
    raise exception 'channel "%" is that of table % already: name another channel, or say of both tables that they share it', topic,
      (select w.rel from realtime.watched w where w.channel = topic and w.rel <> watch.rel limit 1) using errcode = 'RT005';
  end if;
  if exists (select from realtime.watched w where w.channel = topic and w.rel <> watch.rel and (w.routes is not null or this.routes is not null) and exists (select from pg_class c where c.oid = w.rel))
    or routes is not null and exists (select from realtime.watched w where starts_with(w.channel, topic || ':')) then
    raise exception 'channel "%" and its routes are of one table, and another one is watched for such a channel: name another channel', topic using errcode = 'RT005';
  end if;
  perform realtime.forget_strays(rel);
  -- The earlier table of this channel is gone.
  for ident in delete from realtime.watched w where w.channel = topic and not exists (select from pg_class c where c.oid = w.rel) returning w.id loop
    perform realtime.forget(ident);
  end loop;
  wanted := jsonb_build_object('columns', columns, 'old', old, 'max_bytes', cap, 'level', level, 'delivery', delivery,
    'insert', when_insert, 'update', when_update, 'delete', when_delete, 'always', always)
    -- Absent where they are not given, as in what earlier versions wrote.
    || jsonb_strip_nulls(jsonb_build_object('key', key, 'by', by, 'filter', filter, 'boundary', boundary));
  select w.id, w.definition, w.signature into found_ from realtime.watched w where w.rel = watch.rel and w.channel = topic for update;
  -- Changing triggers locks the table: an install without changes must not.
  if found_.definition = wanted and realtime.fault_of(found_.id) is null then
    ident := found_.id;
    if found_.signature is distinct from realtime.signature(rel) then
      perform realtime.generate(ident);
    end if;
  else
    if found_.id is not null then
      perform realtime.unwatch(rel, topic);
    end if;
    insert into realtime.watched (rel, relid, channel, columns, names, old, max_bytes, level, delivery, definition, routes, matches)
      values (rel, rel, topic, case when columns is not null then array(
        select a.attnum from pg_attribute a where a.attrelid = rel and a.attname = any(columns) and not a.attisdropped) end,
        columns, old, cap, level, delivery, wanted, routes, matches)
      returning realtime.watched.id into ident;
    perform realtime.generate(ident);
    if level = 'row' and coalesce(when_insert, when_update, when_delete) is null then
      execute format('create trigger %I after insert or update or delete on %s for each row execute function realtime.%I()',
        '!realtime_' || ident || '_row', rel, 'w' || ident || '_row');
    else
      foreach operation in array array['insert', 'update', 'delete'] loop
        condition := case operation when 'insert' then when_insert when 'update' then when_update else when_delete end;
        execute format('create trigger %I after %s on %s %s %s execute function realtime.%I()',
          '!realtime_' || ident || '_' || operation, operation, rel,
          case when level = 'statement' then 'referencing' || case when operation <> 'insert' then ' old table as realtime_old' else '' end
            || case when operation <> 'delete' then ' new table as realtime_new' else '' end else '' end,
          case when level = 'statement' then 'for each statement'
            else 'for each row' || case when condition is not null then ' when (' || condition || ')' else '' end end,
          'w' || ident || case when level = 'statement' then '_' || operation else '_row' end);
      end loop;
    end if;
    -- A change that a condition excludes may still be of a row with an event.
    if coalesce(when_insert, when_update, when_delete) is not null then
      execute format('create trigger %I after insert or update or delete on %s for each row when (pg_trigger_depth() > 0) execute function realtime.row_nested(%L)',
        '!realtime_' || ident || '_nested', rel, ident);
    end if;
  end if;
  -- TRUNCATE of a partition fires its own trigger only. A partition that is attached later has none until
  -- its table is watched again.
  for leaf in select rel union select p.relid from pg_partition_tree(rel) p
    except select t.tgrelid from pg_trigger t where t.tgname = '!realtime_' || ident || '_truncate' loop
    execute format('create trigger %I after truncate on %s for each statement execute function realtime.table_truncated(%L, %L, %L, %L)',
      '!realtime_' || ident || '_truncate', leaf, ident, rel::oid, topic, delivery);
  end loop;
  if always then
    for leaf, operation in select t.tgrelid, t.tgname from pg_trigger t
      where t.tgrelid in (select rel union select p.relid from pg_partition_tree(rel) p) and t.tgparentid = 0
        and t.tgname ~ format('^!realtime_%s_', ident) and t.tgenabled <> 'A' loop
      execute format('alter table %s enable always trigger %I', leaf, operation);
    end loop;
  end if;
end $$;

create or replace function realtime.unwatch(rel regclass, channel text default null) returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  w record;
  t record;
  removed int := 0;
begin
  for w in select * from realtime.watched x where x.relid = unwatch.rel and x.channel = coalesce(unwatch.channel, x.channel) loop
    for t in select n.rel, s.tgname from (select unwatch.rel union select p.relid from pg_partition_tree(unwatch.rel) p) n(rel)
      cross join lateral realtime.watch_triggers(w.id, n.rel) s(tgname)
      join pg_trigger g on g.tgrelid = n.rel and g.tgname = s.tgname and g.tgparentid = 0 loop
      execute format('drop trigger if exists %I on %s', t.tgname, t.rel);
    end loop;
    delete from realtime.watched x where x.id = w.id;
    perform realtime.forget(w.id);
    removed := removed + 1;
  end loop;
  return removed;
end $$;

-- Drops the functions of a table that is not watched any more.
create or replace function realtime.forget(id int) returns void
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$ begin
  execute format('drop function if exists realtime.w%1$s_row(), realtime.w%1$s_insert(), realtime.w%1$s_update(), realtime.w%1$s_delete(), realtime.w%1$s_state(text[], text, int, bigint)', id);
  execute format('drop sequence if exists realtime.w%s_unrouted', id);
end $$;

-- Sends a gap for changes that bypass the triggers, such as attaching, detaching or dropping a partition.
-- Its subscribers read again.
create or replace function realtime.tell_gap(channel text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin
  if not exists (select from realtime.watched w where w.channel = tell_gap.channel and w.delivery = 'live') then
    insert into realtime.messages (channel, payload) values (tell_gap.channel, ' {"operation":"GAP"}');
  end if;
  if not exists (select from realtime.watched w where w.channel = tell_gap.channel and w.delivery = 'durable') then
    perform pg_notify(tell_gap.channel, ' {"operation":"GAP"}' || translate(nextval('realtime.notified')::bit(32)::text, '01', ' ' || chr(9)));
  end if;
end $$;

-- Why a watched table may lack events, one line for each reason.
create or replace function realtime.troubles() returns table (rel text, channel text, trouble text, lossy boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select w.name, w.channel, x.trouble, x.lossy from realtime.watched w
    left join pg_class c on c.oid = w.rel
    cross join lateral (select y.trouble, not y.trouble ~ ' (costs more|as a state)$' lossy from (select case
      when c.oid is null then 'the table is gone'
      when to_regclass(nullif(w.name, '')) <> w.rel then 'another table has its name now: this channel has the changes of ' || w.rel::text
      when not exists (select from pg_index i where i.indrelid = w.rel and i.indisprimary) then 'the table has no primary key, so its events cannot say which row they are about'
      when not exists (select from pg_index i where i.indrelid = w.rel and i.indisprimary and i.indimmediate) then 'its primary key is deferrable now, so its events cannot say which row they are about'
      when realtime.unfit_column(w.rel, w.matches) is not null then format('rows cannot be routed or filtered by its column "%s" any more', realtime.unfit_column(w.rel, w.matches))
      when realtime.fault_of(w.id) = 'broken' then 'some of its triggers are gone or disabled'
      when exists (select from pg_inherits i where i.inhparent = w.rel) and c.relkind = 'r' then 'tables inherit from it, whose rows are missed'
      when w.level = 'statement' and exists (select from pg_inherits i where i.inhrelid = w.rel) then 'it is a part of another table, whose statements pass by it'
      when w.delivery = 'durable' and coalesce(w.definition ->> 'insert', w.definition ->> 'update', w.definition ->> 'delete') is null and c.relrowsecurity and c.relforcerowsecurity
        and not (select r.rolsuper or r.rolbypassrls from pg_roles r where r.oid = c.relowner)
        then 'row-level security is forced on its owner, so its rows cannot be read as a state'
      when realtime.fault_of(w.id) = 'earlier' then 'its triggers are those of an earlier version, which costs more'
      when w.signature is distinct from realtime.signature(w.rel) then 'its triggers were not written anew since it was altered, which costs more'
      when w.delivery = 'durable' and coalesce(w.definition ->> 'insert', w.definition ->> 'update', w.definition ->> 'delete') is null and (select p.oid from pg_proc p join pg_class o on o.oid = w.rel and o.relowner = p.proowner
    where p.pronamespace = 'realtime'::regnamespace and p.proname = format('w%s_state', w.id)) is null
        then format('it was watched by a role that is no member of its owner %s, so its rows cannot be read as a state', c.relowner::regrole)
    end) y(trouble)) x
    where x.trouble is not null
  union all
  select s.rel::text, '', 'a dump brought it the trigger ' || s.name || ' of another table', false from realtime.strays() s
$$;

-- How many changes were of rows on no route, since the table is watched. Those of transactions that were
-- rolled back count as well.
create or replace function realtime.unrouted() returns table (rel text, channel text, columns text, rows bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select w.name, w.channel, array_to_string(w.routes, ', '), n.rows from realtime.watched w
    cross join lateral (select pg_sequence_last_value(to_regclass(format('realtime.w%s_unrouted', w.id))) "rows") n
    where w.routes is not null and n.rows > 0
$$;

-- Looks at all watched tables: rewrites the functions of altered ones, and sends a gap where events were
-- lost since the last look. Returns the troubles that are new.
create or replace function realtime.look() returns table (rel text, channel text, trouble text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  w record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect-realtime look', 0)) then
    return;
  end if;
  for w in select x.id from realtime.watched x join pg_class c on c.oid = x.rel
    where x.signature is distinct from realtime.signature(x.rel) and exists (select from pg_index i where i.indrelid = x.rel and i.indisprimary and i.indimmediate)
      -- Another table has its name now: that is a trouble, and not an alteration.
      and coalesce(to_regclass(nullif(x.name, '')) = x.rel, true) loop
    begin
      perform realtime.generate(w.id);
    exception when others then
      -- Reported as a trouble below.
      null;
    end;
  end loop;
  for w in select x.id, x.name, x.channel, t.trouble, t.lossy from realtime.watched x
    left join realtime.troubles() t on t.channel = x.channel and t.rel = x.name where t.trouble is distinct from x.trouble loop
    update realtime.watched x set trouble = w.trouble where x.id = w.id;
    if w.trouble is not null then
      if w.lossy then
        perform realtime.tell_gap(w.channel);
      end if;
      rel := w.name; channel := w.channel; trouble := w.trouble;
      return next;
    end if;
  end loop;
end $$;

-- After a restore: tables have other numbers, and a table that is gone is not watched any more.
create or replace function realtime.relocate() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  w record;
begin
  for w in delete from realtime.watched x where not exists (select from pg_class c where c.oid = x.rel) returning x.id loop
    perform realtime.forget(w.id);
  end loop;
  update realtime.watched x set relid = x.rel, columns = case when x.columns is not null then array(
      select a.attnum from pg_attribute a where a.attrelid = x.rel and a.attname = any(x.names) and not a.attisdropped
    ) end
    where x.relid <> x.rel;
  for w in select x.id from realtime.watched x where x.signature is distinct from realtime.signature(x.rel)
    and exists (select from pg_index i where i.indrelid = x.rel and i.indisprimary and i.indimmediate) loop
    begin
      perform realtime.generate(w.id);
    exception when others then
      -- The next look reports it as a trouble, and tries again.
      null;
    end;
  end loop;
end $$;

create or replace function realtime.list_of(list jsonb) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select array_agg(c order by i) from jsonb_array_elements_text(list) with ordinality t(c, i)
$$;

-- Gives every watched table the triggers of this version. A table that is locked, or that another role
-- owns, keeps the earlier ones, which write the same events at a higher cost.
create or replace function realtime.watch_again() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  w record;
  d jsonb;
begin
  for w in select x.* from realtime.watched x join pg_class c on c.oid = x.rel where realtime.fault_of(x.id) is not null loop
    d := w.definition;
    begin
      perform realtime.watch(w.rel, w.channel, case when w.columns is not null then array(
          select a.attname::text from pg_attribute a where a.attrelid = w.rel and a.attnum = any(w.columns) and not a.attisdropped order by a.attnum) end,
        w.old, w.max_bytes, w.level, w.delivery, d ->> 'insert', d ->> 'update', d ->> 'delete', coalesce((d ->> 'always')::boolean, false), true,
        realtime.list_of(d -> 'key'), realtime.list_of(d -> 'by'), realtime.list_of(d -> 'filter'), realtime.list_of(d -> 'boundary'));
    exception when others then
      raise warning 'table % keeps the triggers of an earlier version: %', w.rel, sqlerrm;
    end;
  end loop;
  -- The text of realtime.generate may have changed.
  update realtime.watched x set signature = null;
  perform realtime.look();
end $$;

create or replace function realtime.contains(a pg_snapshot, b pg_snapshot) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select pg_snapshot_xmax(b) <= pg_snapshot_xmax(a)
    and not exists (select from pg_snapshot_xip(a) x where pg_visible_in_snapshot(x, b))
$$;

-- The transaction after which a snapshot in normal form ends; 0 when it sees nothing. PostgreSQL skips
-- the numbers whose lower half is 0, and such a snapshot ends one higher.
create or replace function realtime.top(s pg_snapshot) returns xid8
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select (case when x > 1 and x % 4294967296 = 1 then x - 2 else x - 1 end)::text::xid8 from (select pg_snapshot_xmax(s)::text::numeric x) n
$$;

-- Nodes made for version 2 call this. NULL means to them that another node does the upkeep.
create or replace function realtime.upkeep(snapshot pg_snapshot, next xid8, drawn bigint, every_ms int default 10000) returns boolean
language sql immutable as 'select null::boolean';

-- One turn of upkeep, by one node at a time: NULL when another one has it, else whether there may be
-- something to prune. The arguments are what a reader took last, with the snapshot in normal form and the
-- era. For another era it writes nothing: numbers may have been given out again since.
create or replace function realtime.upkeep(
  snapshot pg_snapshot, next xid8, drawn bigint, every_ms int, era text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  ours boolean := upkeep.era = (select concat(e.id, ' ', e.tableoid, ' ', round(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint) from realtime.epoch e);
  now_ numeric := pg_snapshot_xmax(pg_current_snapshot())::text::numeric + age(pg_snapshot_xmax(pg_current_snapshot())::xid);
  s record;
  old_ pg_snapshot;
  new_ record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect-realtime upkeep', 0)) then
    return null;
  end if;
  if ours then
    -- Every node relies on a mark: a wrong pair hides messages from readers, and a wrong snapshot prunes
    -- messages that no node has seen.
    if upkeep.drawn > (select last_value from realtime.messages_id_seq)
      or upkeep.next < pg_snapshot_xmax(upkeep.snapshot) or upkeep.next::text::numeric > now_
      or exists (select from realtime.messages m where m.txid >= upkeep.next and m.id <= upkeep.drawn)
      or realtime.top(upkeep.snapshot) <> '0' and not exists (select from realtime.messages m where m.txid = realtime.top(upkeep.snapshot)) then
      raise exception 'this is no position that the database has reached: snapshot %, next %, drawn %', upkeep.snapshot, upkeep.next, upkeep.drawn
        using errcode = 'RT007';
    end if;
    -- A node that was stopped for a while must not add an old position after newer ones.
    insert into realtime.marks (snapshot, next, drawn)
      select upkeep.snapshot, upkeep.next, upkeep.drawn
      from (select 1) one left join (select m.at, m.snapshot from realtime.marks m order by m.at desc limit 1) last on true
      where last.at is null or last.at < clock_timestamp() - make_interval(secs => every_ms / 1000.0)
        and realtime.contains(upkeep.snapshot, last.snapshot);
  end if;
  select * into s from realtime.settings;
  select h.snapshot into old_ from realtime.horizon h;
  select m.at, m.snapshot into new_ from realtime.marks m
    where m.at < clock_timestamp() - s.retention or ours and m.drawn <= upkeep.drawn - s.max_messages
    order by m.at desc limit 1;
  -- The horizon never moves back: messages that an earlier one saw may be pruned.
  if new_.at is not null and realtime.contains(new_.snapshot, old_) then
    update realtime.horizon h set snapshot = new_.snapshot where h.snapshot::text <> new_.snapshot::text;
    delete from realtime.marks m where m.at < new_.at;
  end if;
  return true;
end $$;

-- Deletes one small batch; returns its size, and 0 when nothing is left or another node prunes.
create or replace function realtime.prune(batch int default 1000) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  h pg_snapshot;
  kept bigint;
  n int;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect-realtime upkeep', 0)) then
    return 0;
  end if;
  select snapshot into h from realtime.horizon;
  select m.id into kept from realtime.messages m where m.txid = realtime.top(h) order by m.id desc limit 1;
  delete from realtime.messages where ctid = any(array(
    select ctid from realtime.messages
    where txid < pg_snapshot_xmax(h) and pg_visible_in_snapshot(txid, h) and id is distinct from kept
    order by txid, id limit least(greatest(batch, 1), 10000)));
  get diagnostics n = row_count;
  return n;
end $$;

comment on table realtime.settings is 'effect-realtime';

alter table realtime.settings add column if not exists functions text[], add column if not exists given boolean not null default false;

-- Version 2 did not check for a newer version: this stops its SQL, and lets the rows of a dump pass.
create or replace function realtime.refuse_older() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$ begin
  raise exception 'a newer version of effect-realtime is installed: nothing was changed'
    using errcode = 'RT009', hint = 'Install with the newest library of those that use this database.';
end $$;

do $$ begin
  if not exists (select from pg_trigger where tgrelid = 'realtime.settings'::regclass and tgname = 'refuse_older') then
    create trigger refuse_older before insert on realtime.settings
      for each row when (new.version = 0) execute function realtime.refuse_older();
  end if;
end $$;

revoke all on schema realtime from public;

revoke all on all tables in schema realtime from public;

revoke all on all sequences in schema realtime from public;

-- The owners of watched tables own some, whose rights this role may be unable to change.
do $$
declare
  f record;
begin
  for f in select p.oid::regprocedure signature from pg_proc p where p.pronamespace = 'realtime'::regnamespace and pg_has_role(p.proowner, 'usage') loop
    execute format('revoke all on function %s from public', f.signature);
  end loop;
end $$;

update realtime.settings s set
  given = s.given or current_setting('realtime.given') = 'true',
  functions = array(select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'realtime'::regnamespace
    and p.proname in ('refuse_truncate', 'is_part', 'change', 'emit', 'emit_row', 'route_sql', 'texts_sql', 'match_of', 'emit_unknown', 'projection', 'outdated', 'facts', 'same_key', 'row_slow', 'rows_slow', 'table_truncated', 'row_nested', 'row_changed', 'rows_changed', 'fill', 'members', 'still', 'signature', 'is_plain', 'altered_sql', 'generate', 'place_sql', 'images', 'generate_state', 'w', 'state', 'identity', 'open', 'channel_fault', 'may_carry', 'refuse', 'publish_once', 'publish', 'wake_at_commit', 'wake_always', 'set_wake', 'has_one_text', 'unfit_column', 'watch_triggers', 'fault_of', 'strays', 'forget_strays', 'watch', 'unwatch', 'forget', 'tell_gap', 'troubles', 'unrouted', 'look', 'relocate', 'list_of', 'watch_again', 'contains', 'top', 'upkeep', 'prune', 'refuse_older')
    and (p.oid::regprocedure::text = any(s.functions) or p.oid::text <> all(string_to_array(current_setting('realtime.was'), ',')) or s.functions is null));

update realtime.settings set version = 5, digest = '_R1w-2Eqis16_pCZ4hcEXRIC99elEPNkZXamiMJgnrI';

select * from realtime.open(5);

select realtime.watch_again();

do $$
declare
  node record;
begin
  for node in select distinct a.grantee::regrole role from pg_proc p cross join lateral aclexplode(p.proacl) a
    where p.oid = 'realtime.prune(int)'::regprocedure and a.privilege_type = 'EXECUTE' and a.grantee not in (0, p.proowner) loop
    execute format('grant execute on function realtime.open(int), realtime.open(), realtime.identity(), realtime.upkeep(pg_snapshot, xid8, bigint, int, text), realtime.upkeep(pg_snapshot, xid8, bigint, int), realtime.prune(int), realtime.publish_once(text, text, text, text), realtime.state(text, text, text, text, text, int, bigint), realtime.look(), realtime.troubles(), realtime.unrouted() to %s', node.role);
  end loop;
end $$;

select realtime.set_wake(wake) from realtime.settings;

commit;

