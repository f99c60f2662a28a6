/** The checks of `doctor` of the installed objects: their version, the rights of the nodes, tables, wake. */
import * as Effect from "effect/Effect"
import {
  tableFaults,
  tables as watchedTables,
  troubles,
  troubleText,
  unreachedText,
  unrouted,
  unroutedText
} from "../../../server/internal/link/watched.ts"
import { isForbidden } from "../../../server/internal/link/sqlState.ts"
import {
  functionsMissing,
  grantsMissing,
  installedSchemas,
  installFacts,
  isInstalled,
  oldestAge
} from "../../../server/internal/sql/inspection.ts"
import { objects } from "../../../server/internal/sql/objects.ts"
import { schemaVersion } from "../../../server/internal/sql/schema.ts"
import { elsewhereText } from "../../shared/cures.ts"
import { shellWord } from "../../shared/shell.ts"
import { ofSchema } from "../../shared/watchLine.ts"
import { watchCures } from "./watchCures.ts"
import { type Check, fix, ok, type Patient, skipped, type Verdict } from "./verdict.ts"

/** Looks only where the objects are, and the role may read them. */
const whenInstalled =
  (look: Check["look"]): Check["look"] =>
  (patient) =>
    Effect.flatMap(isInstalled(patient.pool), (here) =>
      here ? look(patient) : Effect.succeed(skipped("the objects are not installed"))
    ).pipe(
      Effect.catchIf(isForbidden, () =>
        Effect.succeed(skipped("the role of this connection may not read it: see rights"))
      )
    )

const install: Check = {
  name: "install",
  look: Effect.fnUntraced(function* ({ pool, schema }: Patient) {
    if (!(yield* isInstalled(pool))) {
      return fix(
        `The database does not have the objects of effect-realtime in schema ${schema}.${elsewhereText(yield* installedSchemas(pool))}`,
        `Run npx effect-realtime sql${ofSchema(schema)} --apply as the owner.`
      )
    }
    const facts = yield* Effect.catchIf(installFacts(pool), isForbidden, () =>
      Effect.succeed(undefined)
    )
    if (facts === undefined) {
      return skipped("the role of this connection may not read it: see rights")
    }
    const { isOurs, version } = facts
    if (version < schemaVersion) {
      return fix(
        `The database has version ${version} of the objects, and this command line is of version ${schemaVersion}.`,
        `Run npx effect-realtime sql${ofSchema(schema)} --apply as the owner, which keeps messages and cursors.`
      )
    }
    if (version > schemaVersion) {
      return fix(
        `The database has version ${version} of the objects, and this command line is of version ${schemaVersion}.`,
        "Deploy the version of effect-realtime that installed them."
      )
    }
    const gone = yield* functionsMissing(pool)
    if (gone.length > 0) {
      return fix(
        `Functions of schema ${schema} are gone: ${gone.join(", ")}.`,
        `Run npx effect-realtime sql${ofSchema(schema)} --apply as their owner.`
      )
    }
    return isOurs
      ? ok(`version ${version} in schema ${schema}`)
      : fix(
          `The objects are of version ${version}, and another build of effect-realtime installed them.`,
          `Run npx effect-realtime sql${ofSchema(schema)} --apply as their owner.`
        )
  })
}

const rights: Check = {
  name: "rights",
  look: Effect.fnUntraced(function* ({ pool, role, schema }: Patient) {
    if (!(yield* isInstalled(pool))) return skipped("the objects are not installed")
    const known = yield* pool`select from pg_roles where rolname = ${role}`
    if (known.length === 0) {
      return fix(
        `There is no role "${role}".`,
        `Run npx effect-realtime sql${ofSchema(schema)} --node-role ${shellWord(role)} --apply as the owner.`
      )
    }
    const missing = yield* grantsMissing(pool, role)
    return missing.length === 0
      ? ok(`role ${role} has the rights of a node`)
      : {
          ...fix(
            `Role ${role} lacks ${missing.length} of the rights of a node.`,
            `Run npx effect-realtime sql${ofSchema(schema)} --node-role ${shellWord(role)} --apply as the owner. Or run with psql as the owner:`
          ),
          lines: missing.map((statement) => `${statement};`)
        }
  })
}

const tables: Check = {
  name: "tables",
  look: whenInstalled(
    Effect.fnUntraced(function* ({ definitions, pool, schema }: Patient) {
      const client = yield* objects(pool)
      const cures = yield* watchCures(pool, schema)
      const found = [
        ...(yield* troubles(client)).map((one): Verdict => {
          const { cure, lines } = cures.of(one.channel, one.rel, one.trouble)
          return { status: "fix", text: troubleText(one), cure, lines }
        }),
        ...(yield* unrouted(client)).map((one) =>
          fix(
            unroutedText(one),
            `Give the rows a value, or end their count: ${cures.again(one.channel, one.rel)}`
          )
        )
      ]
      const texts: Array<string> = []
      const known = (yield* watchedTables(pool)) ?? []
      for (const { delivery, table } of definitions) {
        if (table === undefined) continue
        const of = known.filter(({ channel }) => channel === table.channel)
        if (of.some((one) => one.delivery === delivery)) {
          if (delivery === "live" || delivery === "durable") {
            texts.push(...(yield* tableFaults(pool, table, delivery, known)))
          }
        } else if (delivery === "live" || delivery === "durable") {
          texts.push(unreachedText(delivery, table.channel, of[0]))
        }
      }
      found.push(...texts.map((text) => fix(text)))
      if (found.length > 0) return found
      return ok(`${known.length} watched for a channel, each with its triggers`)
    })
  )
}

const wake: Check = {
  name: "wake",
  look: whenInstalled(
    Effect.fnUntraced(function* ({ pool, schema }: Patient) {
      const { wake, wakeFault } = yield* installFacts(pool)
      return wakeFault === undefined
        ? ok(
            wake === "poll" ? "poll: readers look by themselves" : `${wake}: a commit wakes readers`
          )
        : fix(
            `Wake is ${wake}, and ${wakeFault}: events are late by up to a second.`,
            `Run npx effect-realtime sql${ofSchema(schema)} --apply as the owner.`
          )
    })
  )
}

/** Nodes prune every 10 s at the latest, in batches. */
const pruneSlack = 600_000

const retention: Check = {
  name: "retention",
  look: whenInstalled(
    Effect.fnUntraced(function* ({ pool }: Patient) {
      const { retention } = yield* installFacts(pool)
      const age = yield* oldestAge(pool)
      const hours = (millis: number) => `${(millis / 3_600_000).toFixed(1)} hours`
      // The horizon moves from mark to mark, a hundredth of the retention apart.
      return age > retention * 1.1 + pruneSlack
        ? fix(
            `The oldest message has an age of ${hours(age)}, and the retention is ${hours(retention)}: no node removes old messages, or an open transaction holds them.`,
            "Let one node at least run with upkeep, which is the default of OutboxReader.layer."
          )
        : ok(`messages are kept for ${hours(retention)}`)
    })
  )
}

export const installChecks: ReadonlyArray<Check> = [install, rights, tables, wake, retention]
