/**
 * Which database this is, as SQL text: what a cursor is worth, and where.
 *
 * - **token**: what cursors carry. Made once, and anew when the rows turn out to be a copy of another
 *   database's. A crash, a promotion, a copied data folder and pg_upgrade leave it: a cursor is then
 *   honoured by its witness, the message on which it stands.
 * - **era**: one life of one server. Numbers of transactions that came to nothing, and the order in which
 *   numbers and ids were drawn, hold within it only. The table `epoch` is emptied by a crash and by a
 *   promotion, and another table after a restore; the start of the server covers a folder put back.
 *
 * Nothing in the database is deleted because of a crash or a promotion: what survives is a beginning of
 * the WAL. A mark that survives was written after its snapshot and its pair were taken, in a transaction
 * numbered at least `next`; so all three are true still, if only marks of their own era are written.
 *
 * **A copy** is told by the one row of `origin`, which the installer writes. Restoring a dump writes it
 * again, by another transaction, and its system column xmin says so, also where everything else is as it
 * was. pg_upgrade keeps every number and changes the system's identifier only.
 */
import { schemaVersion } from "./schema.ts"

/** The era as an expression, to be read with the rows that it is about. NULL before `realtime.open()`. */
export const era = `(select concat(e.id, ' ', e.tableoid, ' ', round(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint) from realtime.epoch e)`

/** What of a database changes when it becomes another one. */
const here = `concat_ws(' ', (select system_identifier from pg_control_system()),
    (select oid from pg_database where datname = current_database()), 'realtime.messages'::regclass::oid)`

export const identity: ReadonlyArray<string> = [
  `-- NULL on a standby, whose snapshots omit the transactions in progress, and until realtime.open() has
-- seen this database after a crash or as the copy that it is.
create or replace function realtime.identity() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$ begin
  -- An unlogged table cannot even be looked at on a standby.
  if pg_is_in_recovery() then
    return null;
  end if;
  return (select s.token from realtime.settings s, realtime.epoch where s.identity = ${here});
end $$`,

  `-- What every node asks first on a new session, and then every few seconds; "library" is the version of
-- the objects that it was made for.
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
    -- Under the lock, so that one of several nodes does it.
    select * into s from realtime.settings for update;
    if (s.identity, s.origin) is distinct from (here, wrote) then
      -- Without a token it is of version 2, or new.
      restored := s.identity is not null and (s.identity <> here or s.token is not null) and not (
        s.origin is not distinct from wrote and s.token is not null
        and split_part(s.identity, ' ', 1) <> split_part(here, ' ', 1) and split_part(s.identity, ' ', 3) = split_part(here, ' ', 3));
      if restored then
        -- The messages carry transaction numbers of another database, and would appear here when the
        -- counter reaches them.
        delete from realtime.messages;
        delete from realtime.marks;
        update realtime.horizon h set snapshot = '1:1:';
      end if;
      if restored or s.token is null then
        update realtime.settings o set token = translate(left(encode(sha256(decode(replace(gen_random_uuid()::text, '-', ''), 'hex')), 'base64'), 8), '+/', '-_');
      end if;
      update realtime.settings o set identity = here, origin = wrote;
    end if;
  end if;
  -- Restored rows name a table by the number that it had. They may come after all this.
  if exists (select from realtime.watched w where w.relid <> w.rel) then
    perform 1 from realtime.settings for update;
    -- Where somebody watched a table anew before this, one row for it is enough.
    delete from realtime.watched w where w.relid <> w.rel and exists (
      select from realtime.watched o where o.id <> w.id and o.relid = w.rel and o.channel = w.channel);
    perform realtime.relocate();
  end if;
  identity := realtime.identity();
  era := ${era};
  select o.version, o.wake, extract(epoch from o.retention) * 1000 into version, wake, retention_ms from realtime.settings o;
end $$`,

  `-- Nodes made for version 2 ask this. They would hand out positions that do not survive a crash.
create or replace function realtime.open(
  out identity text, out version int, out wake text, out retention_ms float8, out restored boolean
) language plpgsql set search_path = pg_catalog, pg_temp as $$ begin
  raise exception 'the database has version ${schemaVersion} of the objects of effect-realtime, and this node was made for version 2'
    using errcode = 'RT006', hint = 'Deploy the version of effect-realtime that installed them.';
end $$`
]

/** Asked by a node of this version. */
export const openStatement = `select * from realtime.open(${schemaVersion})`
