/**
 * The secret of the bus between nodes, as SQL text. Only the owner and the node role may read it.
 *
 * Keys are made from it, so that other roles can neither read the messages of the bus nor send any:
 * NOTIFY and LISTEN have no permissions.
 */

/** Minutes that the last secret holds after a rotation. */
const overlap = 10

export const busSecret: ReadonlyArray<string> = [
  `-- The newest one encrypts. "until" is set of the one before.
create table if not exists realtime.bus_secrets (
  id bigint generated always as identity primary key,
  secret text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  until timestamptz
)`,
  `-- What a rotation keeps: the names of members are made from it. The greatest one counts.
alter table realtime.bus_secrets add column if not exists lasting text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')`,
  `insert into realtime.bus_secrets (until) select null where not exists (select from realtime.bus_secrets)`,

  `-- Makes a new secret. The one before holds for ${overlap} minutes, and an older one no longer.
create or replace function realtime.rotate_secret() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  kept text;
begin
  lock table realtime.bus_secrets in share row exclusive mode;
  select max(b.lasting) into kept from realtime.bus_secrets b;
  delete from realtime.bus_secrets b where b.until is not null;
  update realtime.bus_secrets b set until = clock_timestamp() + interval '${overlap} minutes';
  insert into realtime.bus_secrets default values;
  update realtime.bus_secrets b set lasting = kept where kept is not null;
end $$`
]

/** The identity of the database, its secrets, newest first, and what a rotation keeps. */
export const secretsStatement = (open: string): string => `select o.identity, o.version, array(
  select b.secret from realtime.bus_secrets b where b.until is null or b.until > clock_timestamp() order by b.id desc) secrets,
  (select max(b.lasting) from realtime.bus_secrets b) lasting
from (${open}) o`
