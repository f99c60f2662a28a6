/**
 * Retention, as SQL text: which messages may be pruned, and pruning them.
 *
 * The horizon is a snapshot and not a time: a cursor is valid if it sees everything that the horizon sees,
 * and only what the horizon sees is deleted. An earlier mark does not see a transaction that commits late,
 * so its messages stay for a full retention after their commit.
 *
 * Horizon, marks and cursors are all in normal form. If snapshot A sees all that B sees, then the normal
 * form of A sees all that the normal form of B does: the highest transaction with a message that B sees is
 * one that A sees. So normal forms are compared only with each other. The last message of the horizon's
 * highest transaction is kept. A valid cursor stands on that message or on a later one, which is not
 * pruned, so its witness is there, however long no message is written.
 */
import { forgetSome } from "./revocations.ts"
import { era } from "./identity.ts"

export const retention: ReadonlyArray<string> = [
  `create or replace function realtime.contains(a pg_snapshot, b pg_snapshot) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select pg_snapshot_xmax(b) <= pg_snapshot_xmax(a)
    and not exists (select from pg_snapshot_xip(a) x where pg_visible_in_snapshot(x, b))
$$`,

  `-- The transaction after which a snapshot in normal form ends; 0 when it sees nothing. PostgreSQL skips
-- the numbers whose lower half is 0, and such a snapshot ends one higher.
create or replace function realtime.top(s pg_snapshot) returns xid8
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select (case when x > 1 and x % 4294967296 = 1 then x - 2 else x - 1 end)::text::xid8 from (select pg_snapshot_xmax(s)::text::numeric x) n
$$`,

  `-- Nodes made for version 2 call this. NULL means to them that another node does the upkeep.
create or replace function realtime.upkeep(snapshot pg_snapshot, next xid8, drawn bigint, every_ms int default 10000) returns boolean
language sql immutable as 'select null::boolean'`,

  `-- One turn of upkeep, by one node at a time: NULL when another one has it, else whether there may be
-- something to prune. The arguments are what a reader took last, with the snapshot in normal form and the
-- era. For another era it writes nothing: numbers may have been given out again since.
create or replace function realtime.upkeep(
  snapshot pg_snapshot, next xid8, drawn bigint, every_ms int, era text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  ours boolean := upkeep.era = ${era};
  now_ numeric := pg_snapshot_xmax(pg_current_snapshot())::text::numeric + age(pg_snapshot_xmax(pg_current_snapshot())::xid);
  s record;
  old_ pg_snapshot;
  new_ record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect-realtime upkeep', 0)) then
    return null;
  end if;
  if ours then
    -- Every node relies on a mark: a wrong pair hides messages from readers, and a wrong snapshot prunes
    -- messages that no node has seen.
    if upkeep.drawn > coalesce(pg_sequence_last_value('realtime.messages_id_seq'), 0)
      or upkeep.next < pg_snapshot_xmax(upkeep.snapshot) or upkeep.next::text::numeric > now_
      or exists (select from realtime.messages m where m.txid >= upkeep.next and m.id <= upkeep.drawn)
      or realtime.top(upkeep.snapshot) <> '0' and not exists (select from realtime.messages m where m.txid = realtime.top(upkeep.snapshot)) then
      raise exception 'this is no position that the database has reached: snapshot %, next %, drawn %', upkeep.snapshot, upkeep.next, upkeep.drawn
        using errcode = 'RT007';
    end if;
    -- A node that was stopped for a while must not add an old position after newer ones.
    insert into realtime.marks (snapshot, next, drawn)
      select upkeep.snapshot, upkeep.next, upkeep.drawn
      from (select 1) one left join (select m.at, m.snapshot from realtime.marks m order by m.at desc limit 1) last on true
      where last.at is null or last.at < clock_timestamp() - make_interval(secs => every_ms / 1000.0)
        and realtime.contains(upkeep.snapshot, last.snapshot);
  end if;
  select * into s from realtime.settings;
  select h.snapshot into old_ from realtime.horizon h;
  select m.at, m.snapshot into new_ from realtime.marks m
    where m.at < clock_timestamp() - s.retention or ours and m.drawn <= upkeep.drawn - s.max_messages
    order by m.at desc limit 1;
  -- The horizon never moves back: messages that an earlier one saw may be pruned.
  if new_.at is not null and realtime.contains(new_.snapshot, old_) then
    update realtime.horizon h set snapshot = new_.snapshot where h.snapshot::text <> new_.snapshot::text;
    delete from realtime.marks m where m.at < new_.at;
  end if;
  -- Revocations that are over. A transaction that revokes holds a lock, and upkeep does not wait for it.
  if exists (select from realtime.revocations r where r.expires < statement_timestamp()) then
    begin
      lock table realtime.revocations in row exclusive mode nowait;
      ${forgetSome}
    exception when lock_not_available then null;
    end;
  end if;
  return true;
end $$`,

  `-- Deletes one small batch; returns its size, and 0 when nothing is left or another node prunes.
create or replace function realtime.prune(batch int default 1000) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  h pg_snapshot;
  kept bigint;
  n int;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect-realtime upkeep', 0)) then
    return 0;
  end if;
  select snapshot into h from realtime.horizon;
  select m.id into kept from realtime.messages m where m.txid = realtime.top(h) order by m.id desc limit 1;
  delete from realtime.messages where ctid = any(array(
    select ctid from realtime.messages
    where txid < pg_snapshot_xmax(h) and pg_visible_in_snapshot(txid, h) and id is distinct from kept
    order by txid, id limit least(greatest(batch, 1), 10000)));
  get diagnostics n = row_count;
  return n;
end $$`
]
