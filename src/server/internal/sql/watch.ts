/**
 * Watching tables, as SQL text: `realtime.watch` and `realtime.unwatch`, which set the triggers up.
 *
 * Both run with the rights of the calling role, which must own the table and the schema `realtime`.
 */
import { gapTexts } from "../gapText.ts"
import { literal } from "./literal.ts"
import { maxPayloadBytes } from "./schema.ts"
import { onlyState, ownerTrouble, policyTrouble } from "./state.ts"
import { mark, maxLiveBytes, path } from "./triggers.ts"

export const watch: ReadonlyArray<string> = [
  `-- Those of versions 2 and 3 had fewer parameters, and a call would match both.
drop function if exists realtime.watch(regclass, text, text[], boolean, int, text, text, text, text, text)`,
  `drop function if exists realtime.watch(regclass, text, text[], boolean, int, text, text, text, text, text, boolean, boolean)`,

  `-- Whether equal values of a type have one text, and texts are equal only where the values are.
create or replace function realtime.has_one_text(typ oid, coll oid) returns boolean
language sql stable ${path} as $$
  with recursive base(oid) as (select has_one_text.typ union all select t.typbasetype from base b join pg_type t on t.oid = b.oid where t.typtype = 'd')
  select coalesce((select c.collisdeterministic from pg_collation c where c.oid = has_one_text.coll), true)
    and exists (select from base b join pg_type t on t.oid = b.oid where t.typtype = 'e' or t.oid = any('{16,20,21,23,25,1043,1082,2950}'::oid[]))
$$`,

  `-- The first of these columns that a table cannot be routed or filtered by, or NULL.
create or replace function realtime.unfit_column(rel oid, names text[]) returns text
language sql stable ${path} as $$
  select n from unnest(names) n where not exists (select from pg_attribute a where a.attrelid = rel and a.attname = n and a.attnum > 0
    and not a.attisdropped and a.attgenerated <> 'v' and realtime.has_one_text(a.atttypid, a.attcollation)) limit 1
$$`,

  `-- PostgreSQL fires triggers in the order of their names, and "!" is first: a trigger of the owner may
-- change the row again, and that event must follow the one of the first change. Triggers of earlier
-- versions have no "!".
create or replace function realtime.watch_triggers(id int, rel regclass) returns setof name
language sql stable ${path} as $$
  select t.tgname from pg_trigger t where t.tgrelid = watch_triggers.rel and t.tgname ~ format('^!?realtime_%s_', watch_triggers.id)
$$`,

  `-- What is wrong with the triggers of a watched table, its parts included: NULL, 'earlier' when all are
-- there and some are those of version 2, or 'broken'. A part that was attached later has no trigger for
-- its own TRUNCATE until its table is watched again.
create or replace function realtime.fault_of(id int) returns text
language sql stable ${path} as $$
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
$$`,

  `-- Triggers of ours on a table that is not watched under their number: a dump of it brought them here.
create or replace function realtime.strays() returns table (rel regclass, name name)
language sql stable ${path} as $$
  select t.tgrelid::regclass, t.tgname from pg_trigger t join pg_proc p on p.oid = t.tgfoid
  where p.pronamespace = 'realtime'::regnamespace and t.tgparentid = 0 and t.tgname ~ '^!?realtime_[0-9]+_'
    and not exists (select from realtime.watched w where realtime.is_part(t.tgrelid, w.rel)
      and w.id::text = substring(t.tgname from '[0-9]+'))
$$`,
  `create or replace function realtime.forget_strays(rel regclass) returns void
language plpgsql ${path} as $$
declare
  stray record;
begin
  for stray in select s.rel, s.name from realtime.strays() s where realtime.is_part(s.rel, forget_strays.rel) loop
    execute format('drop trigger %I on %s', stray.name, stray.rel);
  end loop;
end $$`,

  `-- "when_..." are SQL conditions over "new" and "old", such as 'new.published'.
create or replace function realtime.watch(
  rel regclass, channel text default null, columns text[] default null, old boolean default false,
  max_bytes int default null, level text default 'row', delivery text default 'live',
  when_insert text default null, when_update text default null, when_delete text default null,
  always boolean default false, shared boolean default false,
  key text[] default null, by text[] default null, filter text[] default null, boundary text[] default null
) returns void language plpgsql ${path} as $$
<<this>>
declare
  relation record;
  topic text := channel;
  fault text;
  cap int := case delivery when 'live' then least(coalesce(max_bytes, ${maxLiveBytes}), ${maxLiveBytes}) else coalesce(max_bytes, ${maxPayloadBytes}) end;
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
    or coalesce(max_bytes, 0) not between 0 and (case delivery when 'live' then 7999 else ${maxPayloadBytes} end) then
    raise exception 'level is row or statement, delivery durable or live, max_bytes 0 to 7999 (live) or ${maxPayloadBytes} (durable)' using errcode = 'RT005';
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
end $$`,

  `create or replace function realtime.unwatch(rel regclass, channel text default null) returns int
language plpgsql ${path} as $$
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
end $$`,

  `-- Drops the functions of a table that is not watched any more.
create or replace function realtime.forget(id int) returns void
language plpgsql ${path} set client_min_messages = warning as $$ begin
  execute format('drop function if exists realtime.w%1$s_row(), realtime.w%1$s_insert(), realtime.w%1$s_update(), realtime.w%1$s_delete(), realtime.w%1$s_state(text[], text, int, bigint)', id);
  execute format('drop sequence if exists realtime.w%s_unrouted', id);
end $$`,

  `-- Sends a gap for changes that bypass the triggers, such as attaching, detaching or dropping a partition.
-- Its subscribers read again.
create or replace function realtime.tell_gap(channel text) returns void
language plpgsql security definer ${path} as $$ begin
  if not exists (select from realtime.watched w where w.channel = tell_gap.channel and w.delivery = 'live') then
    insert into realtime.messages (channel, payload) values (tell_gap.channel, ${literal(gapTexts.source)});
  end if;
  if not exists (select from realtime.watched w where w.channel = tell_gap.channel and w.delivery = 'durable') then
    perform pg_notify(tell_gap.channel, ${literal(gapTexts.source)} || ${mark});
  end if;
end $$`,

  `-- Why a watched table may lack events, one line for each reason.
create or replace function realtime.troubles() returns table (rel text, channel text, trouble text, lossy boolean)
language sql stable security definer ${path} as $$
  select w.name, w.channel, x.trouble, x.lossy from realtime.watched w
    left join pg_class c on c.oid = w.rel
    cross join lateral (select y.trouble, not y.trouble ~ ' (costs more|${onlyState})$' lossy from (select case
      when c.oid is null then 'the table is gone'
      when to_regclass(nullif(w.name, '')) <> w.rel then 'another table has its name now: this channel has the changes of ' || w.rel::text
      when not exists (select from pg_index i where i.indrelid = w.rel and i.indisprimary) then 'the table has no primary key, so its events cannot say which row they are about'
      when not exists (select from pg_index i where i.indrelid = w.rel and i.indisprimary and i.indimmediate) then 'its primary key is deferrable now, so its events cannot say which row they are about'
      when realtime.unfit_column(w.rel, w.matches) is not null then format('rows cannot be routed or filtered by its column "%s" any more', realtime.unfit_column(w.rel, w.matches))
      when realtime.fault_of(w.id) = 'broken' then 'some of its triggers are gone or disabled'
      when exists (select from pg_inherits i where i.inhparent = w.rel) and c.relkind = 'r' then 'tables inherit from it, whose rows are missed'
      when w.level = 'statement' and exists (select from pg_inherits i where i.inhrelid = w.rel) then 'it is a part of another table, whose statements pass by it'
      ${policyTrouble}
      when realtime.fault_of(w.id) = 'earlier' then 'its triggers are those of an earlier version, which costs more'
      when w.signature is distinct from realtime.signature(w.rel) then 'its triggers were not written anew since it was altered, which costs more'
      ${ownerTrouble}
    end) y(trouble)) x
    where x.trouble is not null
  union all
  select s.rel::text, '', 'a dump brought it the trigger ' || s.name || ' of another table', false from realtime.strays() s
$$`,

  `-- How many changes were of rows on no route, since the table is watched. Those of transactions that were
-- rolled back count as well.
create or replace function realtime.unrouted() returns table (rel text, channel text, columns text, rows bigint)
language sql stable security definer ${path} as $$
  select w.name, w.channel, array_to_string(w.routes, ', '), n.rows from realtime.watched w
    cross join lateral (select pg_sequence_last_value(to_regclass(format('realtime.w%s_unrouted', w.id))) "rows") n
    where w.routes is not null and n.rows > 0
$$`,

  `-- Looks at all watched tables: rewrites the functions of altered ones, and sends a gap where events were
-- lost since the last look. Returns the troubles that are new.
create or replace function realtime.look() returns table (rel text, channel text, trouble text)
language plpgsql security definer ${path} as $$
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
end $$`,

  `-- After a restore: tables have other numbers, and a table that is gone is not watched any more.
create or replace function realtime.relocate() returns void
language plpgsql ${path} as $$
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
end $$`,

  `create or replace function realtime.list_of(list jsonb) returns text[]
language sql immutable ${path} as $$
  select array_agg(c order by i) from jsonb_array_elements_text(list) with ordinality t(c, i)
$$`,

  `-- Gives every watched table the triggers of this version. A table that is locked, or that another role
-- owns, keeps the earlier ones, which write the same events at a higher cost.
create or replace function realtime.watch_again() returns void
language plpgsql ${path} as $$
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
end $$`
]
