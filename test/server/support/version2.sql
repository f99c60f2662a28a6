-- The objects of effect-realtime, version 2. May run again, also to upgrade.

begin;

set local lock_timeout = '5000ms';

select pg_advisory_xact_lock(hashtextextended('effect-realtime install', 0));

do $$ begin
  if current_setting('server_version_num')::int < 130000 then
    raise exception 'effect-realtime needs PostgreSQL 13 or newer, this is %', current_setting('server_version');
  end if;
  -- Elsewhere a row may hold bytes that have no place in UTF-8, and one such row would stop every reader.
  if getdatabaseencoding() <> 'UTF8' then
    raise exception 'effect-realtime needs a database in UTF8, this one is in %', getdatabaseencoding();
  end if;
end $$;

create schema if not exists realtime;

-- One row. "version" is that of the objects; "identity" that of the database that wrote the messages.
create table if not exists realtime.settings (
  one boolean primary key default true check (one),
  version int not null default 0,
  digest text not null default '',
  wake text not null default 'hybrid' check (wake in ('hybrid', 'notify', 'poll')),
  retention interval not null default '24 hours' check (retention > '0'),
  max_messages bigint check (max_messages > 0),
  identity text
);

insert into realtime.settings default values on conflict do nothing;

-- Defaults are evaluated in the order of the columns: "txid" stands before "id", so that a transaction
-- has its number before it draws an id. Readers rely on it to know from which id on to look.
create table if not exists realtime.messages (
  txid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity primary key,
  channel text collate "C" not null check (octet_length(channel) between 1 and 63),
  payload text not null check (octet_length(payload) <= 8388608),
  created_at timestamptz not null default clock_timestamp(),
  key text collate "C" check (octet_length(key) between 1 and 500)
) with (
  -- Rows are never updated, and leave in the order they came.
  fillfactor = 100,
  -- With the default factors a fifth of a day's table would be dead before anybody looks.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0
);

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
-- give a transaction number out again, and every cursor from before must be refused.
create unlogged table if not exists realtime.epoch (
  one boolean primary key default true check (one),
  id uuid not null default gen_random_uuid()
);

-- Everything that this snapshot does not see is still there.
create table if not exists realtime.horizon (
  one boolean primary key default true check (one),
  snapshot pg_snapshot not null
);

insert into realtime.horizon (snapshot) values ('1:1:') on conflict do nothing;

-- Where the readers stood, now and then. "next" and "drawn": a transaction numbered "next" or above
-- has drawn no id up to "drawn".
create table if not exists realtime.marks (
  at timestamptz primary key default clock_timestamp(),
  snapshot pg_snapshot not null,
  next xid8 not null,
  drawn bigint not null
);

create table if not exists realtime.consumers (
  name text collate "C" primary key check (octet_length(name) between 1 and 200),
  channel text collate "C" not null,
  cursor text collate "C" not null,
  updated_at timestamptz not null default clock_timestamp()
);

-- One row per watched table and channel. A table and its columns are kept by number, which survives a
-- rename, and by name, which survives a dump: "relid" differs from "rel" in a restored database.
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
  definition jsonb not null,
  unique (relid, channel)
);

create index if not exists watched_channel on realtime.watched (channel);

create or replace function realtime.relocate() returns void
language sql set search_path = pg_catalog, pg_temp as $$
  delete from realtime.watched w where not exists (select from pg_class c where c.oid = w.rel);
  update realtime.watched w set relid = w.rel, columns = case when w.columns is not null then array(
      select a.attnum from pg_attribute a where a.attrelid = w.rel and a.attname = any(w.names) and not a.attisdropped
    ) end
    where w.relid <> w.rel;
$$;

-- This and the next run inside the triggers only, whose search path is fixed.
-- The text that travels. Without "data" the row is too large: then, and when the text itself is, it is
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
  if octet_length(body) <= greatest(change.max_bytes, 7999) then
    return body;
  end if;
  return head || 'null,"truncated":true}';
end $$;

create or replace function realtime.emit(channel text, delivery text, payload text) returns void
language plpgsql as $$ begin
  if emit.delivery = 'durable' then
    insert into realtime.messages (channel, payload) values (emit.channel, emit.payload);
  else
    perform pg_notify(emit.channel, emit.payload);
  end if;
end $$;

-- For rows that may be large, and for many rows at a time: SQL over the row "alias" that takes the
-- wanted columns, the key, and tells beforehand whether the row is worth building. Text and bytes know
-- their size without being read; anything else may grow 255-fold when it is stored compressed. Rows
-- around it are named "x.*" and not "x", which could be one of the columns.
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

-- One event per changed row. An UPDATE that changes no watched column tells nothing; one that changes
-- the key is the end of one row and the beginning of another.
create or replace function realtime.row_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  w record;
  p record;
  take text;
  large boolean;
  o text; o_key text;
  n text; n_key text;
begin
  select t.rel::oid rel, t.channel, t.old, t.max_bytes, t.delivery,
    case when t.columns is not null and t.relid <> t.rel then t.names
      when t.columns is not null or exists (select from pg_attribute a where a.attrelid = t.rel and a.attgenerated = 'v') then array(
        select a.attname::text from pg_attribute a where a.attrelid = t.rel and a.attnum > 0 and not a.attisdropped
          and a.attgenerated <> 'v' and (t.columns is null or a.attnum = any(t.columns))) end names,
    array(select a.attname::text from pg_index i
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])
      where i.indrelid = t.rel and i.indisprimary) keys
    into w from realtime.watched t where t.id = tg_argv[0]::int;
  if w.rel is null then
    return null;
  end if;
  large := (tg_op <> 'DELETE' and pg_column_size(new) > 65536) or (tg_op <> 'INSERT' and pg_column_size(old) > 65536);
  if not large then
    if tg_op <> 'INSERT' then o := row_to_json(old); end if;
    if tg_op <> 'DELETE' then n := row_to_json(new); end if;
  end if;
  -- A column of type json may hold an escape that no function of PostgreSQL can read, such as \u0000.
  if large or strpos(o, '\u') > 0 or strpos(n, '\u') > 0 then
    p := realtime.projection(w.rel, w.names, w.keys, '($1)', w.max_bytes);
    take := format('select case when %s then (select row_to_json(x.*)::text from (select %s) x) end, (select row_to_json(k.*)::text from (select %s) k)', p.fits, p.fields, p.key);
    if tg_op <> 'INSERT' then execute take into o, o_key using old; end if;
    if tg_op <> 'DELETE' then execute take into n, n_key using new; end if;
  else
    if tg_op <> 'INSERT' then
      o_key := (select '{' || coalesce(string_agg(to_json(j.key)::text || ':' || j.value::text, ','), '') || '}'
        from json_each(o::json) j where j.key = any(w.keys));
      if w.names is not null then o := (select '{' || coalesce(string_agg(to_json(j.key)::text || ':' || j.value::text, ','), '') || '}'
        from json_each(o::json) j where j.key = any(w.names)); end if;
    end if;
    if tg_op <> 'DELETE' then
      n_key := (select '{' || coalesce(string_agg(to_json(j.key)::text || ':' || j.value::text, ','), '') || '}'
        from json_each(n::json) j where j.key = any(w.keys));
      if w.names is not null then n := (select '{' || coalesce(string_agg(to_json(j.key)::text || ':' || j.value::text, ','), '') || '}'
        from json_each(n::json) j where j.key = any(w.names)); end if;
    end if;
  end if;
  if tg_op <> 'UPDATE' then
    perform realtime.emit(w.channel, w.delivery, realtime.change(tg_op, coalesce(n, o), null, coalesce(n_key, o_key), w.max_bytes));
  elsif o_key <> n_key then
    perform realtime.emit(w.channel, w.delivery, realtime.change('DELETE', o, null, o_key, w.max_bytes));
    perform realtime.emit(w.channel, w.delivery, realtime.change('INSERT', n, null, n_key, w.max_bytes));
  elsif o is null or n is null or o <> n then
    perform realtime.emit(w.channel, w.delivery, realtime.change('UPDATE', n, case when w.old then o end, n_key, w.max_bytes));
  end if;
  return null;
end $$;

-- The same for whole statements. Transition tables do not say which old row became which new one; they
-- hold both in the same order.
create or replace function realtime.rows_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  w record;
  p record;
  side text;
  changes text;
begin
  select t.rel::oid rel, t.channel, t.old, t.max_bytes, t.delivery,
    case when t.columns is not null and t.relid <> t.rel then t.names
      when t.columns is not null or exists (select from pg_attribute a where a.attrelid = t.rel and a.attgenerated = 'v') then array(
        select a.attname::text from pg_attribute a where a.attrelid = t.rel and a.attnum > 0 and not a.attisdropped
          and a.attgenerated <> 'v' and (t.columns is null or a.attnum = any(t.columns))) end names,
    array(select a.attname::text from pg_index i
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])
      where i.indrelid = t.rel and i.indisprimary) keys
    into w from realtime.watched t where t.id = tg_argv[0]::int;
  if w.rel is null then
    return null;
  end if;
  p := realtime.projection(w.rel, w.names, w.keys, 'r', w.max_bytes);
  side := format('select row_number() over () i, case when %s then (select row_to_json(x.*)::text from (select %s) x) end "data",
    (select row_to_json(k.*)::text from (select %s) k) "key" from ', p.fits, p.fields, p.key);
  if tg_op = 'UPDATE' then
    changes := format($q$select n.i, c.* from (%s) o join (%s) n using (i) cross join lateral (
        select 1 j, 'UPDATE' operation, n."data", case when $3 then o."data" end "old", n."key" where n."key" = o."key"
        union all select 1, 'DELETE', o."data", null, o."key" where n."key" <> o."key"
        union all select 2, 'INSERT', n."data", null, n."key" where n."key" <> o."key") c
      where n."data" is null or o."data" is null or n."data" <> o."data" or n."key" <> o."key"$q$,
      side || 'realtime_old r', side || 'realtime_new r');
  else
    changes := format($q$select s.i, 1 j, '%s' operation, s."data", null::text "old", s."key" from (%s) s where $3 is not null$q$,
      tg_op, side || case tg_op when 'INSERT' then 'realtime_new r' else 'realtime_old r' end);
  end if;
  if w.delivery = 'durable' then
    execute format('insert into realtime.messages (channel, payload)
      select $1, realtime.change(c.operation, c."data", c."old", c."key", $2) from (%s) c order by c.i, c.j', changes)
      using w.channel, w.max_bytes, w.old;
  else
    execute format('select pg_notify($1, c.payload) from (
      select realtime.change(c.operation, c."data", c."old", c."key", $2) payload from (%s) c order by c.i, c.j) c', changes)
      using w.channel, w.max_bytes, w.old;
  end if;
  return null;
end $$;

-- No event can say that all rows are gone. This one matches no channel's schema, so that its subscribers
-- are told a gap and read the table again.
create or replace function realtime.table_truncated() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  w record;
begin
  select t.rel::oid rel, t.channel, t.old, t.max_bytes, t.delivery,
    case when t.columns is not null and t.relid <> t.rel then t.names
      when t.columns is not null or exists (select from pg_attribute a where a.attrelid = t.rel and a.attgenerated = 'v') then array(
        select a.attname::text from pg_attribute a where a.attrelid = t.rel and a.attnum > 0 and not a.attisdropped
          and a.attgenerated <> 'v' and (t.columns is null or a.attnum = any(t.columns))) end names,
    array(select a.attname::text from pg_index i
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])
      where i.indrelid = t.rel and i.indisprimary) keys
    into w from realtime.watched t where t.id = tg_argv[0]::int;
  if w.rel is not null then
    perform realtime.emit(w.channel, w.delivery, '{"operation":"TRUNCATE"}');
  end if;
  return null;
end $$;

-- NULL on a standby, whose snapshots omit the transactions in progress, and before the first
-- realtime.open() after a crash. The timeline comes from the WAL: the control file lags behind a promotion.
create or replace function realtime.identity() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$ begin
  -- An unlogged table cannot even be looked at on a standby.
  if pg_is_in_recovery() then
    return null;
  end if;
  return (select translate(left(encode(sha256(convert_to(concat_ws(' ',
    e.id, (select system_identifier from pg_control_system()), left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (select oid from pg_database where datname = current_database()), 'realtime.messages'::regclass::oid
  ), 'UTF8')), 'base64'), 8), '+/', '-_') from realtime.epoch e);
end $$;

create or replace function realtime.open(
  out identity text, out version int, out wake text, out retention_ms float8, out restored boolean
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  here text := concat_ws(' ', (select system_identifier from pg_control_system()),
    (select oid from pg_database where datname = current_database()), 'realtime.messages'::regclass::oid);
begin
  restored := false;
  if pg_is_in_recovery() then
    select s.version, s.wake into version, wake from realtime.settings s;
    return;
  end if;
  insert into realtime.epoch default values on conflict do nothing;
  if found then
    -- A new epoch: no cursor and no mark from before holds, so nobody can need what is seen now.
    delete from realtime.marks;
    update realtime.horizon h set snapshot = pg_current_snapshot();
  end if;
  if (select s.identity is distinct from here from realtime.settings s) then
    -- The database is a copy: its messages carry transaction numbers of another one, and would appear
    -- here when the counter reaches them. Under the lock, so that one of several nodes does it.
    perform 1 from realtime.settings for update;
    if (select s.identity is distinct from here from realtime.settings s) then
      restored := (select s.identity is not null from realtime.settings s);
      if restored then
        delete from realtime.messages;
        delete from realtime.marks;
        update realtime.horizon h set snapshot = pg_current_snapshot();
        perform realtime.relocate();
      end if;
      update realtime.settings s set identity = here;
    end if;
  end if;
  identity := realtime.identity();
  select s.version, s.wake, extract(epoch from s.retention) * 1000 into version, wake, retention_ms from realtime.settings s;
end $$;

-- What is wrong with a channel name, or NULL. As in the library: 1-63 bytes of A-Z a-z 0-9 _ . : -
create or replace function realtime.channel_fault(channel text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case
    when channel is null then 'is null'
    when channel = 'realtime' then 'is reserved'
    when channel collate "C" !~ '^[A-Za-z0-9_.:-]{1,63}$' then 'is not 1-63 bytes of A-Z a-z 0-9 _ . : -'
  end
$$;

create or replace function realtime.publish(channel text, payload text, key text default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  fault text := realtime.channel_fault(publish.channel);
  new_id bigint;
  stored text;
begin
  if fault is not null then
    raise exception 'the channel name "%" %', left(publish.channel, 80), fault using errcode = 'RT001';
  end if;
  -- Who reads such a channel trusts that a table has really changed.
  if starts_with(publish.channel, 'table_updates_')
    or exists (select from realtime.watched w where w.channel = publish.channel) then
    raise exception 'channel "%" is written by the triggers of its table only', publish.channel using errcode = 'RT002';
  end if;
  if octet_length(publish.payload) > 8388608 then
    raise exception 'the payload for channel "%" is % bytes, at most 8388608 fit', publish.channel, octet_length(publish.payload)
      using errcode = 'RT003', hint = 'Publish an id and let the reader fetch the rest.';
  end if;
  -- Told to who publishes, not to who reads.
  perform publish.payload::json;
  if publish.key is null then
    insert into realtime.messages (channel, payload) values (publish.channel, publish.payload) returning id into new_id;
    return new_id;
  end if;
  loop
    insert into realtime.messages (channel, payload, key) values (publish.channel, publish.payload, publish.key)
      on conflict do nothing returning id into new_id;
    exit when found;
    select m.id, m.payload into new_id, stored from realtime.messages m
      where m.channel = publish.channel and m.key = publish.key;
    -- Pruned since it was in the way: the key is free now.
    continue when not found;
    if stored <> publish.payload then
      raise exception 'the key "%" was used on channel "%" for another payload', publish.key, publish.channel using errcode = 'RT004';
    end if;
    exit;
  end loop;
  return new_id;
end $$;

create or replace function realtime.publish(channel text, payload jsonb, key text default null) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select realtime.publish(channel, payload::text, key)
$$;

-- The last wake in milliseconds. A sequence, because reading it takes no lock and writing it is not
-- part of a transaction.
create sequence if not exists realtime.last_wake as bigint minvalue 0 start 0;

-- Fires at the end of the transaction: decided any earlier, a transaction that stays open after its
-- decision would commit without a wake. PostgreSQL refuses PREPARE TRANSACTION after a NOTIFY, so
-- "set realtime.wake = off" silences a session. Expressions only, for it runs in every transaction:
-- a query would cost more than the message.
create or replace function realtime.wake_at_commit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  now_ms bigint := date_part('epoch', clock_timestamp()) * 1000;
begin
  -- "not between" also survives a clock that is set back.
  if now_ms - coalesce(pg_sequence_last_value('realtime.last_wake'), 0) not between 0 and 19
    and current_setting('realtime.wake', true) is distinct from 'off' then
    perform setval('realtime.last_wake', now_ms);
    perform pg_notify('realtime', '');
  end if;
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
-- behind it: hence only when something changes, and not for ever.
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
        deferrable initially deferred for each row execute function realtime.wake_at_commit();
    elsif wanted = 'wake_always' then
      create trigger wake after insert on realtime.messages
        for each statement execute function realtime.wake_always();
    end if;
  end if;
  update realtime.settings s set wake = set_wake.wake where s.wake is distinct from set_wake.wake;
  -- Readers look at the setting when they are woken.
  perform pg_notify('realtime', 'settings');
end $$;

-- PostgreSQL fires triggers in the order of their names. "!" comes first: a trigger of the owner may
-- change the row again, and that change must be told after the one that it follows from. Triggers of
-- earlier versions have no "!".
create or replace function realtime.watch_triggers(id int, rel regclass) returns setof name
language sql stable set search_path = pg_catalog, pg_temp as $$
  select t.tgname from pg_trigger t where t.tgrelid = watch_triggers.rel and t.tgname ~ format('^!?realtime_%s_', watch_triggers.id)
$$;

-- "when_..." are SQL conditions over "new" and "old", such as 'new.published'.
create or replace function realtime.watch(
  rel regclass, channel text default null, columns text[] default null, old boolean default false,
  max_bytes int default null, level text default 'row', delivery text default 'live',
  when_insert text default null, when_update text default null, when_delete text default null
) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
<<this>>
declare
  relation record;
  topic text := channel;
  fault text;
  cap int := coalesce(max_bytes, case delivery when 'live' then 7999 else 8388608 end);
  wanted jsonb;
  found_ record;
  ident int;
  operation text;
  condition text;
  leaf regclass;
begin
  select c.relname, n.nspname, c.relkind, c.relpersistence into relation
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = rel;
  if relation.relkind is null or relation.relkind not in ('r', 'p') or relation.nspname in ('realtime', 'pg_catalog') then
    raise exception '% is not a table that can be watched', rel using errcode = 'RT005';
  end if;
  if topic is null then
    topic := 'table_updates_' || relation.relname;
    if relation.nspname <> 'public' or realtime.channel_fault(topic) is not null then
      raise exception 'table % needs an explicit channel: it is not in the schema public, or its name does not fit into a channel name', rel using errcode = 'RT005';
    end if;
  end if;
  fault := realtime.channel_fault(topic);
  if fault is not null then
    raise exception 'the channel name "%" %', left(topic, 80), fault using errcode = 'RT001';
  end if;
  if not exists (select from pg_index i where i.indrelid = rel and i.indisprimary) then
    raise exception 'table % has no primary key: its events could not say which row they are about', rel using errcode = 'RT005';
  end if;
  -- Within a statement two rows may then have the same key, and a row that ends would end the other one.
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
  if level not in ('row', 'statement') or delivery not in ('durable', 'live')
    or cap not between 0 and (case delivery when 'live' then 7999 else 8388608 end) then
    raise exception 'level is row or statement, delivery durable or live, max_bytes 0 to 7999 (live) or 8388608 (durable)' using errcode = 'RT005';
  end if;
  if level = 'statement' then
    if coalesce(when_insert, when_update, when_delete) is not null then
      raise exception 'a condition needs a trigger at row level' using errcode = 'RT005';
    end if;
    -- Statement-level triggers fire for the named table only: a row that goes straight into a part is missed.
    if relation.relkind = 'p' or exists (select from pg_inherits i where i.inhrelid = rel) then
      raise exception 'table % is partitioned or inherited: watch it at row level', rel using errcode = 'RT005';
    end if;
  end if;
  wanted := jsonb_build_object('columns', columns, 'old', old, 'max_bytes', cap, 'level', level, 'delivery', delivery,
    'insert', when_insert, 'update', when_update, 'delete', when_delete);
  select w.id, w.definition into found_ from realtime.watched w where w.relid = watch.rel and w.channel = topic for update;
  -- Trigger changes lock the table: an install that changes nothing must not.
  if found_.definition = wanted and exists (select from realtime.watch_triggers(found_.id, rel) t(name) where t.name like '!%') then
    ident := found_.id;
  else
    if found_.id is not null then
      perform realtime.unwatch(rel, topic);
    end if;
    insert into realtime.watched (rel, relid, channel, columns, names, old, max_bytes, level, delivery, definition)
      values (rel, rel, topic, case when columns is not null then array(
        select a.attnum from pg_attribute a where a.attrelid = rel and a.attname = any(columns) and not a.attisdropped) end,
        columns, old, cap, level, delivery, wanted)
      returning realtime.watched.id into ident;
    if level = 'row' and coalesce(when_insert, when_update, when_delete) is null then
      execute format('create trigger %I after insert or update or delete on %s for each row execute function realtime.row_changed(%L)',
        '!realtime_' || ident || '_row', rel, ident);
    else
      foreach operation in array array['insert', 'update', 'delete'] loop
        condition := case operation when 'insert' then when_insert when 'update' then when_update else when_delete end;
        execute format('create trigger %I after %s on %s %s %s execute function realtime.%I(%L)',
          '!realtime_' || ident || '_' || operation, operation, rel,
          case when level = 'statement' then 'referencing' || case when operation <> 'insert' then ' old table as realtime_old' else '' end
            || case when operation <> 'delete' then ' new table as realtime_new' else '' end else '' end,
          case when level = 'statement' then 'for each statement'
            else 'for each row' || case when condition is not null then ' when (' || condition || ')' else '' end end,
          case when level = 'statement' then 'rows_changed' else 'row_changed' end, ident);
      end loop;
    end if;
  end if;
  -- TRUNCATE of a partition fires its own trigger only. A partition that is attached later has none until
  -- its table is watched again.
  for leaf in select rel union select p.relid from pg_partition_tree(rel) p
    except select t.tgrelid from pg_trigger t where t.tgname = '!realtime_' || ident || '_truncate' loop
    execute format('create trigger %I after truncate on %s for each statement execute function realtime.table_truncated(%L)',
      '!realtime_' || ident || '_truncate', leaf, ident);
  end loop;
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
    removed := removed + 1;
  end loop;
  return removed;
end $$;

create or replace function realtime.contains(a pg_snapshot, b pg_snapshot) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select pg_snapshot_xmax(b) <= pg_snapshot_xmax(a)
    and not exists (select from pg_snapshot_xip(a) x where pg_visible_in_snapshot(x, b))
$$;

-- One turn of upkeep, by one node at a time: NULL when another one is at it, else whether there may be
-- something to prune. The arguments are what a reader has just taken; a position that the database has
-- not reached would forget what nobody has seen.
create or replace function realtime.upkeep(snapshot pg_snapshot, next xid8, drawn bigint, every_ms int default 10000) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  s record;
  old_ pg_snapshot;
  new_ record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect-realtime upkeep', 0)) then
    return null;
  end if;
  -- A node that was stopped for a while must not put an old position behind newer ones.
  insert into realtime.marks (snapshot, next, drawn)
    select upkeep.snapshot, upkeep.next, upkeep.drawn
    from (select 1) one left join (select m.at, m.snapshot from realtime.marks m order by m.at desc limit 1) last on true
    where pg_snapshot_xmax(upkeep.snapshot) <= pg_snapshot_xmax(pg_current_snapshot())
      and (last.at is null or last.at < clock_timestamp() - make_interval(secs => every_ms / 1000.0)
      and realtime.contains(upkeep.snapshot, last.snapshot));
  select * into s from realtime.settings;
  select h.snapshot into old_ from realtime.horizon h;
  select m.at, m.snapshot into new_ from realtime.marks m
    where m.at < clock_timestamp() - s.retention or m.drawn <= upkeep.drawn - s.max_messages
    order by m.at desc limit 1;
  -- The horizon never goes back: what an earlier one saw may be gone.
  if new_.at is not null and realtime.contains(new_.snapshot, old_) and new_.snapshot::text <> old_::text then
    update realtime.horizon h set snapshot = new_.snapshot;
    delete from realtime.marks m where m.at < new_.at;
  end if;
  return true;
end $$;

-- Deletes one small batch; returns its size, and 0 when there is nothing left to do or another node is at it.
create or replace function realtime.prune(batch int default 1000) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  h pg_snapshot;
  n int;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect-realtime upkeep', 0)) then
    return 0;
  end if;
  select snapshot into h from realtime.horizon;
  delete from realtime.messages where ctid = any(array(
    select ctid from realtime.messages
    where txid < pg_snapshot_xmax(h) and pg_visible_in_snapshot(txid, h)
    order by txid, id limit least(greatest(batch, 1), 10000)));
  get diagnostics n = row_count;
  return n;
end $$;

revoke all on schema realtime from public;

revoke all on all tables in schema realtime from public;

revoke all on all sequences in schema realtime from public;

revoke all on all functions in schema realtime from public;

update realtime.settings set version = 2, digest = 'DbB4ZaXy3HR42XNnPy2caE7CQfjl7FcF5Fien8FOB3w';

select identity from realtime.open();

select realtime.set_wake(wake) from realtime.settings;

commit;

