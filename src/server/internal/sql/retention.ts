/**
 * Retention, as SQL text: what may be forgotten, and forgetting it.
 *
 * The horizon is a snapshot and not a time: a cursor is honoured if it sees everything that the
 * horizon sees, and only what the horizon sees is deleted. A transaction that commits late is not
 * seen by an earlier mark, so its messages stay a full retention after their commit.
 */

export const retention: ReadonlyArray<string> = [
  `create or replace function realtime.contains(a pg_snapshot, b pg_snapshot) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select pg_snapshot_xmax(b) <= pg_snapshot_xmax(a)
    and not exists (select from pg_snapshot_xip(a) x where pg_visible_in_snapshot(x, b))
$$`,

  `-- One turn of upkeep, by one node at a time: NULL when another one is at it, else whether there may be
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
end $$`,

  `-- Deletes one small batch; returns its size, and 0 when there is nothing left to do or another node is at it.
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
end $$`
]
