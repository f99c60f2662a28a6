/**
 * Which database this is, as SQL text: what a cursor is worth, and where.
 *
 * `realtime.identity()` names the database as it is now. `realtime.open()` is what every reader calls
 * first on a new session: it repairs what a crash or a restored dump left behind, then tells the
 * identity and the settings.
 */

export const identity: ReadonlyArray<string> = [
  `-- NULL on a standby, whose snapshots omit the transactions in progress, and before the first
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
end $$`,

  `create or replace function realtime.open(
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
end $$`
]
