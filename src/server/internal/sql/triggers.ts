/**
 * Watching tables, as SQL text: what the triggers do.
 *
 * A change is built as `json` and never as `jsonb`: a `json` column may hold what jsonb refuses, and
 * the user's statement must not fail because somebody watches. For the same reason sizes are looked
 * at before anything is built from a large row, and nothing catches exceptions: a block that does
 * costs a subtransaction per row.
 */
import { maxPayloadBytes } from "./schema.ts"

/** The largest payload of a NOTIFY in bytes of UTF-8. */
const maxNotifyBytes = 7999

/** A row up to this size in bytes as stored cannot grow beyond what PostgreSQL can build. */
const smallRow = 65_536

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

  `-- What a trigger must know: the names that the columns have now.
create or replace function realtime.watch_of(
  in id int, out rel oid, out channel text, out names text[], out keys text[], out old boolean, out max_bytes int, out delivery text
) language sql stable set search_path = pg_catalog, pg_temp as $$
  select w.rel, w.channel,
    case when w.columns is null then null when w.relid <> w.rel then w.names else array(
      select a.attname::text from pg_attribute a where a.attrelid = w.relid and a.attnum = any(w.columns) and not a.attisdropped) end,
    array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
      where i.indrelid = w.rel and i.indisprimary),
    w.old, w.max_bytes, w.delivery
  from realtime.watched w where w.id = watch_of.id
$$`,

  `-- The text that travels. Without "data" the row is too large: then, and when the text itself is, it is
-- the key and the mark.
create or replace function realtime.change(operation text, data json, old json, key json, max_bytes int) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  head text := '{"operation":"' || change.operation || '","data":';
  body text;
begin
  if change.data is not null then
    body := head || change.data::text || coalesce(',"old":' || change.old::text, '') || ',"key":' || change.key::text || '}';
    if octet_length(body) <= change.max_bytes then
      return body;
    end if;
  end if;
  return head || change.key::text || ',"key":' || change.key::text || ',"truncated":true}';
end $$`,

  `create or replace function realtime.emit(channel text, delivery text, payload text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$ begin
  if emit.delivery = 'durable' then
    insert into realtime.messages (channel, payload) values (emit.channel, emit.payload);
  else
    -- A key may be too large for NOTIFY, too.
    perform pg_notify(emit.channel, case when octet_length(emit.payload) <= ${maxNotifyBytes} then emit.payload
      else (emit.payload::json ->> 'operation')::json::text end);
  end if;
end $$`
]
