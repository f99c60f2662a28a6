/**
 * Publishing and waking, as SQL text.
 *
 * A message is a row, written in the caller's own transaction. NOTIFY only wakes readers: it has no data
 * and no authority, because every role that can log in can NOTIFY.
 */

import { maxPayloadBytes } from "./schema.ts"
import { nextWakes, silentMillis, spareMillis, wakeMillis } from "./wake.ts"

/** Whether the table `w` writes a channel, as its own or as a route. */
const written = (channel: string): string =>
  `w.channel in (${channel}, split_part(${channel}, ':', 1)) and (w.routes is not null or w.channel = ${channel})`

/** The trace context of the session, behind a blank; NULL without one. */
const trace = "' ' || left(nullif(current_setting('realtime.trace', true), ''), 55)"

/** What a message was made from, as its \`match\` says; NULL where it does not. */
export const sentOf = (match: string): string => `nullif(split_part(${match}, ' ', 1), '')`

export const publish: ReadonlyArray<string> = [
  `-- What is wrong with a channel name, or NULL. As in the library: 1-63 bytes of A-Z a-z 0-9 _ . : -
create or replace function realtime.channel_fault(channel text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case
    when channel is null then 'is null'
    when channel = 'realtime' or starts_with(channel, 'realtime:') then 'is reserved'
    when channel collate "C" !~ '^[A-Za-z0-9_.:-]{1,63}$' then 'is not 1-63 bytes of A-Z a-z 0-9 _ . : -'
  end
$$`,

  `-- Without settings of its own, so that PostgreSQL can inline it into the calling expression.
create or replace function realtime.may_carry(channel text, payload text) returns boolean
language sql stable as $$
  select channel collate "C" ~ '^[A-Za-z0-9_.:-]{1,63}$' and channel <> 'realtime' and not starts_with(channel, 'realtime:') and not starts_with(channel, 'table_updates_')
    and octet_length(payload) <= ${maxPayloadBytes} and not starts_with(payload, ' {"operation":"') and payload::json is not null
$$`,

  `create or replace function realtime.refuse(channel text, payload text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  fault text := realtime.channel_fault(refuse.channel);
begin
  if fault is not null then
    raise exception 'the channel name "%" %', left(refuse.channel, 80), fault using errcode = 'RT001';
  end if;
  -- Readers of such a channel rely on a real change of the table.
  if starts_with(refuse.channel, 'table_updates_')
    or exists (select from realtime.watched w where ${written("refuse.channel")}) then
    raise exception 'channel "%" is written by the triggers of its table only', refuse.channel using errcode = 'RT002';
  end if;
  if octet_length(refuse.payload) > ${maxPayloadBytes} then
    raise exception 'the payload for channel "%" is % bytes, at most ${maxPayloadBytes} fit', refuse.channel, octet_length(refuse.payload)
      using errcode = 'RT003', hint = 'Publish an id and let the reader fetch the rest.';
  end if;
  if starts_with(refuse.payload, ' {"operation":"') then
    raise exception 'the payload for channel "%" begins as a gap does, with a blank', refuse.channel
      using errcode = '22023', hint = 'Publish it without the blank, or call tell_gap.';
  end if;
  -- An invalid payload fails the publisher, not the readers.
  perform refuse.payload::json;
end $$`,

  `-- The same key is published once: with the same "sent", which is kept in its match, or with the same payload
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
      values (publish_once.channel, publish_once.payload, publish_once.key, nullif(concat(publish_once.sent, ${trace}), ''))
      on conflict do nothing returning id into new_id;
    exit when found;
    select m.id, coalesce(${sentOf("m.match")} = publish_once.sent, m.payload = publish_once.payload) into new_id, same from realtime.messages m
      where m.channel = publish_once.channel and m.key = publish_once.key;
    -- Pruned since the conflict: the key is free now.
    continue when not found;
    if not same then
      raise exception 'the key "%" was used on channel "%" for another payload', publish_once.key, publish_once.channel using errcode = 'RT004';
    end if;
    exit;
  end loop;
  return new_id;
end $$`,

  `-- One query stores a valid message; only an invalid one is examined.
create or replace function realtime.publish(channel text, payload text, key text default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  new_id bigint;
begin
  insert into realtime.messages (channel, payload, match) select publish.channel, publish.payload, ${trace}
    where publish.key is null and realtime.may_carry(publish.channel, publish.payload)
      and not exists (select from realtime.watched w where ${written("publish.channel")}) returning id into new_id;
  if new_id is not null then
    return new_id;
  end if;
  return realtime.publish_once(publish.channel, publish.payload, publish.key, null);
end $$`,

  `create or replace function realtime.publish(channel text, payload jsonb, key text default null) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select realtime.publish(channel, payload::text, key)
$$`,

  `-- When the wakes are at their full number again, in milliseconds. A sequence, because reading it takes no
-- lock and writing it is not part of a transaction.
create sequence if not exists realtime.last_wake as bigint minvalue 0 start 0`,

  `-- Fires at the end of the transaction, for each message: with an earlier decision, a transaction that
-- stays open after it would commit without a wake. PostgreSQL refuses PREPARE TRANSACTION after a NOTIFY,
-- so "set realtime.wake = off" silences a session. One expression, because it runs for each message: a
-- variable or a query would cost more than the message.
--
-- A transaction sends one wake, which says '${nextWakes}' if the next commit sends one too. When they are too many
-- the last one says nothing, and the commits of the next ${silentMillis} ms are silent. Two sessions that
-- decide at once send two wakes. "between" also handles a clock that is set back.
create or replace function realtime.wake_at_commit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin
  if current_setting('realtime.wake', true) in ('off', 'sent')
    or coalesce(pg_sequence_last_value('realtime.last_wake'), 0) - (date_part('epoch', clock_timestamp()) * 1000)::bigint between ${spareMillis + 1} and ${spareMillis + silentMillis} then
    return null;
  end if;
  declare
    now_ms bigint := date_part('epoch', clock_timestamp()) * 1000;
    full_at bigint := coalesce(pg_sequence_last_value('realtime.last_wake'), 0);
  begin
    full_at := ${wakeMillis} + case when full_at - now_ms between 0 and ${spareMillis} then full_at else now_ms end;
    if full_at - now_ms <= ${spareMillis} then
      perform setval('realtime.last_wake', full_at), pg_notify('realtime', '${nextWakes}');
    else
      perform setval('realtime.last_wake', now_ms + ${spareMillis + silentMillis}), pg_notify('realtime', '');
    end if;
    -- Until the end of the transaction, or of the savepoint that takes the NOTIFY back.
    perform set_config('realtime.wake', 'sent', true);
  end;
  return null;
end $$`,

  `create or replace function realtime.wake_always() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin
  if current_setting('realtime.wake', true) is distinct from 'off' then
    perform pg_notify('realtime', '');
  end if;
  return null;
end $$`,

  `-- A change of the trigger waits until no transaction that wrote a message is open, and new ones wait
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
end $$`
]
