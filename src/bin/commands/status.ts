/** `status` prints the nodes, the outbox and the consumers of a database as they are: its flags. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { natsSettings } from "../shared/nats.ts"
import { flagsOf } from "../shared/setting.ts"
import { databaseFlag, durationFlag, listenFlag, schemaFlag, switchFlag } from "../shared/flags.ts"

/** In milliseconds. Each look asks every node and counts in the database. */
const leastInterval = 100

/** The part with the bus, which the help of all commands does not wait for. */
const load = () => import("./status/show.ts")

export const statusCommand = Command.make(
  "status",
  {
    watch: switchFlag("watch", "Look again and again until Ctrl-C; redraws on a terminal"),
    interval: durationFlag("interval", leastInterval).pipe(
      Flag.withDescription("Time between two looks of --watch (default: 2 seconds)"),
      Flag.withDefault(Duration.seconds(2))
    ),
    json: switchFlag("json", "Print a line of JSON for each look"),
    schema: schemaFlag,
    database: databaseFlag,
    listen: listenFlag,
    nats: flagsOf(natsSettings)
  },
  (given) => Effect.flatMap(Effect.promise(load), ({ show }) => show(given))
).pipe(
  Command.withDescription(
    "Print the nodes with their sessions and the lag of their readers, the outbox, and how far each consumer is behind. It asks the nodes over the bus in PostgreSQL, or with --nats over NATS, as a guest that is no node for them, with the rights of a node. Secrets have variables and no flags: REALTIME_NATS_PASSWORD, REALTIME_NATS_TOKEN."
  ),
  Command.withShortDescription("Print the nodes, the outbox and the consumers"),
  Command.withExamples([
    { command: "effect-realtime status --database postgres://app_node@db.example.com/app" },
    { command: "effect-realtime status --watch", description: "Redraws every 2 seconds" }
  ])
)
