/** The whole install, as statements in their order. */
import { createHash } from "node:crypto"
import { busSecret } from "./busSecret.ts"
import { generate } from "./generate.ts"
import { identity, openStatement } from "./identity.ts"
import { literal } from "./literal.ts"
import { leases } from "./leases.ts"
import { before, marked, noted, recognise, refuseOlder, remove } from "./ownership.ts"
import { publish } from "./publish.ts"
import { retention } from "./retention.ts"
import { appRole, lockDown, nodeRole, nodesAgain } from "./roles.ts"
import { revocations } from "./revocations.ts"
import { schema, schemaVersion } from "./schema.ts"
import { state } from "./state.ts"
import { triggers } from "./triggers.ts"
import { watch } from "./watch.ts"

export interface Settings {
  readonly wake: "hybrid" | "notify" | "poll" | undefined
  /** How long messages are kept, in milliseconds. */
  readonly retention: number | undefined
  /** The most messages kept; `null` for no bound. */
  readonly maxMessages: number | null | undefined
  readonly nodeRole: string | undefined
  readonly appRole: string | undefined
}

/** Serializes installs: `create if not exists` does not protect against a concurrent one. */
export const alone = `select pg_advisory_xact_lock(hashtextextended('effect-realtime install', 0))`

const objects: ReadonlyArray<string> = [
  ...schema,
  ...triggers,
  ...generate,
  ...state,
  ...identity,
  ...publish,
  ...watch,
  ...retention,
  ...busSecret,
  ...leases,
  ...revocations,
  ...marked,
  ...lockDown
]

/** Changes with the text of any object. An install of the same text has nothing to do. */
export const digest = createHash("sha256").update(objects.join("\n")).digest("base64url")

/** The name of each function, as often as the objects have one of that name with other arguments. */
const functions = [
  ...new Map(
    [...objects.join("\n").matchAll(/create or replace function realtime\.(\w+)\([^)]*/g)].map(
      ([signature, name]) => [signature, name!] as const
    )
  ).values()
]

/** The functions of an install that are gone, in a database with the objects of this version. */
export const missingFunctions = `select wanted.name from unnest(array[${functions.map(literal).join(", ")}]) wanted(name)
where exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'realtime' and c.relname = 'settings')
group by wanted.name
having count(*) > (select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'realtime' and p.proname = wanted.name)
order by 1`

const installed = `update realtime.settings set version = ${schemaVersion}, digest = '${digest}'`

const settle = (settings: Settings): ReadonlyArray<string> => {
  const { appRole: app, maxMessages, nodeRole: node, retention, wake } = settings
  const statements: Array<string> = []
  if (retention !== undefined) {
    statements.push(
      `update realtime.settings set retention = make_interval(secs => ${retention / 1000})`
    )
  }
  if (maxMessages !== undefined) {
    statements.push(`update realtime.settings set max_messages = ${maxMessages ?? "null"}`)
  }
  statements.push(
    wake === undefined
      ? `select realtime.set_wake(wake) from realtime.settings`
      : `select realtime.set_wake('${wake}')`
  )
  if (node !== undefined) statements.push(...nodeRole(node))
  if (app !== undefined) statements.push(...appRole(app))
  return statements
}

/**
 * The statements of an install, for one transaction. `fresh`: the database has the objects of this text
 * already. Both cases open the database, which repairs what a restored dump left behind before tables are
 * watched, and gives a later reader an identity.
 */
export const install = (settings: Settings, fresh: boolean): ReadonlyArray<string> =>
  fresh
    ? [alone, openStatement, ...settle(settings)]
    : [
        alone,
        recognise,
        refuseOlder,
        before,
        ...objects,
        noted(objects),
        installed,
        openStatement,
        `select realtime.watch_again()`,
        nodesAgain,
        ...settle(settings)
      ]

export const uninstall: ReadonlyArray<string> = [alone, remove(objects)]
