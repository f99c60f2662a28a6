/**
 * Privileges, as SQL text. At first only the owner has any; the node role reads the outbox, the app role
 * may publish.
 */

import { literal } from "./literal.ts"

export const lockDown: ReadonlyArray<string> = [
  `revoke all on schema realtime from public`,
  `revoke all on all tables in schema realtime from public`,
  `revoke all on all sequences in schema realtime from public`,
  `-- The owners of watched tables own some, whose rights this role may be unable to change.
do $$
declare
  f record;
begin
  for f in select p.oid::regprocedure signature from pg_proc p where p.pronamespace = 'realtime'::regnamespace and pg_has_role(p.proowner, 'usage') loop
    execute format('revoke all on function %s from public', f.signature);
  end loop;
end $$`
]

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`

const create = (role: string): string =>
  `do $$ begin
  if not exists (select from pg_roles where rolname = ${literal(role)}) then
    create role ${quote(role)} nologin;
  end if;
end $$`

const publishing = (role: string): string =>
  `grant execute on function realtime.publish(text, text, text), realtime.publish(text, jsonb, text) to ${role}`

const nodeFunctions = [
  "realtime.open(int)",
  // Nodes of earlier versions call this, and its error names the version to deploy.
  "realtime.open()",
  "realtime.identity()",
  "realtime.upkeep(pg_snapshot, xid8, bigint, int, text)",
  "realtime.upkeep(pg_snapshot, xid8, bigint, int)",
  "realtime.prune(int)",
  "realtime.publish_once(text, text, text, text)",
  "realtime.state(text, text, text, text, text, int, bigint)",
  "realtime.look()",
  "realtime.troubles()",
  "realtime.unrouted()",
  "realtime.take_lease(text, text, text)",
  "realtime.renew_lease(text, text, bigint)",
  "realtime.release_lease(text, text, bigint)",
  "realtime.revoke(text, text, timestamptz)"
].join(", ")

/** What nodes read beside the outbox, since version 6. */
const nodeTables = "realtime.bus_secrets, realtime.revocations"

/** Grants these again: a node role before an upgrade stays one, also for what is new. */
export const nodesAgain = `do $$
declare
  node record;
begin
  for node in select distinct a.grantee::regrole role from pg_proc p cross join lateral aclexplode(p.proacl) a
    where p.oid = 'realtime.prune(int)'::regprocedure and a.privilege_type = 'EXECUTE' and a.grantee not in (0, p.proowner) loop
    execute format('grant execute on function ${nodeFunctions} to %s', node.role);
    execute format('grant select on ${nodeTables} to %s', node.role);
  end loop;
end $$`

/** The privileges of a node: to read, to publish for its clients, to keep consumers' cursors, to prune. */
export const nodeRole = (name: string): ReadonlyArray<string> => {
  const role = quote(name)
  return [
    create(name),
    `grant usage on schema realtime to ${role}`,
    `grant select on realtime.messages, realtime.horizon, realtime.marks, realtime.settings, realtime.epoch, realtime.watched, ${nodeTables} to ${role}`,
    `grant select on sequence realtime.messages_id_seq to ${role}`,
    `grant select, insert, update, delete on realtime.consumers to ${role}`,
    `grant execute on function ${nodeFunctions} to ${role}`,
    publishing(role)
  ]
}

/** The privileges of an application: to publish. The triggers of watched tables need none. */
export const appRole = (name: string): ReadonlyArray<string> => {
  const role = quote(name)
  return [create(name), `grant usage on schema realtime to ${role}`, publishing(role)]
}
