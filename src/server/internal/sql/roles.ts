/**
 * Privileges, as SQL text. At first only the owner has any; the node role reads the outbox, the app role
 * may publish.
 */

import { identifier, literal } from "./literal.ts"

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

const create = (role: string): string =>
  `do $$ begin
  if not exists (select from pg_roles where rolname = ${literal(role)}) then
    create role ${identifier(role)} nologin;
  end if;
end $$`

const publishing = (role: string): string =>
  `grant execute on function realtime.publish(text, text, text), realtime.publish(text, jsonb, text) to ${role}`

/** The functions that nodes call, with their arguments. */
const nodeSignatures = [
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
  "realtime.holders()",
  "realtime.revoke(text, text, timestamptz)"
]
const nodeFunctions = nodeSignatures.join(", ")

/** What nodes read, and since version 6 what else. */
const firstTables = ["messages", "horizon", "marks", "settings", "epoch", "watched"]
const laterTables = ["bus_secrets", "revocations"]
const inRealtime = (names: ReadonlyArray<string>) =>
  names.map((name) => `realtime.${name}`).join(", ")
const nodeTables = inRealtime(laterTables)

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
  const role = identifier(name)
  return [
    create(name),
    `grant usage on schema realtime to ${role}`,
    `grant select on ${inRealtime([...firstTables, ...laterTables])} to ${role}`,
    `grant select on sequence realtime.messages_id_seq to ${role}`,
    `grant select, insert, update, delete on realtime.consumers to ${role}`,
    `grant execute on function ${nodeFunctions} to ${role}`,
    publishing(role)
  ]
}

/** The privileges of an application: to publish. The triggers of watched tables need none. */
export const appRole = (name: string): ReadonlyArray<string> => {
  const role = identifier(name)
  return [create(name), `grant usage on schema realtime to ${role}`, publishing(role)]
}

const values = (rows: ReadonlyArray<readonly [name: string, privilege: string]>): string =>
  `(values ${rows.map(([name, privilege]) => `(${literal(name)}, ${literal(privilege)})`).join(", ")}) v(name, privilege)`

/** The functions with which an application publishes, by name. */
const publishFunctions = ["publish"]

interface GrantLists {
  readonly tables: ReadonlyArray<readonly [name: string, privilege: string]>
  readonly sequences: ReadonlyArray<readonly [name: string, privilege: string]>
  readonly functions: ReadonlyArray<string>
}

/**
 * The grants that the role $1 lacks of these, as statements. Reads catalogs only, so any role may run it.
 */
const missing = ({ functions, sequences, tables }: GrantLists): string => {
  const ofRelations = (given: GrantLists["tables"], kind: string, has: string) =>
    given.length === 0
      ? []
      : [
          `select v.privilege, format('${kind}%I.%I', nspname, c.relname), ${has}($1, c.oid, v.privilege) from place
    join pg_class c on c.relnamespace = place.oid join ${values(given)} on v.name = c.relname`
        ]
  const needed = [
    `select 'usage', format('schema %I', nspname), has_schema_privilege($1, oid, 'usage') from place`,
    ...ofRelations(tables, "", "has_table_privilege"),
    ...ofRelations(sequences, "sequence ", "has_sequence_privilege"),
    `select 'execute', format('function %I.%I(%s)', nspname, p.proname, oidvectortypes(p.proargtypes)), has_function_privilege($1, p.oid, 'execute')
    from place join pg_proc p on p.pronamespace = place.oid and p.proname in (${functions.map(literal).join(", ")})`
  ]
  return `with place as (select n.oid, n.nspname from pg_namespace n where n.nspname = 'realtime'), needed(privilege, object, given) as (
  ${needed.join("\n  union all\n  ")}
)
select format('grant %s on %s to %I', privilege, object, $1::text) as statement from needed where not given order by privilege <> 'usage', statement`
}

/** The statements that find what a role lacks of the rights of a node, and of those of an application. */
export const missingGrants = {
  node: missing({
    tables: [
      ...[...firstTables, ...laterTables].map((name) => [name, "select"] as const),
      ...["select", "insert", "update", "delete"].map(
        (privilege) => ["consumers", privilege] as const
      )
    ],
    sequences: [["messages_id_seq", "select"]],
    functions: [
      ...new Set([...nodeSignatures.map((one) => /\.(\w+)/.exec(one)![1]!), ...publishFunctions])
    ]
  }),
  app: missing({ tables: [], sequences: [], functions: publishFunctions })
} as const
