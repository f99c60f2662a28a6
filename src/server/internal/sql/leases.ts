/**
 * Leases, as SQL text: what one node at a time may do.
 *
 * A lease has a name, one holder, and a term that grows with each holder. The clock of the database decides
 * when it ends, because the clocks of nodes differ. No work may rely on it alone: a holder can be stopped
 * between two statements, so what it writes is compared where it is written.
 */
import { path } from "./triggers.ts"

/** Seconds that a lease lasts without a renewal. */
const leaseSeconds = 4

/** An end that is later than a renewal gives is from before the clock was set back, and counts as over. */
const isHeld = `l.expires_at > clock_timestamp() and l.expires_at <= clock_timestamp() + make_interval(secs => ${leaseSeconds})`

export const leases: ReadonlyArray<string> = [
  `-- A row stays after its lease ended, so that the term never repeats.
create table if not exists realtime.leases (
  name text collate "C" primary key check (octet_length(name) between 1 and 300),
  term bigint not null,
  node text not null,
  incarnation text not null,
  expires_at timestamptz not null
)`,

  `-- Takes a lease for a holder. "term" is NULL while another holder has it, for "wait_ms" at most.
create or replace function realtime.take_lease(name text, node text, incarnation text, out term bigint, out wait_ms float8)
language plpgsql security definer ${path} as $$
declare
  ends timestamptz;
begin
  -- First without a lock: nodes that wait ask often.
  select l.expires_at into ends from realtime.leases l where l.name = take_lease.name and ${isHeld};
  if ends is null then
    insert into realtime.leases as l (name, term, node, incarnation, expires_at)
      values (take_lease.name, 1, take_lease.node, take_lease.incarnation, clock_timestamp() + make_interval(secs => ${leaseSeconds}))
      on conflict on constraint leases_pkey do update
        set term = l.term + 1, node = excluded.node, incarnation = excluded.incarnation, expires_at = excluded.expires_at
        where not (${isHeld})
      returning l.term into take_lease.term;
  end if;
  if take_lease.term is null then
    wait_ms := greatest(0, extract(epoch from coalesce(ends, clock_timestamp()) - clock_timestamp()) * 1000);
  end if;
end $$`,

  `-- Whether the holder still has the lease, which then lasts on from now. Also where it had run out, and no
-- other holder took it.
create or replace function realtime.renew_lease(name text, incarnation text, term bigint) returns boolean
language sql security definer ${path} as $$
  with renewed as (
    update realtime.leases l set expires_at = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      where l.name = renew_lease.name and l.incarnation = renew_lease.incarnation and l.term = renew_lease.term
      returning 1)
  select exists (select from renewed)
$$`,

  `create or replace function realtime.release_lease(name text, incarnation text, term bigint) returns void
language sql security definer ${path} as $$
  update realtime.leases l set expires_at = '-infinity'
    where l.name = release_lease.name and l.incarnation = release_lease.incarnation and l.term = release_lease.term
$$`,

  `-- Which node holds which lease now. Without the incarnation, with which a lease is renewed and released.
create or replace function realtime.holders() returns table(name text, node text)
language sql stable security definer ${path} as $$
  select l.name, l.node from realtime.leases l where ${isHeld}
$$`
]
