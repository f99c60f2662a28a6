/**
 * Watching tables, as SQL text: what the triggers do.
 *
 * A change is built as `json` and never as `jsonb`: a `json` column may hold what jsonb refuses, and
 * the user's statement must not fail because somebody watches. For the same reason sizes are looked
 * at before anything is built from a large row, and nothing catches exceptions: a block that does
 * costs a subtransaction per row.
 *
 * The trigger functions run with the rights of the schema's owner, so that who changes a table needs no
 * right on the outbox. Whoever owns a watched table could attach code to its types: watch the tables
 * of owners that you trust.
 */
import { maxPayloadBytes } from "./schema.ts"

/** The largest payload of a NOTIFY in bytes of UTF-8. */
const maxNotifyBytes = 7999

/** A row up to this size in bytes as stored cannot grow beyond what PostgreSQL can build. */
const smallRow = 65_536

/**
 * What a trigger must know: the names that the columns have now, of those that travel (null for all) and
 * of the key. A trigger sees nothing in a column that is generated and not stored ('v'), and what an
 * index includes is no part of the key. Text and no function: PostgreSQL plans this once per session
 * where it stands in PL/pgSQL, and at every call of a function in SQL.
 */
const lookup = `select t.rel::oid rel, t.channel, t.old, t.max_bytes, t.delivery,
    case when t.columns is not null and t.relid <> t.rel then t.names
      when t.columns is not null or exists (select from pg_attribute a where a.attrelid = t.rel and a.attgenerated = 'v') then array(
        select a.attname::text from pg_attribute a where a.attrelid = t.rel and a.attnum > 0 and not a.attisdropped
          and a.attgenerated <> 'v' and (t.columns is null or a.attnum = any(t.columns))) end names,
    array(select a.attname::text from pg_index i
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])
      where i.indrelid = t.rel and i.indisprimary) keys
    into w from realtime.watched t where t.id = tg_argv[0]::int;`

/** Some members of a JSON object, as text. */
const pick = (object: string, names: string): string =>
  `(select '{' || coalesce(string_agg(to_json(j.key)::text || ':' || j.value::text, ','), '') || '}'
        from json_each(${object}::json) j where j.key = any(${names}))`

export const triggers: ReadonlyArray<string> = [
  `-- One row per watched table and channel. A table and its columns are kept by number, which survives a
-- rename, and by name, which survives a dump: "relid" differs from "rel" in a restored database.
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
  definition jsonb not null,
  unique (relid, channel)
)`,
  `create index if not exists watched_channel on realtime.watched (channel)`,

  `create or replace function realtime.relocate() returns void
language sql set search_path = pg_catalog, pg_temp as $$
  delete from realtime.watched w where not exists (select from pg_class c where c.oid = w.rel);
  update realtime.watched w set relid = w.rel, columns = case when w.columns is not null then array(
      select a.attnum from pg_attribute a where a.attrelid = w.rel and a.attname = any(w.names) and not a.attisdropped
    ) end
    where w.relid <> w.rel;
$$`,

  `-- This and the next run inside the triggers only, whose search path is fixed.
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
  if octet_length(body) <= greatest(change.max_bytes, ${maxNotifyBytes}) then
    return body;
  end if;
  return head || 'null,"truncated":true}';
end $$`,

  `create or replace function realtime.emit(channel text, delivery text, payload text) returns void
language plpgsql as $$ begin
  if emit.delivery = 'durable' then
    insert into realtime.messages (channel, payload) values (emit.channel, emit.payload);
  else
    perform pg_notify(emit.channel, emit.payload);
  end if;
end $$`,

  `-- For rows that may be large, and for many rows at a time: SQL over the row "alias" that takes the
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
$$`,

  `-- One event per changed row. An UPDATE that changes no watched column tells nothing; one that changes
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
  ${lookup}
  if w.rel is null then
    return null;
  end if;
  large := (tg_op <> 'DELETE' and pg_column_size(new) > ${smallRow}) or (tg_op <> 'INSERT' and pg_column_size(old) > ${smallRow});
  if not large then
    if tg_op <> 'INSERT' then o := row_to_json(old); end if;
    if tg_op <> 'DELETE' then n := row_to_json(new); end if;
  end if;
  -- A column of type json may hold an escape that no function of PostgreSQL can read, such as \\u0000.
  if large or strpos(o, '\\u') > 0 or strpos(n, '\\u') > 0 then
    p := realtime.projection(w.rel, w.names, w.keys, '($1)', w.max_bytes);
    take := format('select case when %s then (select row_to_json(x.*)::text from (select %s) x) end, (select row_to_json(k.*)::text from (select %s) k)', p.fits, p.fields, p.key);
    if tg_op <> 'INSERT' then execute take into o, o_key using old; end if;
    if tg_op <> 'DELETE' then execute take into n, n_key using new; end if;
  else
    if tg_op <> 'INSERT' then
      o_key := ${pick("o", "w.keys")};
      if w.names is not null then o := ${pick("o", "w.names")}; end if;
    end if;
    if tg_op <> 'DELETE' then
      n_key := ${pick("n", "w.keys")};
      if w.names is not null then n := ${pick("n", "w.names")}; end if;
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
end $$`,

  `-- The same for whole statements. Transition tables do not say which old row became which new one; they
-- hold both in the same order.
create or replace function realtime.rows_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  w record;
  p record;
  side text;
  changes text;
begin
  ${lookup}
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
end $$`,

  `-- No event can say that all rows are gone. This one matches no channel's schema, so that its subscribers
-- are told a gap and read the table again.
create or replace function realtime.table_truncated() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  w record;
begin
  ${lookup}
  if w.rel is not null then
    perform realtime.emit(w.channel, w.delivery, '{"operation":"TRUNCATE"}');
  end if;
  return null;
end $$`
]
