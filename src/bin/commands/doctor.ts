/** `doctor` looks at what realtime needs of a database, changes nothing, and says what to change. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import { sentenceOf } from "../shared/cures.ts"
import { layerDatabase } from "../shared/database.ts"
import { definitionsFlag, definitionsOf } from "../shared/definitions.ts"
import { CommandFailed, exitCodes } from "../shared/exit.ts"
import {
  databaseFlag,
  durationFlag,
  listenFlag,
  schemaFlag,
  switchFlag,
  textFlag
} from "../shared/flags.ts"
import { say } from "../shared/output.ts"
import { styles } from "../shared/styles.ts"
import { connectionChecks } from "./doctor/connectionChecks.ts"
import { installChecks } from "./doctor/installChecks.ts"
import { serverChecks } from "./doctor/serverChecks.ts"
import { ok, type Patient, skipped, type Verdict } from "./doctor/verdict.ts"

const checks = [...connectionChecks, ...installChecks, ...serverChecks]
const names = checks.map(({ name }) => name)
const width = Math.max("connection".length, ...names.map((name) => name.length))

/** How long one check may take; a link that hears nothing is tried three times. */
const patience = "30 seconds"

/** How long the first connection may take. */
const connecting = "10 seconds"

const marks = { ok: "ok ", fix: "FIX", skipped: "-- ", unknown: "?? " } as const

interface Found extends Verdict {
  readonly check: string
}

const printer = (json: boolean) =>
  TerminalCapabilities.useSync(({ canColor }) => {
    const { bold, dim, green, red, yellow } = styles(canColor)
    const paint = { ok: green, fix: red, skipped: dim, unknown: yellow }
    return ({ check, cure, lines = [], status, text }: Found) =>
      json
        ? [JSON.stringify({ check, status, text, cure, ...(lines.length === 0 ? {} : { lines }) })]
        : [
            `${paint[status](marks[status])}  ${bold(check.padEnd(width))}  ${text}`,
            ...[...(cure === undefined ? [] : [cure]), ...lines].map(
              (line) => `${" ".repeat(width + 7)}${line}`
            )
          ]
  })

interface Server {
  readonly version: string
  readonly name: string
  readonly role: string
}

const connection = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const [row] = yield* sql<Server>`
    select split_part(current_setting('server_version'), ' ', 1) as version, current_database()::text as name, current_user::text as role`
  return row!
}).pipe(
  Effect.timeoutOrElse({
    duration: connecting,
    orElse: () => Effect.fail(new Error("The database did not answer within 10 s"))
  })
)

const counted = (count: number, one: string, more: string) => `${count} ${count === 1 ? one : more}`

/** Ends with the code of what was found. */
const conclude = Effect.fnUntraced(function* (all: ReadonlyArray<Found>, json: boolean) {
  const to = all.filter(({ status }) => status === "fix").length
  const unseen = all.filter(({ status }) => status === "unknown").length
  if (to > 0) {
    return yield* new CommandFailed({
      message: `${counted(to, "thing is", "things are")} to be changed.`,
      code: exitCodes.failed
    })
  }
  if (unseen > 0) {
    return yield* new CommandFailed({
      message: `${counted(unseen, "check", "checks")} could not look.`,
      code: exitCodes.blind
    })
  }
  if (!json) yield* say("All is well.")
})

export const doctorCommand = Command.make(
  "doctor",
  {
    role: textFlag("role").pipe(
      Flag.withMetavar("<name>"),
      Flag.withDescription("The role of the nodes (default: that of --database)"),
      Flag.optional
    ),
    ignore: Flag.Literals("ignore", names).pipe(
      Flag.withMetavar("<check>"),
      Flag.withDescription("Leave this check out; may be given several times"),
      Flag.atLeast(0)
    ),
    oldTransaction: durationFlag("old-transaction").pipe(
      Flag.withDescription("From which age on an open transaction is old (default: 5 minutes)"),
      Flag.withDefault(Duration.minutes(5))
    ),
    json: switchFlag("json", "Print a line of JSON for each check"),
    definitions: definitionsFlag,
    schema: schemaFlag,
    database: databaseFlag,
    listen: listenFlag
  },
  Effect.fnUntraced(function* (given) {
    const { database, ignore, json, schema } = given
    const definitions = yield* definitionsOf(given.definitions)
    const print = yield* printer(json)
    const all: Array<Found> = []
    const tell = (check: string, verdict: Verdict) => {
      const found = { check, ...verdict }
      all.push(found)
      return say(...print(found))
    }
    const sentence = sentenceOf(given, "node")
    const blind = (before: string, error: unknown) =>
      Effect.flatMap(sentence(error), (text) =>
        Effect.fail(new CommandFailed({ message: `${before}${text}`, code: exitCodes.blind }))
      )
    yield* Effect.gen(function* () {
      const pool = yield* PgClient.PgClient
      const server = yield* connection.pipe(
        Effect.catch((error) => blind("The database cannot be looked at: ", error))
      )
      const { name, version } = server
      yield* tell(
        "connection",
        ok(`PostgreSQL ${version}, database ${name}, as role ${server.role}`)
      )
      const patient: Patient = {
        pool,
        config: pool.config,
        database,
        listen: Option.getOrUndefined(given.listen),
        schema,
        role: Option.getOrElse(given.role, () => server.role),
        oldTransaction: given.oldTransaction,
        definitions
      }
      for (const { look, name } of checks) {
        const found = ignore.includes(name)
          ? skipped("ignored")
          : yield* look(patient).pipe(
              Effect.scoped,
              Effect.timeout(patience),
              Effect.catch((error) =>
                Effect.map(sentence(error), (said): Verdict => {
                  const [text = "", ...lines] = said.split("\n")
                  return { status: "unknown", text, lines: lines.map((line) => line.trim()) }
                })
              )
            )
        for (const verdict of [found].flat()) yield* tell(name, verdict)
      }
    }).pipe(
      Effect.provide(layerDatabase(given)),
      Effect.catch((error) =>
        error instanceof CommandFailed ? Effect.fail(error) : blind("", error)
      )
    )
    yield* conclude(all, json)
  })
).pipe(
  Command.withDescription(
    "Look at what realtime needs of a database, and say what to change. Changes nothing. Exits with 0 where all is well, 1 with something to change, 2 where it could not look."
  ),
  Command.withShortDescription("Look at a database, and say what to change"),
  Command.withExamples([
    { command: "effect-realtime doctor --database postgres://app_node@db.example.com/app" },
    {
      command: "effect-realtime doctor --definitions ./channels.js --role app_node",
      description: "Also whether the tables are as the definitions say"
    }
  ])
)
