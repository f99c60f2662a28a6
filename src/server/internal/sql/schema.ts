/**
 * The tables of the outbox, as SQL text.
 *
 * Every statement can run again on an install of any earlier version, which is how an upgrade works. The
 * order of columns in `messages` matters, see there.
 */
import { pgInstaller as Defaults } from "../../../internal/defaults.ts"

/**
 * The version of all objects; raise it with every change of an object. A node rejects an older install at
 * start, and `install` upgrades it.
 */
export const schemaVersion = 7

/** The largest payload of one message in bytes of UTF-8: half of what the driver accepts by default. */
export const maxPayloadBytes = 8 * 1024 * 1024

export const schema: ReadonlyArray<string> = [
  `do $$ begin
  if current_setting('server_version_num')::int < 130000 then
    raise exception 'effect-realtime needs PostgreSQL 13 or newer, this is %', current_setting('server_version');
  end if;
  -- In another encoding a row may have bytes without UTF-8, and one such row would stop every reader.
  if getdatabaseencoding() <> 'UTF8' then
    raise exception 'effect-realtime needs a database in UTF8, this one is in %', getdatabaseencoding();
  end if;
end $$`,

  `create schema if not exists realtime`,

  `-- One row. "version" is that of the objects. "token" is in every cursor, "secret" in none. "identity" is that of the
-- database when a node last opened it, and "origin" the transaction that had written that table: they
-- reveal a copy.
create table if not exists realtime.settings (
  one boolean primary key default true check (one),
  version int not null default 0,
  digest text not null default '',
  wake text not null default 'hybrid' check (wake in ('hybrid', 'notify', 'poll')),
  retention interval not null default '${Defaults.retention / 3_600_000} hours' check (retention > '0'),
  max_messages bigint check (max_messages > 0),
  identity text
)`,
  `insert into realtime.settings (one) select true where not exists (select from realtime.settings)`,
  `alter table realtime.settings
  add column if not exists token text, add column if not exists origin text,
  add column if not exists secret text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')`,
  `-- One row without data, for the transaction that wrote it. A dump is restored in the order of names, so a
-- session that sees this row has all messages before it.
create table if not exists realtime.origin (one boolean primary key default true check (one))`,
  `insert into realtime.origin default values on conflict do nothing`,

  `-- Defaults are evaluated in the order of the columns: "txid" stands before "id", so that a transaction
-- has its number before it draws an id. Readers rely on this for the id from which they read.
create table if not exists realtime.messages (
  txid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity primary key,
  channel text collate "C" not null check (octet_length(channel) between 1 and 63),
  payload text not null check (octet_length(payload) <= ${maxPayloadBytes}),
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
)`,
  `-- By what a message is compared. Of a row the texts of the columns by which it is routed and filtered,
-- before and after the change: NULL where that is unknown, and of a table without such columns. Of a publish
-- what its payload was made from, because two attempts with one key may make two payloads of it, and behind
-- a blank the trace context of the publisher ("set local realtime.trace"). It never leaves a node. One column, because the planner believes that a wider table has fewer rows, and reads it
-- whole. Adding it waits for open transactions, so only where it is missing.
do $$ begin
  if not exists (select from pg_attribute a where a.attrelid = 'realtime.messages'::regclass and a.attname = 'match' and not a.attisdropped) then
    alter table realtime.messages add column match text;
  end if;
end $$`,
  `create index if not exists messages_txid on realtime.messages (txid, id)`,
  `create index if not exists messages_channel on realtime.messages (channel, id)`,
  `create unique index if not exists messages_key on realtime.messages (channel, key) where key is not null`,

  `create or replace function realtime.refuse_truncate() returns trigger language plpgsql as $$ begin
  raise exception 'realtime.messages cannot be truncated: readers would not notice' using hint = 'Lower the retention, or uninstall.';
end $$`,
  `do $$ begin
  if not exists (select from pg_trigger where tgrelid = 'realtime.messages'::regclass and tgname = 'refuse_truncate') then
    create trigger refuse_truncate before truncate on realtime.messages
      for each statement execute function realtime.refuse_truncate();
  end if;
end $$`,

  `-- PostgreSQL empties an unlogged table after a crash, and so on a promoted standby. Exactly then it may
-- give out the number of an unfinished transaction again.
create unlogged table if not exists realtime.epoch (
  one boolean primary key default true check (one),
  id uuid not null default gen_random_uuid()
)`,

  `-- Every message that this snapshot does not see is kept. In normal form: it ends after the highest
-- transaction with a message that it sees, whose last message is kept.
create table if not exists realtime.horizon (
  one boolean primary key default true check (one),
  snapshot pg_snapshot not null
)`,
  `insert into realtime.horizon (snapshot) values ('1:1:') on conflict do nothing`,

  `-- Positions that readers took now and then, in normal form. "next" and "drawn": a transaction numbered
-- "next" or above has drawn no id up to "drawn".
create table if not exists realtime.marks (
  at timestamptz primary key default clock_timestamp(),
  snapshot pg_snapshot not null,
  next xid8 not null,
  drawn bigint not null
)`,

  `-- Before version 3 snapshots were kept as they were. Every cursor from then is rejected, and every later
-- one sees what was pruned until now.
do $$ begin
  if (select s.version < 3 from realtime.settings s) then
    delete from realtime.marks;
    update realtime.horizon h set snapshot = '1:1:';
  end if;
end $$`,

  `create table if not exists realtime.consumers (
  name text collate "C" primary key check (octet_length(name) between 1 and 200),
  channel text collate "C" not null,
  cursor text collate "C" not null,
  updated_at timestamptz not null default clock_timestamp()
)`
]
