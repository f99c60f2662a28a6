/**
 * The identity of a database, as SQL text: where a cursor is valid.
 *
 * - **token**: in every cursor. Made once, and again when the rows turn out to be a copy of another
 *   database. It survives a crash, a promotion, a copied data folder and pg_upgrade: a cursor is then valid
 *   while its witness, the message on which it stands, is there.
 * - **era**: one run of one server. The numbers of unfinished transactions, and the order in which numbers
 *   and ids were drawn, hold within it only. A crash and a promotion empty the table `epoch`, and a restore
 *   replaces it; the start of the server covers a data folder that was put back.
 *
 * A crash or a promotion deletes nothing in the database: what survives is a beginning of the WAL. A mark
 * that survives was written after its snapshot and its pair were taken, in a transaction numbered at least
 * `next`; so all three still hold, provided that only marks of their own era are written.
 *
 * **A copy** is recognized by the one row of `origin`, which the installer writes. Restoring a dump writes
 * the row again, in another transaction, so its system column xmin changes even where all else is equal.
 * pg_upgrade keeps every number and changes only the system's identifier.
 */
import { schemaVersion } from "./schema.ts"

/**
 * The era as an expression, for the same statement as the rows that it applies to. NULL before
 * `realtime.open()`.
 */
export const era = `(select concat(e.id, ' ', e.tableoid, ' ', round(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint) from realtime.epoch e)`

/** The text that changes when a database becomes another one. */
const here = `concat_ws(' ', (select system_identifier from pg_control_system()),
    (select oid from pg_database where datname = current_database()), 'realtime.messages'::regclass::oid)`

export const identity: ReadonlyArray<string> = [
  `-- NULL on a standby, whose snapshots omit the transactions in progress, and until realtime.open() has run
-- in this database after a crash, or after it was copied.
create or replace function realtime.identity() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$ begin
  -- A standby cannot read an unlogged table.
  if pg_is_in_recovery() then
    return null;
  end if;
  return (select s.token from realtime.settings s, realtime.epoch where s.identity = ${here});
end $$`,

  `-- Every node calls this first in a new session, and then every few seconds; "library" is the version of
-- the objects for which the node was made.
create or replace function realtime.open(
  library int, out identity text, out version int, out wake text, out retention_ms float8, out restored boolean, out era text
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  here text := ${here};
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
  era := ${era};
  select o.version, o.wake, extract(epoch from o.retention) * 1000 into version, wake, retention_ms from realtime.settings o;
end $$`,

  `-- Nodes made for version 2 call this. Their positions would not survive a crash.
create or replace function realtime.open(
  out identity text, out version int, out wake text, out retention_ms float8, out restored boolean
) language plpgsql set search_path = pg_catalog, pg_temp as $$ begin
  raise exception 'the database has version ${schemaVersion} of the objects of effect-realtime, and this node was made for version 2'
    using errcode = 'RT006', hint = 'Deploy the version of effect-realtime that installed them.';
end $$`
]

/** The statement with which a node of this version opens a database. */
export const openStatement = `select * from realtime.open(${schemaVersion})`
