/**
 * Revocations, as SQL text: identities and tokens that open no session until a time.
 *
 * A revocation of an identity concerns the tokens that were issued before it. Ids are in the order of the
 * commits, because each call holds a lock until its end, so a node reads on from the last id that it has.
 * Upkeep deletes those that are over, and each call does.
 */

/** Deletes a bounded number of those that are over, because other nodes wait for the lock meanwhile. */
export const forgetSome = `delete from realtime.revocations r where r.id in (
    select o.id from realtime.revocations o where o.expires < statement_timestamp() order by o.expires limit 1000);`

/** The most rows of one read. */
export const revocationPage = 10_000

export const revocations: ReadonlyArray<string> = [
  `create table if not exists realtime.revocations (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('identity', 'token')),
  name text not null,
  at timestamptz not null default clock_timestamp(),
  expires timestamptz not null
)`,

  `create index if not exists revocations_expires on realtime.revocations (expires)`,

  `-- Also forgets some of those that are over.
create or replace function realtime.revoke(kind text, name text, expires timestamptz) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  new_id bigint;
begin
  lock table realtime.revocations in share row exclusive mode;
  ${forgetSome}
  insert into realtime.revocations (kind, name, expires) values (revoke.kind, revoke.name, revoke.expires) returning id into new_id;
  return new_id;
end $$`
]

/** What holds now, after an id: one page. */
export const revocationsStatement = `select r.id::text id, r.kind, r.name,
  extract(epoch from r.at) * 1000 as at, extract(epoch from r.expires) * 1000 as expires
from realtime.revocations r where r.id > $1::bigint and r.expires > clock_timestamp() order by r.id limit ${revocationPage}`

/** The third value: milliseconds since 1970, or NULL for now by the clock of the database; the fourth is added. */
export const revokeStatement = `select realtime.revoke($1, $2,
  coalesce(to_timestamp($3::float8 / 1000), clock_timestamp()) + make_interval(secs => $4::float8 / 1000))`
