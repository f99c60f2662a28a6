/**
 * Watching tables, as SQL text: `realtime.watch` and `realtime.unwatch`, which set the triggers up.
 *
 * Both run with the rights of their caller, who must own the table and the schema `realtime`.
 */
import { maxPayloadBytes } from "./schema.ts"

export const watch: ReadonlyArray<string> = [
  `-- PostgreSQL fires triggers in the order of their names. "!" comes first: a trigger of the owner may
-- change the row again, and that change must be told after the one that it follows from. Triggers of
-- earlier versions have no "!".
create or replace function realtime.watch_triggers(id int, rel regclass) returns setof name
language sql stable set search_path = pg_catalog, pg_temp as $$
  select t.tgname from pg_trigger t where t.tgrelid = watch_triggers.rel and t.tgname ~ format('^!?realtime_%s_', watch_triggers.id)
$$`,

  `-- "when_..." are SQL conditions over "new" and "old", such as 'new.published'.
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
  cap int := coalesce(max_bytes, case delivery when 'live' then 7999 else ${maxPayloadBytes} end);
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
    or cap not between 0 and (case delivery when 'live' then 7999 else ${maxPayloadBytes} end) then
    raise exception 'level is row or statement, delivery durable or live, max_bytes 0 to 7999 (live) or ${maxPayloadBytes} (durable)' using errcode = 'RT005';
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
end $$`,

  `create or replace function realtime.unwatch(rel regclass, channel text default null) returns int
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
end $$`
]
