/** `nats` prints what the account of a node may do in NATS, as a block of the server's configuration. */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { permissionsOf, rootFault, usualRoot } from "../../nats/internal/subjects.ts"
import { schemaFlag, textFlag } from "../shared/flags.ts"
import { say } from "../shared/output.ts"
import { described, variableOf } from "../shared/setting.ts"

/** That of the setting `--nats-root`. */
const rootVariable = variableOf("nats-root")

const Root = Schema.String.check(
  Schema.makeFilter((root) => {
    const fault = rootFault(root)
    return fault === undefined
      ? undefined
      : `${JSON.stringify(root)} does not fit. It must be ${fault}.`
  })
)

const flags = {
  schema: schemaFlag,
  root: Flag.String("root").pipe(
    Flag.withMetavar("<text>"),
    Flag.withDescription(
      described("root", `What all subjects begin with, default ${usualRoot}`, rootVariable)
    ),
    Flag.filter(
      (root) => rootFault(root) === undefined,
      (root) => rootFault(root)!
    ),
    Flag.withFallbackConfig(Config.schema(Root, rootVariable)),
    Flag.withDefault(usualRoot)
  ),
  identity: textFlag("identity").pipe(
    Flag.withMetavar("<text>"),
    Flag.withDescription(
      "Of the database: select realtime.identity(). Default: every database with a schema of that name"
    ),
    Flag.optional
  )
}

export const natsCommand = Command.make(
  "nats",
  flags,
  Effect.fnUntraced(function* ({ identity, root, schema }) {
    const of = { root, schema, identity: Option.getOrUndefined(identity) }
    const { publish, subscribe } = permissionsOf(of)
    const list = (subjects: ReadonlyArray<string>) =>
      subjects.map((subject) => JSON.stringify(subject)).join(", ")
    yield* say(
      "permissions: {",
      `  publish: { allow: [${list(publish)}] }`,
      `  subscribe: { allow: [${list(subscribe)}] }`,
      "}"
    )
  })
).pipe(
  Command.withDescription(
    "Print the permissions that the account of a node needs in NATS, for its configuration. Connects to nothing."
  ),
  Command.withShortDescription("Print the permissions of a node in NATS")
)
